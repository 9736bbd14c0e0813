"""pages.py, journal.py and the proxy's door, by clients without sockets."""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest
from support.prometheus import parse
from support.proxybench import HIGH_WATER, Bench, Browser, FakeKeeper, bench, served

from llmctl.core.proxy_settings import ProxySettings
from llmctl.errors import HostError
from llmctl.proxy.broadcast import MOST_WATCHERS
from llmctl.proxy.doors import Doors
from llmctl.proxy.head import AnswerHead
from llmctl.proxy.keys import ApiKey, Keyring
from llmctl.proxy.request_log import RequestLog
from llmctl.proxy.server import Proxy
from llmctl.proxy.unloading import Unloaded

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

KEYED = ProxySettings(api_keys="keys")
SECRETS = {"laptop": "sk-laptop-0123456789", "guest": "sk-guest-0123456789"}
RING = Keyring((
    ApiKey("laptop", hashlib.sha256(SECRETS["laptop"].encode()).digest(), admin=True),
    ApiKey("guest", hashlib.sha256(SECRETS["guest"].encode()).digest(), models=("coder-alias",)),
))  # fmt: skip
MODELS = (served("coder", aliases=("coder-alias",)), served("writer", ctx=4096))
CHUNK = b'data: {"choices":[{"index":0,"delta":{"content":"Hi"}}]}\n\n'
FINISH = (
    b'data: {"choices":[{"finish_reason":"stop","index":0,"delta":{}}],"timings":{"cache_n":1,'
    b'"prompt_n":10,"predicted_n":3,"predicted_per_second":50.5}}\n\ndata: [DONE]\n\n'
)


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await test()

    asyncio.run(main())


async def settle() -> None:
    """Let what was put off happen: threads of switches, closed connections."""
    for _ in range(3):
        await asyncio.sleep(0)
    async with asyncio.timeout(5):
        while others := [one for one in asyncio.all_tasks() if one is not asyncio.current_task()]:
            await asyncio.wait(others)


