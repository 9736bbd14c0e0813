"""From a profile to what is asked of the planner, and from a plan to llama-server's words."""

import itertools
from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from llmctl.core.memory.settings import MIB, Override, Settings
from llmctl.core.memory.wanted import Plan, Wanted
from llmctl.core.profile import Profile

_SWITCHES = {
    "-kvu": {"unified": True}, "--kv-unified": {"unified": True},
    "-no-kvu": {"unified": False}, "--no-kv-unified": {"unified": False},
    "-nkvo": {"kv_offload": False}, "--no-kv-offload": {"kv_offload": False},
    "--swa-full": {"swa_full": True}, "--no-op-offload": {"op_offload": False},
}  # fmt: skip
_NUMBERS = {
    "-mg": "main_gpu", "--main-gpu": "main_gpu", "-ctxcp": "checkpoints",
    "--ctx-checkpoints": "checkpoints", "--swa-checkpoints": "checkpoints",
}  # fmt: skip
_TYPES = {
    "-ctkd": "draft_k", "--cache-type-k-draft": "draft_k", "--spec-draft-type-k": "draft_k",
    "-ctvd": "draft_v", "--cache-type-v-draft": "draft_v", "--spec-draft-type-v": "draft_v",
}  # fmt: skip
_ALL_EXPERTS = r"\.ffn_(up|down|gate|gate_up)_(ch|)exps"


def wanted_of(profile: Profile) -> Wanted:
    """What a profile gives and what it leaves open; the words in its `args` count too. What drafts
    is not in it (engine/drafting.py)."""
    kv, layers = profile.kv_types, profile.gpu_layers
    settings = Settings(
        type_k=kv.k, type_v=kv.v, parallel=profile.parallel, batch=profile.batch,
        ubatch=profile.ubatch, flash_attn=profile.flash_attn != "off",
    )  # fmt: skip
    settings = _with_words(settings, [str(word) for word in profile.args])
    return Wanted(
        settings=settings,
        ctx=None if profile.ctx == "auto" else profile.ctx,
        gpu_layers=None if isinstance(layers, str) else layers,
        all_layers=layers == "all",
        tensor_split=None if profile.tensor_split == "auto" else profile.tensor_split,
        n_cpu_moe=None if profile.n_cpu_moe == "auto" else profile.n_cpu_moe,
    )


def _with_words(settings: Settings, words: Sequence[str]) -> Settings:
    for number, word in enumerate(words):
        flag, _, given = word.partition("=")
        value = given or (words[number + 1] if number + 1 < len(words) else "")
        if flag in _SWITCHES:
            settings = replace(settings, **_SWITCHES[flag])
        elif flag in _NUMBERS and value.isdigit():
            settings = replace(settings, **{_NUMBERS[flag]: int(value)})
        elif flag in _TYPES:
            settings = replace(settings, **{_TYPES[flag]: value})
        elif flag in ("-cram", "--cache-ram") and value.isdigit():
            settings = replace(settings, cache_ram_bytes=int(value) * MIB)
        elif flag in ("-sm", "--split-mode"):
            settings = replace(settings, split_mode=value)
        elif flag in ("-cmoe", "--cpu-moe"):
            settings = _moving(settings, Override(_ALL_EXPERTS, "CPU"))
        elif flag in ("-ot", "--override-tensor"):
            pairs = (one.rpartition("=") for one in value.split(","))
            settings = _moving(settings, *(Override(one, where) for one, _, where in pairs))
    return settings


def _moving(settings: Settings, *more: Override) -> Settings:
    return replace(settings, overrides=settings.overrides + more)


def placing(plan: Plan, given: Sequence[Override] = ()) -> Iterator[str]:
    """The words that say how much context there is and where everything goes. given: overrides
    that are said already."""
    settings = plan.settings
    overrides = [one for one in settings.overrides if one not in given]
    yield from ("-c", str(settings.ctx))
    if settings.gpu_layers is not None:
        yield from ("-ngl", str(settings.gpu_layers))
    if settings.tensor_split:
        yield from ("-ts", ",".join(f"{one:g}" for one in settings.tensor_split))
    if settings.n_cpu_moe:
        yield from ("--n-cpu-moe", str(settings.n_cpu_moe))
    if overrides:
        yield from ("-ot", ",".join(f"{one.pattern}={one.where}" for one in overrides))


def words_of(plan: Plan) -> tuple[str, ...]:
    """All words of llama-server's command line that memory depends on."""
    settings = plan.settings
    return (
        *placing(plan),
        *("-np", str(settings.parallel)),
        *(("-kvu",) if settings.unified else ()),
        *("-ctk", settings.type_k, "-ctv", settings.type_v),
        *("-b", str(settings.batch), "-ub", str(settings.ubatch)),
        *("-fa", "on" if settings.flash_attn else "off"),
    )


_SETTLED = ("-c", "-ngl", "--n-cpu-moe", "-ts")


def settled(argv: Sequence[str]) -> tuple[str, ...]:
    """The words of a command line that `placing` could have given, in pairs."""
    pairs = itertools.pairwise(argv)
    return tuple(word for flag, value in pairs if flag in _SETTLED for word in (flag, value))


def pinned(wanted: Wanted, words: Sequence[str]) -> Wanted:
    """What is asked for, with everything that these words of `placing` settle: the same once more.

    Experts that they place by name (-ot) cannot be asked for; there the outcome must be compared.
    """
    said = dict(zip(words[::2], words[1::2], strict=True))
    split, layers = said.get("-ts", "").split(","), said.get("-ngl", "")
    is_split = all(one.isdigit() for one in split)
    return replace(
        wanted,
        ctx=int(said["-c"]) if said.get("-c", "").isdigit() else wanted.ctx,
        gpu_layers=int(layers) if layers.isdigit() else wanted.gpu_layers,
        tensor_split=tuple(map(int, split)) if is_split else wanted.tensor_split,
        n_cpu_moe=wanted.n_cpu_moe if "-ot" in said else int(said.get("--n-cpu-moe", 0)),
    )


def settled_settings(wanted: Wanted, words: Sequence[str]) -> Settings:
    """What a server started with these words of `placing` or `settled` runs with, in full. Without
    a context it takes what the model was trained for (0)."""
    fixed, said = pinned(wanted, words), dict(zip(words[::2], words[1::2], strict=True))
    pairs = (one.rpartition("=") for one in said.get("-ot", "").split(",") if one)
    named = tuple(Override(pattern, where) for pattern, _, where in pairs)
    return replace(
        wanted.settings, ctx=fixed.ctx or 0, gpu_layers=fixed.gpu_layers,
        tensor_split=fixed.tensor_split or (),
        n_cpu_moe=fixed.n_cpu_moe or wanted.n_cpu_moe or 0,
        overrides=(*wanted.settings.overrides, *named),
    )  # fmt: skip
