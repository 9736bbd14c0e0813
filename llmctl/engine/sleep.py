"""Stop the models of a box, then suspend it, without hanging whoever asks for it over SSH."""

import msgspec

from llmctl.core.progress import Report
from llmctl.core.suspend import CAN_ARGV, SUSPEND_ARGV, can_be_woken, parse_can, sudo_rule
from llmctl.engine.box import Box
from llmctl.engine.clock import Clock
from llmctl.engine.execute import STOP_TIMEOUT_S
from llmctl.engine.off import off, units_of
from llmctl.errors import HostError, NoAnswerError, sentence

_TIMEOUT_S = 10.0
SILENT_S = 5.0
"""A box that was told to sleep, and has not said no for so long, sleeps: logind answers first, and
lets the programs go that asked to be told."""
_NET = "/sys/class/net"
_WAKEUP = "device/power/wakeup"


class Card(msgspec.Struct, frozen=True):
    """A network card: its name, its address, and what sysfs says of its waking the machine."""

    name: str
    mac: str
    wakeup: str


class Asleep(msgspec.Struct, frozen=True):
    """stopped: profiles. cards: wired to the machine, and so able to wake it if they are armed."""

    stopped: tuple[str, ...]
    cards: tuple[Card, ...]

    @property
    def can_be_woken(self) -> bool | None:
        """By a packet; None: nobody says."""
        return can_be_woken({card.name: card.wakeup for card in self.cards})


def put_to_sleep(box: Box, *, clock: Clock, report: Report) -> Asleep:
    """Stop every model, residents too, then suspend. HostError: it does not sleep; the models were
    stopped only if it may.

    A sleeping box keeps what is on its GPUs only where the driver saves it, and mostly it does not.
    """
    command = way_to_suspend(box)
    cards = network_cards(box)
    units = units_of(box, None, everything=True)
    stopped = off(box, units, clock=clock, report=report, timeout=STOP_TIMEOUT_S)
    _suspend(box, command)
    return Asleep(stopped.profiles, cards)


def _suspend(box: Box, command: tuple[str, ...]) -> None:
    """logind answers before it acts, so the answer may come or be lost with the network."""
    try:
        told = box.host.run(command, timeout=SILENT_S)
    except NoAnswerError:
        return
    if not told.ok:
        raise HostError(
            f"{box.host.name} does not sleep: {sentence(_last(told.stderr))} Its models are "
            "stopped.",
            hint="Who keeps it awake: systemd-inhibit --list. By hand: sudo systemctl suspend",
        )


def way_to_suspend(box: Box) -> tuple[str, ...]:
    """The command that suspends a box as this user, without a password. HostError: there is none,
    and what to type so that there is."""
    host = box.host
    can = _asked_of_logind(box)
    if can == "na":
        raise HostError(
            f"{host.name} cannot suspend: its firmware, kernel or driver does not.",
            hint="See: cat /sys/power/state /sys/power/mem_sleep",
        )
    if can == "yes":
        return SUSPEND_ARGV
    systemctl = host.which(SUSPEND_ARGV[0]) or SUSPEND_ARGV[0]
    command = (systemctl, *SUSPEND_ARGV[1:])
    if host.which("sudo") and host.run(("sudo", "-n", "-l", *command), timeout=_TIMEOUT_S).ok:
        return ("sudo", "-n", *command)
    user = host.environ().get("USER", "$USER")
    raise HostError(
        f"{user} may not suspend {host.name}.",
        hint=f"Once, there, as somebody who may: {sudo_rule(user, systemctl)}",
    )


def _asked_of_logind(box: Box) -> str:
    if box.host.which(CAN_ARGV[0]) is None:
        return ""
    return parse_can(box.host.run(CAN_ARGV, timeout=_TIMEOUT_S).stdout)


def network_cards(box: Box) -> tuple[Card, ...]:
    """The cards of a box: what is only made of software has no device."""
    found = []
    for entry in box.host.list(_NET):
        folder = f"{_NET}/{entry.name}"
        if box.host.stat(f"{folder}/device") is not None:
            facts = {what: _read(box, f"{folder}/{what}") for what in ("address", _WAKEUP)}
            found.append(Card(entry.name, facts["address"], facts[_WAKEUP]))
    return tuple(found)


def _read(box: Box, path: str) -> str:
    try:
        return box.host.read(path).decode(errors="replace").strip()
    except (FileNotFoundError, HostError):
        return ""


def _last(text: str) -> str:
    return (text.strip().splitlines() or ["no reason given"])[-1]