def as_key(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {SECRETS[name]}"}


def ids(client: Browser) -> list[str]:
    return [one["id"] for one in client.json["data"]]


# Own pages


def test_health_says_whether_a_model_is_ready() -> None:
    async def test() -> None:
        for ready, status in (("coder", 200), (None, 503)):
            async with bench(*MODELS, ready=ready, keys=RING, settings=KEYED) as it:
                client = it.connect("10.0.0.9", "10.0.0.5")
                client.get("/health")
                assert client.status == status

    run(test)


def test_the_list_of_models_has_those_that_a_key_may_use() -> None:
    async def test() -> None:
        async with bench(*MODELS, ready="coder", keys=RING, settings=KEYED) as it:
            for name, expected in (
                ("laptop", ["coder", "coder-alias", "writer"]), ("guest", ["coder", "coder-alias"])
            ):  # fmt: skip
                client = it.connect()
                client.get("/v1/models", **as_key(name))
                assert ids(client) == expected
            for path, status in (("coder-alias", 200), ("writer", 404), ("nobody", 404)):
                client = it.connect()
                client.get(f"/v1/models/{path}", **as_key("guest"))
                assert client.status == status

    run(test)


def test_the_list_tells_each_state() -> None:
    async def test() -> None:
        async with bench(*MODELS, ready="coder") as it:
            client = it.connect()
            client.get("/v1/models")
            states = {one["id"]: one["state"] for one in client.json["data"]}
            assert states == {"coder": "ready", "coder-alias": "ready", "writer": "stopped"}

    run(test)


def test_the_list_tells_what_each_works_on_and_why_it_does_not_run() -> None:
    async def test() -> None:
        async with bench(*MODELS, ready="coder") as it:
            board, client = it.proxy.board, it.connect()
            board.turns("gpu").goes_ahead("coder")
            board.unloading.last["writer"] = Unloaded("room", "coder", it.proxy.now())
            client.get("/v1/models")
            told = {one["id"]: one for one in client.json["data"]}
            keys = ("in_flight", "waiting", "unloaded")
            assert [told["coder"][key] for key in keys] == [1, 0, None]
            gone = {"why": "room", "ago_s": 0.0}
            assert [told["writer"][key] for key in keys] == [0, 0, gone]
            other = it.connect()
            other.get("/llmctl/status")
            assert other.json["unloaded"] == [{"model": "writer", "for": "coder", **gone}]
            board.turns("gpu").done("coder", 0.0)

    run(test)


@pytest.mark.parametrize("path", ["/llmctl/nothing", "/llmctl/"])
def test_what_is_below_our_prefix_is_no_models(path: str) -> None:
    async def test() -> None:
        async with bench(*MODELS, ready="coder") as it:
            for method in ("GET", "DELETE"):
                client = it.connect()
                client.get(path, method)
                assert (client.status, it.models["coder"].asked) == (404, [])

    run(test)


# At the door


@pytest.mark.parametrize(
    ("path", "kind"), [("/v1/chat/completions", "openai"), ("/v1/messages", "anthropic")]
)
def test_a_request_without_a_key_is_refused_in_its_dialect(path: str, kind: str) -> None:
    async def test() -> None:
        async with bench(*MODELS, ready="coder", keys=RING, settings=KEYED) as it:
            client = it.connect()
            client.ask("coder", path)
            error = client.json["error"]
            assert client.status == 401
            assert client.header("WWW-Authenticate") == (
                'Bearer realm="llmctl", Basic realm="llmctl"'
            )
            expected = {"openai": "llmctl_no_api_key", "anthropic": "authentication_error"}
            assert error["type"] == expected[kind]
            assert it.models["coder"].asked == []

    run(test)


def test_a_key_is_not_passed_on_and_the_servers_own_is() -> None:
    async def test() -> None:
        model = served("coder", key="of-the-server")
        async with bench(model, ready="coder", keys=RING, settings=KEYED) as it:
            client = it.connect()
            client.ask("coder", headers=as_key("laptop"))
            (asked,) = it.models["coder"].asked
            assert SECRETS["laptop"].encode() not in asked.head
            assert b"Authorization: Bearer of-the-server\r\n" in asked.head

    run(test)


def test_a_key_opens_only_the_models_on_its_list() -> None:
    async def test() -> None:
        async with bench(*MODELS, ready="coder", keys=RING, settings=KEYED) as it:
            client = it.connect()
            client.ask("writer", headers=as_key("guest"))
            assert (client.status, client.error) == (403, "model_not_allowed")
            client = it.connect()
            client.get("/upstream/writer/props", **as_key("guest"))
            assert client.status == 403
            client = it.connect()
            client.ask("coder", headers=as_key("guest"))
            assert len(it.models["coder"].asked) == 1

    run(test)


def test_a_control_path_of_a_model_is_not_reached_by_another_name() -> None:
    async def test() -> None:
        async with bench(*MODELS, ready="coder", keys=RING, settings=KEYED) as it:
            for path in ("/slots", "/upstream/coder/slots", "/%73lots", "/upstream/coder/%73lots"):
                client = it.connect()
                client.get(path, **as_key("guest"))
                assert (path, client.status) == (path, 403)
            assert it.models["coder"].asked == []

    run(test)


def test_before_the_first_look_nobody_is_let_in() -> None:
    """config.yaml may be broken, and name keys."""

    class Blind(FakeKeeper):
        def look(self) -> Any:
            raise HostError("config.yaml cannot be read.")

    async def test() -> None:
        async with bench() as it:
            proxy = Proxy(Blind(it.proxy.board._keeper.look()))
            await proxy.board.look()
            client = Bench(proxy, {}).connect()
            client.ask("coder")
            assert (client.status, client.error) == (503, "not_configured")

    run(test)


# Pages of others


def test_a_preflight_is_answered_for_allowed_origins_only() -> None:
    settings = ProxySettings(cors=("https://chat.example",))
    asked = {"Access-Control-Request-Method": "POST"}

    async def test() -> None:
        async with bench(*MODELS, ready="coder", settings=settings) as it:
            client = it.connect()
            client.get("/v1/models", "OPTIONS", Origin="https://chat.example", **asked)
            assert client.status == 200
            assert client.header("Access-Control-Allow-Origin") == "https://chat.example"
            assert client.header("Access-Control-Allow-Methods")
            client = it.connect()
            client.get("/v1/models", "OPTIONS", Origin="https://evil.example", **asked)
            assert client.status == 403
            assert b"access-control" not in client.got.lower()

    run(test)


def test_an_allowed_page_can_read_answers_and_refusals() -> None:
    settings = ProxySettings(cors=("https://chat.example",), api_keys="keys")
    origin = {"Origin": "https://chat.example"}

    async def test() -> None:
        async with bench(*MODELS, ready="coder", settings=settings, keys=RING) as it:
            client = it.connect()
            client.ask("coder", stream=True, headers={**origin, **as_key("laptop")})
            it.models["coder"].asked[0].stream(CHUNK, FINISH)
            refused = it.connect()
            refused.ask("coder", headers=origin)
            assert (client.status, refused.status) == (200, 401)
            for one in (client, refused):
                assert one.header("Access-Control-Allow-Origin") == "https://chat.example"
                assert one.header("Vary") == "Origin"

    run(test)


# X-Served-By


def test_every_answer_of_a_model_says_whose_it_is() -> None:
    async def test() -> None:
        async with bench(*MODELS, ready="coder") as it:
            for status in (200, 400, 204, 101):
                client = it.connect()
                client.ask("coder")
                receiver = it.models["coder"].asked[-1].receiver
                receiver.upstream_head(AnswerHead(status, b"", [], 0))
                (receiver.upstream_raw if status == 101 else receiver.upstream_data)(b"")
                assert (client.status, client.header("X-Served-By")) == (status, "coder")

    run(test)


# What is counted


@pytest.fixture
def log(tmp_path: Path) -> RequestLog:
    return RequestLog(str(tmp_path / "requests.jsonl"))


def entries(log: RequestLog) -> list[dict[str, Any]]:
    log.flush()
    path = log.numbered(0)
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


def test_a_request_is_written_down_with_its_key_and_without_its_content(log: RequestLog) -> None:
    async def test() -> None:
        async with bench(*MODELS, ready="coder", keys=RING, settings=KEYED, log=log) as it:
            client = it.connect("10.0.0.9", "10.0.0.5")
            client.ask("coder-alias", stream=True, secret="of-the-user", headers=as_key("guest"))
            it.models["coder"].asked[0].stream(CHUNK, FINISH)

    run(test)
    (one,) = entries(log)
    wanted = {
        "key": "guest", "peer": "10.0.0.9", "endpoint": "chat", "asked": "coder-alias",
        "served": "coder", "status": 200, "outcome": "ok", "stream": True, "tokens_in": 11,
        "tokens_out": 3, "tokens_per_s": 50.5,
    }  # fmt: skip
    assert {key: one[key] for key in wanted} == wanted
    assert 0 <= one["queue_s"] <= one["ttft_s"] <= one["total_s"]
    text = log.numbered(0).read_text("utf-8")
    assert not any(word in text for word in ("of-the-user", "Hi", SECRETS["guest"]))


def test_refusals_are_written_down_and_the_proxys_own_pages_are_not(log: RequestLog) -> None:
    async def test() -> None:
        async with bench(*MODELS, keys=RING, settings=KEYED, log=log) as it:
            for path in ("/health", "/metrics", "/llmctl/status"):
                it.connect().get(path)
            it.connect().ask("coder", headers={"x-api-key": "sk-nonsense-012345"})

    run(test)
    assert [(one["key"], one["outcome"]) for one in entries(log)] == [(None, "invalid_api_key")]
    assert "nonsense" not in log.numbered(0).read_text("utf-8")


def test_nothing_is_written_down_where_that_is_not_wanted(log: RequestLog) -> None:
    async def test() -> None:
        settings = ProxySettings(request_log=False)
        async with bench(*MODELS, ready="coder", settings=settings, log=log) as it:
            it.connect().ask("coder")
            it.models["coder"].asked[0].answer(b"{}")

    run(test)
    assert entries(log) == []


def test_the_log_is_written_at_the_end(log: RequestLog) -> None:
    async def test() -> None:
        async with bench(*MODELS, ready="coder", log=log) as it:
            it.connect().ask("coder")
            it.models["coder"].asked[0].answer(b"{}")
            await it.proxy.stop(Doors((), asyncio.BufferedProtocol))
            assert not log.has_lines

    run(test)


def test_a_key_sees_the_counts_of_its_models_only() -> None:
    async def test() -> None:
        async with bench(*MODELS, ready="coder", keys=RING, settings=KEYED) as it:
            it.proxy.journal.switched("writer", 1.0)
            it.proxy.journal.metrics.restarted("writer", why="hung")
            for name, sees in (("guest", False), ("laptop", True)):
                it.connect().ask("coder", headers=as_key("laptop"))
                it.models["coder"].asked[-1].answer(b"{}")
                client = it.connect("10.0.0.9", "10.0.0.5")
                client.get("/metrics", **as_key(name))
                text = client.got.partition(b"\r\n\r\n")[2].decode()
                parse(text)
                assert ("writer" in text) is sees
                assert 'llmctl_model_ready{model="coder"} 1' in text
                assert (
                    'llmctl_request_duration_seconds_count{endpoint="chat",model="coder"}' in text
                )

    run(test)


def test_the_metrics_page_is_one() -> None:
    async def test() -> None:
        async with bench(*MODELS, ready="coder") as it:
            it.connect().ask("coder", stream=True)
            it.models["coder"].asked[0].stream(CHUNK, FINISH)
            it.connect().ask("coder")
            client = it.connect()
            client.get("/metrics")
            head, _, body = client.got.partition(b"\r\n\r\n")
            assert b"Content-Type: text/plain; version=0.0.4" in head
            found = parse(body.decode())
            flying = found["llmctl_requests_in_flight"].samples
            name = "llmctl_requests_in_flight"
            assert flying == {(name, (("model", "coder"),)): 1, (name, (("model", "writer"),)): 0}
            assert len(found["llmctl_request_ttft_seconds"].samples) > 2
            assert found["llmctl_connections"].samples == {("llmctl_connections", ()): 3}

    run(test)


@pytest.mark.parametrize(("why", "outcome"), [(None, "ok"), ("It is broken.", "failed")])
def test_switches_are_counted(why: str | None, outcome: str) -> None:
    async def test() -> None:
        async with bench(*MODELS, ready="coder") as it:
            keeper: Any = it.proxy.board._keeper
            keeper.why = why
            it.connect().ask("writer")
            await settle()
            samples = parse(it.proxy.journal.metrics.text({}).decode())["llmctl_switches_total"]
            ((_, labels),) = samples.samples
            assert dict(labels) == {"model": "writer", "outcome": outcome}

    run(test)


def test_the_status_page_counts() -> None:
    async def test() -> None:
        async with bench(*MODELS, ready="coder", keys=RING, settings=KEYED) as it:
            it.connect().ask("coder", headers=as_key("laptop"))
            client = it.connect()
            client.get("/llmctl/status")
            told = client.json
            assert (told["in_flight"], told["waiting"], told["connections"]) == (1, 0, 2)
            assert [one["key"] for one in told["requests"]] == ["laptop", None]

    run(test)


# Events


def events(client: Browser) -> list[tuple[str, Any]]:
    """What came since the last look, without chunks and comments."""
    found = []
    for piece in client.take().split(b"\r\n"):
        if piece.startswith(b"event: "):
            name, _, data = piece.strip().decode().partition("\n")
            found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


def test_a_watcher_sees_a_request_from_its_beginning_to_its_end() -> None:
    async def test() -> None:
        async with bench(*MODELS, ready="coder") as it:
            watcher = it.connect()
            watcher.get("/llmctl/events")
            assert watcher.header("Content-Type") == "text/event-stream"
            watcher.take()
            it.connect().ask("coder", stream=True)
            it.models["coder"].asked[0].stream(CHUNK, FINISH)
            seen = events(watcher)
            assert [(name, one["state"]) for name, one in seen] == [
                ("request", "began"), ("request", "admitted"), ("request", "ended"),
            ]  # fmt: skip
            assert len({one["ticket"] for _, one in seen}) == 1
            assert seen[-1][1]["tokens_out"] == 3

    run(test)


def test_a_watcher_sees_models_and_switches() -> None:
    async def test() -> None:
        async with bench(*MODELS, ready="coder") as it:
            watcher = it.connect()
            watcher.get("/llmctl/events")
            watcher.take()
            it.connect().ask("writer")
            await settle()
            seen = events(watcher)
            assert [(name, one["state"]) for name, one in seen if name == "switch"] == [
                ("switch", "began"), ("switch", "ok"),
            ]  # fmt: skip
            it.proxy.journal.look({"coder": "stopped", "writer": "ready"}, {})
            it.proxy.journal.look({"coder": "stopped", "writer": "failed"}, {})
            assert [(one["model"], one["state"]) for _, one in events(watcher)] == [
                ("coder", "stopped"), ("writer", "ready"), ("writer", "failed"),
            ]  # fmt: skip

    run(test)


def test_a_watcher_that_reads_nothing_is_dropped() -> None:
    async def test() -> None:
        async with bench(*MODELS, ready="coder") as it:
            slow = it.connect()
            slow.get("/llmctl/events")
            slow.wire.is_stuck = True
            for _ in range(2000):
                it.proxy.journal.events.tell("model", {"model": "x" * 100})
            await settle()
            assert slow.wire.was_aborted
            assert len(slow.wire.written) < HIGH_WATER + 1000
            assert len(it.proxy.journal.events) == 0

    run(test)


@pytest.mark.parametrize("ending", ["connection_lost", "eof"])
def test_a_watcher_that_leaves_is_forgotten(ending: str) -> None:
    async def test() -> None:
        async with bench(*MODELS, ready="coder") as it:
            client = it.connect()
            client.get("/llmctl/events")
            assert len(it.proxy.journal.events) == 1
            if ending == "eof":
                assert client.protocol.eof_received() is False  # so asyncio closes it
            client.protocol.connection_lost(None)
            assert (len(it.proxy.journal.events), it.proxy.relays) == (0, {})

    run(test)


def test_there_are_not_more_watchers_than_there_may_be() -> None:
    async def test() -> None:
        async with bench(*MODELS, ready="coder") as it:
            for _ in range(MOST_WATCHERS):
                it.connect().get("/llmctl/events")
            client = it.connect()
            client.get("/llmctl/events")
            assert client.status == 503

    run(test)


def test_a_stop_does_not_wait_for_watchers() -> None:
    async def test() -> None:
        async with bench(*MODELS, ready="coder") as it:
            client = it.connect()
            client.get("/llmctl/events")
            async with asyncio.timeout(5):
                await it.proxy.stop(Doors((), asyncio.BufferedProtocol))
            assert b"llmctl_proxy_stopped" in client.got

    run(test)
