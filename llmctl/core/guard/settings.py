"""The `guard:` section: of config.yaml for all models, and of a profile for one.

A profile says only what differs (GuardOverrides); merged() lays it over what config.yaml says.
Neither is part of what a unit is made from: the proxy alone reads them.
"""

from collections.abc import Iterator
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from llmctl.core.profile_parts import MOST, Duration, seconds

Mode = Annotated[
    Literal["on", "log", "off"],
    Meta(
        title="on, log or off",
        description="Whether loops are ended (`on`), only noted down (`log`), or not looked for "
        "(`off`).",
        examples=["log"],
    ),
]
Window = Annotated[
    int,
    Meta(
        ge=8192,
        le=1 << 20,
        title="a whole number of bytes, from 8192 to 1048576",
        description="How far back in a text repeats are looked for; most letters are one byte.",
        examples=[131072],
    ),
]
Retries = Annotated[
    int,
    Meta(
        ge=0,
        le=3,
        title="a whole number from 0 to 3",
        description="How often a looping answer is cut and asked for again, more firmly each time, "
        "before it is stopped.",
        examples=[1],
    ),
]
Native = Annotated[
    bool,
    Meta(
        title="true or false",
        description="Whether a loop in reasoning is first answered by ending the reasoning, where "
        "the server can.",
        examples=[False],
    ),
]
Nudges = Annotated[
    tuple[int, int, int],
    Meta(
        title="three rising whole numbers, the first at least 2",
        description="After how many repetitions of the same tool calls with the same results the "
        "model is told so, is forbidden to make them, and gets no tools for one turn.",
        examples=[[3, 5, 7]],
    ),
]
ExemptTools = Annotated[
    tuple[Annotated[str, Meta(min_length=1)], ...],
    Meta(
        title="a list of names or patterns",
        description="Tools that may be called again and again, such as those that wait for "
        "something; `*` and `?` stand for any text and any one sign.",
        examples=[["wait_*", "get_job_status"]],
    ),
]
Time = Annotated[
    Duration | None,
    Meta(
        title="a time such as 90s, 10m or 1h",
        description="How long one answer may be generated.",
        examples=["10m"],
    ),
]
_Tokens = Annotated[int, Meta(ge=1, le=MOST)]
Tokens = Annotated[
    _Tokens | None,
    Meta(
        title="a whole number of tokens",
        description="How many tokens one answer may have.",
        examples=[32768],
    ),
]
ReasoningTokens = Annotated[
    _Tokens | None,
    Meta(
        title="a whole number of tokens",
        description="How many tokens of one answer may be reasoning.",
        examples=[8192],
    ),
]
Samples = Annotated[
    bool,
    Meta(
        title="true or false",
        description="Whether the guard's log holds a short piece of what was repeated.",
        examples=[True],
    ),
]


class GuardSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the guard treats a model. Every key has a default that works. None: no budget."""

    mode: Mode = "on"
    window: Window = 65536
    retries: Retries = 3
    native: Native = True
    tool_nudges: Nudges = (3, 5, 7)
    exempt_tools: ExemptTools = ()
    max_time: Time = None
    max_tokens: Tokens = None
    max_reasoning_tokens: ReasoningTokens = None
    samples: Samples = False

    @property
    def is_limited(self) -> bool:
        """Is there a budget at all?"""
        return (self.max_time, self.max_tokens, self.max_reasoning_tokens) != (None, None, None)

    @property
    def max_time_s(self) -> float | None:
        """max_time."""
        return None if self.max_time is None else seconds(self.max_time)


class GuardOverrides(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a profile says of its guard. UNSET: as config.yaml says; null takes a budget away."""

    mode: Mode | UnsetType = UNSET
    window: Window | UnsetType = UNSET
    retries: Retries | UnsetType = UNSET
    native: Native | UnsetType = UNSET
    tool_nudges: Nudges | UnsetType = UNSET
    exempt_tools: ExemptTools | UnsetType = UNSET
    max_time: Time | UnsetType = UNSET
    max_tokens: Tokens | UnsetType = UNSET
    max_reasoning_tokens: ReasoningTokens | UnsetType = UNSET
    samples: Samples | UnsetType = UNSET


def merged(default: GuardSettings, own: GuardOverrides) -> GuardSettings:
    """The settings of one model: its profile's keys, and config.yaml's for the rest."""
    given = {
        name: value for name in own.__struct_fields__ if (value := getattr(own, name)) is not UNSET
    }
    return msgspec.structs.replace(default, **given) if given else default


Complaint = tuple[tuple[str | int, ...], str]


def guard_complaints(settings: GuardSettings | GuardOverrides) -> Iterator[Complaint]:
    """What is wrong with a section beyond its types."""
    nudges = settings.tool_nudges
    if nudges is not UNSET and not 2 <= nudges[0] < nudges[1] < nudges[2]:
        yield ("tool_nudges",), "expected three rising numbers, the first at least 2"
    time = settings.max_time
    if isinstance(time, str) and seconds(time) == 0:
        yield ("max_time",), "expected more than nothing"
