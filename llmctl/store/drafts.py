"""May one model on a box draft for another? Their heads say, or at last their tokens."""

from collections.abc import Iterator

from llmctl.core.gguf import Header
from llmctl.core.gguf_vocab import apart, first_difference, outline, read_tokens
from llmctl.errors import GgufError, HostError
from llmctl.host.base import Host
from llmctl.store.heads import head_of, source_of
from llmctl.store.smaller import ModelFile


def why_apart(host: Host, draft: str, header: Header, target: str, its: Header) -> str | None:
    """Why one model cannot draft for another, in a clause with `it` for the draft; None: it can.

    header, its: the heads of the two. The tokens are read only if nothing else tells them apart.
    """
    mine, theirs = outline(header), outline(its)
    if mine is None or theirs is None:
        return "it has no vocabulary" if mine is None else "the model has no vocabulary"
    if told := apart(mine, theirs):
        return told
    pair = [
        read_tokens(source_of(host, path), one) for path, one in ((draft, header), (target, its))
    ]
    differs = first_difference(*pair)
    if differs is None:
        return None
    token, other = (one[differs].decode(errors="replace") for one in pair)
    return f'it has another vocabulary: token {differs} is "{token}", and "{other}" in the model'


def heads(
    host: Host, files: tuple[ModelFile, ...], *, cache_dir: str
) -> Iterator[tuple[str, Header]]:
    """The heads of those models that can be read, and are all there."""
    for one in files:
        try:
            header = head_of(host, one.path, cache_dir=cache_dir)
        except (GgufError, HostError):
            continue
        if not header.missing_bytes:
            yield one.path, header
