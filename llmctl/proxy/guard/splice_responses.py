"""/v1/responses: joining attempts. A text goes on in the item that is open; what was generated is
told three times at the end (texts, items, the response), so the ends are written anew."""

from typing import Any

import msgspec

from llmctl.core.guard.verdict import Channel
from llmctl.proxy.guard.event import Event, typed
from llmctl.proxy.guard.splice import Sent
from llmctl.proxy.guard.tally import Tally

_JOINED = {"message", "reasoning"}
_CHANNELS = {
    "message": Channel.CONTENT, "reasoning": Channel.REASONING, "function_call": Channel.TOOL,
}  # fmt: skip
_LAST = {"response.completed", "response.incomplete"}
_PART = {"type": "output_text", "annotations": [], "logprobs": []}


class Item(msgspec.Struct):
    """An output item that the client has. begins: where its text does, in that of its channel;
    before: where that of the one before it ends, since the name of a tool lies between. done: as
    its end told it. seams: words of ours in its text, and where they are."""

    told: dict[str, Any]
    begins: int = 0
    before: int = 0
    seams: list[tuple[int, str]] = []
    done: dict[str, Any] | None = None

    @property
    def key(self) -> str:
        """Its id."""
        return str(self.told.get("id"))

    @property
    def kind(self) -> str:
        """What it is."""
        return str(self.told.get("type"))


