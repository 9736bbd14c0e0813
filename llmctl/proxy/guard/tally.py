"""What an answer cost that took several attempts: what is told of the last is made the sum."""

from typing import Any

import msgspec


class Tally(msgspec.Struct):
    """Of the attempts that were cut: tokens generated, and milliseconds they took. prompt: tokens
    that the first attempt read, as far as that is known."""

    tokens: int = 0
    ms: float = 0.0
    prompt: int | None = None

    def cut(self, tokens: int, ms: float) -> None:
        """An attempt has been cut."""
        self.tokens += tokens
        self.ms += ms

    def usage(self, usage: dict[str, Any]) -> dict[str, Any]:
        """Of OpenAI's and Anthropic's shapes: generated tokens are added up; those of the prompt
        are the last attempt's."""
        found = dict(usage)
        for key in ("completion_tokens", "output_tokens"):
            if isinstance(found.get(key), int):
                found[key] += self.tokens
        if isinstance(found.get("total_tokens"), int):
            found["total_tokens"] += self.tokens
        return found

    def timings(self, timings: dict[str, Any]) -> dict[str, Any]:
        """llama-server's: count and time are added up, the speeds follow."""
        found = dict(timings)
        number, ms = found.get("predicted_n"), found.get("predicted_ms")
        if not isinstance(number, int) or not isinstance(ms, int | float):
            return found
        number, ms = number + self.tokens, ms + self.ms
        found |= {"predicted_n": number, "predicted_ms": ms}
        found["predicted_per_token_ms"] = ms / number if number else 0.0
        found["predicted_per_second"] = 1000 * number / ms if ms else 0.0
        return found

    def openai(self, tokens: int) -> dict[str, Any] | None:
        """The usage of an answer that was stopped; None: what it read is not known. tokens: of its
        last attempt."""
        if self.prompt is None:
            return None
        generated = self.tokens + tokens
        return {
            "completion_tokens": generated, "prompt_tokens": self.prompt,
            "total_tokens": self.prompt + generated,
        }  # fmt: skip
