"""Reads the head of a GGUF file: metadata and the list of tensors, never their data.

Versions 2 and 3, little-endian. The rules are those of gguf.cpp (gguf_init_from_reader), the split
files those of llama-model-loader.cpp; what they refuse is refused here, with the byte it is at.

    header = read_buffer(mmap)                  # a local file
    header = read_header(source)                # anything with a size and ranged reads
    header = read_parts(path, open_and_read)    # and the other parts of a split file
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec

from llmctl.core import gguf_name
from llmctl.core.gguf_tensors import Tensor, read_tensors
from llmctl.core.gguf_values import Array, Scalar, Value, Values, Walk, read_values
from llmctl.core.gguf_window import BufferSource, Source, Window
from llmctl.errors import GgufError

if TYPE_CHECKING:
    from llmctl.core.gguf_window import Buffer

__all__ = [
    "Array",
    "BufferSource",
    "Header",
    "Scalar",
    "Source",
    "Tensor",
    "Value",
    "join",
    "read_buffer",
    "read_header",
    "read_parts",
]

MAX_KEYS = 1 << 16
MAX_TENSORS = 1 << 18
_ENDIAN_HINT = "Convert it with gguf_convert_endian.py, which comes with llama.cpp."


class Header(msgspec.Struct, frozen=True):
    """What the head of a GGUF file, or of all parts of a split one, says.

    `metadata` has the scalars and the short arrays; `arrays` says where the long ones are.
    `missing_bytes`: how far the tensors reach beyond the end of the file: a download cut short.
    """

    version: int
    alignment: int
    metadata: dict[str, Value]
    arrays: dict[str, Array]
    tensors: tuple[Tensor, ...]
    data_start: int
    size: int
    missing_bytes: int = 0

    @property
    def architecture(self) -> str:
        """What llama.cpp dispatches on; empty when the file does not say."""
        return str(self.metadata.get("general.architecture", ""))

    @property
    def weights_bytes(self) -> int:
        """All tensors together."""
        return sum(tensor.nbytes for tensor in self.tensors)


def read_buffer(data: "Buffer") -> Header:
    """The head of a file that is in memory, or mapped into it: nothing is copied."""
    return _read(Window.over_buffer(data))


def read_header(source: Source) -> Header:
    """The head of a file that is read in pieces."""
    return _read(Window.over_source(source))


def _read(window: Window) -> Header:
    """Jumps over vocabularies; if anything behind one looks odd, walks through them instead."""
    values = Values({}, {})
    try:
        header = _parse(window, values, Walk.JUMP)
        if not values.jumped or _is_contiguous(header):
            return header
    except GgufError:
        if not values.jumped:
            raise
    window.pos = 0
    return _parse(window, Values({}, {}), Walk.EXACT)


def _parse(window: Window, values: Values, walk: Walk) -> Header:
    version = _version(window)
    n_tensors = _count(window, "tensors", MAX_TENSORS, least_bytes=24)
    n_keys = _count(window, "keys", MAX_KEYS, least_bytes=13)
    read_values(window, values, n_keys, walk)
    alignment = _alignment(window, values)
    tensors, start = read_tensors(window, n_tensors, alignment)
    missing = max((start + one.offset + one.nbytes for one in tensors), default=0) - window.size
    return Header(
        version, alignment, values.plain, values.arrays, tensors, start, window.size,
        max(0, missing),
    )  # fmt: skip


def _version(window: Window) -> int:
    magic = window.raw(4, "the magic")
    if magic != b"GGUF":
        raise window.fail(f"{magic!r} is not GGUF: this is no model file of llama.cpp", at=0)
    version = window.u32("the version")
    if version and version & 0xFFFF == 0:
        raise GgufError("At byte 4: this is a big-endian GGUF file.", hint=_ENDIAN_HINT)
    if version not in (2, 3):
        raise window.fail(f"version {version} of GGUF is not one that llama.cpp reads", at=4)
    return version


def _count(window: Window, what: str, limit: int, *, least_bytes: int) -> int:
    at = window.pos
    count = window.u64(f"the number of {what}")
    if count > limit or count * least_bytes > window.size:
        raise window.fail(f"the file claims {count} {what}, more than it can hold", at=at)
    return count


def _alignment(window: Window, values: Values) -> int:
    value = values.plain.get("general.alignment", 32)
    if type(value) is not int or not 0 < value <= 1 << 20 or value & (value - 1):
        raise window.fail(f"general.alignment is {value!r}, not a power of two")
    return value


def _is_contiguous(header: Header) -> bool:
    """True when each tensor begins where the one before it ends: so all writers lay files out."""
    at = 0
    for tensor in header.tensors:
        if tensor.offset != at:
            return False
        at += -(-tensor.nbytes // header.alignment) * header.alignment
    return bool(header.tensors)


def read_parts(path: str, read: Callable[[str], Header | None]) -> Header:
    """The head of a model whose first (or only) part is at `path`; `read` returns None for no file.

    llama-model-loader.cpp: the first part names the number of parts, the name says which they are.
    """
    first = read(path)
    if first is None:
        raise GgufError(f"There is no file {path}.")
    count = _split_number(first, "split.count", 1)
    if count <= 1:
        return first
    paths = gguf_name.shards(path)
    if len(paths) != count or paths[0] != path:
        raise GgufError(
            f"{path} is one of {count} parts, but is not called ...-00001-of-{count:05d}.gguf.",
            hint="Name the first part; the others lie beside it under the names they came with.",
        )
    parts = [first, *(_part(one, read) for one in paths[1:])]
    return join(parts, paths)


def _part(path: str, read: Callable[[str], Header | None]) -> Header:
    header = read(path)
    if header is None:
        raise GgufError(
            f"The part {path} is missing.", hint="Download it: no part can be left out."
        )
    return header


def join(parts: Sequence[Header], paths: Sequence[str]) -> Header:
    """One header of all parts: the metadata of the first, the tensors of all."""
    tensors: list[Tensor] = []
    for number, (part, path) in enumerate(zip(parts, paths, strict=True)):
        if _split_number(part, "split.no", 0) != number:
            raise GgufError(f"{path} is not part {number + 1}: its split.no says otherwise.")
        tensors += (msgspec.structs.replace(one, part=number) for one in part.tensors)
    wanted = _split_number(parts[0], "split.tensors.count", len(tensors))
    names = {one.name for one in tensors}
    if wanted != len(tensors) or len(names) != len(tensors):
        raise GgufError(
            f"The parts of {paths[0]} hold {len(names)} different tensors of {wanted}: they do not"
            " belong together, or some are older than others."
        )
    return msgspec.structs.replace(
        parts[0],
        tensors=tuple(tensors),
        size=sum(part.size for part in parts),
        missing_bytes=sum(part.missing_bytes for part in parts),
    )


def _split_number(header: Header, key: str, default: int) -> int:
    value = header.metadata.get(key, default)
    if type(value) is not int:
        raise GgufError(f"{key} is {value!r}, not a number.")
    return value
