"""falling.py, opening.py, relay.py: requests that go along a chain, in memory."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from support.asking import until
from support.chains import ATTIC, Chain, Models, model
from support.streams import ERRORS, PATHS, events, recorded
from support.wire import MemoryTransport, answers_in, requests_in

from llmctl.core.guard.settings import GuardSettings
from llmctl.core.proxy_settings import ProxySettings
from llmctl.core.state import State
from llmctl.errors import SwitchError
from llmctl.proxy.client import Client
from llmctl.proxy.dialect import Endpoint, Trouble
from llmctl.proxy.healing import planned
from llmctl.proxy.keys import ApiKey
from llmctl.proxy.server import Proxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from llmctl.proxy.keeper import Progress, Seen
    from llmctl.proxy.routing import Served

JSON = b"Content-Type: application/json\r\n"
EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
OVERFLOW = (
    b'{"error":{"code":400,"message":"request (12010 tokens) exceeds the available context size '
    b'(512 tokens), try increasing it","type":"exceed_context_size_error",'
    b'"n_prompt_tokens":12010,"n_ctx":512}}'
)
GENERATING = ("chat", "completions", "messages", "responses")


def said(status: int, body: bytes, headers: bytes = JSON) -> bytes:
    return b"HTTP/1.1 %d X\r\n%bContent-Length: %d\r\n\r\n%b" % (status, headers, len(body), body)


NO_MEMORY = said(500, b'{"error":{"code":500,"message":"no memory","type":"server_error"}}')
FINE = said(200, b'{"model":"b"}')


def chunked(data: bytes, *, ends: bool = True) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data) + (b"0\r\n\r\n" if ends else b"")


def heard(client: MemoryTransport) -> tuple[int, dict[str, str], bytes]:
    ((answer, body),) = answers_in(bytes(client.heard))
    return (
        answer.status_code, {k.decode().lower(): v.decode() for k, v in answer.headers}, body,
    )  # fmt: skip


def by(client: MemoryTransport) -> tuple[int, str | None, str | None]:
    """Status, X-Served-By, X-Fallback-From."""
    status, headers, _ = heard(client)
    return status, headers.get("x-served-by"), headers.get("x-fallback-from")


# The same for all endpoints, streamed or not


@pytest.mark.parametrize("name", GENERATING)
@pytest.mark.parametrize("stream", [False, True])
def test_a_server_without_memory_is_followed_by_the_next(name: str, stream: bool) -> None:
    with Chain(model("a", "b"), model("b")) as it:
        client = it.asks("a", PATHS[name], stream=stream)
        it.of("a").says(NO_MEMORY)
        ((request, body),) = requests_in(bytes(it.of("b").heard))
        assert request.target == PATHS[name]
        assert json.loads(body)["model"] == "a"  # llama-server looks at no names
        answer = EVENTS + chunked(recorded(name)) if stream else FINE
        it.of("b").says(answer)
        assert by(client) == (200, "b", "a")
        assert heard(client)[2] == (recorded(name) if stream else b'{"model":"b"}')


@pytest.mark.parametrize("name", GENERATING)
def test_an_error_that_is_the_first_event_is_no_answer_yet(name: str) -> None:
    with Chain(model("a", "b"), model("b")) as it:
        client = it.asks("a", PATHS[name], stream=True)
        it.of("a").says(EVENTS + chunked(b":\n\n:\n\n", ends=False))
        assert not client.heard
        it.of("a").says(chunked(ERRORS[name]))
        it.of("b").says(EVENTS + chunked(recorded(name)))
        assert by(client) == (200, "b", "a")
        assert heard(client)[2] == recorded(name)


@pytest.mark.parametrize("name", GENERATING)
def test_what_breaks_off_after_its_first_event_is_not_asked_for_elsewhere(name: str) -> None:
    with Chain(model("a", "b"), model("b")) as it:
        client = it.asks("a", PATHS[name], stream=True)
        first = recorded(name).partition(b"\n\n")[0] + b"\n\n"
        it.of("a").says(EVENTS + chunked(first, ends=False))
        assert first.split(b"\n")[0] in bytes(client.heard)
        it.of("a").dies()
        assert it.was_asked("b") == 0
        assert by(client) == (200, "a", None)
        assert b"llmctl_upstream_died" in heard(client)[2]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 60), max_size=12), st.booleans())
def test_a_beginning_may_come_in_any_pieces(sizes: list[int], fails: bool) -> None:
    with Chain(model("a", "b"), model("b")) as it:
        client = it.asks("a", stream=True)
        body = b":\n\n" + (ERRORS["chat"] if fails else recorded("chat"))
        it.of("a").says(EVENTS + chunked(body), sizes=sizes)
        if fails:
            it.of("b").says(EVENTS + chunked(recorded("chat")))
        assert by(client) == (200, "b" if fails else "a", "a" if fails else None)
        assert events(heard(client)[2]) == events(recorded("chat"))


def test_a_stream_that_ends_without_an_event_is_none() -> None:
    with Chain(model("a", "b"), model("b")) as it:
        client = it.asks("a", stream=True)
        it.of("a").says(EVENTS + chunked(b":\n\n"))
        it.of("b").says(EVENTS + chunked(recorded("chat")))
        assert by(client) == (200, "b", "a")


def test_progress_that_the_client_does_not_get_is_no_first_event() -> None:
    progress = (
        b'data: {"choices":[{"finish_reason":null,"index":0,"delta":{"role":"assistant"}}],'
        b'"prompt_progress":{"total":50,"cache":0,"processed":20,"time_ms":3}}\n\n'
    )
    guard = GuardSettings(mode="on")
    with Chain(model("a", "b", guard=guard), model("b", guard=guard)) as it:
        client = it.asks("a")
        assert b'"return_progress":true' in bytes(it.of("a").heard)
        it.of("a").says(EVENTS + chunked(progress, ends=False))
        it.of("a").says(chunked(ERRORS["chat"]))
        assert b'"return_progress":true' in bytes(it.of("b").heard)
        it.of("b").says(EVENTS + chunked(recorded("chat")))
        assert by(client) == (200, "b", "a")
        assert json.loads(heard(client)[2])["choices"]


def test_a_whole_answer_that_breaks_off_was_seen_by_nobody() -> None:
    """The guard streams it from the server, and puts it together."""
    guard = GuardSettings(mode="on")
    with Chain(model("a", "b", guard=guard), model("b", guard=guard)) as it:
        client = it.asks("a")
        first = recorded("chat").partition(b"\n\n")[0] + b"\n\n"
        it.of("a").says(EVENTS + chunked(first, ends=False))
        it.of("a").dies()
        it.of("b").says(EVENTS + chunked(recorded("chat")))
        assert by(client) == (200, "b", "a")


# What leads on, and what does not


def test_a_server_that_goes_away_is_left_where_the_next_can_answer_at_once() -> None:
    with Chain(model("a", "b"), model("b")) as it:
        client = it.asks("a")
        it.of("a").dies()
        it.of("b").says(FINE)
        assert by(client) == (200, "b", "a")
        assert it.was_asked("a") == 1


@pytest.mark.parametrize("status", [400, 404, 422, 501])
def test_the_clients_own_faults_are_told_by_whom_it_asked(status: int) -> None:
    with Chain(model("a", "b"), model("b")) as it:
        client = it.asks("a")
        told = b'{"error":{"code":%d,"message":"x","type":"invalid_request_error"}}' % status
        it.of("a").says(said(status, told))
        assert by(client) == (status, "a", None)
        assert heard(client)[2] == told
        assert it.was_asked("b") == 0


def test_what_becomes_of_the_one_that_was_left_is_nothing_to_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While another box is asked for its context, the server that was left is stopped."""
    with Chain(model("a", ATTIC, ctx=512)) as it:

        async def told(_: object) -> int:
            it.proxy.board._part("a")
            it.proxy.board.end_all("a", Trouble(502, "hung", "a has not answered."))
            return 32768

        monkeypatch.setattr("llmctl.proxy.falling.ctx_of", told)
        client = it.asks("a")

        async def overflows() -> None:
            it.of("a").says(said(400, OVERFLOW))

        it._runner.run(overflows())
        it.settle()
        it.of("attic/coder").says(FINE)
        assert by(client) == (200, "attic/coder", "a")
        assert (it.was_asked("a"), it.was_asked("attic/coder")) == (1, 1)


