"""What the types of a profile's keys cannot say: rules between keys, and systemd's own limits."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from llmctl.core.document import Path
from llmctl.core.guard.settings import guard_complaints
from llmctl.core.words import NAME

if TYPE_CHECKING:
    from llmctl.core.profile import Profile

Complaint = tuple[Path, str]

PING_INTERVAL_S = 5
"""A stop with an open stream ends at the next SSE ping: 30 s by default, and never with -1."""

HTTP_THREADS = 256
"""Each stream has one of llama-server's HTTP threads, from its queue on. It starts with a few (the
slots and some more, or the processors), and when all have a stream, nothing answers /health."""

LONGEST_STOP_S = 3600
PLAIN_KV = ("f32", "f16", "bf16")
KV_TYPES = (*PLAIN_KV, "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1")
DRAFT_WORDS = ("off", "auto", "mtp", "ngram")
# K at one precision and V at another has no CUDA kernel unless llama.cpp was built with
# GGML_CUDA_FA_ALL_QUANTS: 49 tok/s drop to 3 (llama.cpp #28455; measured on a 16 GB card).
MIXED_KV = (
    "K and V differ, which drops to a tenth of the speed without a matching CUDA kernel; "
    "use one type, or say allow_mixed_kv: true"
)


def complaints(profile: "Profile") -> list[Complaint]:
    """Everything wrong with a profile whose keys are each well formed."""
    rules: tuple[Callable[[Profile], Iterator[Complaint]], ...] = (
        _kv,
        _group,
        _draft,
        _staying,
        _stop,
        _guard,
        _text,
    )
    return [complaint for rule in rules for complaint in rule(profile)]


def _kv(profile: "Profile") -> Iterator[Complaint]:
    kv = profile.kv_types
    named = {("kv", "k"): kv.k, ("kv", "v"): kv.v}
    for path, kind in {("kv",): kv.k}.items() if isinstance(profile.kv, str) else named.items():
        if kind not in KV_TYPES:
            yield path, f'expected one of {", ".join(KV_TYPES)}, got "{kind}"'
    if kv.k != kv.v and not profile.allow_mixed_kv:
        yield ("kv",), f"k is {kv.k} and v is {kv.v}: {MIXED_KV}"
    if profile.flash_attn == "off" and kv.v not in PLAIN_KV:
        # llama-server exits: "quantized V cache requires flash_attn".
        yield ("flash_attn",), f"off, but quantized V ({kv.v}) needs it; say flash_attn: on"


def _group(profile: "Profile") -> Iterator[Complaint]:
    if not profile.is_resident and not NAME.fullmatch(profile.group):
        yield ("group",), f'expected a name such as gpu, or none, got "{profile.group}"'
    if profile.is_resident and profile.port is None:
        yield (
            ("port",),
            "missing; a resident (group: none) needs a port of its own, say port: 12400",
        )
    if not profile.is_resident and profile.port is not None:
        yield (
            ("port",),
            f"only residents have one; group {profile.group} has its own in config.yaml",
        )
    if profile.ubatch > profile.batch:
        yield ("ubatch",), f"{profile.ubatch} is more than batch, {profile.batch}"


def _draft(profile: "Profile") -> Iterator[Complaint]:
    word = profile.draft
    if isinstance(word, str) and word not in DRAFT_WORDS and not word.endswith(".gguf"):
        yield ("draft",), f'expected {", ".join(DRAFT_WORDS)} or a GGUF file, got "{word}"'
    kind = profile.drafting.kv
    if kind is not None and kind not in KV_TYPES:
        yield ("draft", "kv"), f'expected one of {", ".join(KV_TYPES)}, got "{kind}"'
    if kind not in (None, *PLAIN_KV) and profile.flash_attn == "off":
        yield ("draft", "kv"), f"{kind} needs flash attention; say flash_attn: on"


def _staying(profile: "Profile") -> Iterator[Complaint]:
    """How long it stays is said once."""
    if profile.ttl_s == 0:
        yield ("ttl",), f"expected more than nothing, got {profile.ttl}"
    if profile.pin and profile.ttl is not None:
        yield ("ttl",), "a pinned model stays: remove ttl, or say pin: false"


def _stop(profile: "Profile") -> Iterator[Complaint]:
    """A stop with an open stream ends at the next SSE ping, and 0s would mean for ever."""
    if not PING_INTERVAL_S < profile.stop_timeout_s <= LONGEST_STOP_S:
        yield ("stop_timeout",), f"expected 6s to 1h, got {profile.stop_timeout}"


def _guard(profile: "Profile") -> Iterator[Complaint]:
    for path, text in guard_complaints(profile.guard):
        yield ("guard", *path), text


def _text(profile: "Profile") -> Iterator[Complaint]:
    """What execve(2) and systemd cannot carry; systemd.exec(5) on Environment=."""
    draft = profile.draft
    paths: dict[Path, str] = {("model",): profile.model, ("mmproj",): profile.mmproj or ""}
    paths |= {("draft",): draft} if isinstance(draft, str) else {("draft", "model"): draft.model}
    for path, value in paths.items():
        if "\0" in value:
            yield path, "holds a NUL character, which no path can"
    for index, word in enumerate(profile.args):
        if "\0" in str(word):
            yield ("args", index), "holds a NUL character, which no argument can"
    yield from _env(profile.env)


def _env(env: Mapping[str, str | int]) -> Iterator[Complaint]:
    for name, value in env.items():
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            yield ("env", name), "no name systemd takes; letters, digits and _ only"
        elif bad := re.search(r"[^\n\t\x20-\x7e\x80-\U0010ffff]", str(value)):
            # env_value_is_valid() in systemd's src/basic/env-util.c
            yield ("env", name), f"holds the control character {bad[0]!r}, which systemd refuses"
