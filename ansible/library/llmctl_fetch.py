#!/usr/bin/python
"""One large file by HTTP: goes on where it was broken off, and is there whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import http.client
import json
import os
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: llmctl_fetch
short_description: Download one large file, with resume
description:
  - What has come is kept beside the file as NAME.part, and the next run goes on with it, but only
    where the server still has the same file (If-Range). The file appears by one rename, when its
    size and its sha256 are right.
options:
  url: {type: str, required: true, description: "Where from."}
  dest: {type: path, required: true, description: "The file. Its directory is made."}
  sha256:
    type: str
    default: ""
    description:
      - Its digest. Without one, a file that is there stays.
  token:
    type: str
    default: ""
    description:
      - Sent as a Bearer token, to the URL's host alone.
  mode: {type: str, default: "0644", description: "The file's mode."}
  reserve: {type: int, default: 1073741824, description: "Bytes of the disk to leave free."}
  retries: {type: int, default: 3, description: "How often to go on after a broken connection."}
  timeout:
    type: float
    default: 30
    description:
      - Seconds without a byte that break a connection.
"""

BLOCK = 1 << 20
PARTIAL, OK, RANGE_UNUSABLE = 206, 200, 416
BROKEN = (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError)


class FetchError(Exception):
    """Why the file is not there, and what to do."""


@dataclass(frozen=True)
class Wanted:
    """What to fetch. sha256: in lower case, or empty. reserve: bytes to leave free."""

    url: str
    dest: Path
    sha256: str = ""
    token: str = ""
    mode: int = 0o644
    reserve: int = 1 << 30
    retries: int = 3
    timeout: float = 30.0

    @property
    def part(self) -> Path:
        """What has come so far."""
        return self.dest.with_name(f"{self.dest.name}.part")

    @property
    def note(self) -> Path:
        """What `part` is a part of."""
        return self.dest.with_name(f"{self.dest.name}.part.json")

    @property
    def seal(self) -> Path:
        """Which digest the finished file was found to have, so that 60 GB are not read each run."""
        return self.dest.with_name(f".{self.dest.name}.sha256.json")


