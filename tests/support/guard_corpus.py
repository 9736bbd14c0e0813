"""Ordinary text to hold the guard's detector to: what is on any machine, cut into generations.

Files are taken in the order of a hash of their path, so that a slice of any size has something of
everything; each is cut into passages of 2 to 32 KB, as long as models write. Beside them stand
tables, dumps and lists that are made on the spot.
"""

from __future__ import annotations

import random
import sysconfig
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ROOTS = (
    *dict.fromkeys(sysconfig.get_path(one) for one in ("stdlib", "purelib", "platlib")),
    "/usr/share", "/usr/include", "/usr/lib/python3", "/usr/lib/node_modules", "/usr/local/go/src",
    "/usr/lib/gcc", "/etc", "/usr/lib/google-cloud-sdk/lib", "/usr/local/lib", "/usr/local/share",
)  # fmt: skip
_NO_TEXT = {".pyc", ".so", ".a", ".o", ".gz", ".png", ".mo", ".exe", ".whl"}
LARGEST = 400_000
"""Of longer files so many bytes are read: one file may not be most of a corpus."""
SHORTEST, LONGEST = 2048, 32768


def files(roots: Iterable[str] = ROOTS) -> list[Path]:
    """All of them, in an order that is the same on each run and mixes the kinds."""
    found = {
        path
        for root in dict.fromkeys(roots)
        for path in Path(root).rglob("*")
        if path.suffix not in _NO_TEXT and path.is_file() and not path.is_symlink()
    }
    return sorted(found, key=lambda path: zlib.crc32(str(path).encode()))


def text_of(path: Path) -> bytes:
    """What it holds, if that is text; nothing otherwise."""
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST)
    except OSError:
        return b""
    if b"\0" in data:
        return b""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        return data[: error.start] if error.start > LARGEST - 4 else b""
    return data


def cut(text: bytes, seed: int) -> Iterator[bytes]:
    """Passages as long as generations are."""
    draw = random.Random(seed)
    at = 0
    while len(text) - at >= SHORTEST:
        size = int(SHORTEST * (LONGEST / SHORTEST) ** draw.random())
        yield text[at : at + size]
        at += size


def generations(most: int, paths: Iterable[Path] | None = None) -> Iterator[tuple[str, bytes]]:
    """Passages with their names (file:offset), until there are `most` bytes."""
    given = 0
    seen: set[int] = set()
    for path in files() if paths is None else paths:
        text = text_of(path)
        mark = zlib.crc32(text)
        if mark in seen:  # the same file under two names would count twice
            continue
        seen.add(mark)
        at = 0
        for one in cut(text, zlib.crc32(str(path).encode())):
            yield f"{path}:{at}", one
            at += len(one)
            given += len(one)
            if given >= most:
                return


def tables(seed: int = 1) -> Iterator[tuple[str, bytes]]:
    """What models are asked to write and no file on a machine has: tables, dumps, lists, rows."""
    draw = random.Random(seed)
    names = ["amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "heath"]

    def row(kind: str, n: int) -> str:
        word, number = draw.choice(names), draw.randrange(10**6)
        return {
            "csv": f"{n},{word},{number},{number % 97}.{n % 10},true\n",
            "json": f'  {{"id": {n}, "name": "{word}", "value": {number}, "ok": true}},\n',
            "sql": f"INSERT INTO items (id, name, value) VALUES ({n}, '{word}', {number});\n",
            "table": f"| {n:4} | {word:10} | {number:8} | yes |\n",
            "list": f"{n}. The {word} of number {number} stands beside the {draw.choice(names)}.\n",
            "assert": f"    assert value({n}) == {number}\n",
            "case": f"        case {n}: return {number};\n",
            "hex": f"{16 * n:08x}  {draw.randbytes(16).hex(' ')}  |................|\n",
            "lock": f'name = "{word}-{n}"\nversion = "{n % 7}.{n % 5}.0"\n'
            f'checksum = "{draw.randbytes(32).hex()}"\n\n',
            "log": f"2026-11-21T13:{n // 60 % 60:02}:{n % 60:02}Z INFO {word} took {number} us\n",
        }[kind]

    for kind in ("csv", "json", "sql", "table", "list", "assert", "case", "hex", "lock", "log"):
        for count in (30, 100, 300):
            yield f"{kind} x {count}", "".join(row(kind, n) for n in range(count)).encode()
