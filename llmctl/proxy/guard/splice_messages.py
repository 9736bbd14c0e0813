"""/v1/messages: joining attempts. A text goes on in the block that is open; other blocks get the
next index. llama-server closes all blocks at the very end, those of reasoning first."""

from typing import Any

import msgspec

from llmctl.proxy.guard.event import Event, typed
from llmctl.proxy.guard.tally import Tally

_JOINED = {"text", "thinking"}


class Block(msgspec.Struct):
    """A content block that the client has."""

    kind: str
    is_open: bool = True


class MessagesSplice:
    """See Splice."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._blocks: list[Block] = []
        self._places: dict[int, int] = {}
        """Of a further attempt: the server's index of a block, and the client's."""
        self._is_joining = self._has_begun = False
        self.completion: str | None = None

    def passed(self, event: Event) -> bytes:
        """See Splice."""
        told = event.told
        if told is None:
            return event.raw
        kind = event.kind
        if kind == "message_start":
            return self._started(event, told)
        if self._is_joining:
            return self._joined(kind, told, event)
        if kind == "content_block_start":
            self._blocks.append(Block(str(told["content_block"].get("type"))))
        elif kind == "content_block_stop" and told["index"] < len(self._blocks):
            self._blocks[told["index"]].is_open = False
        return event.raw

    def _started(self, event: Event, told: dict[str, Any]) -> bytes:
        if self._has_begun:
            return b""
        self._has_begun = True
        usage = told["message"].get("usage") or {}
        self._tally.prompt = usage.get("input_tokens")
        return event.raw

    def _joined(self, kind: str, told: dict[str, Any], event: Event) -> bytes:
        if kind == "content_block_start":
            return self._block(told)
        if kind == "message_delta":
            usage = self._tally.usage(told.get("usage") or {})
            return self._closed() + typed({**told, "usage": usage})
        if "index" not in told:
            return event.raw
        place = self._places.get(told["index"], told["index"])
        if kind == "content_block_stop" and place < len(self._blocks):
            self._blocks[place].is_open = False
        return typed({**told, "index": place})

    def _block(self, told: dict[str, Any]) -> bytes:
        kind = str(told["content_block"].get("type"))
        last = self._blocks[-1] if self._blocks else None
        if last is not None and last.is_open and last.kind == kind and kind in _JOINED:
            self._places[told["index"]] = len(self._blocks) - 1
            return b""
        self._places[told["index"]] = len(self._blocks)
        self._blocks.append(Block(kind))
        return typed({**told, "index": len(self._blocks) - 1})

    def _closed(self) -> bytes:
        """The ends of all blocks that are still open."""
        found = b""
        for place, block in enumerate(self._blocks):
            if block.is_open:
                block.is_open = False
                if block.kind == "thinking":
                    signature = {"type": "signature_delta", "signature": ""}
                    found += typed(_delta(place, signature))
                found += typed({"type": "content_block_stop", "index": place})
        return found

    def again(self) -> None:
        """See Splice."""
        self._is_joining, self._places = True, {}

    def said(self, words: str) -> bytes:
        """See Splice."""
        if not self._blocks or not self._blocks[-1].is_open or self._blocks[-1].kind != "text":
            return b""
        return typed(_delta(len(self._blocks) - 1, {"type": "text_delta", "text": words}))

    def stopped(self, words: str, tokens: int) -> bytes:
        """See Splice."""
        found, place = b"", len(self._blocks) - 1
        if place < 0 or not self._blocks[-1].is_open or self._blocks[-1].kind != "text":
            place += 1
            self._blocks.append(Block("text"))
            begun = {"type": "text", "text": ""}
            found += typed({"type": "content_block_start", "index": place, "content_block": begun})
        found += typed(_delta(place, {"type": "text_delta", "text": words}))
        found += self._closed()
        end = {"stop_reason": "max_tokens", "stop_sequence": None}
        usage = {"output_tokens": self._tally.tokens + tokens}
        found += typed({"type": "message_delta", "delta": end, "usage": usage})
        return found + typed({"type": "message_stop"})


def _delta(place: int, delta: dict[str, Any]) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": place, "delta": delta}