class ResponsesSplice:
    """See Splice. model, created: for an end of ours."""

    def __init__(self, tally: Tally, sent: Sent, *, model: str) -> None:
        self._tally, self._sent, self._model = tally, sent, model
        self._response: dict[str, Any] = {}
        self._items: list[Item] = []
        self._places: dict[str, Item] = {}
        """Of a further attempt: items of the client that its items continue."""
        self._is_joining = False
        self._number = -1
        self.completion: str | None = None
        """The id that /v1/chat/completions/control wants is not told on this endpoint."""

    def passed(self, event: Event) -> bytes:
        """See Splice."""
        told = event.told
        if told is None:
            return event.raw
        kind = event.kind
        if kind == "response.created" and not self._response:
            self._response = dict(told["response"])
        if self._is_joining:
            return b"".join(map(self._numbered, self._joined(kind, told)))
        self._number = told.get("sequence_number", self._number)
        if kind == "response.output_item.added":
            self._add(told["item"])
        elif kind == "response.output_item.done":
            self._done(told["item"])
        return event.raw

    def _numbered(self, told: dict[str, Any]) -> bytes:
        if self._number >= 0:  # llama-server 0.7.0 has none
            self._number += 1
            told = {**told, "sequence_number": self._number}
        return typed(told)

    def _add(self, item: dict[str, Any]) -> None:
        channel = _CHANNELS.get(str(item.get("type")))
        begins = len(self._sent(channel)) if channel is not None else 0
        name = item.get("name", "").encode() if channel is Channel.TOOL else b""
        self._items.append(Item(item, begins, begins - len(name)))

    def _done(self, item: dict[str, Any]) -> None:
        for one in self._items:
            if one.key == item.get("id"):
                one.done = item

    def _text(self, item: Item) -> str:
        """All of it that the client has: up to where the next of its kind begins."""
        sent, same = (
            self._sent(_CHANNELS[item.kind]),
            [i for i in self._items if i.kind == item.kind],
        )
        after = same[same.index(item) + 1 :]
        found, at = "", item.begins
        for place, words in [*item.seams, (after[0].before if after else len(sent), "")]:
            found += sent[at:place].decode(errors="replace") + words
            at = place
        return found

    # A further attempt

    def _joined(self, kind: str, told: dict[str, Any]) -> list[dict[str, Any]]:
        if kind in {"response.created", "response.in_progress"}:
            return []
        if kind in _LAST:
            return self._completed(told)
        if kind == "response.output_item.added":
            return self._added(told)
        if kind == "response.output_item.done":
            return self._item_done(told)
        ours = self._places.get(str(told.get("item_id")))
        if ours is None:
            return [told]
        if kind.endswith("_part.added"):
            return []
        told = {**told, "item_id": ours.key}
        if kind.endswith("_text.done"):
            told["text"] = self._text(ours)
        elif kind.endswith("_part.done"):
            told["part"] = {**told["part"], "text": self._text(ours)}
        return [told]

    def _added(self, told: dict[str, Any]) -> list[dict[str, Any]]:
        item, last = told["item"], self._items[-1] if self._items else None
        kind = str(item.get("type"))
        if last is not None and last.done is None and last.kind == kind and kind in _JOINED:
            self._places[str(item.get("id"))] = last
            return []
        self._add(item)
        return [told]

    def _item_done(self, told: dict[str, Any]) -> list[dict[str, Any]]:
        ours = self._places.get(str(told["item"].get("id")))
        if ours is None:
            self._done(told["item"])
            return [told]
        ours.done = _whole(ours, self._text(ours), told["item"])
        return [{**told, "item": ours.done}]

    def _completed(self, told: dict[str, Any]) -> list[dict[str, Any]]:
        found = self._closed("completed")
        response = {**told["response"], "output": [one.done for one in self._items]}
        response["id"] = self._response.get("id", response.get("id"))
        if response.get("usage"):
            response["usage"] = self._tally.usage(response["usage"])
        told = {**told, "response": response}
        if told.get("timings"):
            told["timings"] = self._tally.timings(told["timings"])
        return [*found, told]

    def again(self) -> None:
        """See Splice."""
        self._is_joining, self._places = True, {}

    def said(self, words: str) -> bytes:
        """See Splice."""
        last = self._items[-1] if self._items else None
        if last is None or last.done is not None or last.kind != "message":
            return b""
        kind = "response.output_text.delta"
        last.seams = [*last.seams, (len(self._sent(Channel.CONTENT)), words)]
        return self._numbered({"type": kind, "item_id": last.key, "delta": words})

    # An end of ours

    def _closed(self, status: str) -> list[dict[str, Any]]:
        """The ends of all items that are still open."""
        found: list[dict[str, Any]] = []
        for item in self._items:
            if item.done is not None:
                continue
            text = self._text(item) if item.kind in _CHANNELS else ""
            if item.kind == "message":
                key = {"item_id": item.key}
                found.append({"type": "response.output_text.done", **key, "text": text})
                part = {**_PART, "text": text}
                found.append({"type": "response.content_part.done", **key, "part": part})
            item.done = _whole(item, text, {**item.told, "status": status})
            found.append({"type": "response.output_item.done", "item": item.done})
        return found

    def stopped(self, words: str, tokens: int) -> bytes:
        """See Splice. The words are an item of their own: they are no part of the model's text.
        There is no usage: only the server's last event says how long the prompt was."""
        del tokens
        found = self._closed("incomplete")
        key = f"msg_llmctl_{len(self._items)}"
        item = {"content": [], "id": key, "role": "assistant", "type": "message"}
        begun = {**item, "status": "in_progress"}
        part = {**_PART, "text": words}
        done = {**item, "status": "incomplete", "content": [part]}
        self._items.append(Item(begun, done=done))
        begins = {"type": "output_text", "text": ""}
        found += [
            {"type": "response.output_item.added", "item": begun},
            {"type": "response.content_part.added", "item_id": key, "part": begins},
            {"type": "response.output_text.delta", "item_id": key, "delta": words},
            {"type": "response.output_text.done", "item_id": key, "text": words},
            {"type": "response.content_part.done", "item_id": key, "part": part},
            {"type": "response.output_item.done", "item": done},
        ]
        response = {
            "object": "response", "model": self._model, **self._response, "status": "incomplete",
            "incomplete_details": {"reason": "max_output_tokens"},
            "output": [one.done for one in self._items],
        }  # fmt: skip
        found.append({"type": "response.incomplete", "response": response})
        return b"".join(map(self._numbered, found))


def _whole(item: Item, text: str, end: dict[str, Any]) -> dict[str, Any]:
    """The end of an item, with all of its text."""
    if item.kind == "reasoning":
        return {**end, "id": item.key, "content": [{"text": text, "type": "reasoning_text"}]}
    if item.kind == "message":
        return {**end, "id": item.key, "content": [{**_PART, "text": text}]}
    return {**end, "arguments": text} if item.kind == "function_call" else end
