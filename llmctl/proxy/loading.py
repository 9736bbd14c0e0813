"""How far a model is that requests wait for."""

import msgspec


class Loading(msgspec.Struct):
    """A switch under way. fraction: of the model's bytes, 0 to 1; None: not known."""

    model: str
    what: str = "starting"
    fraction: float | None = None
    elapsed_s: float = 0.0

    def see(self, what: str, fraction: float | None, elapsed_s: float) -> None:
        """The engine has news."""
        self.what, self.fraction, self.elapsed_s = what, fraction, elapsed_s

    def __str__(self) -> str:
        share = f"{100 * self.fraction:.0f} %, " if self.fraction is not None else ""
        return f"{self.what} {self.model}, {share}{self.elapsed_s:.0f} s"


def loading_event(loading: Loading) -> bytes:
    """A piece of reasoning that tells it, for clients that show reasoning."""
    delta = {"reasoning_content": f"{loading}\n"}
    return b"data: %b\n\n" % msgspec.json.encode({
        "id": "chatcmpl-llmctl-loading", "object": "chat.completion.chunk", "created": 0,
        "model": loading.model,
        "choices": [{"index": 0, "delta": delta, "finish_reason": None}],
    })  # fmt: skip
