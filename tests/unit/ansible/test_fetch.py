"""Downloads that are broken off, changed, wrong or too large: whole or not at all."""

from __future__ import annotations

import fcntl
import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

BODY = bytes(range(256)) * 4096  # 1 MiB
DIGEST = hashlib.sha256(BODY).hexdigest()


class Quiet(ThreadingHTTPServer):
    """A server that says nothing about clients who hang up."""

    def handle_error(self, *_: Any) -> None:
        pass


class Hub:
    """A server of one file, which may break off, change, or not know of ranges."""

    def __init__(self) -> None:
        self.body = BODY
        self.tag = '"one"'
        self.linked = ""
        self.break_after: list[int] = []  # bytes that each coming answer sends before it breaks
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.ranges = True
        self.status = 200
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                hub.answer(self)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        headers = {key.lower(): value for key, value in request.headers.items()}
        self.asked.append((request.path, headers))
        if request.path.startswith("/moved/"):
            request.send_response(302)
            request.send_header("Location", f"http://localhost:{self.server.server_port}/file")
            request.send_header("X-Linked-Etag", self.linked)
            request.end_headers()
            return
        if self.status != 200:
            request.send_error(self.status)
            return
        start = int(headers.get("range", "bytes=0-")[6:-1])
        if not self.ranges or headers.get("if-range") != self.tag:
            start = 0
        if start >= len(self.body):
            request.send_error(416)
            return
        request.send_response(206 if start else 200)
        request.send_header("ETag", self.tag)
        request.send_header("Content-Length", str(len(self.body) - start))
        if start:
            request.send_header(
                "Content-Range", f"bytes {start}-{len(self.body) - 1}/{len(self.body)}"
            )
        request.end_headers()
        piece = self.body[start:]
        if self.break_after:
            piece = piece[: self.break_after.pop(0)]
        request.wfile.write(piece)
        request.close_connection = True

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def hub() -> Iterator[Hub]:
    made = Hub()
    yield made
    made.close()


@pytest.fixture(scope="session")
def module(ansible_file: Callable[[str], Any]) -> Any:
    return ansible_file("library/llmctl_fetch.py")


@pytest.fixture
def wanted(module: Any, hub: Hub, tmp_path: Path) -> Callable[..., Any]:
    def make(path: str = "/file", **keys: Any) -> Any:
        settings = {"reserve": 0, "retries": 0, "timeout": 20.0} | keys
        return module.Wanted(hub.url + path, tmp_path / "models/m.gguf", **settings)

    return make


def names(one: Any) -> set[str]:
    return {path.name for path in one.dest.parent.iterdir()}


def test_a_file_comes_whole(module: Any, wanted: Callable[..., Any]) -> None:
    one = wanted(sha256=DIGEST)
    module.fetch(one)
    assert one.dest.read_bytes() == BODY
    assert names(one) == {"m.gguf", ".m.gguf.sha256.json"}
    assert one.dest.stat().st_mode & 0o777 == 0o644
    assert module.is_there(one)


def test_what_came_is_kept_and_gone_on_with(
    module: Any, hub: Hub, wanted: Callable[..., Any]
) -> None:
    one = wanted(sha256=DIGEST)
    hub.break_after = [300_000]
    with pytest.raises(module.FetchError, match="run this again to go on"):
        module.fetch(one)
    assert names(one) == {"m.gguf.part", "m.gguf.part.json"}
    module.fetch(one)
    assert one.dest.read_bytes() == BODY
    assert hub.asked[1][1]["range"] == "bytes=300000-"


def test_one_run_goes_on_by_itself(module: Any, hub: Hub, wanted: Callable[..., Any]) -> None:
    one = wanted(retries=3)
    hub.break_after = [100_000, 200_000]
    module.fetch(one)
    assert one.dest.read_bytes() == BODY
    assert [headers.get("range") for _, headers in hub.asked] == [
        None, "bytes=100000-", "bytes=300000-",
    ]  # fmt: skip


