"""A world whose servers generate, at a speed that the words they were started with decide."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from support.systemd_syntax import values
from support.world import Run, World, http

from llmctl.core.words import profile_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmctl.core.progress import Event

BUILD = "b1-test"


class BenchWorld(World):
    """speed: a unit's command line -> tokens per second. Time passes while a server writes.

    asked: bodies of the requests for an answer. busy: slots that somebody else uses. obeys: the
    server drafts nothing where a request says so. strangers: tokens that somebody else has written
    while an answer was. refuses_all: what it says instead of an answer.
    """

    def __init__(self, speed: Callable[[str], float] = lambda _: 50.0) -> None:
        super().__init__()
        self.speed = speed
        self.asked: list[dict[str, Any]] = []
        self.busy = 0
        self.obeys = False
        self.strangers = 0
        self.refusal: bytes | None = None
        self.during: Callable[[], None] = lambda: None
        self.notes: list[Event] = []
        self._written = 0

    def _server(self, name: str, run: Run) -> Callable[[bytes], bytes]:
        plain = super()._server(name, run)
        words = " ".join(values(self._text(name), "ExecStart"))

        def server(request: bytes) -> bytes:
            path = request.split(b" ", 2)[1]
            match path:
                case b"/props":
                    generation = {"n_ctx": 2048}
                    return http(200, {"build_info": BUILD, "total_slots": 2,
                                      "default_generation_settings": generation})  # fmt: skip
                case b"/slots":
                    return http(200, [{"is_processing": n < self.busy} for n in range(2)])
                case b"/metrics":
                    text = f"# HELP x y\nllamacpp:tokens_predicted_total {self._written}\n"
                    return b"HTTP/1.1 200 OK\r\n\r\n" + text.encode()
                case b"/tokenize":
                    count = 2 * len(_body(request)["content"].split())
                    return http(200, {"tokens": list(range(count))})
                case b"/v1/chat/completions":
                    return self._answer(_body(request), words)
                case _:
                    return plain(request)

        return server

    def _answer(self, body: dict[str, Any], words: str) -> bytes:
        self.asked.append(body)
        self.during()
        if self.refusal is not None:
            return self.refusal
        tokens, speed = body["max_tokens"], self.speed(words)
        timings = {"prompt_n": 500, "prompt_ms": 1000.0, "predicted_n": tokens,
                   "predicted_ms": 1000 * tokens / speed}  # fmt: skip
        if "--spec-type" in words and not (self.obeys and body.get("speculative.n_max") == 0):
            timings |= {"draft_n": 3 * tokens, "draft_n_accepted": tokens // 2}
        self.clock.sleep(1 + tokens / speed)
        self._written += tokens + self.strangers
        events = f"data: {json.dumps({'choices': [], 'timings': timings})}\n\ndata: [DONE]\n\n"
        return b"HTTP/1.1 200 OK\r\n\r\n" + events.encode()

    def running(self, name: str, text: str = "", *, words: str = "") -> None:
        """A profile whose server is up, started with these words too."""
        self.profile(name, text)
        self.apply(name)
        self.start(f"llm-{name}.service")
        pid = self.unit(f"llm-{name}.service").pid
        port = self._port(f"llm-{name}.service")
        argv = f"llama-server --port {port} -m /models/{name}.gguf {words}"
        self.host.put(f"/proc/{pid}/cmdline", argv.strip().replace(" ", "\0"))
        self.clock.sleep(1)


def _body(request: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(request.partition(b"\r\n\r\n")[2])
    return found


def active(world: World) -> list[str]:
    """Profiles that are up."""
    return [profile_of(one) or one for one in world.up()]
