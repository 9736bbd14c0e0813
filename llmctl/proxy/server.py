"""Proxy: what all connections and requests share. Everything in it runs on one event loop."""

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable, Iterable

from llmctl.core.proxy_settings import ProxySettings
from llmctl.proxy.access import WRONG_KEY, Connection, Policy, admitted, cors_headers
from llmctl.proxy.again import Again, Heads
from llmctl.proxy.client import Client
from llmctl.proxy.dialect import Trouble
from llmctl.proxy.doors import Doors
from llmctl.proxy.guesses import KIND as GUESSING
from llmctl.proxy.guesses import Guesses
from llmctl.proxy.handover import MOST_AT_ONCE, Handover
from llmctl.proxy.head import Headers, Request
from llmctl.proxy.journal import Journal
from llmctl.proxy.keeper import Keeper
from llmctl.proxy.key_watch import KeyWatch, Read
from llmctl.proxy.keys import ApiKey
from llmctl.proxy.loading import loading_event
from llmctl.proxy.pages import own_page, states
from llmctl.proxy.record import Record
from llmctl.proxy.relay import Relay
from llmctl.proxy.request_log import RequestLog
from llmctl.proxy.routing import Rules, Served, Table, route
from llmctl.proxy.switchboard import Switchboard
from llmctl.proxy.tasks import spawn
from llmctl.proxy.watchdog import Watchdog

TICK_S = 1.0
IDLE_TIMEOUT_S = 120.0
FAREWELL_S = 0.5
"""The same for a proxy that stops and cannot hand its connections over."""
FAREWELL_TICK_S = 0.02
FLUSH_S = 5.0
"""How long clients may take to read the end of what they got."""


