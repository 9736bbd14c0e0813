"""How many tokens one request may use: what `-c` says is for all slots together.

llama.cpp b11434 (llama-context.cpp, constructor; tools/server): where slots have cells of their own
each gets its share, in steps of 256; where they share one pool (`-kvu`), each may use all of it;
`--kv-unified-per-slot` limits each. A slot never goes beyond what the model was trained for, which
is not known here: a server that runs tells (`meta.n_ctx` of /v1/models).
"""

from collections.abc import Sequence

from llmctl.core.said import said

STEP = 256
AUTO_SLOTS = 4
"""Without `-np`, and then their cells are one pool."""


def slot_ctx(words: Sequence[str]) -> int | None:
    """By the words of a command line. None: it leaves that to the model."""
    told = said(words)
    slots, limit = _count(told.get("parallel")), _count(told.get("pool_per_slot"))
    total = _count(told.get("ctx")) or limit * (slots or AUTO_SLOTS)
    if not total:
        return None
    is_pool = told.get("unified", "off" if slots else "on") == "on" or bool(limit)
    share = total if is_pool else total // slots
    ctx = -(-share // STEP) * STEP
    return min(ctx, limit) if limit else ctx


def _count(text: str | None) -> int:
    """0: not given, or left to the server (`-np -1`, `-c 0`)."""
    return int(text) if text and text.isdigit() else 0
