"""support/pairs.py: all pairs, in few rows, and none that is not allowed."""

from __future__ import annotations

from itertools import combinations, product

from support.pairs import Row, pairwise

FACTORS = {"a": list("12345"), "b": list("123"), "c": list("12"), "d": list("1234")}


def pairs_of(rows: list[Row]) -> set[frozenset[tuple[str, str]]]:
    return {frozenset(pair) for row in rows for pair in combinations(row.items(), 2)}


def test_all_pairs_in_little_more_rows_than_the_two_longest_factors_need() -> None:
    rows = pairwise(FACTORS)
    wanted = {
        frozenset({(one, x), (other, y)})
        for one, other in combinations(FACTORS, 2)
        for x, y in product(FACTORS[one], FACTORS[other])
    }
    assert pairs_of(rows) == wanted
    assert 20 <= len(rows) <= 25
    assert rows == pairwise(FACTORS)


def test_what_is_not_allowed_is_in_no_row() -> None:
    def allowed(row: Row) -> bool:
        return not (row.get("a") == "1" and row.get("b") in ("2", "3")) and row.get("d") != "4"

    rows = pairwise(FACTORS, allowed)
    assert all(map(allowed, rows))
    assert {row["b"] for row in rows if row["a"] == "1"} == {"1"}
    assert {row["d"] for row in rows} == {"1", "2", "3"}
    assert {row["a"] for row in rows} == set(FACTORS["a"])
