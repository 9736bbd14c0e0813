#!/usr/bin/env python3
"""A scripted stand-in for llama-server, for what the real one will not do on demand.

It takes llama-server's flags, prints its help, binds its port, logs in its words and answers as
it does. What goes wrong is chosen by FAKE_LLAMA, a comma list (or @FILE, which holds one):

    load=3        answers 503 "Loading model" for 3 seconds
    progress      and grows in memory meanwhile, as a model that is being read does
    never         loads for ever
    hang          accepts connections and never answers
    exit=1@0      exits with status 1 after 0 seconds
    abort@2       dies of SIGABRT after 2 seconds
    oom, corrupt, missing, bindfail
                  says what the real one says in that case and exits 1; oom@2: after 2 seconds
    alias=other   claims to be another model
    slowstop=8    takes 8 seconds to stop, keeps its port, then exits 0
    nosigterm     does not stop at all
    holds         stops when its streams are closed, by their clients, and not before
    key           wants a key although none was given (given ones it wants anyway)
    pace=0.1      takes 0.1 seconds for each word of an answer
    stalls=2      writes two words of an answer, and then no more, though it says that it is well
    nogpu         is well until it is asked for a token, and then dies as a server does whose GPU
                  context is gone: that is what a suspend leaves of some
    says=FILE     logs the lines of FILE when it has loaded: what it claims to have allocated

FAKE_HELP is the generation it plays: "0.7.0" (default) or "old". FAKE_LOG names a file that gets
a line `start ALIAS PID MONOTONIC` and `stop ...` from each process that starts and stops.
FAKE_ARGV_FILE gets `{"argv": [...], "environ": {...}}`.

Only the standard library, and files beside this one: it runs wherever the checkout is visible.
"""

from __future__ import annotations

import hmac
import json
import os
import re
import signal
import socketserver
import sys
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

STARTED = time.monotonic()
HERE = Path(__file__).resolve().parent
VERSION = "version: 0.7.0 (build 11669, commit fake)\nbuilt with Python for tests\n"
FOR_EVER = float("inf")


# ----------------------------------------------------------------------- the command line


def help_text() -> str:
    return (HERE / "help" / f"{os.environ.get('FAKE_HELP') or '0.7.0'}.txt").read_text("utf-8")


def flags(text: str) -> dict[str, tuple[str, bool]]:
    """Each spelling of each flag in a help text -> (its longest spelling, does it take a value)."""
    known: dict[str, tuple[str, bool]] = {}
    for line in text.splitlines():
        match = re.match(r"((?:--?[A-Za-z][\w-]*(?:,\s+|\s|$))+)(\S.*)?", line)
        if match is None:
            continue
        names = re.findall(r"--?[A-Za-z][\w-]*", match[1])
        # What follows the names is a value's name, unless the help's column begins there. Names
        # that reach beyond that column have their help on the next line.
        takes_value = bool(match[2]) and match.start(2) != 40
        for name in names:
            known[name] = (max(names, key=len), takes_value)
    return known


def usage_error(message: str) -> NoReturn:
    sys.stderr.write(f"{message}\n")
    sys.exit(1)


def parse(argv: list[str]) -> dict[str, str]:
    """The flags in `argv` by their longest spelling, refused as the real server refuses them."""
    known, given, rest = flags(help_text()), {}, iter(argv)
    for word in rest:
        if word not in known:
            usage_error(f"error: invalid argument: {word}")
        name, takes_value = known[word]
        value = next(rest, None) if takes_value else ""
        if value is None:
            usage_error(
                f'error while handling argument "{word}": expected value for argument\n\n'
                "to show complete usage, run with -h"
            )
        given[name] = value
    return given


# ------------------------------------------------------------------------------ behaviour


@dataclass
class Behaviour:
    load_s: float = 0.0
    progress: bool = False
    hang: bool = False
    key: bool = False
    holds: bool = False
    nogpu: bool = False
    alias: str = ""
    says: str = ""
    pace_s: float = 0.0
    most_words: int | None = None
    stop_s: float = 0.0
    ends: list[tuple[str, float]] = field(default_factory=list)  # (word, after seconds)


def behaviour(text: str) -> Behaviour:
    if text.startswith("@"):
        text = Path(text[1:]).read_text("utf-8").strip()
    chosen = Behaviour()
    for word in filter(None, text.split(",")):
        apply_word(chosen, word)
    return chosen


