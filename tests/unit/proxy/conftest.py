"""These tests run on the proxy's own loop, as the program does, unless they name another."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from llmctl.proxy.loop import Loop

if TYPE_CHECKING:
    from collections.abc import Iterator


class _Policy(asyncio.DefaultEventLoopPolicy):
    _loop_factory = Loop


@pytest.fixture(autouse=True)
def own_loop() -> Iterator[None]:
    """What asyncio.run and asyncio.Runner make."""
    before = asyncio.get_event_loop_policy()
    asyncio.set_event_loop_policy(_Policy())
    yield
    asyncio.set_event_loop_policy(before)
