"""The small types that a profile is made of."""

import functools
import re
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Auto = Literal["auto"]
_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


Duration = Annotated[str, Meta(pattern=r"^\d{1,9}(ms|s|m|h)$")]


class KvTypes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Types of the K and the V cache, as llama-server's -ctk and -ctv name them."""

    k: str
    v: str


class Replicas(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many instances may run, and when an idle one stops."""

    max: Annotated[int, Meta(ge=1, le=64)] = 1
    idle_timeout: Duration = "10m"


class Draft(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What drafts for speculative decoding: a word or a file; how many tokens at a time, and the
    type of its K and V (None: the model's own types)."""

    model: str
    n_max: Annotated[int, Meta(ge=1, le=256)] = 3
    kv: str | None = None


class Sampling(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The server's defaults for requests that say nothing themselves."""

    temperature: Annotated[float, Meta(ge=0)] | None = None
    top_k: Annotated[int, Meta(ge=0)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repeat_penalty: float | None = None
    seed: int | None = None


MOST_SLOTS = 256
"""llama.cpp refuses more (LLAMA_MAX_SEQ)."""
MOST = 2**31 - 1  # llama.cpp reads numbers with std::stoi
Count = Annotated[int, Meta(ge=1, le=MOST)]
Zero = Annotated[int, Meta(ge=0, le=MOST)]
Text = Annotated[str, Meta(min_length=1)]

Ttl = Annotated[
    Duration | None,
    Meta(
        title="a time such as 10m or 2h",
        description="The proxy unloads the model after it had nothing to do for so long; never "
        "when not given.",
        examples=["1h"],
    ),
]
Pin = Annotated[
    bool,
    Meta(
        title="true or false",
        description="In a pool: never make it go for another model.",
        examples=[True],
    ),
]


@functools.lru_cache(maxsize=64)  # the proxy asks several times for each request
def seconds(text: str) -> float:
    """`500ms`, `30s`, `10m`, `2h` -> seconds. The text has passed the profile's pattern."""
    number, unit = re.fullmatch(r"(\d+)(ms|s|m|h)", text).groups()  # type: ignore[union-attr]
    return int(number) * _UNITS_S[unit]