def apply_word(chosen: Behaviour, word: str) -> None:
    name, _, value = word.partition("=")
    match name:
        case "load":
            chosen.load_s = float(value)
        case "never":
            chosen.load_s = FOR_EVER
        case "progress" | "hang" | "key" | "holds" | "nogpu":
            setattr(chosen, name, True)
        case "alias" | "says":
            setattr(chosen, name, value)
        case "pace":
            chosen.pace_s = float(value)
        case "stalls":
            chosen.most_words = int(value)
        case "slowstop":
            chosen.stop_s = float(value)
        case "nosigterm":
            chosen.stop_s = FOR_EVER
        case _:
            end, _, after = word.partition("@")
            if not re.fullmatch(r"exit=\d+|abort|oom|corrupt|missing|bindfail", end):
                usage_error(f"error: FAKE_LLAMA: unknown word {word!r}")
            chosen.ends.append((end, float(after or 0)))


LAST_WORDS = {
    "missing": """\
E gguf_init_from_file: failed to open GGUF file '{model}' (No such file or directory)
E llama_model_load: error loading model: llama_model_loader: failed to load model from {model}
""",
    "corrupt": """\
E llama_model_load: error loading model: tensor 'blk.1.ffn_gate.weight' data is not within the \
file bounds, model is corrupted or incomplete
""",
    "oom": """\
E ggml_backend_cuda_buffer_type_alloc_buffer: allocating 21504.00 MiB on device 0: \
cudaMalloc failed: out of memory
E alloc_tensor_range: failed to allocate CUDA0 buffer of size 22548578304
E llama_model_load: error loading model: unable to allocate CUDA0 buffer
""",
    "bindfail": """\
E srv         start: couldn't bind HTTP server socket, hostname: {host}, port: {port}
I srv    operator(): operator(): cleaning up before exit...
E srv  llama_server: exiting due to HTTP server error
""",
}
NOT_LOADED = """\
E llama_model_load_from_file_impl: failed to load model
E cmn  common_init_: failed to load model '{model}'
E srv    load_model: failed to load model, '{model}'
I srv    operator(): operator(): cleaning up before exit...
E srv  llama_server: exiting due to model loading error
"""


def last_words(cause: str) -> str:
    return LAST_WORDS[cause] + ("" if cause == "bindfail" else NOT_LOADED)


# ---------------------------------------------------------------------------- the process


class Fake:
    """One process: its flags, its behaviour, its log, its end."""

    def __init__(self, argv: list[str]) -> None:
        self.given = parse(argv)
        self.behaviour = behaviour(os.environ.get("FAKE_LLAMA", ""))
        self.model = self.given.get("--model", "")
        self.host = self.given.get("--host", "127.0.0.1").split(",")[0]
        self.port = int(self.given.get("--port", "8080"))
        self.aliases = sorted((self.given.get("--alias") or self.model).split(","))
        self.alias = self.behaviour.alias or self.aliases[0]
        self.keys = self.read_keys()
        self.ballast: list[bytes] = []
        self.streams: set[object] = set()
        self.is_leaving = False
        self.busy = 0
        self.n_decoded = 0

    def read_keys(self) -> list[str]:
        given = self.given.get("--api-key") or os.environ.get("LLAMA_API_KEY", "")
        keys = [key for key in given.split(",") if key]
        if "--api-key-file" in self.given:
            keys += Path(self.given["--api-key-file"]).read_text("utf-8").split()
        # With nobody's key, nobody gets in.
        return keys or (["\0"] if self.behaviour.key else [])

    @property
    def loading(self) -> bool:
        return time.monotonic() - STARTED < self.behaviour.load_s

    def log(self, text: str) -> None:
        for line in text.splitlines():
            s = time.monotonic() - STARTED
            stamp = f"{s // 60:.0f}.{s % 60:06.3f}.000"
            full = line.format(model=self.model, host=self.host, port=self.port)
            sys.stderr.write(f"{stamp} {full}\n")
        sys.stderr.flush()

    def note(self, event: str) -> None:
        """One write of one line, so that the lines of several processes never mix."""
        if path := os.environ.get("FAKE_LOG"):
            line = f"{event} {self.aliases[0]} {os.getpid()} {time.monotonic():.6f}\n"
            file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            os.write(file, line.encode())
            os.close(file)

    def leave(self, status: int) -> NoReturn:
        """End at once, whatever other threads are at."""
        self.note("stop")
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)

    def end(self, word: str) -> NoReturn:
        if word == "abort":
            self.note("stop")
            os.abort()
        if word.startswith("exit="):
            self.leave(int(word.partition("=")[2]))
        self.log(last_words(word))
        self.leave(1)

    def on_term(self, number: int, _frame: FrameType | None) -> None:
        if self.behaviour.stop_s:
            # Not a thread: started from a handler, it may wait for a lock that we hold ourselves.
            if self.behaviour.stop_s < FOR_EVER and not signal.getitimer(signal.ITIMER_REAL)[0]:
                signal.setitimer(signal.ITIMER_REAL, self.behaviour.stop_s)
        elif self.behaviour.holds:
            self.is_leaving = True
        elif self.loading:  # the real server installs its handlers when the model is loaded
            self.note("stop")
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        else:
            self.log("I srv    operator(): operator(): cleaning up before exit...")
            self.leave(0)

    def load(self) -> None:
        """What happens beside serving: growing while loading, and saying when it is done."""
        while self.loading:
            if self.behaviour.progress and len(self.ballast) < 200:
                self.ballast.append(os.urandom(1) * 2**21)  # 20 MiB/s, 400 MiB at most
            time.sleep(0.1)
        if self.behaviour.says:
            self.log(Path(self.behaviour.says).read_text("utf-8"))
        self.log("I srv  llama_server: model loaded")
        self.log("I srv  llama_server: listening on http://{host}:{port}")

    def run(self) -> NoReturn:
        self.note("start")
        signal.signal(signal.SIGTERM, self.on_term)
        signal.signal(signal.SIGINT, self.on_term)
        signal.signal(signal.SIGALRM, lambda *_: self.leave(0))
        self.log("I srv  llama_server: initializing ...")
        for word, after in self.behaviour.ends:
            if not after:
                self.end(word)
            later(after, self.end, word)
        try:
            server = Server((self.host, self.port), self)
        except OSError:
            self.end("bindfail")
        self.port = server.server_address[1]
        self.log("I srv    load_model: loading model '{model}'")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.load()
        while True:  # not signal.pause(): a signal just before it would be handled only after it
            time.sleep(0.05)
            if self.is_leaving and not self.streams:
                self.leave(0)


