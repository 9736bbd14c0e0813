"""What `llmctl tune` tries around a plan, and which of it wins."""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from llmctl.core.bench import Figures
from llmctl.core.profile import Profile

N_MAX = (1, 2, 3, 5, 8)
"""Tokens drafted at a time, beside what the profile has. Beyond 8 nearly all must be right:
docs/concepts/drafts.md."""
AROUND = 2
"""Points to each side of the planned n_cpu_moe."""
_SHARE = 16
"""A step is a sixteenth of the layers: smaller ones differ less than two runs do."""


class Point(msgspec.Struct, frozen=True):
    """One thing to try. label: how it is called; profile: what is served then; keys: what the
    profile's file must say for it. is_now: it is what the profile says already, so nothing changes.
    why_not: why it is not tried; None: it fits."""

    label: str
    profile: Profile
    keys: dict[str, Any]
    is_now: bool = False
    why_not: str | None = None


def moe_values(planned: int, layers: int) -> tuple[int, ...]:
    """Numbers of layers whose experts are on the CPU, around the planned one."""
    step = max(1, layers // _SHARE)
    found = range(planned - AROUND * step, planned + AROUND * step + 1, step)
    return tuple(one for one in found if 0 <= one <= layers)


def moe_point(profile: Profile, value: int, ctx: int) -> Point:
    """So many layers' experts on the CPU. The context stays, else nothing could be compared."""
    keys = {"n_cpu_moe": value, **_ctx(profile, ctx)}
    return Point(f"n_cpu_moe {value}", replace(profile, n_cpu_moe=value, ctx=ctx), keys)


def _ctx(profile: Profile, ctx: int) -> dict[str, Any]:
    return {} if profile.ctx == ctx else {"ctx": ctx}


def now_point(profile: Profile, label: str) -> Point:
    """The profile as it is."""
    return Point(label, profile, {}, is_now=True)


def draft_values(profile: Profile) -> tuple[int, ...]:
    """How many tokens to draft at a time, none first: the others are compared with it."""
    given = profile.drafting
    return (0, 1) if given.model == "ngram" else tuple(sorted({0, *N_MAX, given.n_max}))


def draft_point(profile: Profile, value: int, ctx: int) -> Point:
    """So many tokens drafted at a time; 0: none. (ngram drafts as many as repeat.)"""
    given = profile.drafting
    if value and given.model == "ngram":
        return now_point(profile, "ngram")
    if value == given.n_max:
        return now_point(profile, f"n_max {value}")
    if not value:
        keys = {"draft": "off", **_ctx(profile, ctx)}
        return Point("draft off", replace(profile, draft="off", ctx=ctx), keys)
    draft = replace(given, n_max=value)
    said = {"model": draft.model, "n_max": value} | ({"kv": draft.kv} if draft.kv else {})
    keys = {"draft": said, **_ctx(profile, ctx)}
    return Point(f"n_max {value}", replace(profile, draft=draft, ctx=ctx), keys)


def winner(tried: Sequence[tuple[Point, Figures]]) -> Point | None:
    """The point where a request is answered soonest, prompt and text together. It must be clearly
    sooner than what is now: where runs overlap, what is now stays. None: nothing was measured."""
    if not tried:
        return None
    best = min(tried, key=lambda one: one[1].wall_s.median)
    now = next((one for one in tried if one[0].is_now), None)
    return now[0] if now and best[1].wall_s.overlaps(now[1].wall_s) else best[0]