def test_a_context_overflow_goes_to_a_larger_one_only() -> None:
    chain = model("a", "b", "big", ctx=512), model("b", ctx=8192), model("big", ctx=16384)
    with Chain(*chain) as it:
        client = it.asks("a")
        it.of("a").says(said(400, OVERFLOW))
        it.of("big").says(FINE)
        assert by(client) == (200, "big", "a")
        assert it.was_asked("b") == 0


def test_an_overflow_that_fits_nowhere_is_told_as_it_is() -> None:
    with Chain(model("a", "b", ctx=512), model("b", ctx=8192)) as it:
        client = it.asks("a")
        it.of("a").says(said(400, OVERFLOW))
        assert by(client) == (400, "a", None)
        assert heard(client)[2] == OVERFLOW


def test_an_overflow_whose_larger_one_fails_is_still_the_clients_answer() -> None:
    """It knows how to make a prompt shorter, and nothing of the other model."""
    with Chain(model("a", "b", ctx=512), model("b", ctx=16384)) as it:
        client = it.asks("a")
        it.of("a").says(said(400, OVERFLOW))
        it.of("b").says(NO_MEMORY)
        assert by(client) == (400, "a", None)
        assert heard(client)[2] == OVERFLOW


def test_all_fail_and_the_one_that_was_asked_for_is_heard() -> None:
    with Chain(model("a", "b"), model("b")) as it:
        client = it.asks("a")
        it.of("a").says(NO_MEMORY)
        it.of("b").says(said(500, b'{"error":{"code":500,"message":"b too"}}'))
        assert by(client) == (500, "a", None)
        assert b"no memory" in heard(client)[2]