def later(seconds: float, function: Any, argument: object) -> None:
    timer = threading.Timer(seconds, function, [argument])
    timer.daemon = True
    timer.start()


# -------------------------------------------------------------------------------- serving


class Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True  # SO_REUSEADDR, as the real one
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], fake: Fake) -> None:
        self.fake = fake
        super().__init__(address, Handler)

    def server_bind(self) -> None:
        """Without http.server's look-up of the host's name, which may take its time."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "localhost", self.server_address[1]

    def handle_error(self, *_: object) -> None:
        """Clients come and go."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def version_string(self) -> str:
        return "llama.cpp"

    def log_message(self, *_: object) -> None:
        """The real server does not log requests at its default level."""

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.answer()

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fake, path = self.server.fake, self.path.partition("?")[0].removeprefix("/v1")
        if fake.behaviour.hang:
            threading.Event().wait()
        if fake.loading:
            self.fail(503, "Loading model", "unavailable_error")
        elif path != "/health" and not self.has_key():
            self.fail(401, "Invalid API Key", "authentication_error")
        else:
            self.route(path, body)

    def has_key(self) -> bool:
        keys = self.server.fake.keys
        given = self.headers.get("X-Api-Key") or self.headers.get("Authorization") or ""
        given = given.removeprefix("Bearer ")
        return not keys or any(hmac.compare_digest(given, key) for key in keys)

    def route(self, path: str, body: bytes) -> None:
        fake = self.server.fake
        match path:
            case "/health":
                self.send(200, {"status": "ok"})
            case "/models":
                self.send(200, models(fake))
            case "/props":
                self.send(200, {"model_alias": fake.alias, "model_path": fake.model})
            case "/slots":
                self.send(200, slots(fake))
            case "/metrics" if "--metrics" in fake.given:
                self.send(200, METRICS, "text/plain; version=0.0.4")
            case "/metrics":
                self.fail(501, NO_METRICS, "not_supported_error")
            case "/chat/completions" | "/completion" if fake.behaviour.nogpu:
                sys.stderr.write("E ggml_cuda_error: CUDA error: unspecified launch failure\n")
                os.abort()
            case "/chat/completions" if self.command == "POST":
                self.chat(body)
            case "/completion" if self.command == "POST":
                self.send(200, {"content": "x", "tokens_predicted": 1})
            case _:
                self.fail(404, "File Not Found", "not_found_error")

    def chat(self, body: bytes) -> None:
        try:
            request = json.loads(body)
            said = str(request["messages"][-1]["content"])
        except (ValueError, LookupError, TypeError) as error:
            self.fail(400, str(error), "invalid_request_error")
            return
        limit = request.get("max_tokens") or 2**31
        words = re.findall(r"\s*\S+", said)[:limit]
        if request.get("stream"):
            self.stream(words)
        else:
            self.send(200, completion(self.server.fake, "".join(self.paced(words)), len(words)))

    def paced(self, words: list[str]) -> Iterator[str]:
        fake = self.server.fake
        fake.busy += 1
        try:
            for number, word in enumerate(words):
                time.sleep(fake.behaviour.pace_s)
                if number == fake.behaviour.most_words:
                    threading.Event().wait()
                fake.n_decoded += 1
                yield word
        finally:
            fake.busy -= 1

    def stream(self, words: list[str]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.event(delta(self.server.fake, {"role": "assistant", "content": None}))
        self.server.fake.streams.add(self)
        try:
            for word in self.paced(words):
                if self.server.fake.is_leaving:  # it generates no more, and says nothing
                    self.rfile.read()
                    return
                self.event(delta(self.server.fake, {"content": word}))
        finally:
            self.server.fake.streams.discard(self)
        self.event(delta(self.server.fake, {}, "stop"))
        self.event("[DONE]")
        self.chunk(b"")

    def event(self, data: object) -> None:
        text = data if isinstance(data, str) else json.dumps(data)
        self.chunk(f"data: {text}\n\n".encode())

    def chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def fail(self, status: int, message: str, kind: str) -> None:
        self.send(status, {"error": {"message": message, "type": kind, "code": status}})

    def send(
        self, status: int, body: object, kind: str = "application/json; charset=utf-8"
    ) -> None:
        data = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


NO_METRICS = "This server does not support metrics endpoint. Start it with `--metrics`"
METRICS = """\
# HELP llamacpp:predicted_tokens_seconds Average generation throughput in tokens/s
# TYPE llamacpp:predicted_tokens_seconds gauge
llamacpp:predicted_tokens_seconds 42.5
# HELP llamacpp:requests_processing Number of requests processing
# TYPE llamacpp:requests_processing gauge
llamacpp:requests_processing 0
"""


def models(fake: Fake) -> dict[str, object]:
    aliases = [fake.alias] if fake.behaviour.alias else fake.aliases
    total = int(fake.given.get("--ctx-size") or 4096)
    meta = {"n_ctx": total // int(fake.given.get("--parallel") or 1), "n_ctx_train": 40960}
    entry = {
        "id": fake.alias,
        "aliases": aliases,
        "tags": [],
        "object": "model",
        "created": int(STARTED),
        "owned_by": "llamacpp",
        "meta": meta,
    }
    named = {"name": fake.alias, "model": fake.alias, "type": "model"}
    return {"models": [named], "object": "list", "data": [entry]}


def slots(fake: Fake) -> list[dict[str, object]]:
    facts = {"id": 0, "n_ctx": 4096, "speculative": False, "is_processing": fake.busy > 0}
    return [{**facts, "next_token": [{"n_decoded": fake.n_decoded}]}]


def delta(fake: Fake, piece: dict[str, Any], finish: str | None = None) -> dict[str, object]:
    return {
        "choices": [{"finish_reason": finish, "index": 0, "delta": piece}],
        "created": int(STARTED),
        "id": "chatcmpl-fake",
        "model": fake.alias,
        "object": "chat.completion.chunk",
    }


def completion(fake: Fake, text: str, words: int) -> dict[str, object]:
    message = {"role": "assistant", "content": text}
    return {
        "choices": [{"finish_reason": "stop", "index": 0, "message": message}],
        "created": int(STARTED),
        "id": "chatcmpl-fake",
        "model": fake.alias,
        "object": "chat.completion",
        "usage": {"completion_tokens": words, "prompt_tokens": words, "total_tokens": 2 * words},
    }


def dump(argv: list[str]) -> None:
    if path := os.environ.get("FAKE_ARGV_FILE"):
        text = json.dumps({"argv": argv, "environ": dict(os.environ)})
        Path(path).write_text(text, "utf-8")


def main(argv: list[str]) -> NoReturn:
    dump(argv)
    fake = Fake(argv[1:])
    if "--usage" in fake.given or "--help" in fake.given:
        sys.stdout.write(help_text())
    elif "--version" in fake.given:
        sys.stderr.write(VERSION)
    elif "--list-devices" in fake.given:
        sys.stdout.write(os.environ.get("FAKE_DEVICES") or "Available devices:\n  (none)\n")
    else:
        fake.run()
    sys.exit(0)


if __name__ == "__main__":
    main(sys.argv)
