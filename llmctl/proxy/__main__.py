"""python -m llmctl.proxy: what llmctl-proxy.service runs.

Listens on the sockets that systemd passes, or on `listen` of config.yaml when it was started by
hand. SIGHUP: it reads its configuration again. SIGTERM, SIGINT: what is under way ends first; a
second one ends it at once.
"""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Sequence

import llmctl.proxy.lean
from llmctl.core.listening import Address, exposure
from llmctl.errors import LlmctlError
from llmctl.proxy.bus import Bus, private_socket
from llmctl.proxy.client import Client
from llmctl.proxy.doors import Doors
from llmctl.proxy.handover import Handover, passed
from llmctl.proxy.keeper import LocalKeeper
from llmctl.proxy.loop import Loop
from llmctl.proxy.request_log import RequestLog
from llmctl.proxy.server import Proxy
from llmctl.proxy.tasks import log, spawn
from llmctl.proxy.waking import Waking

_BACKLOG = 4096


Sockets = Sequence[socket.socket]


async def serve(sockets: Sockets, clients: Sockets, handover: Handover) -> None:
    """Until SIGTERM or SIGINT. clients: connections of the process before."""
    loop = asyncio.get_running_loop()
    keeper = LocalKeeper()
    logs = RequestLog(keeper.request_log), RequestLog(keeper.guard_log)
    proxy = Proxy(keeper, handover, log=logs[0], guard_log=logs[1], keys=keeper.keys)
    stopped = asyncio.Event()

    def stop() -> None:
        if stopped.is_set():
            leave(1)
        stopped.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    loop.add_signal_handler(signal.SIGHUP, proxy.board.reload)
    await proxy.board.look()
    _tell_exposure(proxy, sockets)
    doors = Doors(sockets, lambda: Client(proxy))
    for one in clients:
        doors.let_in(one)
    handover.took()
    doors.open()
    handover.ready()
    spawn(proxy.board.watch(), name="watch")
    spawn(proxy.tick(), name="tick")
    spawn(Waking(keeper.slept, keeper.look_after).watch(), name="waking")
    spawn(Bus(private_socket(), proxy.board.wake).listen(), name="bus")
    llmctl.proxy.lean.imported()
    await stopped.wait()
    doors.close()
    await proxy.stop(doors)


def _tell_exposure(proxy: Proxy, sockets: Sockets) -> None:
    """systemd has bound the sockets before anybody could refuse to; so each request from beyond is
    refused (Proxy.admits), and here it is said why."""
    wrong = exposure(
        [Address(*one.getsockname()[:2]) for one in sockets],
        has_keys=proxy.settings.api_keys is not None,
        allow_keyless=proxy.settings.allow_keyless,
    )
    if wrong:
        log(f"{wrong} Requests from there are refused.")


def _bound(addresses: Sequence[Address]) -> list[socket.socket]:
    """For a start by hand."""
    found = []
    for one in addresses:
        family = socket.AF_INET6 if ":" in one.host else socket.AF_INET
        try:
            found.append(
                socket.create_server((one.host, one.port), family=family, backlog=_BACKLOG)
            )
        except OSError as error:
            raise LlmctlError(f"the proxy cannot listen on {one}: {error.strerror}.") from None
    return found


def leave(status: int) -> None:
    """End now. A switch that is under way in a thread goes on in systemd, and is not waited for."""
    sys.stderr.flush()
    os._exit(status)


def main() -> None:
    """Run to the end."""
    given = passed(os.environ, os.getpid())
    handover = Handover.of(os.environ)
    clients = [socket.socket(fileno=one) for one in given.clients]
    try:
        sockets = [socket.socket(fileno=one) for one in given.doors]
        sockets = sockets or _bound(LocalKeeper().addresses())
    except LlmctlError as error:
        log(error.message if error.hint is None else f"{error.message}\n{error.hint}")
        sys.exit(error.exit_status)
    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(_serve_and_leave(sockets, clients, handover))


async def _serve_and_leave(sockets: Sockets, clients: Sockets, handover: Handover) -> None:
    await serve(sockets, clients, handover)
    leave(0)


if __name__ == "__main__":
    main()
