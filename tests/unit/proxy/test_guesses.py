"""guesses.py, and what is told and noted down of those who guess."""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import TYPE_CHECKING

import pytest
from support.proxybench import bench, served

from llmctl.core.proxy_settings import ProxySettings
from llmctl.proxy.guesses import BURST, EVERY_S, MOST_PEERS, Guesses
from llmctl.proxy.keys import ApiKey, Keyring
from llmctl.proxy.request_log import RequestLog

if TYPE_CHECKING:
    from pathlib import Path

RIGHT = "sk-laptop-0123456789"
RING = Keyring((ApiKey("laptop", hashlib.sha256(RIGHT.encode()).digest()),))
KEYED = ProxySettings(api_keys="keys")
HERE = "203.0.113.7"


def after(guesses: Guesses, count: int, peer: str = HERE, now: float = 0.0) -> bool:
    """Is the last of so many too many?"""
    return [guesses.wrong(peer, now) is not None for _ in range(count)][-1]


def test_a_few_are_told_that_they_are_wrong_and_many_to_wait() -> None:
    guesses = Guesses()
    assert not after(guesses, BURST)
    told = guesses.wrong(HERE, 0.0)
    assert told is not None
    assert (told.status, told.retry_after_s) == (429, 6)


def test_time_forgives() -> None:
    guesses = Guesses()
    after(guesses, 1000)
    assert after(guesses, 1, now=EVERY_S - 0.1)
    assert not after(guesses, 1, now=2 * EVERY_S)
    assert after(guesses, 1, now=2 * EVERY_S + 0.1)
    assert not after(guesses, BURST, now=100 * EVERY_S)


@pytest.mark.parametrize(
    ("one", "other", "are_one"),
    [("10.0.0.1", "10.0.0.2", False), ("2001:db8::1", "2001:db8::ffff:2", True),
     ("2001:db8::1", "2001:db8:0:1::1", False), ("::ffff:10.0.0.1", "10.0.0.1", True),
     ("fe80::1%eth0", "fe80::2%eth0", True), ("local", "local", True)],
)  # fmt: skip
def test_who_is_one(one: str, other: str, are_one: bool) -> None:
    guesses = Guesses()
    after(guesses, BURST, one)
    assert (guesses.wrong(other, 0.0) is not None) is are_one


def test_what_is_remembered_is_bounded_and_whoever_goes_on_is_not_forgotten() -> None:
    guesses = Guesses()
    after(guesses, BURST)
    for number in range(3 * MOST_PEERS):
        guesses.wrong(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 0.0)
        if number % (MOST_PEERS // 2) == 0:
            assert guesses.wrong(HERE, 0.0) is not None
    assert len(guesses._until) == MOST_PEERS


def test_a_right_key_is_never_kept_out_and_guesses_do_not_fill_the_log(tmp_path: Path) -> None:
    log = RequestLog(str(tmp_path / "requests.jsonl"))

    async def test() -> None:
        models = served("coder")
        async with bench(models, ready="coder", keys=RING, settings=KEYED, log=log) as it:
            for number in range(50):
                client = it.connect(HERE, "10.0.0.5")
                client.ask("coder", headers={"x-api-key": f"sk-wrong-{number:012}"})
                assert client.status == (401 if number < BURST else 429)
                assert client.header("Connection") == "close"  # its body is not read
                if number >= BURST:
                    assert client.header("Retry-After") == "6"
                    assert client.json["error"]["type"] == "llmctl_too_many_wrong_keys"
            client = it.connect(HERE, "10.0.0.5")
            client.ask("coder", headers={"x-api-key": RIGHT})
            it.models["coder"].asked[0].answer(b"{}")
            assert client.status == 200
            client = it.connect(HERE, "10.0.0.5")
            client.ask("coder")
            assert client.status == 401  # none at all is no guess
            client = it.connect(HERE, "10.0.0.5")
            client.get("/metrics", Authorization=f"Bearer {RIGHT}")
            counted = client.got.decode()
            assert f'outcome="too_many_wrong_keys"}} {50 - BURST}\n' in counted

    asyncio.run(test())
    log.flush()
    lines = [json.loads(one) for one in log.numbered(0).read_text().splitlines()]
    outcomes = [one["outcome"] for one in lines]
    assert outcomes == ["invalid_api_key"] * BURST + ["ok", "no_api_key"]
