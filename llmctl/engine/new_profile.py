"""A profile for a model's file: looked into, planned, written. It never replaces one."""

from typing import TYPE_CHECKING, Any

import msgspec

from llmctl.core.argv import argv_complaints
from llmctl.core.config import Config, require_group
from llmctl.core.document import complain, parse_yaml
from llmctl.core.fleet import clashes
from llmctl.core.gguf_facts import Facts, Kind, Pooling
from llmctl.core.memory.advice import advised, shortage
from llmctl.core.memory.request import wanted_of
from llmctl.core.new_notes import Known, notes_of
from llmctl.core.profile import Profile, parse_profile
from llmctl.core.profile_text import profile_text
from llmctl.core.recommended import recommended
from llmctl.core.unit import read_header
from llmctl.core.words import DEFAULT_GROUP, RESIDENT, unit_name
from llmctl.engine.devices import default_binary
from llmctl.engine.model_file import Model, look_into, model_file, models_dir, written_as
from llmctl.engine.scanning import known_place, planner_for
from llmctl.errors import DoesNotFitError, HostError, ProfileError, sentence

if TYPE_CHECKING:
    from llmctl.core.memory.wanted import Plan
    from llmctl.core.profile_rules import Complaint
    from llmctl.engine.box import Box

MOST_UBATCH = 8192
"""Tokens: an embedding model takes a text in one batch; longer ones are refused."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What a person typed. file: absolute, or relative to cwd (None: not known) or models_dir.
    force: write it although the model does not fit, or is not all there.
    """

    name: str
    file: str
    cwd: str | None = None
    ctx: str | None = None
    kv: str | None = None
    binary: str | None = None
    group: str | None = None
    port: int | None = None
    force: bool = False


class Draft(msgspec.Struct, frozen=True):
    """A profile that is not written yet. plan: None where it could not be made; why_not says why.
    warnings: what a person should know."""

    profile: Profile
    path: str
    text: str
    model: Model
    plan: "Plan | None" = None
    units: int = 0
    why_not: str = ""
    warnings: tuple[str, ...] = ()


def drafted(box: "Box", asked: Asked) -> Draft:
    """The profile that `new` writes. ProfileError: the name is taken or none, or the file is no
    model; DoesNotFitError: it does not fit, and is not forced."""
    _check_name(box, asked.name)
    path = model_file(box, asked.file, cwd=asked.cwd)
    model = look_into(box, path, name=asked.name, force=asked.force)
    sampling, unused = recommended(model.header.metadata)
    profile = _profile(box, asked, model, sampling)
    warnings = list(_checked(box, profile))
    plan, units, why_not = _planned(box, model, profile, warnings, force=asked.force)
    if why_not and not warnings:
        warnings.append(f"It is not planned yet: {why_not}")
    known = Known(
        file=path, facts=model.facts, size_bytes=model.header.size, models_dir=models_dir(box),
        plan=plan, units=units, fitting=model.fitting, there=model.there,
        unused=unused,
    )  # fmt: skip
    text = _text(profile, known)
    return Draft(
        profile, box.store.profile_path(asked.name), text, model, plan, units, why_not,
        tuple(warnings),
    )  # fmt: skip


def write(box: "Box", draft: Draft) -> None:
    """Puts a profile in its place."""
    _check_free(box, draft.profile.name)
    box.host.write(draft.path, draft.text.encode())


# Names


def _check_name(box: "Box", name: str) -> None:
    path = box.store.profile_path(name)
    try:
        parse_profile({"model": name or "x"}, name=name, file=path)
    except ProfileError as error:
        raise ProfileError(error.problems, hint="Choose another name.") from None
    _check_free(box, name)
    for other, loaded in box.store.profiles.items():
        if loaded.profile and name in loaded.profile.aliases:
            raise ProfileError(
                f"{name} is an alias of the profile {other} already.",
                hint=f"Choose another name, or take it out of {box.store.profile_path(other)}",
            )
    unit = unit_name(name)
    text = box.store.unit_text(unit)
    if text is not None and not read_header(text).group:
        raise box.not_ours(unit)


def _check_free(box: "Box", name: str) -> None:
    path = box.store.profile_path(name)
    if box.host.stat(path) is not None:
        raise ProfileError(
            f"there is a profile {name} already: {path}",
            hint=f"Edit it, choose another name, or remove it first: rm {path}",
        )


