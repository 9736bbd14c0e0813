"""What a new profile says beside its values: why they are what they are, and what was planned."""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from llmctl.core.gguf_facts import Facts
from llmctl.core.memory.advice import shortage
from llmctl.core.memory.wanted import Plan
from llmctl.core.memory.words import on_gpus
from llmctl.core.profile import Profile
from llmctl.core.profile_text import Notes
from llmctl.core.yaml_text import comment, text

GIB = 1 << 30


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a new profile's model. units: its layers, the output counted as one.
    plan: None where none could be made. there: the projectors beside it; fitting: those that fit.
    unused: sampling in the file that a profile has no key for.
    """

    file: str
    facts: Facts
    size_bytes: int
    models_dir: str
    plan: Plan | None = None
    units: int = 0
    fitting: Sequence[str] = ()
    there: Mapping[str, Facts] = {}
    unused: Sequence[str] = ()


def notes_of(profile: Profile, known: Known) -> Notes:
    """The comments of a new profile."""
    keys = _fixed(profile, known)
    if known.plan and known.plan.fits:
        keys |= _planned(profile, known.plan, known)
    return Notes(
        _above(profile, known),
        tuple(_plan(profile.name, known)),
        keys,
        tuple(_below(profile, known)),
    )


def _above(profile: Profile, known: Known) -> tuple[str, ...]:
    facts = known.facts
    what = (facts.architecture, facts.size_label, facts.quant, f"{known.size_bytes / GIB:.1f} GiB")
    name = facts.name or known.file.rpartition("/")[2]
    return (
        f"{comment(name)}: {comment(', '.join(word for word in what if word))}",
        f"Written by `llmctl new`. It is yours: edit it, then `llmctl switch {profile.name}`.",
    )


def _fixed(profile: Profile, known: Known) -> dict[str, str]:
    trained = known.facts.ctx_train
    resident = profile.is_resident
    return {
        "model": "" if profile.model.startswith("/") else f"below {comment(known.models_dir)}",
        "binary": "the llama-server build, by its name in config.yaml",
        "group": "it runs beside others" if resident else "of a group's profiles at most one runs",
        "port": "where it listens on loopback",
        "ctx": f"tokens; it was trained for {trained}" if trained else "tokens",
        "kv": "type of K and V",
        "gpu_layers": "layers on the GPUs",
        "n_cpu_moe": "layers whose experts are on the CPU",
        "tensor_split": "layers per GPU",
        "batch": "as large as ubatch at least",
        "ubatch": "a text to embed must fit into it",
        "mmproj": "the projector beside the model, as wide as its embedding",
        "sampling": "what the file recommends (general.sampling)",
        "args": "it is no chat model, and this is its only use",
    }


def _planned(profile: Profile, plan: Plan, known: Known) -> dict[str, str]:
    settings, units = plan.settings, known.units
    rooms = [one.name for one in plan.rooms]
    keys = {"kv": _kv(plan)}
    if profile.ctx == "auto":
        trained = known.facts.ctx_train
        of = f" of the {trained} it was trained for" if trained else ""
        keys["ctx"] = f"{settings.ctx}{of}; a number pins it"
    here = on_gpus(plan, units)
    whole = f"all {units}" if here == units else f"{here} of {units}"
    keys["gpu_layers"] = f"{whole}, the output counted as one" if rooms else "0: there is no GPU"
    if not known.facts.active:
        keys["n_cpu_moe"] = "0: it has no experts"
    elif not rooms:
        keys["n_cpu_moe"] = "0: all of it is on the CPU"
    elif plan.moved_layers:
        keys["n_cpu_moe"] = f"experts of {plan.moved_layers} layers on the CPU"
    else:
        keys["n_cpu_moe"] = "0: all experts are on the GPUs"
    counts = ", ".join(f"{one:g}" for one in settings.tensor_split)
    split = f"[{counts}] on {', '.join(rooms)}" if counts else f"{' '.join(rooms)} alone"
    keys["tensor_split"] = split if rooms else "there is no GPU"
    return keys


def _kv(plan: Plan) -> str:
    offers = [one.removeprefix("kv: ") for one in plan.offers if one.startswith("kv: ")]
    return "; ".join(("type of K and V", *offers[:1]))


def _plan(name: str, known: Known) -> Iterator[str]:
    yield "`auto` is planned when a unit is made, and anew when the file, the GPUs or this change."
    plan = known.plan
    if plan is None:
        yield f"Nobody could be asked when this was written: `llmctl plan {name}` says what it is."
    elif not plan.fits:
        yield f"It did not fit when this was written: {comment(shortage(plan), most=200)}"
    else:
        rooms = [one for one in (plan.rooms or (plan.ram,)) if one]
        names = " and ".join(one.name for one in rooms) or "the CPU"
        sizes = " and ".join(f"{one.usable_bytes / GIB:.1f}" for one in rooms)
        told = f" with {sizes} GiB for models" if sizes else ""
        yield f"When this was written, on {names}{told}:"


def _below(profile: Profile, known: Known) -> Iterator[str]:
    if len(known.fitting) > 1:
        yield f"{len(known.fitting)} projectors beside it fit, for pictures or sound; take one:"
        yield from (f"mmproj: {text(one)}" for one in known.fitting)
    elif known.there and not known.fitting:
        names = ", ".join(comment(one) for one in sorted(known.there)[:3])
        yield f"Not for this model, by width or family: {names}"
    if known.facts.mtp and profile.draft == "off":
        yield "It has layers that predict further tokens; to use them:"
        yield "draft: mtp"
    if known.unused:
        names = ", ".join(comment(one) for one in known.unused)
        yield f"The file recommends more, for which there is no key here: {names}"
