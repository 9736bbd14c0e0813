"""Checks of the box itself: its user manager, linger, PATH, disks and clock."""

from collections.abc import Iterator
from pathlib import PurePosixPath

from llmctl.core.calendar import SYNC_ARGV, clock_findings
from llmctl.core.disk import DF_ARGV, parse_df, room_findings
from llmctl.core.finding import Finding, advice
from llmctl.engine.patient import Patient
from llmctl.engine.proxy_path import hidden_builds
from llmctl.errors import HostError

_TIMEOUT_S = 10.0


def manager(patient: Patient) -> Iterator[Finding]:
    """Does the user manager answer?"""
    try:
        patient.box.systemd.environment()
    except HostError as error:
        why = "Models are its units: without it none can be started, stopped or seen."
        yield Finding(error.message, why, error.hint or "systemctl --user status")


def linger(patient: Patient) -> Iterator[Finding]:
    """Does it run without a login?"""
    if not patient.box.systemd.lingers(patient.user):
        yield Finding(
            f"{patient.user} does not linger",
            "Models and the proxy end with the last login, and start at none.",
            f"sudo loginctl enable-linger {patient.user}",
        )


def path(patient: Patient) -> Iterator[Finding]:
    """Are builds found by units, and llmctl by `ssh BOX llmctl`?"""
    for told in hidden_builds(patient.box):
        what, _, remedy = told.partition(" Write: ")
        yield Finding(what, "The proxy cannot start models that use it.", f"write {remedy}")
    found = patient.box.host.which("llmctl")
    folders = patient.box.host.environ().get("PATH", "").split(":")
    if found and str(PurePosixPath(found).parent) not in folders:
        yield advice(
            f"{found} is not on the PATH of commands over ssh",
            why="`ssh BOX llmctl` does not find it; llmctl --host does not need it.",
            do=f"type the whole path: ssh BOX {found} status",
        )


def disk(patient: Patient) -> Iterator[Finding]:
    """Is there room, and may it be written to?"""
    box = patient.box
    home = box.host.environ()["HOME"]
    kept = {
        box.store.config_dir: "configuration and profiles",
        box.store.state_dir: "logs and what llmctl notes down",
        box.store.cache_dir: "caches",
    }
    places = {path: what for path, what in kept.items() if box.host.stat(path)}
    for folder, what in (places or {home: "everything"}).items():
        if not box.host.run(("test", "-w", folder), timeout=_TIMEOUT_S).ok:
            do = f"ls -ld {folder}; findmnt --target {folder}"
            yield Finding(f"{folder} cannot be written to", f"It holds {what}.", do)
    places.setdefault(home, "your home")
    models = box.store.expand(patient.models_dir)
    if box.host.stat(models):
        places[models] = "models"
    told = box.host.run((*DF_ARGV, *places), timeout=_TIMEOUT_S)
    yield from room_findings(places, parse_df(told.stdout))


def clock(patient: Patient) -> Iterator[Finding]:
    """Is its clock right?"""
    host = patient.box.host
    told = host.run(("date", "+%s"), timeout=_TIMEOUT_S)
    synced = host.run(SYNC_ARGV, timeout=_TIMEOUT_S) if host.which(SYNC_ARGV[0]) else None
    yield from clock_findings(
        told.stdout, ours=patient.ours, synced=synced.stdout if synced and synced.ok else ""
    )
