"""Checks of what models are served with: binaries, GPUs, and the model files."""

import contextlib
import shlex
from collections.abc import Iterator

from llmctl.core.causes import name_cause
from llmctl.core.finding import Finding, Grade
from llmctl.core.gguf_facts import facts_of
from llmctl.core.gpu_findings import (
    PciCard,
    idle_card_findings,
    locked_findings,
    parse_pci,
    survey_findings,
)
from llmctl.core.profile import Profile
from llmctl.core.state import UnitStatus
from llmctl.engine.devices import survey
from llmctl.engine.patient import Patient
from llmctl.errors import GgufError, HostError, LlmctlError, ProfileError
from llmctl.host.base import Host
from llmctl.store.binaries import find
from llmctl.store.heads import head_of

_START_TIMEOUT_S = 20.0
_LIBRARIES = "LD_LIBRARY_PATH"
_PCI = "/sys/bus/pci/devices"
_DRI = "/dev/dri"


def binaries(patient: Patient) -> Iterator[Finding]:
    """Does each build start, with the libraries that units have?"""
    config = patient.box.store.config
    used = patient.builds
    for name in config.binaries:
        users = used.get(name, ())
        grade = Grade.WRONG if users or not used else Grade.ADVICE
        why = f"It is what starts {', '.join(users)}." if users else "Profiles may name it."
        finding = _does_not_start(patient, name, why)
        if finding is not None:
            yield Finding(finding.what, why, finding.do, grade)


def _does_not_start(patient: Patient, name: str, why: str) -> Finding | None:
    box = patient.box
    binary = box.store.config.binary(name)
    if binary is None:  # it is of config.binaries, so there is one
        return None
    try:
        path = find(box.host, name, binary, file=f"{box.store.config_dir}/config.yaml")
    except ProfileError as error:
        return Finding(error.message, why, error.hint or "llmctl devices")
    # Not flags_of(): what is cached says nothing of libraries that were removed since.
    environment = [f"{key}={value}" for key, value in binary.env.items()]
    if _LIBRARIES not in binary.env and (theirs := patient.unit_environment.get(_LIBRARIES)):
        environment.append(f"{_LIBRARIES}={theirs}")
    argv = ("env", "-u", _LIBRARIES, *environment, path, "--version")
    try:
        ended = box.host.run(argv, timeout=_START_TIMEOUT_S)
    except HostError as error:
        return Finding(error.message, why, shlex.join(argv))
    if ended.ok:
        return None
    lines = (ended.stderr or ended.stdout).strip().splitlines()
    cause = name_cause(lines, UnitStatus(""))
    if "error while loading shared libraries" in ended.stderr:
        return Finding(f"{path}: {cause.what}", why, f"ldd {path}; {cause.hint}")
    said = lines[-1] if lines else "and it says nothing"
    return Finding(f"{path} ends with status {ended.status}: {said}", why, shlex.join(argv))


def gpu(patient: Patient) -> Iterator[Finding]:
    """Does each build that is used see the GPUs?"""
    box, seen = patient.box, 0
    for name in patient.builds or box.store.config.binaries:
        with contextlib.suppress(ProfileError):  # the check of the binaries says so
            found = survey(box, binary=name)
            seen += len(found.gpus)
            yield from survey_findings(found.warnings)
    if not seen:
        yield from idle_card_findings(_cards(box.host))
        yield from locked_findings(_nodes(box.host), user=patient.user)


def _cards(host: Host) -> list[PciCard]:
    found = []
    for entry in _names(host, _PCI):
        with contextlib.suppress(FileNotFoundError, HostError):
            found.append(parse_pci(entry, host.read(f"{_PCI}/{entry}/uevent").decode()))
    return [card for card in found if card]


def _nodes(host: Host) -> dict[str, bool]:
    nodes = [f"{_DRI}/{name}" for name in _names(host, _DRI) if name.startswith("renderD")]
    return {
        node: host.run(("test", "-r", node, "-a", "-w", node), timeout=5.0).ok for node in nodes
    }


def _names(host: Host, folder: str) -> list[str]:
    try:
        return [entry.name for entry in host.list(folder)]
    except HostError:
        return []


def models(patient: Patient) -> Iterator[Finding]:
    """Is each file that a profile names there, to its last byte?"""
    checked: set[str] = set()
    for profile in patient.profiles:
        yield from _files(patient, profile, checked)


def _files(patient: Patient, profile: Profile, checked: set[str]) -> Iterator[Finding]:
    store = patient.box.store
    why = f"{profile.name} does not start, or breaks when it comes to what is missing."
    try:
        missing = store.missing_file(profile)
        files = store.files(profile)
    except ProfileError:  # its binary: the check of those says so
        return
    if missing:
        where = store.expand(store.config.models_dir)
        yield Finding(f"{profile.name}: {missing}", why, f"llmctl scan {where}")
        return
    for path in (files.model, files.mmproj, files.draft):
        if path and path not in checked:
            checked.add(path)
            told = _damage(patient, path)
            if told:
                yield Finding(told, why, f"fetch it again; then llmctl scan {_folder(path)}")


def _damage(patient: Patient, path: str) -> str | None:
    """What is wrong with a file, by its head against its size."""
    try:
        head = head_of(patient.box.host, path, cache_dir=patient.box.store.cache_dir)
    except FileNotFoundError:
        return f"{path} is gone"
    except GgufError as error:
        return error.message
    except LlmctlError as error:
        return f"{path} cannot be looked into: {error.message}"
    lost = facts_of(head, path).missing_bytes
    return f"{path} is cut short: {lost} bytes are missing at its end" if lost else None


def _folder(path: str) -> str:
    return path.rpartition("/")[0] or "/"
