"""/v1/chat/completions, /v1/completions, /completion and /infill: joining attempts."""

from typing import Any

from llmctl.proxy.guard.event import Event, written
from llmctl.proxy.guard.tally import Tally

_OF_FIRST = ("id", "created", "model", "system_fingerprint")
DONE = b"data: [DONE]\n\n"


class OpenAISplice:
    """See Splice. wants_usage: the client asked for an event with the usage. hides_progress: what
    the server tells of the prompt was asked for by the guard, not by the client."""

    def __init__(self, tally: Tally, *, wants_usage: bool, hides_progress: bool) -> None:
        self._tally, self._wants_usage = tally, wants_usage
        self._hides_progress = hides_progress
        self._first: dict[str, Any] = {}
        self._ended: set[int] = set()
        self._choices: set[int] = set()
        self._has_role = self._is_joining = False
        self.completion: str | None = None

    def passed(self, event: Event) -> bytes:
        """See Splice."""
        told = event.told
        if told is None:
            return event.raw
        if "prompt_progress" in told and self._tally.prompt is None:
            self._tally.prompt = told["prompt_progress"].get("total")
        if "tokens_evaluated" in told and self._tally.prompt is None:
            self._tally.prompt = told["tokens_evaluated"]
        if self._hides_progress and "prompt_progress" in told:
            return b""
        if not self._first:
            self._first = {key: told[key] for key in (*_OF_FIRST, "object") if key in told}
            self.completion = told.get("id")
        self._note(told)
        return self._joined(event, told) if self._is_joining else event.raw

    def _note(self, told: dict[str, Any]) -> None:
        for choice in told.get("choices") or ():
            number = choice.get("index", 0)
            self._choices.add(number)
            if choice.get("finish_reason") is not None:
                self._ended.add(number)
            if not self._is_joining and "role" in (choice.get("delta") or {}):
                self._has_role = True

    def _joined(self, event: Event, told: dict[str, Any]) -> bytes:
        told = {**told, **{key: self._first[key] for key in _OF_FIRST if key in self._first}}
        if self._has_role and told.get("choices"):
            told["choices"] = [one for one in map(_without_role, told["choices"]) if one]
            if not told["choices"]:
                return b""
        if told.get("usage"):
            told["usage"] = self._tally.usage(told["usage"])
        if told.get("timings"):
            told["timings"] = self._tally.timings(told["timings"])
        if "tokens_predicted" in told:
            told["tokens_predicted"] += self._tally.tokens
        return written(told, event.name)

    def again(self) -> None:
        """See Splice."""
        self._is_joining = True

    def said(self, words: str) -> bytes:
        """See Splice."""
        if "object" not in self._first:
            told = {"index": 0, "content": words, "tokens": [], "stop": False, "id_slot": -1}
            return written({**told, **self._counts(0)})
        if self._first["object"] == "text_completion":
            return self._piece(0, words, None)
        return self._chunk(0, {"content": words}, None)

    def stopped(self, words: str, tokens: int) -> bytes:
        """See Splice."""
        if "object" not in self._first:
            return self._native(words, tokens)
        still = sorted(self._choices - self._ended) or [0]
        if self._first["object"] == "text_completion":
            return self._completion(words, still, tokens)
        said = b"".join(self._chunk(one, {"content": words}, None) for one in still)
        ends = b"".join(self._chunk(one, {}, "length") for one in still)
        told = self._tally.openai(tokens)
        usage = b""
        if self._wants_usage and told is not None:
            usage = written({"choices": [], **self._first, "usage": told})
        return said + ends + usage + DONE

    def _chunk(self, choice: int, delta: dict[str, Any], finish: str | None) -> bytes:
        told = {"finish_reason": finish, "index": choice, "delta": delta}
        return written({"choices": [told], **self._first})

    def _completion(self, words: str, still: list[int], tokens: int) -> bytes:
        usage = self._tally.openai(tokens)
        more = {} if usage is None else {"usage": usage}
        said = [self._piece(one, words, None) for one in still]
        ends = [self._piece(one, "", "length", **more) for one in still]
        return b"".join([*said, *ends, DONE])

    def _piece(self, choice: int, words: str, finish: str | None, **more: Any) -> bytes:
        told = {"text": words, "index": choice, "logprobs": None, "finish_reason": finish}
        return written({"choices": [told], **self._first, **more})

    def _counts(self, tokens: int) -> dict[str, int]:
        generated = self._tally.tokens + tokens
        return {"tokens_predicted": generated, "tokens_evaluated": self._tally.prompt or 0}

    def _native(self, words: str, tokens: int) -> bytes:
        counts = self._counts(tokens)
        said = {"index": 0, "content": words, "tokens": [], "stop": False, "id_slot": -1, **counts}
        end = {
            "index": 0, "content": "", "tokens": [], "id_slot": -1, "stop": True, **self._first,
            **counts, "truncated": False, "stop_type": "limit", "stopping_word": "",
        }  # fmt: skip
        return written(said) + written(end)


def _without_role(choice: dict[str, Any]) -> dict[str, Any] | None:
    """A choice's delta without its role, of which a stream has one; None: it said no more."""
    delta = choice.get("delta")
    if not isinstance(delta, dict) or "role" not in delta:
        return choice
    rest = {key: value for key, value in delta.items() if key != "role" and value is not None}
    if not rest and choice.get("finish_reason") is None and not choice.get("logprobs"):
        return None
    return {**choice, "delta": rest}
