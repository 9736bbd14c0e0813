"""Other boxes, as config.yaml names them: `boxes: {attic: {url: http://attic:1234}}`.

A profile's `fallback` says `attic/coder`: the model coder, as the proxy of that box serves it. What
`--host` reaches is written elsewhere (hosts.yaml, on the machine where people type): a box that
answers in another's stead must be known to that other one.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated

import msgspec
from msgspec import Meta

from llmctl.core.words import NAME

DEFAULT_PORT = 1234
_URL = re.compile(r"http://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(\d{1,5}))?/?")
Complaint = tuple[tuple[str | int, ...], str]


class RemoteBox(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Another box's proxy: where it is, and the file that holds the API key that it wants."""

    url: Annotated[str, Meta(min_length=1)]
    key_file: Annotated[str, Meta(min_length=1)] | None = None


def box_of(word: str) -> tuple[str | None, str]:
    """A word of `fallback`: `attic/coder` is the box and the model there; `coder` is no box's."""
    box, slash, model = word.partition("/")
    return (box, model) if slash else (None, word)


def parse_url(url: str) -> tuple[str, int]:
    """Host and port of a box's URL; without a port it is the proxy's, 1234. ValueError: what is
    wrong with it."""
    found = _URL.fullmatch(url)
    if found is None:
        raise ValueError(f"expected a URL such as http://attic:1234, got {url!r}")
    port = int(found[2] or DEFAULT_PORT)
    if not 0 < port < 65536:
        raise ValueError(f"{port} is no port: they go from 1 to 65535")
    return found[1].strip("[]"), port


def box_complaints(boxes: Mapping[str, RemoteBox]) -> Iterator[Complaint]:
    """What is wrong with `boxes` beyond its types."""
    for name, box in boxes.items():
        if not NAME.fullmatch(name):
            yield (name,), "expected a name such as attic"
        try:
            parse_url(box.url)
        except ValueError as error:
            yield (name, "url"), str(error)


def fallback_complaint(word: str, boxes: Mapping[str, RemoteBox]) -> str | None:
    """What is wrong with a word of `fallback` that names a box."""
    box, model = box_of(word)
    if box not in boxes:
        return f"there is no box {box}; in config.yaml: boxes: {{{box}: {{url: http://...}}}}"
    return None if NAME.fullmatch(model) else f"expected a model of {box} such as {box}/coder"
