"""proxy/bus.py: what of the user manager's signals is a reason to look."""

from __future__ import annotations

import asyncio
import itertools
import struct
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmctl.proxy.bus import (
    MOST_BYTES,
    Bus,
    Messages,
    NotDBusError,
    concerns_models,
    message_bytes,
)

if TYPE_CHECKING:
    from pathlib import Path

UNIT = "/org/freedesktop/systemd1/unit/llm_2dcoder_2eservice"
MANAGER = "/org/freedesktop/systemd1"
PROPERTIES = "org.freedesktop.DBus.Properties"


def message(path: str, interface: str, member: str, body: bytes = b"", *, order: str = "<",
            kind: int = 4) -> bytes:  # fmt: skip
    """By the D-Bus Specification: fixed part, array of (code, variant), padding, body."""
    fields = b""
    for code, sort, text in ((1, "o", path), (2, "s", interface), (3, "s", member)):
        fields += b"\0" * (-len(fields) % 8)
        fields += struct.pack("BB2s", code, 1, sort.encode() + b"\0")
        fields += struct.pack(f"{order}I", len(text)) + text.encode() + b"\0"
    first = b"l" if order == "<" else b"B"
    head = first + bytes((kind, 1, 1)) + struct.pack(f"{order}III", len(body), 7, len(fields))
    return head + fields + b"\0" * (-len(fields) % 8) + body


CHANGED = message(UNIT, PROPERTIES, "PropertiesChanged", b"x" * 1000)
JOB_NEW = message(MANAGER, f"{PROPERTIES}", "JobNew", b"\1\0\0\0llm-coder.service\0")
JOB_REMOVED = message(MANAGER, "m", "JobRemoved", b"\1\0\0\0llm-coder.service\0done", order=">")
OTHERS = (
    message("/org/freedesktop/systemd1/unit/dbus_2eservice", PROPERTIES, "PropertiesChanged"),
    message("/org/freedesktop/systemd1/unit/llm_2eslice", PROPERTIES, "PropertiesChanged"),
    message("/org/freedesktop/systemd1/unit/llmctl_2dproxy_2eservice", PROPERTIES,
            "PropertiesChanged", b"llmctl-proxy.service"),
    message(MANAGER, "m", "JobNew", b"llmctl-proxy.service\0"),
    message(MANAGER, "m", "Reloading", b"\1\0\0\0"),
    message(UNIT, PROPERTIES, "PropertiesChanged", kind=2),
)  # fmt: skip
LOADED = (
    message(MANAGER, "m", "UnitNew", b"llm-coder.service\0"),
    message(MANAGER, "m", "UnitRemoved", b"llm-coder.service\0"),
)


@pytest.mark.parametrize("one", [CHANGED, JOB_NEW, JOB_REMOVED])
def test_what_happens_to_a_models_unit_concerns_us(one: bytes) -> None:
    assert concerns_models(one)


@pytest.mark.parametrize("one", OTHERS)
def test_what_happens_to_others_does_not(one: bytes) -> None:
    assert not concerns_models(one)


@pytest.mark.parametrize("one", LOADED)
def test_looking_causes_no_look(one: bytes) -> None:
    """systemd loads a unit for whoever asks how it is, and says so."""
    assert not concerns_models(one)


STREAM = (CHANGED, JOB_NEW, *OTHERS, JOB_REMOVED, *LOADED, CHANGED)


@given(st.lists(st.integers(0, sum(map(len, STREAM))), max_size=30))
def test_messages_are_the_same_for_any_chunking(cuts: list[int]) -> None:
    whole, messages, got = b"".join(STREAM), Messages(), []
    edges = [0, *sorted(cuts), len(whole)]
    for start, end in itertools.pairwise(edges):
        got += list(messages.feed(whole[start:end]))
    assert got == list(STREAM)


def test_a_byte_at_a_time() -> None:
    messages = Messages()
    got = [one for n in range(len(CHANGED)) for one in messages.feed(CHANGED[n : n + 1])]
    assert got == [CHANGED]


@pytest.mark.parametrize("data", [b"HTTP/1.1 400 Bad\r\n", b"\0" * 16, b"ERROR rejected\r\n "])
def test_what_is_no_dbus_is_refused(data: bytes) -> None:
    with pytest.raises(NotDBusError):
        list(Messages().feed(data))


def test_a_message_of_absurd_length_is_refused_before_it_is_waited_for() -> None:
    head = b"l\4\1\1" + struct.pack("<III", MOST_BYTES, 1, 0)
    with pytest.raises(NotDBusError):
        message_bytes(head)


# ------------------------------------------------------------------------- the connection


class Manager:
    """A user manager's private socket, as far as it is spoken to here."""

    def __init__(self, answer: bytes = b"OK 0123456789abcdef\r\n") -> None:
        self.answer = answer
        self.heard = b""
        self.writers: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()

    async def met(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heard = await reader.readuntil(b"\r\n")
        if self.answer.startswith(b"OK"):
            self.heard += await reader.readuntil(b"BEGIN\r\n")
        writer.write(self.answer)
        self.writers.put_nowait(writer)


def test_a_signal_wakes_once_for_a_burst(tmp_path: Path) -> None:
    async def run() -> None:
        manager, woken = Manager(), asyncio.Queue[None]()
        path = f"{tmp_path}/private"
        async with await asyncio.start_unix_server(manager.met, path):
            bus = Bus(path, lambda: woken.put_nowait(None))
            listening = asyncio.ensure_future(bus.listen())
            writer = await manager.writers.get()
            await woken.get()  # what was missed until now
            assert bus.is_connected
            writer.write(b"".join(OTHERS) + CHANGED * 12)
            await woken.get()
            writer.write(JOB_REMOVED)
            await woken.get()
            assert woken.empty()
            listening.cancel()
            writer.close()
        assert manager.heard.startswith(b"\0AUTH EXTERNAL 3")  # a digit, in hex

    asyncio.run(asyncio.wait_for(run(), 30))


@pytest.mark.parametrize("answer", [b"REJECTED EXTERNAL\r\n", b"OK x\r\nwhat is this, no D-Bus"])
def test_it_tries_again_when_it_is_not_understood(
    tmp_path: Path, answer: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmctl.proxy.bus.RECONNECT_S", 0.0)

    async def run() -> None:
        manager = Manager(answer)
        path = f"{tmp_path}/private"
        async with await asyncio.start_unix_server(manager.met, path):
            bus = Bus(path, lambda: None)
            listening = asyncio.ensure_future(bus.listen())
            writers = [await manager.writers.get() for _ in range(3)]
            assert not bus.is_connected or answer.startswith(b"OK")
            listening.cancel()
            for one in writers:
                one.close()

    asyncio.run(asyncio.wait_for(run(), 30))


def test_without_a_manager_it_goes_on_trying(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmctl.proxy.bus.RECONNECT_S", 0.0)

    async def run() -> None:
        manager, path = Manager(), f"{tmp_path}/private"
        bus = Bus(path, lambda: None)
        listening = asyncio.ensure_future(bus.listen())
        await asyncio.sleep(0)
        assert not bus.is_connected
        async with await asyncio.start_unix_server(manager.met, path):
            writer = await manager.writers.get()
            listening.cancel()
            writer.close()

    asyncio.run(asyncio.wait_for(run(), 30))
