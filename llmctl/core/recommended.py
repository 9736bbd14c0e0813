"""Sampling that a model's file recommends (gguf-py: Keys.General.SAMPLING_*), for a profile."""

from collections.abc import Mapping
from math import isfinite
from struct import pack, unpack

import msgspec

from llmctl.core.gguf import Value
from llmctl.core.profile_parts import Sampling

_PREFIX = "general.sampling."
_KEYS = {
    "temp": "temperature", "top_k": "top_k", "top_p": "top_p", "min_p": "min_p",
    "penalty_repeat": "repeat_penalty",
}  # fmt: skip


def recommended(metadata: Mapping[str, Value]) -> tuple[dict[str, float], tuple[str, ...]]:
    """What a profile's `sampling` may say, and the other keys there: a profile has none for them,
    or their value is none that it may have."""
    given = {k.removeprefix(_PREFIX): v for k, v in metadata.items() if k.startswith(_PREFIX)}
    taken = {
        key: _plain(given[theirs]) for theirs, key in _KEYS.items() if _is_number(given.get(theirs))
    }
    good = {key: value for key, value in taken.items() if _is_allowed(key, value)}
    return good, tuple(key for key in given if _KEYS.get(key) not in good)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _plain(value: Value | None) -> float:
    """Files hold 32-bit floats: 0.699999988 was written as 0.7."""
    if not isinstance(value, float) or value.is_integer():
        return int(value)  # type: ignore[arg-type]  # a finite number, as was seen
    try:
        single = pack("<f", value)
    except OverflowError:
        return value
    if unpack("<f", single)[0] != value:
        return value
    shown = (float(f"{value:.{digits}g}") for digits in range(6, 10))
    return next((one for one in shown if pack("<f", one) == single), value)


def _is_allowed(key: str, value: float) -> bool:
    try:
        msgspec.convert({key: value}, Sampling)
    except msgspec.ValidationError:
        return False
    return True
