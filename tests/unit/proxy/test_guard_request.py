"""guard_request.py and guard_mode.py: what a model is sent when its tool calls go in circles."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from support.prometheus import parse
from support.talks import KINDS, SHAPES, call, human, json_of
from support.wire import Wire, answers_in, requests_in

from llmctl.core.guard.settings import GuardSettings
from llmctl.proxy.request_log import RequestLog

if TYPE_CHECKING:
    from pathlib import Path

    from support.wire import MemoryTransport

PATHS = {
    "chat": b"/v1/chat/completions", "messages": b"/v1/messages?beta=true",
    "responses": b"/v1/responses",
}  # fmt: skip
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
ASKED = human("Fix the tests, please.")
ON = GuardSettings()
STEPS = [(2, None), (3, "state"), (4, "state"), (5, "forbid"), (6, "forbid"), (7, "no_tools")]


def loop(times: int) -> list[Any]:
    return [ASKED, *[call("run", {"command": "pytest"}, "2 failed")] * times]


def post(path: bytes, body: bytes, *headers: bytes) -> bytes:
    length = b"Content-Length: %d" % len(body)
    kind = b"Content-Type: application/json"
    lines = [b"POST %b HTTP/1.1" % path, b"Host: x", kind, length, *headers, b"", b""]
    return b"\r\n".join(lines) + body


def ask(wire: Wire, shape: str, body: bytes, *headers: bytes) -> MemoryTransport:
    client = wire.connect()
    client.sends(post(PATHS[KINDS[shape]], body, *headers))
    return client


def sent(wire: Wire) -> tuple[dict[bytes, bytes], bytes]:
    """What the server got; h11 holds its length to what its head says."""
    ((request, body),) = requests_in(bytes(wire.server().heard))
    return dict(request.headers), body


def is_as(got: bytes, body: bytes) -> bool:
    """The same, but for keys at its end by which the answer is watched (see guard/plan.py)."""
    return got[: len(body) - 1] == body[:-1]


def said(client: MemoryTransport) -> dict[bytes, bytes]:
    ((answer, _),) = answers_in(bytes(client.heard), method="POST")
    return dict(answer.headers)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("times", "step"), STEPS)
def test_a_loop_gets_a_nudge_that_grows_firmer(shape: str, times: int, step: str | None) -> None:
    with Wire(guard=ON) as wire:
        body = json_of(shape, loop(times))
        client = ask(wire, shape, body)
        wire.server().says(OK)
        headers, got = sent(wire)
        if step is None:
            assert is_as(got, body)
            assert b"x-llmctl-guard" not in said(client)
            return
        assert int(headers[b"content-length"]) == len(got)
        assert got.count(b"[llmctl guard") == 1
        assert got.index(b"[llmctl guard") > body.rindex(b"2 failed")
        assert said(client)[b"x-llmctl-guard"] == f"tool; step={step}; repeats={times}".encode()
        told = json.loads(got)
        has_tools = told.get("tool_choice") != "none" and told.get("tools") != []
        assert has_tools == (step != "no_tools")


@pytest.mark.parametrize("mode", ["log", "off"])
@pytest.mark.parametrize("by", ["settings", "header"])
def test_the_guard_can_be_kept_from_acting(mode: str, by: str) -> None:
    guard = GuardSettings(mode=mode) if by == "settings" else ON  # type: ignore[arg-type]
    headers = [b"X-Llmctl-Guard: %b" % mode.encode()] if by == "header" else []
    with Wire(guard=guard) as wire:
        body = json_of("chat", loop(9))
        client = ask(wire, "chat", body, *headers)
        wire.server().says(OK)
        got = sent(wire)
        assert is_as(got[1], body)
        assert b"x-llmctl-guard" not in got[0]
        told = said(client).get(b"x-llmctl-guard")
        assert told == (b"tool; step=none; repeats=9" if mode == "log" else None)


@pytest.mark.parametrize("given", [b"on", b"ON", b" on "])
def test_a_request_may_switch_it_on(given: bytes) -> None:
    with Wire(guard=GuardSettings(mode="off")) as wire:
        ask(wire, "chat", json_of("chat", loop(3)), b"X-Llmctl-Guard: " + given)
        assert b"[llmctl guard" in sent(wire)[1]


@pytest.mark.parametrize("shape", ["chat", "messages", "responses"])
@pytest.mark.parametrize("given", [b"no", b"", b"on, off", b"\xff"])
def test_another_word_is_refused_in_the_words_of_the_api(shape: str, given: bytes) -> None:
    with Wire(guard=ON) as wire:
        client = ask(wire, shape, json_of(shape, loop(1)), b"X-Llmctl-Guard: " + given)
        ((answer, body),) = answers_in(bytes(client.heard), method="POST")
        assert answer.status_code == 400
        error = json.loads(body)["error"]
        wanted = "invalid_request_error" if shape == "messages" else "llmctl_invalid_guard"
        assert error["type"] == wanted
        assert "on, log or off" in error["message"]
        assert not wire.pool.opened


def test_what_generates_nothing_has_no_guard_to_switch() -> None:
    with Wire(guard=ON) as wire:
        wire.connect().sends(b"GET /props HTTP/1.1\r\nHost: x\r\nX-Llmctl-Guard: no\r\n\r\n")
        assert b"x-llmctl-guard" not in bytes(wire.server().heard).lower()


@pytest.mark.parametrize("settings", [{"exempt_tools": ("r?n",)}, {"tool_nudges": (10, 11, 12)}])
def test_the_models_settings_hold(settings: dict[str, Any]) -> None:
    with Wire(guard=GuardSettings(**settings)) as wire:
        body = json_of("chat", loop(9))
        ask(wire, "chat", body)
        assert is_as(sent(wire)[1], body)


def test_a_large_body_that_lies_in_a_file_is_nudged_too() -> None:
    with Wire(guard=ON) as wire:
        url = "data:;base64," + "A" * (3 << 20)
        image = {"type": "image_url", "image_url": {"url": url}}
        body = json_of("chat", [human([image]), *loop(3)[1:]])
        ask(wire, "chat", body)
        got = sent(wire)[1]
        start, end = got.index(b"\\n\\n[llmctl guard"), got.index(b']"', got.index(b"[llmctl")) + 1
        assert is_as(got[:start] + got[end:], body)
        wire.server().says(OK)


def test_a_body_in_chunks_gets_a_length() -> None:
    body = json_of("chat", loop(3))
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    with Wire(guard=ON) as wire:
        wire.connect().sends(
            head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        )
        headers, got = sent(wire)
        assert b"[llmctl guard" in got
        assert int(headers[b"content-length"]) == len(got)


def test_a_request_that_is_tried_again_is_nudged_once() -> None:
    with Wire(guard=ON) as wire:
        client = ask(wire, "chat", json_of("chat", loop(3)))
        first = sent(wire)[1]
        wire.server().dies()
        wire.proxy.pulse()
        assert len(wire.pool.opened) == 2
        assert sent(wire)[1] == first
        wire.server().says(OK)
        assert said(client)[b"x-llmctl-guard"] == b"tool; step=state; repeats=3"
        assert counted(wire) == {("tool", "state", "nudged"): 1}


def test_a_full_disk_costs_the_nudge_and_not_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    with Wire(guard=ON) as wire:
        body = json_of("chat", [human("x" * (2 << 20)), *loop(3)[1:]])
        client = wire.connect()
        data = post(PATHS["chat"], body)
        client.sends(data[:-1])

        def full(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("tempfile.TemporaryFile", full)
        client.sends(data[-1:])
        assert is_as(sent(wire)[1], body)
        assert counted(wire) == {}
        wire.server().says(OK)


def counted(wire: Wire) -> dict[tuple[str, str, str], float]:
    page = parse(wire.proxy.journal.metrics.text({}).decode())
    samples = page["llmctl_guard_findings_total"].samples
    found = {}
    for (_, labels), value in samples.items():
        told = dict(labels)
        assert told.pop("model") == "coder"
        found[told["kind"], told["step"], told["outcome"]] = value
    return found


def test_it_is_counted_and_told() -> None:
    with Wire(guard=ON) as wire:
        watcher = wire.connect()
        watcher.sends(b"GET /llmctl/events HTTP/1.1\r\nHost: x\r\n\r\n")
        ask(wire, "chat", json_of("chat", loop(5)))
        ask(wire, "messages", json_of("messages", loop(7)), b"X-Llmctl-Guard: log")
        assert counted(wire) == {
            ("tool", "forbid", "nudged"): 1, ("tool", "none", "logged"): 1,
        }  # fmt: skip
        lines = bytes(watcher.heard).split(b"event: guard\ndata: ")[1:]
        told = [json.loads(line.split(b"\n")[0]) for line in lines]
        assert [one["step"] for one in told] == ["forbid", "none"]
        assert told[0]["tools"] == ["run"]
        assert told[0]["copies"] == 5


@pytest.mark.parametrize(("samples", "is_there"), [(False, False), (True, True)])
@pytest.mark.parametrize("is_logged", [True, False])
def test_the_log_holds_no_content_unless_it_may(
    tmp_path: Path, samples: bool, is_there: bool, is_logged: bool,
) -> None:  # fmt: skip
    with Wire(guard=GuardSettings(samples=samples), request_log=is_logged) as wire:
        wire.proxy.journal.guard_log = RequestLog(str(tmp_path / "guard.jsonl"))
        ask(wire, "chat", json_of("chat", loop(3)))
        asyncio.run(wire.proxy.journal.write())
        assert (tmp_path / "guard.jsonl").exists() == is_logged
        if is_logged:
            text = (tmp_path / "guard.jsonl").read_text()
            assert ("pytest" in text) == is_there
            assert json.loads(text)["tools"] == ["run"]


# The short way (see again.py)


@pytest.mark.parametrize("mode", ["on", "log", "off"])
def test_a_request_that_could_go_the_short_way_is_guarded_too(mode: str) -> None:
    head = b"X-Llmctl-Guard: " + mode.encode()
    with Wire(guard=ON) as wire:
        client = wire.connect()
        bodies = [json_of("chat", loop(times)) for times in (2, 3, 2, 5)]
        for body in bodies:
            client.sends(post(PATHS["chat"], body, head))
            wire.server().says(OK)
        got = [body for _, body in requests_in(bytes(wire.server().heard))]
        told = [
            dict(answer.headers).get(b"x-llmctl-guard")
            for answer, _ in answers_in(bytes(client.heard), method="POST")
        ]
        if mode == "on":
            assert [b"[llmctl guard" in body for body in got] == [False, True, False, True]
        else:
            assert [is_as(one, body) for one, body in zip(got, bodies, strict=True)] == [True] * 4
        steps = {"on": (b"state", b"forbid"), "log": (b"none", b"none")}.get(mode)
        first = steps and b"tool; step=%b; repeats=3" % steps[0]
        second = steps and b"tool; step=%b; repeats=5" % steps[1]
        assert told == [None, first, None, second]
