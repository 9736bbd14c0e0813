"""health.py: what a port answers."""

from __future__ import annotations

import pytest
from support.fakes import FakeHost
from support.world import http

from llmctl.core.state import Answer, Health
from llmctl.health import get, probe, tokens_per_second

PORT = 12340
OK = http(200, {"status": "ok"})


def host(**paths: bytes | None) -> FakeHost:
    """A box on whose port each path answers so; names stand for /health, /v1/models, /metrics."""
    made = FakeHost()
    routes = {b"GET /health ": "health", b"GET /v1/models ": "models", b"GET /metrics ": "metrics"}

    def server(request: bytes) -> bytes | None:
        name = next(name for start, name in routes.items() if request.startswith(start))
        return paths[name]

    made.servers[PORT] = server
    return made


@pytest.mark.parametrize(
    ("paths", "answer"),
    [
        ({"health": http(503, {})}, Answer(Health.LOADING)),
        ({"health": http(500, {})}, Answer(Health.ODD)),
        ({"health": http(404, {})}, Answer(Health.ODD)),
        ({"health": OK, "models": http(200, {"data": [{"id": "a"}, {"id": "b"}]})},
         Answer(Health.READY, alias="a")),
        ({"health": OK, "models": http(200, {"data": [{"id": "a", "meta": {"n_ctx": 1024}}]})},
         Answer(Health.READY, alias="a", ctx=1024)),
        ({"health": OK, "models": http(200, {"data": [{"id": "a", "meta": {"n_ctx": "x"}}]})},
         Answer(Health.READY, alias="a")),
        ({"health": OK, "models": http(200, {"data": [{"id": "a", "meta": None}]})},
         Answer(Health.READY, alias="a")),
        ({"health": OK, "models": http(401, {})}, Answer(Health.READY, locked=True)),
        ({"health": OK, "models": http(403, {})}, Answer(Health.READY, locked=True)),
        ({"health": OK, "models": http(503, {})}, Answer(Health.LOADING)),
        ({"health": OK, "models": http(200, {"data": []})}, Answer(Health.READY)),
        ({"health": OK, "models": http(200, [])}, Answer(Health.READY)),
        ({"health": OK, "models": b"HTTP/1.0 200 OK\r\n\r\nnot json"}, Answer(Health.READY)),
        ({"health": OK, "models": None}, Answer(Health.LOADING)),
        ({"health": None}, Answer(Health.SILENT)),
        ({"health": b""}, Answer(Health.SILENT)),
        ({"health": b"SSH-2.0-OpenSSH_9.2\r\n"}, Answer(Health.SILENT)),
        ({"health": b"HTTP/1.1 what\r\n\r\n"}, Answer(Health.SILENT)),
        ({"health": b"\xff\xfe\x00"}, Answer(Health.SILENT)),
    ],
)  # fmt: skip
def test_a_port_is_understood(paths: dict[str, bytes | None], answer: Answer) -> None:
    assert probe(host(**paths), PORT) == answer


def test_a_port_that_nobody_holds_is_silent() -> None:
    assert probe(FakeHost(), PORT) == Answer(Health.SILENT)


def test_a_key_is_sent_to_the_path_that_wants_it_only() -> None:
    asked: list[bytes] = []
    made = FakeHost()

    def server(request: bytes) -> bytes:
        asked.append(request)
        return OK

    made.servers[PORT] = server
    probe(made, PORT, key="s3cret")
    assert [b"Bearer s3cret" in one for one in asked] == [False, True]


@pytest.mark.parametrize(
    ("text", "speed"),
    [
        ("llamacpp:predicted_tokens_seconds 41.5\n", 41.5),
        ("# HELP llamacpp:predicted_tokens_seconds x\nllamacpp:predicted_tokens_seconds 0\n", None),
        ("llamacpp:other 3\n", None),
        ("", None),
    ],
)
def test_the_speed_is_the_servers_own(text: str, speed: float | None) -> None:
    body = b"HTTP/1.0 200 OK\r\n\r\n" + text.encode()
    assert tokens_per_second(host(metrics=body), PORT) == speed


@pytest.mark.parametrize("number", ["nan", "", "x"])
def test_a_speed_that_is_no_number_is_none(number: str) -> None:
    body = f"HTTP/1.0 200 OK\r\n\r\nllamacpp:predicted_tokens_seconds {number}\n".encode()
    assert tokens_per_second(host(metrics=body), PORT) is None


def test_a_server_without_metrics_has_no_speed() -> None:
    assert tokens_per_second(host(metrics=http(501, {})), PORT) is None


def test_an_endless_answer_is_cut() -> None:
    made = host(health=b"HTTP/1.0 200 OK\r\n\r\n" + b"x" * 100_000)
    status, body = get(made, PORT, "/health")
    assert (status, len(body)) == (200, 100_000)
