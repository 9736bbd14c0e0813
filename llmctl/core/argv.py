"""Profile + flags of the build -> the exact argv of llama-server.

Everything that matters is explicit: defaults differ between versions (`--port` was 8080 and is
9931), and `--fit` would cut the context or drop layers without a word (facts measured on 0.7.0).
"""

import re
from collections.abc import Iterator, Sequence

import msgspec

from llmctl.core.drafts import lacks, unplanned
from llmctl.core.flags import Flags
from llmctl.core.profile import Profile
from llmctl.core.profile_rules import DRAFT_WORDS, HTTP_THREADS, PING_INTERVAL_S, Complaint

LOOPBACK = "127.0.0.1"
ALL_LAYERS = "999"
"""What `-ngl` takes for "all" where a build does not know the word."""

_SAMPLING = {
    "temperature": "--temp",
    "top_k": "--top-k",
    "top_p": "--top-p",
    "min_p": "--min-p",
    "presence_penalty": "--presence-penalty",
    "frequency_penalty": "--frequency-penalty",
    "repeat_penalty": "--repeat-penalty",
    "seed": "--seed",
}
# Flags that llmctl renders, and the key to use instead of them.
_KEY_OF = {
    "model": ("-m", "--model"),
    "ctx": ("-c", "--ctx-size"),
    "kv": ("-ctk", "--cache-type-k", "-ctv", "--cache-type-v"),
    "gpu_layers": ("-ngl", "--gpu-layers", "--n-gpu-layers"),
    "n_cpu_moe": ("-ncmoe", "--n-cpu-moe"),
    "tensor_split": ("-ts", "--tensor-split"),
    "devices": ("-dev", "--device"),
    "flash_attn": ("-fa", "--flash-attn"),
    "parallel": ("-np", "--parallel"),
    "batch": ("-b", "--batch-size"),
    "ubatch": ("-ub", "--ubatch-size"),
    "threads": ("-t", "--threads"),
    "mmproj": ("-mm", "--mmproj"),
    "draft": (
        *("-md", "--model-draft", "--spec-draft-model", "--spec-type", "--spec-draft-n-max"),
        *("-ctkd", "-ctvd", "-devd", "-ngld"),
    ),
    "sampling": tuple(_SAMPLING.values()),
}
_RESERVED = {flag: key for key, flags in _KEY_OF.items() for flag in flags}
_OURS = {"-a", "--alias", "--host", "--port", "-fit", "--fit", "-lv", "--verbosity"}
_OURS |= {
    "--log-verbosity",
    "--sse-ping-interval",
    "--threads-http",
    "--metrics",
    "--slots",
    "--no-slots",
}
_FLAG = re.compile(r"(-{1,2}[A-Za-z][A-Za-z0-9.-]*)(=.*)?", re.DOTALL)


class Files(msgspec.Struct, frozen=True):
    """Absolute paths on the box of everything a server opens."""

    binary: str
    model: str
    mmproj: str | None = None
    draft: str | None = None


def server_argv(
    profile: Profile, *, files: Files, port: int, flags: Flags, placing: Sequence[str] = (),
    key_file: str | None = None, drafting: Sequence[str] | None = None,
) -> tuple[str, ...]:  # fmt: skip
    """argv for one instance. `argv_complaints` says beforehand whether the build can take it.

    placing: a plan's words for the context and for what goes where; none: what the profile says.
    key_file: where the key is that its clients must have; the key itself would show in ps.
    drafting: a plan's words for what drafts; None: what the profile says.
    """
    return (
        files.binary,
        *("--host", LOOPBACK, "--port", str(port), "--alias", profile.name, "-m", files.model),
        *_memory(profile, flags, placing),
        *(unplanned(profile, files.draft, flags) if drafting is None else drafting),
        *(("--mmproj", files.mmproj) if files.mmproj else ()),
        *_sampling(profile),
        *_service(flags),
        *(("--api-key-file", key_file) if key_file else ()),
        *(str(word) for word in profile.args),
    )


def _memory(profile: Profile, flags: Flags, placing: Sequence[str] = ()) -> Iterator[str]:
    yield from placing or _placing(profile, flags)
    if profile.devices != "auto":
        yield from ("-dev", ",".join(profile.devices))
    yield from ("-np", str(profile.parallel))
    yield from ("-ctk", profile.kv_types.k, "-ctv", profile.kv_types.v)
    yield from ("-b", str(profile.batch), "-ub", str(profile.ubatch))
    yield from _flash_attn(profile, flags)
    if profile.threads is not None:
        yield from ("-t", str(profile.threads))


