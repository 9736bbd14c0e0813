"""core/slot_ctx.py: what one request may use; the numbers are those of llama-server 0.7.0."""

from __future__ import annotations

import pytest

from llmctl.core.slot_ctx import slot_ctx


@pytest.mark.parametrize(
    ("words", "ctx"),
    [
        ("-c 4096 -np 1", 4096),
        ("-c 131072 -np 4", 32768),
        ("-c 5000 -np 3", 1792),  # rounded up
        ("-c 4096 -np 4 -kvu", 4096),
        ("-c 4096 -np 4 -kvu -no-kvu", 1024),
        ("-c 4096", 4096),  # slots by themselves share their cells
        ("-c 4096 -np -1", 4096),
        ("-np 2 --kv-unified-per-slot 1000", 1000),
        ("-c 4096 -np 2 --kv-unified-per-slot 1000", 1000),
        ("--ctx-size=8192 --parallel 2", 4096),
        ("-c 0 -np 2", None),  # left to the model
        ("-np 2", None),
        ("", None),
    ],
)
def test_one_request_may_use_its_slots_share(words: str, ctx: int | None) -> None:
    assert slot_ctx(words.split()) == ctx
