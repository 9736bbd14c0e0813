"""The one place where a test may wait for something by looking again and again."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def eventually(
    predicate: Callable[[], T], deadline: float = 30.0, *, why: str = "", every: float = 0.02
) -> T:
    """What `predicate` returns as soon as that is true; a failure after `deadline` seconds. It is
    asked every `every` seconds."""
    end = time.monotonic() + deadline
    while not (value := predicate()):
        if time.monotonic() > end:
            wanted = why or getattr(predicate, "__name__", "the condition")
            raise AssertionError(f"{wanted}: not within {deadline} s; last seen: {value!r}")
        time.sleep(every)
    return value


async def until(predicate: Callable[[], object], deadline: float = 30.0) -> None:
    """The same in a coroutine: give way to the others until it is true."""
    async with asyncio.timeout(deadline):
        while not predicate():  # noqa: ASYNC110
            await asyncio.sleep(0.005)  # what changes it belongs to others