@pytest.mark.parametrize("ranges", [True, False])
def test_a_part_of_a_file_that_changed_is_thrown_away(
    module: Any, hub: Hub, wanted: Callable[..., Any], ranges: bool
) -> None:
    one = wanted()
    hub.break_after = [300_000]
    with pytest.raises(module.FetchError):
        module.fetch(one)
    hub.body, hub.tag, hub.ranges = BODY[::-1], '"two"', ranges
    module.fetch(one)
    assert one.dest.read_bytes() == BODY[::-1]


def test_a_part_longer_than_the_file_is_thrown_away(
    module: Any, hub: Hub, wanted: Callable[..., Any]
) -> None:
    one = wanted()
    hub.break_after = [300_000]
    with pytest.raises(module.FetchError):
        module.fetch(one)
    hub.body = BODY[:1000]
    module.fetch(one)
    assert one.dest.read_bytes() == BODY[:1000]


def test_a_part_of_unknown_origin_is_not_gone_on_with(
    module: Any, wanted: Callable[..., Any]
) -> None:
    one = wanted()
    one.dest.parent.mkdir()
    one.part.write_bytes(b"something else")
    module.fetch(one)
    assert one.dest.read_bytes() == BODY


def test_a_finished_file_stays_as_it_is(module: Any, hub: Hub, wanted: Callable[..., Any]) -> None:
    one = wanted()
    one.dest.parent.mkdir()
    one.dest.write_bytes(b"mine")
    assert module.is_there(one)
    assert not module.is_there(wanted(sha256=DIGEST))
    hub.body = b"not what was asked for"
    with pytest.raises(module.FetchError, match=f"{DIGEST} was expected"):
        module.fetch(wanted(sha256=DIGEST))
    assert one.dest.read_bytes() == b"mine"
    assert names(one) == {"m.gguf"}
    hub.body = BODY
    module.fetch(wanted(sha256=DIGEST))
    assert one.dest.read_bytes() == BODY


def test_a_digest_is_computed_once_and_again_when_the_file_changes(
    module: Any, wanted: Callable[..., Any]
) -> None:
    one = wanted(sha256=DIGEST)
    module.fetch(one)
    assert module._sealed(one)
    one.dest.write_bytes(BODY[:-1] + b"x")
    assert not module.is_there(one)


def test_a_disk_without_room_is_told_before_a_byte_is_written(
    module: Any, wanted: Callable[..., Any]
) -> None:
    one = wanted(reserve=1 << 62)
    with pytest.raises(module.FetchError, match=r"needs 1048576 bytes more .* Make room"):
        module.fetch(one)
    assert one.part.stat().st_size == 0
    assert not one.dest.exists()


def test_a_disk_that_fills_up_meanwhile_costs_nothing_that_came(
    module: Any, wanted: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = wanted()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(module, "_copy", full)
        with pytest.raises(module.FetchError, match=r"is full.*run this again"):
            module.fetch(one)
    assert one.part.exists()


def test_two_runs_do_not_write_one_file(module: Any, wanted: Callable[..., Any]) -> None:
    one = wanted()
    one.dest.parent.mkdir()
    with one.part.open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(module.FetchError, match="another run"):
            module.fetch(one)


@pytest.mark.parametrize(("status", "remedy"), [(401, "wants a token"), (404, "path"), (500, "")])
def test_a_refusal_names_the_remedy(
    module: Any, hub: Hub, wanted: Callable[..., Any], status: int, remedy: str
) -> None:
    hub.status = status
    with pytest.raises(module.FetchError, match=f"answered {status}.*{remedy}"):
        module.fetch(wanted())


def test_a_token_goes_to_the_hub_alone(module: Any, hub: Hub, wanted: Callable[..., Any]) -> None:
    hub.linked = f'"{DIGEST}"'
    module.fetch(wanted("/moved/file", token="hf_secret"))
    (_, first), (_, second) = hub.asked
    assert first["authorization"] == "Bearer hf_secret"
    assert "authorization" not in second


def test_the_digest_that_a_hub_tells_is_held(
    module: Any, hub: Hub, wanted: Callable[..., Any]
) -> None:
    hub.linked = f'"{"0" * 64}"'
    with pytest.raises(module.FetchError, match=f"{'0' * 64} was expected"):
        module.fetch(wanted("/moved/file"))
