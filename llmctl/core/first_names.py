"""Names for profiles that nobody has named: from the name of the model's file."""

import re
from collections.abc import Container

from llmctl.core.gguf_name import quant
from llmctl.core.words import NAME

_PART = re.compile(r"-\d{5}-of-\d{5}$")
_MOST = 48
"""Characters: what is to be typed, and leaves room for a quantization and a number."""


def profile_name(path: str, taken: Container[str]) -> str:
    """A name that is none of `taken`: the file's, without its quantization where that will do."""
    stem = _PART.sub("", path.rpartition("/")[2][: -len(".gguf")])
    kind = quant(path)
    short = _word(_without(stem, kind)) or "model"
    candidates = [short] + ([_word(f"{short}-{kind}")] if kind else [])
    numbered = (f"{short}-{number}" for number in range(2, 10_000))
    return next(one for one in (*candidates, *numbered) if one not in taken)


def _without(stem: str, kind: str | None) -> str:
    """The end of a name that says how it is quantized says nothing else."""
    at = stem.upper().rfind(kind) if kind else -1
    return stem[:at] if kind and at > 0 and at + len(kind) == len(stem) else stem


def _word(text: str) -> str:
    """As words.NAME wants it; empty: nothing of the text may stand in a name."""
    plain = re.sub(r"[^a-z0-9._-]+", "-", text.lower())
    plain = re.sub(r"-{2,}", "-", plain)[:_MOST].strip("-._")
    return plain if NAME.fullmatch(plain) else ""
