"""A real llama-server, and proxies before it whose guards are set differently."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import subprocess
from typing import TYPE_CHECKING, Any

from kit.waiting import eventually
from support.processes import proxy_process
from usermgr.site import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TOOL = {
    "name": "get_weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}


class Guarded:
    """server: the port of llama-server itself; proxies: of those before it, by name."""

    def __init__(self, server: int, proxies: dict[str, int]) -> None:
        self.server, self.proxies = server, proxies

    def ask(
        self, path: str, body: object, *, at: str = "on", **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """What a proxy answers; at "server": the server itself."""
        port = self.server if at == "server" else self.proxies[at]
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        try:
            words = {"Content-Type": "application/json", **headers}
            sent = json.dumps(body) if body else None
            connection.request("POST" if body else "GET", path, sent, words)
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    @property
    def busy(self) -> int:
        """Slots that work."""
        _, _, body = self.ask("/slots", None, at="server")
        return sum(slot["is_processing"] for slot in json.loads(body))


@contextlib.contextmanager
def guarded(
    llama_server: str, models: Path, *, ctx: int, proxies: dict[str, dict[str, Any]]
) -> Iterator[Guarded]:
    port = free_port()
    argv = [llama_server, "-m", str(models / "llama-script.gguf"), "--port", str(port)]
    argv += ["-c", str(ctx), "-t", "1", "--alias", "coder", "--slots", "--sse-ping-interval", "5"]
    server = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with contextlib.ExitStack() as stack:
            ports = {k: stack.enter_context(proxy_process(port, **v)).port
                     for k, v in proxies.items()}  # fmt: skip
            made = Guarded(port, ports)
            eventually(lambda: _is_ready(made))
            yield made
    finally:
        server.kill()
        server.wait()


def _is_ready(made: Guarded) -> bool:
    try:
        return made.ask("/health", None, at="server")[0] == 200
    except OSError:
        return False


def say(word: str) -> Any:
    return [{"role": "user", "content": word}]


_VARIES = re.compile(
    rb'"(?:id|item_id|call_id|created|created_at|completed_at|id_slot|prompt_ms|predicted_ms'
    rb"|prompt_per_token_ms|prompt_per_second|predicted_per_token_ms|predicted_per_second|cache_n"
    rb"|prompt_n|cached_tokens|cache_read_input_tokens|input_tokens|tokens_cached)\":"
    rb'(?:"[^"]*"|[-+.e\d]+)'
)


def alike(body: bytes) -> bytes:
    """An answer without what is different each time: ids, times, what was cached."""
    return _VARIES.sub(b"", body)


def request(endpoint: str, word: str, *, stream: bool, **more: Any) -> tuple[str, dict[str, Any]]:
    """The path and body of one, in the endpoint's shape. word: what the model is to do."""
    tools = word == "TOOL"
    body: dict[str, Any] = {"model": "coder", "stream": stream, "temperature": 0, **more}
    if endpoint == "chat":
        body |= {"messages": say(word)}
        body |= {"tools": [{"type": "function", "function": TOOL}]} if tools else {}
        return "/v1/chat/completions", body
    if endpoint == "messages":
        body |= {"messages": say(word), "max_tokens": body.pop("max_tokens", 4000)}
        named = {"name": TOOL["name"], "input_schema": TOOL["parameters"]}
        return "/v1/messages", body | ({"tools": [named]} if tools else {})
    if endpoint == "responses":
        body |= {"input": word} | ({"tools": [{"type": "function", **TOOL}]} if tools else {})
        return "/v1/responses", body
    prompt = f"<|s_{word.lower()}|>"
    path = "/v1/completions" if endpoint == "completions" else "/completion"
    return path, body | {"prompt": prompt}