def test_all_go_away_and_each_is_named() -> None:
    with Chain(model("a", "b", "c"), model("b"), model("c")) as it:
        client = it.asks("a")
        it.of("a").dies()
        it.of("b").dies()
        for _ in range(3):  # nobody is left, so c is asked as often as ever
            it.of("c").dies()
        status, _, body = heard(client)
        message = json.loads(body)["error"]["message"]
        assert status == 502
        assert message.startswith("a went away")
        assert "b: b went away" in message
        assert "c: c went away" in message


def test_who_forces_a_model_gets_it_or_an_error() -> None:
    with Chain(model("a", "b"), model("b")) as it:
        client = it.asks("x", b"/upstream/a/v1/chat/completions")
        it.of("a").says(NO_MEMORY)
        assert by(client) == (500, "a", None)


def test_what_does_not_generate_has_no_chain() -> None:
    """Another model counts and tokenizes otherwise."""
    with Chain(model("a", "b"), model("b")) as it:
        client = it.asks("a", b"/tokenize", content="x")
        it.of("a").says(NO_MEMORY)
        assert by(client) == (500, "a", None)


def test_a_stop_by_hand_is_no_failure() -> None:
    with Chain(model("a", "b"), model("b")) as it:
        client = it.asks("a")
        (relay,) = it.proxy.relays.values()
        relay.refuse(Trouble(503, "stopped", "a was stopped by hand."))
        assert heard(client)[0] == 503
        assert it.was_asked("b") == 0


@pytest.mark.parametrize("kind", ["hung", "stalled"])
def test_a_server_that_hangs_is_left(kind: str) -> None:
    with Chain(model("a", "b"), model("b")) as it:
        client = it.asks("a")
        (relay,) = it.proxy.relays.values()
        relay.refuse(Trouble(502, kind, "a hangs."))
        assert it.of("a").is_aborted
        it.of("b").says(FINE)
        assert by(client) == (200, "b", "a")


def test_the_key_decides_who_may_stand_in() -> None:
    with Chain(model("a", "b", "c"), model("b"), model("c")) as it:
        it.proxy.models_of = lambda _: frozenset({"a", "c"})  # type: ignore[method-assign,assignment]
        client = it.asks("a")
        it.of("a").says(NO_MEMORY)
        it.of("c").says(FINE)
        assert by(client) == (200, "c", "a")


def test_a_client_that_goes_away_on_the_way_leaves_nothing_behind() -> None:
    with Chain(model("a", "b"), model("b")) as it:
        client = it.asks("a")
        it.of("a").says(NO_MEMORY)
        client.dies()
        assert it.of("b").is_aborted
        assert not it.proxy.relays
        assert all(not one.busy and not one.waiting for one in it.proxy.board.queues.values())