@dataclass
class Answer:
    """How the server answered. start: where its bytes belong. total: of the whole, if known."""

    body: IO[bytes]
    start: int
    total: int | None
    validator: str
    linked: str = field(default="")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows to a mirror without the token, and remembers the digest that hubs send beforehand."""

    def __init__(self) -> None:
        self.linked = ""

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Any:
        """A request like the first; `headers` are those of the redirect."""
        self.linked = self.linked or sha256_of_tag(headers.get("X-Linked-Etag", ""))
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def sha256_of_tag(tag: str) -> str:
    """The digest in an ETag such as hubs send for large files; empty for any other."""
    bare = tag.strip().strip('"').lower()
    return bare if len(bare) == 64 and not set(bare) - set("0123456789abcdef") else ""


def is_there(wanted: Wanted) -> bool:
    """The finished file is there and, where a digest is asked for, is that very file."""
    if not wanted.dest.is_file():
        return False
    if not wanted.sha256 or _sealed(wanted):
        return True
    if digest(wanted.dest) != wanted.sha256:
        return False
    _put_seal(wanted, wanted.sha256)
    return True


def _stamp(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def _sealed(wanted: Wanted) -> bool:
    seal = _read_json(wanted.seal)
    return (
        bool(seal)
        and seal.get("stamp") == _stamp(wanted.dest)
        and seal.get("sha256") == wanted.sha256
    )


def _put_seal(wanted: Wanted, sha256: str) -> None:
    with contextlib.suppress(OSError):  # a read-only directory: then it is hashed each time
        wanted.seal.write_text(
            json.dumps({"stamp": _stamp(wanted.dest), "sha256": sha256}), "utf-8"
        )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def digest(path: Path) -> str:
    """The sha256 of a file, in lower case."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch(wanted: Wanted) -> None:
    """Have the file there, whole. Raises FetchError, and then what came is kept if it is of use."""
    wanted.dest.parent.mkdir(parents=True, exist_ok=True)
    with wanted.part.open("ab") as part:
        try:
            fcntl.flock(part, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise FetchError(f"another run is downloading {wanted.dest}; wait for it.") from None
        linked = _fill(wanted, part)
        os.fsync(part.fileno())
    _check(wanted, wanted.sha256 or linked)
    wanted.part.chmod(wanted.mode)
    wanted.part.replace(wanted.dest)
    wanted.note.unlink(missing_ok=True)
    if wanted.sha256:
        _put_seal(wanted, wanted.sha256)


def _fill(wanted: Wanted, part: IO[bytes]) -> str:
    """Append until it is whole; the digest that the server told of, if it did."""
    broken: Exception | None = None
    for _ in range(wanted.retries + 1):
        try:
            answer = _ask(wanted, part)
            _copy(wanted, answer, part)
        except BROKEN as error:
            broken = error
        except OSError as error:
            raise _disk_error(wanted, error) from None
        else:
            return answer.linked
    have = os.fstat(part.fileno()).st_size
    raise FetchError(
        f"{wanted.url}: the connection broke ({broken}) after {have} bytes, "
        f"{wanted.retries + 1} times. They are kept: run this again to go on."
    )


def _disk_error(wanted: Wanted, error: OSError) -> FetchError:
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return FetchError(f"{wanted.part} cannot be written: {error.strerror}.")
    return FetchError(
        f"the disk of {wanted.dest.parent} is full. What came is kept in {wanted.part.name}: "
        "make room and run this again."
    )


def _ask(wanted: Wanted, part: IO[bytes], *, afresh: bool = False) -> Answer:
    have = os.fstat(part.fileno()).st_size
    note = _read_json(wanted.note)
    if have and (afresh or note.get("url") != wanted.url or not note.get("validator")):
        part.truncate(0)  # nobody can say that it is of the same file
        have = 0
    request = urllib.request.Request(wanted.url, headers={"User-Agent": "llmctl"})
    if wanted.token:
        request.add_unredirected_header("Authorization", f"Bearer {wanted.token}")
    if have:
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", note["validator"])
    redirects = _Redirects()
    try:
        got = urllib.request.build_opener(redirects).open(request, timeout=wanted.timeout)
    except urllib.error.HTTPError as error:
        if error.code == RANGE_UNUSABLE and have:
            return _ask(wanted, part, afresh=True)
        raise FetchError(_refused(wanted, error.code)) from None
    answer = _answer(got, redirects.linked)
    if answer.start and (answer.start != have or answer.validator != note["validator"]):
        return _ask(wanted, part, afresh=True)
    return answer


def _refused(wanted: Wanted, code: int) -> str:
    remedy = {401: " It wants a token.", 403: " It wants another token.", 404: " Look at the path."}
    return f"{wanted.url} answered {code}.{remedy.get(code, '')}"


def _answer(got: Any, linked: str) -> Answer:
    headers, length = got.headers, got.headers.get("Content-Length")
    tag = headers.get("ETag", "")
    validator = tag if tag and not tag.startswith("W/") else headers.get("Last-Modified", "")
    start, total = 0, int(length) if length else None
    if got.status == PARTIAL:
        place, _, whole = headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
        start = int(place.partition("-")[0])
        total = int(whole) if whole.isdigit() else None
    return Answer(got, start, total, validator, linked or sha256_of_tag(tag))


def _copy(wanted: Wanted, answer: Answer, part: IO[bytes]) -> None:
    part.truncate(answer.start)
    note = {"url": wanted.url, "validator": answer.validator}
    wanted.note.write_text(json.dumps(note), "utf-8")
    if answer.total is not None:
        _check_room(wanted, answer.total - answer.start)
    with answer.body as body:
        while block := body.read(BLOCK):
            part.write(block)
            part.flush()
    have = os.fstat(part.fileno()).st_size
    if answer.total is not None and have != answer.total:
        raise ConnectionError(f"{have} of {answer.total} bytes came")


def _check_room(wanted: Wanted, need: int) -> None:
    disk = os.statvfs(wanted.dest.parent)
    free = disk.f_bavail * disk.f_frsize
    if need + wanted.reserve > free:
        raise FetchError(
            f"{wanted.dest.name} needs {need} bytes more and {wanted.reserve} are to stay free, "
            f"but the disk of {wanted.dest.parent} has {free}. Make room and run this again."
        )


def _check(wanted: Wanted, sha256: str) -> None:
    found = digest(wanted.part) if sha256 else ""
    if found == sha256:
        return
    wanted.part.unlink()
    wanted.note.unlink(missing_ok=True)
    raise FetchError(
        f"{wanted.url} has the sha256 {found}, and {sha256} was expected. It was thrown away; "
        f"{wanted.dest} is as it was. Correct the digest or the URL."
    )


def main() -> None:
    """The module's entry."""
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            "dest": {"type": "path", "required": True},
            "sha256": {"type": "str", "default": ""},
            "token": {"type": "str", "default": "", "no_log": True},
            "mode": {"type": "str", "default": "0644"},
            "reserve": {"type": "int", "default": 1 << 30},
            "retries": {"type": "int", "default": 3},
            "timeout": {"type": "float", "default": 30.0},
        },
        supports_check_mode=True,
    )
    given = module.params
    if urllib.parse.urlsplit(given["url"]).scheme not in ("http", "https"):
        module.fail_json(msg=f"{given['url']} is no http or https URL.")
    wanted = Wanted(
        **{key: given[key] for key in ("url", "token", "reserve", "retries", "timeout")},
        dest=Path(given["dest"]),
        sha256=given["sha256"].lower(),
        mode=int(given["mode"], 8),
    )
    if is_there(wanted):
        module.exit_json(changed=False, dest=str(wanted.dest))
    if not module.check_mode:
        try:
            fetch(wanted)
        except FetchError as error:
            module.fail_json(msg=str(error))
    diff = {"before": "", "after": f"{wanted.dest} from {wanted.url}\n"}
    module.exit_json(changed=True, dest=str(wanted.dest), diff=diff)


if __name__ == "__main__":
    main()