def _placing(profile: Profile, flags: Flags) -> Iterator[str]:
    """What the profile gives; llama-server decides on the rest."""
    if profile.ctx != "auto":
        yield from ("-c", str(profile.ctx))
    yield from ("-ngl", _layers(profile, flags))
    if profile.n_cpu_moe != "auto":
        yield from (_moe_flag(flags), str(profile.n_cpu_moe))
    if profile.tensor_split != "auto":
        yield from ("-ts", ",".join(map(str, profile.tensor_split)))


def _layers(profile: Profile, flags: Flags) -> str:
    if profile.gpu_layers in ("auto", "all"):
        return "all" if flags.says("-ngl", "all") else ALL_LAYERS
    return str(profile.gpu_layers)


def _moe_flag(flags: Flags) -> str:
    return flags.first("--n-cpu-moe", "-ncmoe") or "--n-cpu-moe"


def _flash_attn(profile: Profile, flags: Flags) -> Iterator[str]:
    """Builds before August 2025 have a bare switch; later ones want on, off or auto."""
    if flags.says("-fa", "auto") or flags.says("-fa", "on|off"):
        yield from ("-fa", profile.flash_attn)
    elif profile.flash_attn == "on":
        yield "-fa"


def _sampling(profile: Profile) -> Iterator[str]:
    for key, flag in _SAMPLING.items():
        value = getattr(profile.sampling, key)
        if value is not None:
            yield from (flag, str(value).removesuffix(".0"))


def _service(flags: Flags) -> Iterator[str]:
    """What llmctl needs of a server, as far as the build has it."""
    if "--fit" in flags:
        yield from ("--fit", "off")
    if "-lv" in flags:
        yield from ("-lv", "4")  # the only level that logs real buffer sizes
    if "--sse-ping-interval" in flags:
        yield from ("--sse-ping-interval", str(PING_INTERVAL_S))
    if "--threads-http" in flags:
        yield from ("--threads-http", str(HTTP_THREADS))
    yield from (flag for flag in ("--jinja", "--metrics", "--slots") if flag in flags)


def argv_complaints(
    profile: Profile, flags: Flags, *, key_file: str | None = None
) -> list[Complaint]:
    """What this build cannot do, and words in `args` that belong in a key."""
    rules = (_args(profile.args, flags), _lacking(profile, flags), _kv_types(profile, flags))
    found = [complaint for rule in rules for complaint in rule]
    if key_file and "--api-key-file" not in flags:
        why = "its port would be a way around the proxy's API keys; use a newer binary"
        found.append((("binary",), f"this llama-server has no --api-key-file: {why}"))
    return found


def _args(args: Sequence[str | int], flags: Flags) -> Iterator[Complaint]:
    for index, word in enumerate(args):
        match = _FLAG.fullmatch(str(word))
        if match is None:
            continue
        flag = match[1]
        spellings = {flag, *flags.synonyms(flag)}
        key = next((_RESERVED[one] for one in spellings if one in _RESERVED), None)
        if key is not None:
            yield ("args", index), f"{flag} is llmctl's to render; use the key {key}"
        elif spellings & _OURS:
            yield ("args", index), f"{flag} is set by llmctl and cannot be changed"
        elif flag == "--api-key":
            yield ("args", index), "a key in argv shows in ps; use --api-key-file FILE"
        elif flag not in flags:
            yield ("args", index), _unknown(flag, flags)


def _unknown(flag: str, flags: Flags) -> str:
    removed = flags.removed(flag)
    near = None if removed else flags.near(flag)
    why = removed or (f"did you mean {near}?" if near else "its --help does not list it")
    return f"this llama-server has no {flag}: {why}"


def _lacking(profile: Profile, flags: Flags) -> Iterator[Complaint]:
    """Flags that a key needs and this build does not have."""
    files = Files("", "", profile.mmproj, "draft" if _draft_file(profile) else None)
    drafting = unplanned(profile, files.draft, flags)
    words = [*_memory(profile, flags), *drafting, *_sampling(profile)]
    words += ["--mmproj"] if profile.mmproj else []
    for word in words:
        if _FLAG.fullmatch(word) and word not in flags:
            key = _RESERVED.get(word, word)
            yield (key,), f"this llama-server has no {word}; use a newer binary"
    if kind := lacks(profile, flags):
        yield ("draft",), f"this llama-server's --spec-type does not take {kind}"


def _draft_file(profile: Profile) -> bool:
    return profile.drafting.model not in DRAFT_WORDS


def _kv_types(profile: Profile, flags: Flags) -> Iterator[Complaint]:
    for which, kind in (("-ctk", profile.kv_types.k), ("-ctv", profile.kv_types.v)):
        if flags.says(which, "f16") and not flags.says(which, kind):
            yield ("kv",), f"this llama-server's {which} does not take {kind}"
