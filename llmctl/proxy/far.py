"""Models of other boxes: how they are reached, and what is asked of them.

Another box is asked as `/upstream/NAME/...`, which is this model there or an error: it follows no
chain of its own, so two boxes that stand in for each other do not send a request round in circles.
"""

import asyncio
import socket
from collections.abc import Iterable, Mapping
from urllib.parse import quote

import msgspec

from llmctl.core.boxes import box_of, parse_url
from llmctl.errors import HostError, LlmctlError, ProfileError
from llmctl.host.base import Host
from llmctl.proxy.guard_mode import HEADER
from llmctl.proxy.head import Request, forwarded
from llmctl.proxy.keyfile import OTHERS
from llmctl.proxy.pool import Pool
from llmctl.proxy.routing import Far, Served
from llmctl.proxy.sockets import watch
from llmctl.proxy.upstream import Upstream
from llmctl.proxy.watchdog import told
from llmctl.store import Store

_OF_A_PAGE = frozenset({
    b"origin", b"referer", b"cookie", b"sec-fetch-site", b"sec-fetch-mode", b"sec-fetch-dest",
})  # fmt: skip
"""What a browser says of itself and of the page; this box has looked at it."""


def boxes_of(store: Store) -> tuple[Mapping[str, Far], tuple[str, ...]]:
    """config.yaml's boxes with their keys, and what is wrong with the files of these: such a box is
    left out."""
    found: dict[str, Far] = {}
    wrong: list[str] = []
    for name, box in store.config.boxes.items():
        host, port = parse_url(box.url)
        try:
            key = _key_in(store.host, store.in_config(box.key_file))
        except LlmctlError as error:
            wrong.append(error.message)
            continue
        found[name] = Far(box=name, host=host, port=port, key=key)
    return found, tuple(wrong)


def stand_ins(words: Iterable[str], boxes: Mapping[str, Far]) -> tuple[str | Far, ...]:
    """Words of `fallback`, those of other boxes with their boxes."""
    found: list[str | Far] = []
    for word in words:
        box, model = box_of(word)
        if box is None:
            found.append(word)
        elif box in boxes:
            found.append(msgspec.structs.replace(boxes[box], model=model))
    return tuple(found)


def _key_in(host: Host, path: str | None) -> str | None:
    if path is None:
        return None
    entry = host.stat(path)
    if entry is None:
        raise ProfileError(f"{path}: there is no such file (boxes: key_file in config.yaml)")
    if entry.mode & OTHERS:
        raise ProfileError(
            f"{path}: others may read it (mode {entry.mode:04o}); type: chmod 600 {path}"
        )
    try:
        key = host.read(path).decode("ascii").strip()
    except (HostError, FileNotFoundError, UnicodeDecodeError):
        raise ProfileError(f"{path}: it cannot be read, or is no key") from None
    if not key or not key.isprintable() or " " in key:
        raise ProfileError(f"{path}: expected one API key and nothing else")
    return key


def head_for(request: Request, path: bytes, served: Served, length: int | None) -> bytes:
    """The head of a request, for the server that is to answer it. length: of the body."""
    far, target = served.far, request.target(path)
    if far is None:
        return forwarded(request, target=target, port=served.port, length=length, key=served.key)
    kept = tuple(pair for pair in request.headers if pair[0].lower() not in _OF_A_PAGE)
    plain = Request(request.method, request.path, request.query, request.version, kept)
    head = forwarded(plain, target=_prefix(far) + target, port=far.port, length=length, key=far.key)
    mode = request.header(HEADER)
    line = b"X-Llmctl-Guard: %b\r\n" % mode if mode is not None else b""
    here = b"Host: 127.0.0.1:%d\r\n" % far.port
    return head.replace(here, b"Host: %b\r\n%b" % (_authority(far), line), 1)


def _prefix(far: Far) -> bytes:
    return b"/upstream/" + quote(far.model, safe="").encode()


def _authority(far: Far) -> bytes:
    host = f"[{far.host}]" if ":" in far.host else far.host
    return f"{host}:{far.port}".encode()


class FarPool(Pool):
    """The connections to another box's proxy, for one of its models. Who answers there is known by
    its address; a model that it does not have is a 404 of the request itself."""

    def __init__(self, far: Far) -> None:
        super().__init__(far.model, far.port, far.key)
        self.far = far

    async def open(self, upstream: Upstream) -> str | None:
        """See Pool. A box that is switched off says nothing, and is noticed by the kernel."""
        loop, far = asyncio.get_running_loop(), self.far
        try:
            transport, _ = await loop.create_connection(lambda: upstream, far.host, far.port)
        except socket.gaierror as error:
            return f"{far.host} is no name that is known here: {error.strerror}"
        watch(transport.get_extra_info("socket"), is_here=False)
        return None

    def ended(self, upstream: Upstream) -> None:
        """See Pool: another box's proxy keeps its connections, unless it is to end."""

    crossed = ended

    def get(self, path: str) -> bytes:
        """See Pool."""
        secret = f"Authorization: Bearer {self.key}\r\n".encode() if self.key else b""
        head = b"GET %b HTTP/1.1\r\nHost: %b\r\n%b\r\n"
        return head % (path.encode(), _authority(self.far), secret)


class _Model(msgspec.Struct):
    ctx: int | None = None


async def ctx_of(pool: Pool) -> int | None:
    """How many tokens of context another box's model has for one request, as that box says it now;
    None: it does not."""
    status, body = await told(pool, f"/v1/models/{quote(pool.alias, safe='')}")
    try:
        return msgspec.json.decode(body, type=_Model).ctx if status == 200 else None
    except (msgspec.DecodeError, ValueError):
        return None
