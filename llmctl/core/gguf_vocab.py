"""The vocabulary of a model, read only when someone asks: may one model draft for another?

llama.cpp pairs a draft with its target when both vocabularies are of one kind, agree on the tokens
that begin and end a text, and hold the same strings from token 5 on; the lengths may differ by 128
(common/speculative.cpp: common_speculative_are_compatible). Others it loads, and then never uses.
"""

import struct

import msgspec

from llmctl.core.gguf import Header, Source
from llmctl.errors import GgufError

TOKENS = "tokenizer.ggml.tokens"
_SKIPPED = 5
_MAX_DIFFERENCE = 128
_U64 = struct.Struct("<Q").unpack_from


class _Kind(msgspec.Struct, frozen=True):
    """What a tokenizer does unless the file says otherwise (llama-vocab.cpp: load)."""

    name: str
    bos: int | None
    eos: int | None
    add_bos: bool = False
    add_eos: bool = False


_BPE = _Kind("BPE", 11, 11)
_KINDS = {
    "llama": _Kind("SPM", 1, 2, add_bos=True),
    "bert": _Kind("WPM", 101, None, add_bos=True),
    "t5": _Kind("UGM", None, 1, add_eos=True),
    "rwkv": _Kind("RWKV", None, None),
    "plamo2": _Kind("PLAMO2", 1, 2),
    **dict.fromkeys(("gpt2", "gemma4", "hybriddna", "whitespace"), _BPE),
}
_ADDS_BOS = frozenset({
    "llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2",
    "jina-v5-nano", "tekken", "chameleon",
})  # fmt: skip
"""Pre-tokenizers of BPE that begin a text with a mark of their own accord."""


class Vocabulary(msgspec.Struct, frozen=True):
    """What two models must share, with llama.cpp's defaults where the file says nothing."""

    kind: str
    count: int
    bos: int | None
    eos: int | None
    add_bos: bool
    add_eos: bool


def outline(header: Header) -> Vocabulary | None:
    """What the head alone says, so that most pairs need not be read. None: there is none."""
    tokens = header.arrays.get(TOKENS)
    if tokens is None:
        return None
    said = header.metadata.get
    name = str(said("tokenizer.ggml.model", ""))
    kind, pre = _KINDS.get(name, _Kind(name, None, None)), said("tokenizer.ggml.pre")
    add_bos = _flag(said("tokenizer.ggml.add_bos_token"), kind.add_bos or pre in _ADDS_BOS)
    return Vocabulary(
        kind.name,
        tokens.count,
        _id(said("tokenizer.ggml.bos_token_id"), kind.bos, tokens.count),
        _id(said("tokenizer.ggml.eos_token_id"), kind.eos, tokens.count),
        add_bos or "gemma4" in (name, pre),
        _flag(said("tokenizer.ggml.add_eos_token"), kind.add_eos),
    )


def _id(value: object, default: int | None, count: int) -> int | None:
    """A token that is not in the vocabulary is none."""
    if type(value) is int and value < count:
        return value
    return default if default is not None and default < count else None


def _flag(value: object, default: bool) -> bool:  # noqa: FBT001  # a value, not an option
    return value if isinstance(value, bool) else default


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


def apart(draft: Vocabulary, target: Vocabulary) -> str | None:
    """Why `draft` cannot propose tokens for `target`, in a clause with `it` for the draft; None:
    nothing but the tokens themselves (`first_difference`) can be in the way."""
    if draft.kind != target.kind:
        return f"it has a vocabulary of another kind ({draft.kind}, not {target.kind})"
    if abs(draft.count - target.count) > _MAX_DIFFERENCE:
        return f"it has {draft.count} tokens and the model {target.count}"
    for what, adds, marks in (
        ("begin", (draft.add_bos, target.add_bos), (draft.bos, target.bos)),
        ("end", (draft.add_eos, target.add_eos), (draft.eos, target.eos)),
    ):
        if adds[0] != adds[1] or (adds[0] and marks[0] != marks[1]):
            return f"it does not {what} texts with the same token"
    return None


def first_difference(draft: list[bytes], target: list[bytes]) -> int | None:
    """The first token that keeps one from drafting for the other."""
    common = min(len(draft), len(target))
    if draft[_SKIPPED:common] == target[_SKIPPED:common]:
        return None
    return next(n for n in range(_SKIPPED, common) if draft[n] != target[n])


def _bytes(source: Source, start: int, end: int) -> bytes:
    data = source.read(start, end - start)
    if len(data) != end - start:
        raise GgufError(f"At byte {start}: the vocabulary is cut off.")
    return data
