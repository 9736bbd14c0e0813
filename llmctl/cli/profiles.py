"""llmctl list, llmctl show, llmctl render"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from llmctl.cli.boxes import LOCAL, open_box
from llmctl.cli.options import HostOption, HostsOption, JsonOption, NameArgument, VerboseOption
from llmctl.cli.output import answer, answer_json, gib, table, warn
from llmctl.cli.several import names_of
from llmctl.core.drafts import Chosen
from llmctl.core.gguf_name import quant
from llmctl.core.profile import Profile
from llmctl.core.unit import url
from llmctl.core.words import replica_template, unit_name
from llmctl.engine.apply import Change, Kind, plan_apply
from llmctl.engine.box import Box, Resolved
from llmctl.engine.replica_units import replica_file
from llmctl.engine.status import profile_states

# Why an `auto` value is what it is where there is no plan.
_AUTO = {
    "ctx": "llama-server takes what the model was trained for",
    "gpu_layers": "all of them",
    "n_cpu_moe": "no experts are moved to the CPU",
    "tensor_split": "llama-server splits by free memory",
    "devices": "llama-server uses all it sees",
    "draft": "none",
}
_PLANNED = {"-c": "ctx", "-ngl": "gpu_layers", "--n-cpu-moe": "n_cpu_moe", "-ts": "tensor_split"}


HEADER = ("NAME", "MODEL", "QUANT", "SIZE", "CTX", "GROUP", "STATE", "UNIT")


def list_(
    host: HostsOption = None, json: JsonOption = False, verbose: VerboseOption = False
) -> None:
    """Profiles: model, size, context, state."""
    names = names_of(host)
    if len(names) > 1:
        from llmctl.cli.lists import show_lists

        show_lists(names, as_json=json, verbose=verbose)
        return
    rows = profile_facts(open_box(names[0], verbose=verbose))
    if json:
        answer_json(rows)
        return
    table(HEADER, [row_of(one) for one in rows])
    for one in rows:
        for problem in one["problems"]:
            warn(problem)


def profile_facts(box: Box) -> list[dict[str, Any]]:
    """The JSON shape of `list`; docs/reference/json.md holds it."""
    states = {name: state.value for name, state in profile_states(box).items()}
    kinds = {one.unit: one for one in plan_apply(box, ask=False)}
    return [_facts(box, name, states[name], _change_of(name, kinds)) for name in states]


def _change_of(name: str, changes: Mapping[str, Change]) -> Change:
    """What is to be done with a profile's unit, or else with the one of its replicas."""
    first, more = changes[unit_name(name)], changes.get(replica_template(name))
    return more if more is not None and not first.is_pending else first


def _facts(box: Box, name: str, state: str, change: Change) -> dict[str, Any]:
    loaded = box.store.profiles[name]
    profile, kind = loaded.profile, change.kind
    units = {Kind.CREATE: "missing", Kind.UPDATE: "stale"}
    return {
        "name": name,
        "model": profile.model if profile else None,
        "quant": quant(profile.model) if profile else None,
        "size_bytes": box.store.model_bytes(profile) if profile else None,
        "ctx": profile.ctx if profile else None,
        "group": loaded.group,
        "aliases": list(profile.aliases) if profile else [],
        "state": state,
        "stale": kind is not Kind.CURRENT,
        "unit": units.get(kind, kind.value),
        "problems": list(change.error.problems) if change.error else [],
    }


def row_of(one: dict[str, Any]) -> tuple[str, ...]:
    """A line of the table."""
    model = (one["model"] or "-").rpartition("/")[2]
    size = gib(one["size_bytes"]) if one["size_bytes"] or not one["model"] else "no file"
    return (
        one["name"], model, one["quant"] or "-", size, str(one["ctx"] or "-"), one["group"],
        one["state"], one["unit"],
    )  # fmt: skip