class Proxy:
    """The whole program but its sockets. is_stopping: no further requests are taken."""

    def __init__(
        self, keeper: Keeper, handover: Handover | None = None, *,
        now: Callable[[], float] | None = None, log: RequestLog | None = None,
        guard_log: RequestLog | None = None, keys: Read | None = None,
    ) -> None:  # fmt: skip
        self.now = now or time.monotonic  # the loop's clock, without its call
        self.journal = Journal(self.now, time.time, log, guard_log)  # noqa: TID251  # when it was, for people
        self.clients: set[Client] = set()
        self.relays: dict[int, Relay] = {}
        self.heads = Heads()
        self.board = Switchboard(keeper, self.relays, self.now, self.journal)
        self._guesses, self._key_watch = Guesses(), KeyWatch(self.board, keys)
        self._watchdog = Watchdog(self.board, self.relays)
        self._names = frozenset({f"{socket.gethostname().lower()}.local"})
        self.is_stopping = False
        self._handover = handover or Handover(None)
        self._policy = Policy(self.settings)

    @property
    def settings(self) -> ProxySettings:
        """What config.yaml says, as it was last seen to be right."""
        return self.board.settings

    @property
    def table(self) -> Table:
        """The models."""
        return self.board.table

    # Requests

    def relay(self, client: Client, request: Request, again: Again | None = None) -> Relay:
        """A new request. again: what is known of its head."""
        relay = Relay(self, client, request, again)
        self.relays[relay.ticket] = relay
        return relay

    def over(self, relay: Relay) -> None:
        """It has ended."""
        if self.relays.pop(relay.ticket, None) is None:
            return
        if relay.is_watching:
            self.journal.events.remove(relay)
        self.note(relay.ticket, relay.record)

    def note(self, ticket: int, record: Record) -> None:
        """Write down what has ended. Who guesses keys does not fill the log."""
        is_logged = self.settings.request_log and record.outcome != GUESSING
        self.journal.ended(ticket, record, is_logged=is_logged)

    def admits(self, relay: Relay, client: Client, request: Request) -> Trouble | None:
        """May this client ask that?"""
        at = Connection(client.peer, client.here)
        caller = admitted(request, relay.path, at, self.policy)
        if isinstance(caller, Trouble) and caller.kind == WRONG_KEY and self._key_watch.has_news():
            caller = admitted(request, relay.path, at, self.policy)
        if isinstance(caller, Trouble):
            return self._guessed(relay, client) or caller if caller.kind == WRONG_KEY else caller
        if caller.key is not None:
            relay.key, relay.record.key = caller.key, caller.key.name
        return None

    @property
    def policy(self) -> Policy:
        """What is known of who may ask what; another object once any of it may have changed."""
        board, known = self.board, self._policy
        is_same = known.settings is board.settings and known.keys is board.keys
        if not is_same or known.is_known is not board.is_known:
            self._policy = Policy(board.settings, board.keys, self._names, board.is_known)
        return self._policy

    def _guessed(self, relay: Relay, client: Client) -> Trouble | None:
        """A wrong key: is it one too many?"""
        trouble = self._guesses.wrong(client.peer, self.now())
        if trouble is not None:
            relay.answer.closes = True
        return trouble

    def headers_for(self, request: Request) -> Headers:
        """Headers for every answer to this client."""
        return cors_headers(request, self.board.settings)

    def models_of(self, key: ApiKey | None) -> frozenset[str] | None:
        """The profiles that a key may use; None: all."""
        if key is None or key.models is None:
            return None
        return frozenset(self.table.names.get(one, one) for one in key.models)

    def serve_own(self, relay: Relay, request: Request, path: bytes) -> bool:
        """Is it for us, and answered?"""
        return own_page(self, relay, request, path)

    def way(self, model: str | None, forced: str | None, key: ApiKey | None) -> Served | Trouble:
        """Where a request goes. model: as its body names it; forced: as its path does."""
        board = self.board
        if board.problem is not None and not board.table.served:
            return Trouble(503, "not_configured", board.problem, retry_after_s=10)
        rules = Rules(board.settings.unknown_model, self.models_of(key))
        return route(board.routes, model=model, forced=forced, rules=rules)

    # Time

    async def tick(self) -> None:
        """For ever: what time alone brings about."""
        while True:
            await asyncio.sleep(TICK_S)
            self.pulse()

    def pulse(self) -> None:
        """Once a second."""
        self.board.tick()
        self._key_watch.pulse()
        now = self.now()
        self._watchdog.pulse(now)
        for relay in list(self.relays.values()):
            self._tell(relay)
            relay.look(now)
        for client in list(self.clients):
            client.look(now)
        self.journal.settle()
        self.journal.look(states(self), self.board.loading)
        if self.journal.wants_to_write:
            spawn(self.journal.write(), name="write the request log")

    def _tell(self, relay: Relay) -> None:
        """How far the model is that it waits for, where that is wanted."""
        if not (self.settings.loading_messages and relay.is_waiting and relay.served):
            return
        loading = self.board.loading.get(relay.served.name)
        if loading is not None and relay.endpoint.name == "chat":
            relay.progress(loading_event(loading))

    # The end

    async def stop(self, doors: Doors) -> None:
        """Serve what has come, for as long as is allowed; then tell the rest, and let it go out."""
        self.is_stopping = True
        self.journal.events.close()
        await self._until_gone(doors, within=self.settings.stop_timeout_s)
        for relay in list(self.relays.values()):
            relay.refuse(Trouble(503, "proxy_stopped", "The proxy was stopped.", retry_after_s=2))
        await self._until_gone(doors, within=FLUSH_S)
        await self._handover.settle()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TICK_S):
                await self.journal.write()

    @property
    def idle_timeout_s(self) -> float:
        """How long a connection may be quiet."""
        return FAREWELL_S if self.ends_connections else IDLE_TIMEOUT_S

    @property
    def ends_connections(self) -> bool:
        """It stops, and nobody takes the connections over: the answer that goes out says so."""
        return self.is_stopping and not self._handover.is_possible

    def part(self, clients: Iterable[Client]) -> None:
        """Give connections on which nothing is under way to the next process."""
        ours = [(client, one) for client in clients if (one := client.descriptor) is not None]
        for start in range(0, len(ours), MOST_AT_ONCE):
            some = ours[start : start + MOST_AT_ONCE]
            if self._handover.give([one for _, one in some]):
                for client, _ in some:
                    client.abort()  # its end here; systemd holds the other

    async def _until_gone(self, doors: Doors, *, within: float) -> None:
        end = self.now() + within
        while self.now() < end and (self.clients or not doors.is_quiet):
            if self.ends_connections:
                for client in list(self.clients):
                    client.look(self.now())
            else:
                self.part(list(self.clients))
            await asyncio.sleep(FAREWELL_TICK_S)
