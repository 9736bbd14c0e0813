"""Checks of what the profiles say and systemd runs: units, models and their ports."""

from collections.abc import Iterator, Mapping, Sequence

from llmctl.core.finding import Finding, Grade, advice
from llmctl.core.state import State
from llmctl.core.words import instance_of, unit_name
from llmctl.engine.apply import Change, Kind, plan_apply
from llmctl.engine.patient import Patient
from llmctl.engine.ports import Holder, holders
from llmctl.errors import ProfileError


def config(patient: Patient) -> Iterator[Finding]:
    """Can config.yaml be read?"""
    try:
        patient.box.store.config  # noqa: B018  # it is read here
    except ProfileError as error:
        why = "Every command but off and schema stops at it."
        yield Finding(error.message, why, error.hint or "correct config.yaml")


def profiles(patient: Patient) -> Iterator[Finding]:
    """Can every profile be read?"""
    for one in patient.box.store.profiles.values():
        if one.error is not None:
            why = f"{one.name} cannot be switched to."
            yield Finding(one.error.message, why, one.error.hint or f"llmctl show {one.name}")
    for told in patient.box.store.strays:
        path = told.partition(" ")[0] if " is not read" in told else ""
        do = f"mv {path} {path.removesuffix('.yml')}.yaml" if path else "rename it"
        yield Finding(told, "Nobody serves that model.", do)


# Units


def units(patient: Patient) -> Iterator[Finding]:
    """Are the installed units as the profiles say?"""
    box = patient.box
    broken = {unit_name(one.name) for one in box.store.profiles.values() if one.error}
    changes = [one for one in plan_apply(box, ask=False) if one.kind in _TOLD]
    changes = [one for one in changes if one.unit not in broken]  # `profiles` says so
    yield from _unit_findings(changes, {one.unit: box.store.unit_path(one.unit) for one in changes})
    lively = box.systemd.lively("llm-*.service")
    old = [one.unit for one in box.systemd.status(lively) if one.needs_reload]
    if old:
        yield Finding(
            f"systemd has not read the present text of {', '.join(old)}",
            "The next start goes by the old one.",
            "systemctl --user daemon-reload",
        )


_TOLD: Mapping[Kind, tuple[Grade, str, str, str]] = {
    Kind.UPDATE: (
        Grade.WRONG, "{paths} {is_are} stale",
        "What the profiles say by now is not what starts.", "llmctl apply",
    ),
    Kind.ORPHAN: (
        Grade.WRONG, "{paths} {has_have} no profile any more",
        "They can be started, and nobody says how any more.", "llmctl apply --prune",
    ),
    Kind.EDITED: (
        Grade.ADVICE, "{paths} {was_were} edited by hand",
        "Changes of the profile do not reach it.",
        "llmctl apply --overwrite, or move the edit into the profile or a drop-in",
    ),
    Kind.FOREIGN: (
        Grade.WRONG, "{paths} {was_were} not written by llmctl, and {is_are} in the way",
        "The profile of that name cannot be served.", "rename the profile, or move that file away",
    ),
    Kind.BROKEN: (Grade.WRONG, "", "It cannot be switched to.", ""),
}  # fmt: skip
"""What of `apply` is told: what is, why it matters, what to type. A missing unit is no fault:
`switch` writes it."""


def _unit_findings(changes: Sequence[Change], paths: Mapping[str, str]) -> Iterator[Finding]:
    for kind, (grade, what, why, do) in _TOLD.items():
        mine = [one for one in changes if one.kind is kind]
        if kind is Kind.BROKEN:
            errors = [one.error for one in mine if one.error is not None]
            yield from (Finding(one.message, why, one.hint or "llmctl apply") for one in errors)
        elif mine:
            yield Finding(_said(what, [paths[one.unit] for one in mine]), why, do, grade)


def _said(what: str, names: Sequence[str]) -> str:
    one = len(names) == 1
    return what.format(
        paths=", ".join(names), is_are="is" if one else "are", has_have="has" if one else "have",
        was_were="was" if one else "were",
    )  # fmt: skip


# What runs


def running(patient: Patient) -> Iterator[Finding]:
    """Does at most one model of a group run, and has none failed?"""
    for group in patient.overview.groups:
        for fault in group.faults:
            what, _, do = fault.partition("; run ")
            why = "They take each other's memory and port."
            yield Finding(what, why, f"{do}, then llmctl apply")
    for one in patient.overview.instances:
        if one.state is State.FAILED:
            told = next((note for note in one.notes if note.startswith("failed")), "failed")
            yield Finding(
                f"{one.name}: {told}", "It does not serve.",
                f"llmctl logs {one.profile}; then llmctl switch {one.profile}",
            )  # fmt: skip
        for note in one.notes:
            if note.startswith("runs with older settings"):
                why = "What the profile says by now is not in force."
                yield advice(f"{one.name} runs with older settings", why=why, do=_after(note))


def _after(note: str) -> str:
    return note.partition(": ")[2]


# Ports


def ports(patient: Patient) -> Iterator[Finding]:
    """Does nobody but the models hold their ports?"""
    box = patient.box
    ours = {one.port for one in patient.overview.instances}
    for port, whose in _wanted(patient).items():
        strangers = [] if port in ours else [one for one in holders(box, port) if _strange(one)]
        for one in strangers:
            do = f"systemctl --user stop {one.unit}" if one.unit else f"kill {one.pid}"
            yield Finding(
                f"port {port} is taken by {one}", f"{whose} cannot start.",
                do if one.pid else f"sudo ss -ltnp 'sport = :{port}'",
            )  # fmt: skip


def _strange(holder: Holder) -> bool:
    return holder.unit is None or instance_of(holder.unit) is None


def _wanted(patient: Patient) -> dict[int, str]:
    """Ports that models listen on, and whose they are."""
    groups = patient.box.store.config.groups
    found = {group.port: f"Models of group {name}" for name, group in groups.items()}
    return found | {one.port: one.name for one in patient.profiles if one.port is not None}
