"""Wake a box, and wait until it answers."""

from collections.abc import Callable

from llmctl.core.hosts import HostEntry
from llmctl.core.progress import Report, Waiting
from llmctl.core.wake import EVERYBODY, PORT, magic_packet, senders
from llmctl.engine.clock import Clock
from llmctl.errors import HostError, UnreachableError
from llmctl.host.base import Host
from llmctl.host.broadcast import broadcast

TIMEOUT_S = 180.0
"""A resume takes seconds, and a cold start with a long memory test minutes."""
SEND_EVERY_S = 5.0
"""A packet may get lost, and a switch that has slept too forgets where the card is."""
REFUSALS_S = 30.0
"""How long a box that answers may refuse us: while it boots nobody may log in (pam_nologin(8))."""
_LOOK_S = 1.0
_SEND_TIMEOUT_S = 20.0


def sender(
    name: str, entry: HostEntry, *, via: Host | None, port: int = PORT
) -> Callable[[], None]:
    """What sends the packet for a box: from here, or from another machine on its LAN.

    HostError: it has no card address, or `via` has no program that could send it.
    """
    if entry.mac is None:
        raise HostError(
            f"hosts.yaml does not say which network card of {name} wakes it.",
            hint=f"llmctl host add {name} --mac ADDRESS; `llmctl sleep {name}` says the address.",
        )
    packet, address = magic_packet(entry.mac), entry.broadcast or EVERYBODY
    if via is None:
        return lambda: broadcast(packet, address, port)
    argv = next((one for one in senders(packet, address, port=port) if via.which(one[0])), None)
    if argv is None:
        raise HostError(
            f"{via.name} cannot send a magic packet: it has neither python3 nor perl.",
            hint="Install one of them there, or name another machine as `via`.",
        )
    return lambda: _send_from(via, argv)


def _send_from(via: Host, argv: tuple[str, ...]) -> None:
    done = via.run(argv, timeout=_SEND_TIMEOUT_S)
    if not done.ok:
        said = (done.stderr.strip().splitlines() or [f"status {done.status}"])[-1]
        raise HostError(
            f"{via.name} could not send the magic packet: {said}",
            hint="Say `broadcast:` in hosts.yaml: the address of all of its LAN.",
        )


def wake(
    name: str,
    *,
    send: Callable[[], None],
    reach: Callable[[], None],
    clock: Clock,
    report: Report,
    timeout: float = TIMEOUT_S,
) -> float:
    """Send, and again, until the box answers; how many seconds that took.

    send: see `sender`. reach: logs in; HostError as long as it cannot. HostError: it did not answer
    within `timeout` seconds, or it did and will not have us.
    """
    began = clock.now()
    sent: float | None = None
    refused: float | None = None
    while True:
        now = clock.now()
        if sent is None or now - sent >= SEND_EVERY_S:
            send()
            sent = now
        error = _failure(reach)
        now = clock.now()
        if error is None:
            return now - began
        if isinstance(error, UnreachableError):
            refused = None
        elif refused is None:
            refused = now
        elif now - refused >= REFUSALS_S:
            raise error
        if now - began >= timeout:
            raise _asleep(name, error, timeout)
        report(Waiting(f"{name} is waking up", now - began))
        clock.sleep(_LOOK_S)


def _failure(reach: Callable[[], None]) -> HostError | None:
    try:
        reach()
    except HostError as error:
        return error
    return None


def _asleep(name: str, last: HostError, timeout: float) -> HostError:
    return HostError(
        f"{name} did not wake within {timeout:g} s: {last.message}",
        hint="It must be on the same network as who sends (`via:`), or `broadcast:` must name its "
        "network, and its card be armed: sudo ethtool -s CARD wol g",
    )