def show(
    name: NameArgument,
    host: HostOption = LOCAL,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """A profile with every value, and where it is from."""
    box = open_box(host, verbose=verbose)
    resolved = box.resolve(name, ask=True)
    values = list(_values(box, resolved))
    if json:
        answer_json({
            "profile": name,
            "values": {key: {"value": value, "from": why} for key, value, why in values},
            "args": list(resolved.argv[1:]),
            "binary": resolved.argv[0],
            "not_planned": resolved.plan.why_not,
            "draft": msgspec.to_builtins(resolved.plan.draft),
            "unit": box.store.unit_path(resolved.unit),
            "url": url(resolved.place.port),
        })  # fmt: skip
        return
    table(("KEY", "VALUE", "FROM"), [(key, _text(value), why) for key, value, why in values])
    if resolved.plan.why_not:
        answer(f"not planned: {resolved.plan.why_not}")
    answer(f"unit: {box.store.unit_path(resolved.unit)}")
    answer(f"url:  {url(resolved.place.port)}")


def _values(box: Box, resolved: Resolved) -> Iterator[tuple[str, Any, str]]:
    profile = resolved.profile
    files = box.store.files(profile)
    found = {"model": files.model, "mmproj": files.mmproj, "port": resolved.place.port}
    planned = _planned(resolved.plan.words)
    for field in msgspec.structs.fields(Profile):
        if field.name == "name":
            continue
        value = msgspec.to_builtins(getattr(profile, field.name))
        default = msgspec.to_builtins(_default(field))
        if field.name == "port" and value is None:
            why = f"group {profile.group}"
        elif field.name == "draft" and (drafts := _found(resolved)):
            value, why = (
                drafts.model or ("mtp" if drafts.words else "off"),
                f"auto: {drafts.reason}",
            )
        elif value == "auto" and field.name in planned:
            value, why = planned[field.name], "auto: planned"
        elif value == "auto" and field.name in _AUTO:
            why = f"auto: {_AUTO[field.name]}"
        elif field.required or value != default:
            why = "profile"
        else:
            why = "default"
        yield field.name, found.get(field.name) or value, why
    yield "program", files.binary, f"binary {profile.binary}"


def _found(resolved: Resolved) -> Chosen | None:
    """What drafts, where that was left to llmctl and planned."""
    return resolved.plan.draft if resolved.profile.drafting.model == "auto" else None


def _planned(words: Sequence[str]) -> dict[str, Any]:
    """The values that a plan's words give; they come in pairs."""
    pairs = dict(zip(words[::2], words[1::2], strict=True))
    values: dict[str, Any] = {
        key: [int(one) for one in pairs[flag].split(",")] if flag == "-ts" else int(pairs[flag])
        for flag, key in _PLANNED.items()
        if flag in pairs
    }
    if pairs and "-ot" not in pairs:
        values.setdefault("n_cpu_moe", 0)
    return values


def _default(field: Any) -> Any:
    if field.default is not msgspec.NODEFAULT:
        return field.default
    return None if field.default_factory is msgspec.NODEFAULT else field.default_factory()


def _text(value: object) -> str:
    if isinstance(value, dict):
        shown = {key: one for key, one in value.items() if one is not None}
        return ", ".join(f"{key}: {one}" for key, one in shown.items()) or "-"
    if isinstance(value, list | tuple):
        return " ".join(map(str, value)) or "-"
    if isinstance(value, bool):
        return "true" if value else "false"
    return "-" if value is None else str(value)


def render(name: NameArgument, host: HostOption = LOCAL, verbose: VerboseOption = False) -> None:
    """The text of NAME's unit, and of the one of its replicas."""
    box = open_box(host, verbose=verbose)
    resolved = box.resolve(name, ask=True)
    answer(box.render_anew(resolved).text.rstrip("\n"))
    replicas = replica_file(box, resolved, anew=True)
    if replicas is not None:
        answer("\n" + replicas.text.rstrip("\n"))