def test_nothing_is_counted_twice_and_all_is_told() -> None:
    with Chain(model("a", "b"), model("b")) as it:
        it.asks("a")
        assert it.proxy.board.turns("none:a").busy == {"a": 1}
        it.of("a").says(NO_MEMORY)
        assert it.proxy.board.turns("none:a").busy == {}
        assert it.proxy.board.turns("none:b").busy == {"b": 1}
        it.of("b").says(FINE)
        assert it.proxy.board.turns("none:b").busy == {}
        text = it.proxy.journal.metrics.text({}).decode()
        assert 'llmctl_fallbacks_total{model="a",why="error"} 1' in text
        assert 'llmctl_requests_total{endpoint="chat",model="b",outcome="ok"} 1' in text


# Rests


def fail(it: Chain, name: str = "a") -> None:
    """A request that a model fails."""
    client = it.asks(name)
    it.of(name).says(NO_MEMORY)
    it.of("b").says(FINE)
    assert by(client) == (200, "b", name)


def test_two_failures_in_a_row_and_the_next_is_asked_first() -> None:
    with Chain(model("a", "b"), model("b")) as it:
        fail(it)
        it.now += 2
        fail(it)
        before = it.was_asked("a")
        client = it.asks("a")
        it.of("b").says(FINE)
        assert by(client) == (200, "b", "a")
        assert it.was_asked("a") == before
        text = it.proxy.journal.metrics.text({}).decode()
        assert 'llmctl_fallbacks_total{model="a",why="resting"} 1' in text
        it.now += 11
        client = it.asks("a")
        it.of("a").says(FINE)
        assert by(client) == (200, "a", None)


def test_the_only_one_is_never_taken_out() -> None:
    with Chain(model("a")) as it:
        for _ in range(5):
            it.now += 2
            client = it.asks("a")
            it.of("a").says(NO_MEMORY)
            assert by(client) == (500, "a", None)
        assert it.was_asked("a") == 5


def test_who_rests_is_still_the_last_resort() -> None:
    with Chain(model("a", "b"), model("b")) as it:
        fail(it)
        it.now += 2
        fail(it)
        client = it.asks("a")
        it.of("b").says(NO_MEMORY)
        it.of("a").says(FINE)
        assert by(client) == (200, "a", "b")


@pytest.mark.parametrize("dies", [False, True])
def test_who_rests_and_is_asked_last_is_heard_where_all_fail(dies: bool) -> None:
    """What the other box said first, such as that our key is wrong, means nothing to the client."""
    with Chain(model("a", ATTIC)) as it:
        for _ in range(2):
            it.asks("a")
            it.of("a").says(NO_MEMORY)
            it.of("attic/coder").says(FINE)
            it.now += 2
        client = it.asks("a")
        it.of("attic/coder").says(said(401, b'{"error":{"message":"Invalid API key"}}'))
        if dies:
            for _ in range(4):  # the first may have been an old connection
                it.of("a").dies()
        else:
            it.of("a").says(NO_MEMORY)
        assert by(client) == (502 if dies else 500, "a", "attic/coder")
        assert (b"a went away" if dies else b"no memory") in heard(client)[2]


def test_a_replica_that_goes_away_is_followed_by_its_own_model() -> None:
    with Chain(model("a", "b"), model("b")) as it:
        client = it.asks("a")
        (relay,) = it.proxy.relays.values()
        assert relay.served is not None
        relay.served = replace(relay.served, number=2)
        it.of("a").dies()
        assert it.was_asked("a") == 2
        it.of("a").says(FINE)
        assert by(client) == (200, "a", None)


# Other boxes


def test_another_box_is_asked_for_its_model_by_name() -> None:
    with Chain(model("a", ATTIC)) as it:
        client = it.asks("a", b"/v1/chat/completions")
        it.of("a").says(NO_MEMORY)
        ((request, body),) = requests_in(bytes(it.of("attic/coder").heard))
        told = dict(request.headers)
        assert request.target == b"/upstream/coder/v1/chat/completions"
        assert told[b"host"] == b"attic:1234"
        assert told[b"authorization"] == b"Bearer s3cret"
        assert json.loads(body)["model"] == "a"
        headers = JSON + b"X-Served-By: coder@2\r\n"
        it.of("attic/coder").says(said(200, b'{"model":"coder"}', headers))
        assert by(client) == (200, "attic/coder@2", "a")
        assert not it.proxy.board.queues.keys() & {"none:attic/coder"}


