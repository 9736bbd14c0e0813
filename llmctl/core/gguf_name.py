"""What a GGUF file's name says: the parts of a split file, the quantization."""

import re

_PART = re.compile(r"(?P<stem>.*)-(?P<part>\d{5})-of-(?P<count>\d{5})\.gguf")
_QUANT = re.compile(
    r"(?:^|[-_.])((?:UD-)?(?:I?Q\d\w*|TQ\d\w*|MXFP4\w*|BF16|F16|F32))(?=[-_.]|$)", re.I
)


def shards(path: str) -> tuple[str, ...]:
    """All parts of a split file whose first part is `path` (gguf-split's naming); else itself."""
    match = _PART.fullmatch(path)
    if match is None or part(path) is None:
        return (path,)
    count = int(match["count"])
    return tuple(f"{match['stem']}-{n:05d}-of-{count:05d}.gguf" for n in range(1, count + 1))


def part(path: str) -> tuple[int, int] | None:
    """Which part of how many a file's name says it is; None: it does not, or there can be none."""
    match = _PART.fullmatch(path)
    if match is None or not 1 <= int(match["part"]) <= int(match["count"]):
        return None
    return int(match["part"]), int(match["count"])


def first_part(path: str) -> str:
    """The first part of the split file that `path` is a part of; else itself."""
    return shards(path)[0] if part(path) else path


def quant(path: str) -> str | None:
    """The quantization that a file's name claims: `Q4_K_M`, `IQ3_M`, `TQ3_4S`."""
    name = path.rpartition("/")[2].removesuffix(".gguf")
    found = _QUANT.findall(name)
    return found[-1].upper() if found else None
