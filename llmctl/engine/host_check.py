"""What it takes to drive a box from elsewhere, and to wake it: facts of a login that runs no login
shell, where much is missing that a person at the box has."""

import re
import shlex
from collections.abc import Iterator, Sequence
from functools import partial

import msgspec

from llmctl.core.finding import Finding, advice, from_elsewhere
from llmctl.core.hosts import HostEntry
from llmctl.engine.aliases import LLMCTL
from llmctl.engine.box import Box
from llmctl.engine.doctor import CHECKS, CONFIG, MANAGER, Check, Checked, Diagnosis, examine
from llmctl.engine.patient import Patient
from llmctl.engine.sleep import Card, network_cards
from llmctl.errors import HostError

_TIMEOUT_S = 10.0
_SUDO = re.compile(r"(?:[^:]*: )?(sudo .*)")
"""A remedy that is one command for root, or a hint that ends with one."""
_DISCARD = 9
"""A port on which hardly anybody listens; a refusal is as good an answer."""
_FORWARD = (
    "sudo sh -c 'echo AllowTcpForwarding local >/etc/ssh/sshd_config.d/00-llmctl.conf && "
    "{ systemctl reload ssh || systemctl reload sshd; }'"
)
"""The first value that sshd reads counts (sshd_config(5)), and Debian calls it ssh."""
_KEPT = "/var/log/journal"
_DEAF = ("insufficient permissions", "No journal files were found")
"""journalctl's words (systemd, src/shared/logs-show.c, journal_access_check_and_warn)."""
_OF_DOCTOR = (MANAGER, "linger", CONFIG, "path", "binaries", "disk", "clock")


def check(box: Box, *, name: str, entry: HostEntry | None, ours: float) -> Diagnosis:
    """Look at a box. name: as it was typed; entry: of hosts.yaml, where it is there. ours: seconds
    since 1970, here.

    HostError: it cannot be logged in to at all, and why.
    """
    found = examine(box, ours=ours, checks=_checks(name, entry))
    target = entry.ssh if entry else name
    return Diagnosis(found.host, tuple(_typed_here(one, name, target) for one in found.checked))


def _checks(name: str, entry: HostEntry | None) -> Sequence[Check]:
    theirs = {one.name: one for one in CHECKS}
    manager, linger, *rest = (theirs[one] for one in _OF_DOCTOR)
    return (
        Check("session", "a login over ssh finds the user manager", session),
        msgspec.structs.replace(manager, needs=("session",)),
        linger,
        Check("files", "files can be written over ssh", files),
        Check("ports", "ports of the box are reached through ssh", ports),
        *rest,
        Check("logs", "what models write can be read", logs, (CONFIG,)),
        Check(LLMCTL, "the box could run the proxy", llmctl),
        Check(
            "wake",
            "hosts.yaml names the card that wakes it, if it has one",
            partial(wake, name=name, entry=entry),
        ),
    )


def session(patient: Patient) -> Iterator[Finding]:
    """Is there a place where the user manager is found?"""
    if not patient.box.host.environ().get("XDG_RUNTIME_DIR"):
        yield Finding(
            "commands over ssh have no XDG_RUNTIME_DIR, and there is no /run/user of yours",
            "systemctl --user finds the user manager there. sshd sets it with `UsePAM yes`, and "
            "with linger it is there always.",
            f"sudo loginctl enable-linger {patient.user}",
        )


def files(patient: Patient) -> Iterator[Finding]:
    """Is a file written as it should be? Units and caches are."""
    host, path = patient.box.host, f"{patient.box.store.cache_dir}/host-check"
    told = b"llmctl host check\n"
    try:
        host.write(path, told, mode=0o600)
        entry = host.stat(path)
        host.remove(path)
    except HostError as error:
        why = "Units, and what llmctl notes down, are written so."
        yield Finding(error.message, why, error.hint or f"ls -ld {shlex.quote(path)}")
        return
    if entry is None or entry.size_bytes != len(told):
        yield Finding(
            "the box's find, head or mktemp are not those of GNU",
            "llmctl works with files through them.",
            "install coreutils and findutils there",
        )


def ports(patient: Patient) -> Iterator[Finding]:
    """May ports of the box be reached? A model is ready when its port says so."""
    try:
        patient.box.host.dial(_DISCARD, timeout=_TIMEOUT_S).close()
    except HostError as error:
        why = "Whether a model is ready is asked on its port, which listens on the box alone."
        yield Finding(error.message, why, _FORWARD)
    except OSError:
        pass  # nobody listens there, as it should be


def logs(patient: Patient) -> Iterator[Finding]:
    """Can the journal of user units be read?"""
    if patient.box.store.config.logs == "file":
        return
    argv = ("journalctl", "--user-unit=llm-*", "--lines=1", "--no-pager")
    said = patient.box.host.run(argv, timeout=_TIMEOUT_S).stderr
    # Each user has a journal of his own there, as soon as there is something to write into it.
    if any(words in said for words in _DEAF) and not patient.box.host.list(_KEPT):
        yield Finding(
            f"{patient.user} cannot read what models write",
            "`llmctl logs` is empty, and a switch that fails cannot say why.",
            "sudo mkdir -p /var/log/journal && sudo journalctl --flush",
        )


def llmctl(patient: Patient) -> Iterator[Finding]:
    """Is llmctl there? Only the proxy is a program of its own."""
    if patient.box.host.which(LLMCTL) is None:
        yield advice(
            "llmctl is not installed there",
            why="Only the proxy needs that; all else works from here.",
            do="install it, then: llmctl proxy install",
        )


def wake(patient: Patient, *, name: str, entry: HostEntry | None) -> Iterator[Finding]:
    """Is its network card known, and armed?"""
    cards = [one for one in network_cards(patient.box) if one.mac and one.wakeup]
    if not cards:
        return
    known = entry.mac if entry else None
    if known is None:
        yield advice(
            f"{_named(cards)} could wake it, and hosts.yaml does not say so",
            why="`llmctl wake` sends its packet to that address.",
            do=f"llmctl host add {name} --mac {cards[0].mac}",
        )
    elif known.lower().replace("-", ":") not in {one.mac.lower() for one in cards}:
        yield advice(
            f"hosts.yaml says {known}, and the box has {_named(cards)}",
            why="`llmctl wake` calls a card that is not there.",
            do=f"llmctl host add {name} --mac {cards[0].mac}",
        )
    if all(one.wakeup == "disabled" for one in cards):
        yield advice(
            f"{_named(cards)} is not armed",
            why="It does not listen for the packet while the box sleeps.",
            do=f"sudo ethtool -s {cards[0].name} wol g",
        )


def _named(cards: Sequence[Card]) -> str:
    return ", ".join(f"{one.name} ({one.mac})" for one in cards)


def _typed_here(checked: Checked, name: str, target: str) -> Checked:
    """What is to be done, as it is typed on this machine."""
    mended = tuple(_from_here(one, name, target) for one in checked.findings)
    return msgspec.structs.replace(checked, findings=mended)


def _from_here(finding: Finding, name: str, target: str) -> Finding:
    if command := _SUDO.fullmatch(finding.do):
        return msgspec.structs.replace(finding, do=shlex.join(("ssh", "-t", target, command[1])))
    # Of `llmctl host add` BOX is part already.
    return finding if f" {name} " in finding.do else from_elsewhere(finding, name)