@pytest.mark.parametrize("status", [401, 403, 404, 409, 429, 503])
def test_a_box_that_lets_us_not_in_is_passed_over(status: int) -> None:
    with Chain(model("a", ATTIC, "b"), model("b")) as it:
        client = it.asks("a")
        it.of("a").says(NO_MEMORY)
        it.of("attic/coder").says(said(status, b'{"error":{"message":"no","code":"x"}}'))
        it.of("b").says(FINE)
        assert by(client) == (200, "b", "a, attic/coder")


def test_a_box_that_is_off_is_passed_over() -> None:
    with Chain(model("a", ATTIC, "b"), model("b")) as it:
        it._pool(model("attic/coder")).refuses = "No route to host"
        client = it.asks("a")
        it.of("a").says(NO_MEMORY)
        it.of("b").says(FINE)
        assert by(client) == (200, "b", "a, attic/coder")


def test_a_box_that_falls_silent_is_passed_over() -> None:
    """Its proxy would send a comment each ten seconds, whatever it waits for."""
    with Chain(model("a", ATTIC, "b"), model("b")) as it:
        client = it.asks("a", stream=True)
        it.of("a").says(NO_MEMORY)
        it.of("attic/coder").says(EVENTS + chunked(b":\n\n", ends=False))
        it.passes(20)
        it.of("attic/coder").says(chunked(b":\n\n", ends=False))
        it.passes(20)
        assert it.was_asked("b") == 0
        it.passes(11)
        it.of("b").says(EVENTS + chunked(recorded("chat")))
        _, headers, body = heard(client)
        assert "x-served-by" not in headers  # it waited: the head was out before it was known
        assert b": X-Served-By: b\n: X-Fallback-From: a, attic/coder\n\n" in body
        assert events(body) == events(recorded("chat"))


# Waiting


class Broken:
    """A Keeper of two models in a group: `a` does not start, `b` does when it may."""

    def __init__(self, *served: Served) -> None:
        self.still = Models(*served, settings=ProxySettings())
        self.switched: list[str] = []

    def look(self) -> Seen:
        return self.still.look()

    def switch(self, name: str, *, timeout: float, progress: Progress) -> None:
        del timeout, progress
        self.switched.append(name)
        if name == "a":
            raise SwitchError("a does not fit.", hint="Take a smaller one.")

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(name)


@contextlib.asynccontextmanager
async def group(a: State, b: State) -> AsyncIterator[tuple[Proxy, Broken, Chain]]:
    """Two models of a group, a with the fallback b. Their servers are in memory."""
    one, two = (
        {"group": "gpu", "state": state, "pid": int(state is State.READY)} for state in (a, b)
    )
    keeper = Broken(model("a", "b", **one), model("b", **two))
    proxy, pools = Proxy(keeper), Chain()
    await proxy.board.look()
    proxy.board.pool = pools._pool  # type: ignore[method-assign,assignment]
    proxy.board.doubt = lambda _: None  # type: ignore[method-assign,assignment]
    yield proxy, keeper, pools
    assert not any(one.busy or one.waiting for one in proxy.board.queues.values())


def asks_a(proxy: Proxy, *, stream: bool) -> MemoryTransport:
    client = MemoryTransport(Client(proxy))
    body = b'{"model":"a","stream":%b}' % (b"true" if stream else b"false")
    client.sends(
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    )
    return client


async def answered_by_b(pools: Chain, answer: bytes) -> None:
    async def is_asked() -> int:
        return pools.was_asked("b")

    await until(is_asked)
    pools.of("b").says(answer)


def test_a_stream_that_waits_for_a_model_that_cannot_start_goes_to_the_next() -> None:
    async def play() -> None:
        async with group(State.STOPPED, State.STOPPED) as (proxy, keeper, pools):
            client = asks_a(proxy, stream=True)
            assert client.heard.startswith(b"HTTP/1.1 200")  # it waits, and hears so
            await answered_by_b(pools, EVENTS + chunked(recorded("chat")))
            assert keeper.switched == ["a", "b"]
            _, headers, sent = heard(client)
            assert "x-served-by" not in headers
            assert b": X-Served-By: b\n: X-Fallback-From: a\n\n" in sent
            assert events(sent) == events(recorded("chat"))
            assert set(proxy.board.rests.left(proxy.now())) == {"a"}

    asyncio.run(play())


