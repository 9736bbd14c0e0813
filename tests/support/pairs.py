"""Every two values of every two factors together in some row, in far fewer rows than there are.

Most mistakes need one value, or two that meet; a product of all factors would try little else a
hundred times over.
"""

from __future__ import annotations

from itertools import combinations, product
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Row = dict[str, str]
Pair = tuple[tuple[str, str], tuple[str, str]]


def pairwise(
    factors: Mapping[str, Sequence[str]], allowed: Callable[[Row], bool] = lambda _: True
) -> list[Row]:
    """Rows that cover all pairs; the same ones each time. allowed: may a part of a row stand?

    Pairs that are not allowed, or that nothing completes, are left out.
    """
    names = sorted(factors, key=lambda name: -len(factors[name]))
    wanted: dict[Pair, None] = {
        ((one, a), (other, b)): None
        for one, other in combinations(names, 2)
        for a, b in product(factors[one], factors[other])
        if allowed({one: a, other: b})
    }
    rows: list[Row] = []
    while wanted:
        pair = next(iter(wanted))
        row = _completed(dict(pair), names, factors, wanted, allowed)
        if row is None:
            del wanted[pair]
            continue
        rows.append(row)
        for one in combinations(((name, row[name]) for name in names), 2):
            wanted.pop(one, None)
    return rows


def _completed(
    row: Row, names: Sequence[str], factors: Mapping[str, Sequence[str]],
    wanted: Mapping[Pair, None], allowed: Callable[[Row], bool],
) -> Row | None:  # fmt: skip
    """The row with, factor by factor, the value that meets most others for the first time."""
    for name in names:
        if name in row:
            continue
        fitting = [one for one in factors[name] if allowed({**row, name: one})]
        if not fitting:
            return None
        row[name] = max(fitting, key=lambda one: _news(row, names, name, one, wanted))
    return row


def _news(
    row: Row, names: Sequence[str], name: str, value: str, wanted: Mapping[Pair, None]
) -> int:
    full = {**row, name: value}
    order = [one for one in names if one in full]
    pairs = (((a, full[a]), (b, full[b])) for a, b in combinations(order, 2) if name in (a, b))
    return sum(pair in wanted for pair in pairs)
