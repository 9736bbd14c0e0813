"""The vocabulary of a model, read only when someone asks: may one model draft for another?

llama.cpp pairs a draft with its target when both vocabularies are of one kind, agree on the tokens
that begin and end a text, and hold the same strings from token 5 on; the lengths may differ by 128
(common/speculative.cpp: common_speculative_are_compatible).
"""

import hashlib
import struct

import msgspec

from llmctl.core.gguf import Header, Source
from llmctl.errors import GgufError

TOKENS = "tokenizer.ggml.tokens"
_SKIPPED = 5
_MAX_DIFFERENCE = 128
_U64 = struct.Struct("<Q").unpack_from


class Vocabulary(msgspec.Struct, frozen=True):
    """What two models must share. `digest` stands for all the tokens, byte for byte."""

    kind: str
    count: int
    digest: str
    bos: int | None
    eos: int | None
    add_bos: bool | None
    add_eos: bool | None


def read_vocabulary(source: Source, header: Header) -> Vocabulary | None:
    """None for a model without one. For a split model, `source` is its first part."""
    tokens = header.arrays.get(TOKENS)
    if tokens is None:
        return None
    digest = hashlib.blake2b(_bytes(source, tokens.start, tokens.end), digest_size=16).hexdigest()
    number = header.metadata.get
    return Vocabulary(
        str(number("tokenizer.ggml.model", "")),
        tokens.count,
        digest,
        _id(number("tokenizer.ggml.bos_token_id")),
        _id(number("tokenizer.ggml.eos_token_id")),
        _flag(number("tokenizer.ggml.add_bos_token")),
        _flag(number("tokenizer.ggml.add_eos_token")),
    )


def _id(value: object) -> int | None:
    return value if type(value) is int else None


def _flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def read_tokens(source: Source, header: Header) -> list[bytes]:
    """All tokens, in order. A quarter million of them take tens of milliseconds."""
    array = header.arrays.get(TOKENS)
    if array is None:
        return []
    data = _bytes(source, array.start, array.end)
    tokens, at = [], 0
    for _ in range(array.count):
        end = at + 8 + _U64(data, at)[0] if at + 8 <= len(data) else len(data) + 1
        if end > len(data):
            raise GgufError(f"At byte {array.start + at}: the vocabulary is broken.")
        tokens.append(data[at + 8 : end])
        at = end
    return tokens


def can_draft(draft: Vocabulary, target: Vocabulary) -> bool | None:
    """May `draft` propose tokens for `target`? None: compare the tokens (`same_tokens`)."""
    if draft.kind != target.kind or abs(draft.count - target.count) > _MAX_DIFFERENCE:
        return False
    bos = _agree((draft.add_bos, target.add_bos), (draft.bos, target.bos))
    if not bos or not _agree((draft.add_eos, target.add_eos), (draft.eos, target.eos)):
        return False
    return True if draft.digest == target.digest else None


def _agree(add: tuple[bool | None, bool | None], mark: tuple[int | None, int | None]) -> bool:
    """Both add their mark or neither does (None: by the kind's default), and it is the same one."""
    if None not in add and add[0] != add[1]:
        return False
    return False in add or mark[0] == mark[1]


def same_tokens(draft: list[bytes], target: list[bytes]) -> bool:
    """As llama.cpp compares them: from token 5 on, as far as both reach."""
    common = min(len(draft), len(target))
    return draft[_SKIPPED:common] == target[_SKIPPED:common]


def _bytes(source: Source, start: int, end: int) -> bytes:
    data = source.read(start, end - start)
    if len(data) != end - start:
        raise GgufError(f"At byte {start}: the vocabulary is cut off.")
    return data