def test_a_crash_is_not_followed_by_a_switch_before_the_third() -> None:
    """systemd brings the model back; a switch would unload it again."""

    async def play() -> None:
        async with group(State.READY, State.STOPPED) as (proxy, keeper, pools):
            client = asks_a(proxy, stream=False)
            for tried in (1, 2, 3):
                assert (pools.was_asked("a"), keeper.switched) == (tried, [])
                pools.of("a").dies()
            await answered_by_b(pools, FINE)
            assert by(client) == (200, "b", "a")
            assert keeper.switched == ["b"]

    asyncio.run(play())


def test_who_waited_for_what_was_stopped_by_hand_starts_nothing_else() -> None:
    async def play() -> None:
        async with group(State.READY, State.STOPPED) as (proxy, keeper, pools):
            client = asks_a(proxy, stream=False)
            (relay,) = proxy.relays.values()
            pools.of("a").dies()
            turns = proxy.board.turns("gpu")
            relay.leaves()
            proxy.board.act("gpu", turns.observed(None, None, proxy.now(), stopped={"a"}))
            relay.refuse(Trouble(502, "no_answer", "a went away."))
            assert heard(client)[0] == 503
            assert b"stopped by hand" in heard(client)[2]
            assert keeper.switched == []

    asyncio.run(play())


@pytest.mark.parametrize("asked", ["a", "nick", "who knows"])
def test_the_guards_own_events_name_the_model_that_answers(asked: str) -> None:
    body = json.dumps({"model": asked, "input": "x", "stream": True}).encode()
    found = planned(Endpoint("responses"), body, model("a"), GuardSettings())
    assert found is not None
    assert found[0].model == "a"


def test_a_key_of_its_own() -> None:
    """The models that a key may use are names of profiles and of other boxes' models."""
    with Chain(model("a", ATTIC)) as it:
        key = ApiKey("laptop", b"x", models=("a", "attic/coder"))
        assert it.proxy.models_of(key) == frozenset({"a", "attic/coder"})


# Whatever happens

HOW = ("dies", "no memory", "first event", "overflow", "refuses", "answers", "breaks off", "empty")


def plays(server: MemoryTransport, how: str, *, stream: bool) -> None:
    """One attempt at a server."""
    first = recorded("chat").partition(b"\n\n")[0] + b"\n\n"
    match how:
        case "dies":
            server.dies()
        case "no memory":
            server.says(NO_MEMORY)
        case "first event" if stream:
            server.says(EVENTS + chunked(b":\n\n" + ERRORS["chat"]))
        case "overflow":
            server.says(said(400, OVERFLOW))
        case "refuses":
            server.says(said(422, b'{"error":{"code":422,"message":"x"}}'))
        case "breaks off" if stream:
            server.says(EVENTS + chunked(first, ends=False))
            server.dies()
        case "breaks off":
            server.says(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{")
            server.dies()
        case "empty" if stream:
            server.says(EVENTS + chunked(b":\n\n"))
        case _:
            server.says(EVENTS + chunked(recorded("chat")) if stream else FINE)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from(HOW), min_size=1, max_size=12), min_size=1, max_size=4),
    st.booleans(), st.booleans(),
)  # fmt: skip
def test_each_client_gets_one_end_and_nothing_stays_behind(
    ways: list[list[str]], stream: bool, guarded: bool
) -> None:
    guard = GuardSettings(mode="on" if guarded and stream else "off")
    chain = (
        model("a", "b", guard=guard), model("b", "c", "a", guard=guard, ctx=16384),
        model("c", guard=guard, ctx=32768),
    )  # fmt: skip
    with Chain(*chain) as it:
        for way in ways:
            it.now += 3
            asked = {name: it.was_asked(name) for name in "abc"}
            client = it.asks("a", stream=stream)
            steps = [*way, *["answers"] * 20]
            while it.proxy.relays:
                (name,) = (one for one, before in asked.items() if it.was_asked(one) > before)
                asked[name] += 1
                plays(it.of(name), steps.pop(0), stream=stream)
            is_cut = client.is_aborted
            assert bool(client.heard)
            if not is_cut:
                _, headers, body = heard(client)
                assert headers.get("x-served-by", "b").partition("@")[0] in asked
                assert body.count(b"[DONE]") <= 1
                assert body.count(b'"error"') <= 1
            assert not any(one.busy or one.waiting for one in it.proxy.board.queues.values())