# Values


def _profile(box: "Box", asked: Asked, model: Model, sampling: dict[str, float]) -> Profile:
    config = box.store.config
    group = asked.group or _usual_group(config)
    if group != RESIDENT:
        require_group(config, group, file="llmctl new")
    raw: dict[str, Any] = {
        "model": written_as(box, model.path),
        "binary": asked.binary or default_binary(config),
        "group": group,
        **_embedding(model.facts),
    }
    given = {
        "port": asked.port,
        "ctx": None if asked.ctx is None else _number(asked.ctx),
        "kv": None if asked.kv is None else _kv(asked.kv),
        "mmproj": model.fitting[0] if model.mmproj else None,
        "sampling": sampling or None,
    }
    raw |= {key: value for key, value in given.items() if value is not None}
    profile = parse_profile(raw, name=asked.name, file="llmctl new")
    if asked.binary:
        box.store.binary(profile)
    return profile


def _usual_group(config: Config) -> str:
    """The group that a profile means which names none; else the first of config.yaml."""
    return (
        DEFAULT_GROUP
        if DEFAULT_GROUP in config.groups
        else next(iter(config.groups), DEFAULT_GROUP)
    )


def _number(text: str) -> int | str:
    return int(text) if text.isascii() and text.isdigit() else text


def _kv(text: str) -> str | dict[str, str]:
    k, comma, v = text.partition(",")
    return {"k": k, "v": v} if comma else k


def _embedding(facts: Facts) -> dict[str, Any]:
    """llama-server embeds only when told to, and then a text must fit into one physical batch,
    unless the last token speaks for all of it."""
    if facts.kind is not Kind.EMBEDDING:
        return {}
    usual = Profile(name="", model="")
    values: dict[str, Any] = {
        "args": ["--reranking" if facts.pooling is Pooling.RANK else "--embedding"]
    }
    size = min(facts.ctx_train or 0, MOST_UBATCH)
    if facts.pooling is not Pooling.LAST and size > usual.ubatch:
        values |= {"batch": max(size, usual.batch), "ubatch": size}
    return values


def _checked(box: "Box", profile: Profile) -> tuple[str, ...]:
    """ProfileError: what `apply` would refuse. Warnings: why it would do nothing yet."""
    complaints: list[Complaint] = []
    warnings: tuple[str, ...] = ()
    try:
        complaints = argv_complaints(profile, box.store.flags(profile))
    except (ProfileError, HostError) as error:
        hint = f" {error.hint}" if error.hint else ""
        warnings = (f"It cannot be served yet: {sentence(error.message)}{hint}",)
    others = [one.profile for one in box.store.profiles.values() if one.profile]
    complaints += clashes(profile, others, box.store.config)
    if complaints:
        raise ProfileError([complain(path, text, file="llmctl new") for path, text in complaints])
    return warnings


# Plan and text


def _planned(
    box: "Box", model: Model, profile: Profile, warnings: list[str], *, force: bool
) -> "tuple[Plan | None, int, str]":
    """The plan, the units of the model, and why there is no plan."""
    try:
        place = known_place(box, profile)
    except (ProfileError, HostError) as error:
        return None, 0, error.message
    planner = planner_for(model.header, place, model.mmproj)
    plan = advised(planner, wanted_of(profile))
    if not plan.fits and not force:
        raise _too_large(model.path, plan)
    warnings += (*place.warnings, *plan.estimate.warnings)
    return plan, planner.units, ""


def _too_large(path: str, plan: "Plan") -> DoesNotFitError:
    would = f"This would fit: {'; '.join(plan.remedies)}."
    none = "Only a smaller file of the model would fit."
    return DoesNotFitError(
        f"{path} does not fit: {shortage(plan)}.",
        hint=f"{would if plan.remedies else none} --force writes the profile all the same.",
    )


def _text(profile: Profile, known: Known) -> str:
    """The file's text. What is read from it must be what was meant."""
    try:
        text = profile_text(profile, notes_of(profile, known))
    except ValueError as error:
        raise ProfileError(
            f"{known.file!r} cannot stand in a profile: {error}.", hint="Rename the file."
        ) from None
    read = parse_profile(parse_yaml(text, file="llmctl new"), name=profile.name, file="llmctl new")
    if read != profile:
        raise AssertionError(f"{profile} would be read as {read}")
    return text
