"""key_watch.py: keys that were written or taken back just now."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest
from kit.waiting import until
from support.proxybench import Bench, bench, served

from llmctl.core.proxy_settings import ProxySettings
from llmctl.host.local import LocalHost
from llmctl.proxy.key_watch import KeyWatch
from llmctl.proxy.keyfile import KeyFile

if TYPE_CHECKING:
    from pathlib import Path

    from llmctl.proxy.keys import Keyring

OLD, NEW = "sk-old-0123456789abcdef", "sk-new-0123456789abcdef"
KEYED = ProxySettings(api_keys="keys")


class File:
    """A real file of keys. reads: how often it was looked at."""

    def __init__(self, path: Path) -> None:
        self._path, self._file, self.reads = path, KeyFile(), 0
        self.may_end = threading.Event()
        self.may_end.set()

    def has(self, *keys: str) -> None:
        """As an editor or a rotation leaves it: another file of that name."""
        text = "".join(f"- {{name: k{number}, key: {key}}}\n" for number, key in enumerate(keys))
        new = self._path.with_suffix(".new")
        new.touch(mode=0o600)
        new.write_text(text)
        new.replace(self._path)

    def read(self) -> Keyring | None:
        self.reads += 1
        assert self.may_end.wait(20)
        return self._file.read(LocalHost(), str(self._path))


@pytest.fixture
def file(tmp_path: Path) -> File:
    made = File(tmp_path / "keys")
    made.has(OLD)
    return made


def status(it: Bench, key: str) -> int:
    client = it.connect("203.0.113.7", "10.0.0.5")
    client.get("/v1/models", **{"x-api-key": key})
    return client.status


def watched(it: Bench, file: File) -> None:
    it.proxy._key_watch = KeyWatch(it.proxy.board, file.read)


def test_a_key_that_was_just_written_is_known_when_it_comes(file: File) -> None:
    async def test() -> None:
        async with bench(served("coder"), ready="coder", keys=file.read(), settings=KEYED) as it:
            watched(it, file)
            file.reads = 0
            assert (status(it, OLD), file.reads) == (200, 0)
            assert (status(it, NEW), file.reads) == (401, 1)
            file.has(OLD, NEW)
            assert (status(it, NEW), file.reads) == (200, 2)
            assert (status(it, NEW), status(it, OLD), file.reads) == (200, 200, 2)

    asyncio.run(test())


def test_a_key_that_was_taken_back_is_refused_after_the_next_pulse(file: File) -> None:
    async def test() -> None:
        async with bench(served("coder"), ready="coder", keys=file.read(), settings=KEYED) as it:
            watched(it, file)
            file.has(NEW)
            it.proxy.pulse()
            board = it.proxy.board
            await until(lambda: board.keys is not None and board.keys.find(OLD.encode()) is None)
            assert (status(it, OLD), status(it, NEW)) == (401, 200)

    asyncio.run(test())


def test_a_disk_that_hangs_holds_one_look_and_nobody(file: File) -> None:
    async def test() -> None:
        async with bench(served("coder"), ready="coder", keys=file.read(), settings=KEYED) as it:
            watched(it, file)
            file.reads = 0
            file.may_end.clear()
            for _ in range(5):
                it.proxy.pulse()
            await until(lambda: file.reads == 1)
            assert status(it, OLD) == 200
            file.may_end.set()
            await until(lambda: not it.proxy._key_watch._is_looking)
            it.proxy.pulse()
            await until(lambda: file.reads == 2)

    asyncio.run(test())


def test_whether_there_are_keys_at_all_is_not_for_the_file_to_say(file: File) -> None:
    async def test() -> None:
        async with bench(served("coder"), ready="coder") as it:
            watched(it, file)
            file.reads = 0
            it.proxy.pulse()
            assert not it.proxy._key_watch.has_news()
            assert it.proxy.board.keys is None

    asyncio.run(test())


def test_a_file_that_is_as_it_was_is_no_news(file: File) -> None:
    async def test() -> None:
        async with bench(served("coder"), ready="coder", keys=file.read(), settings=KEYED) as it:
            watched(it, file)
            policy = it.proxy.policy
            assert not it.proxy._key_watch.has_news()
            assert it.proxy.policy is policy
            file.has("short")  # a broken one is, and changes no key
            assert it.proxy._key_watch.has_news()
            assert not it.proxy._key_watch.has_news()
            assert (status(it, OLD), status(it, NEW)) == (200, 401)

    asyncio.run(test())
