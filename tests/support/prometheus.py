"""A strict reader of Prometheus' text form, version 0.0.4: what it accepts, a scraper accepts.

Source: prometheus.io/docs/instrumenting/exposition_formats, "Text-based format".
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"'
SAMPLE = re.compile(rf"({NAME})(?:\{{((?:{LABEL})(?:,{LABEL})*)\}})? (\S+)")
SUFFIXES = ("_bucket", "_sum", "_count")

Labels = tuple[tuple[str, str], ...]


@dataclass
class Family:
    """A metric: its kind, and its samples by their full name and labels."""

    kind: str
    samples: dict[tuple[str, Labels], float] = field(default_factory=dict)


def parse(text: str) -> dict[str, Family]:
    """All metrics of a page; AssertionError where it is not what the format wants."""
    assert text.endswith("\n")
    found: dict[str, Family] = {}
    current, helped = "", ""
    for line in text.splitlines():
        if line.startswith("# HELP "):
            helped = line.split(" ", 3)[2]
            assert len(line.split(" ", 3)[3]) > 10, line
        elif line.startswith("# TYPE "):
            _, _, current, kind = line.split(" ")
            assert current == helped, "HELP stands before TYPE"
            assert current not in found, "one group for each metric"
            assert kind in ("counter", "gauge", "histogram")
            found[current] = Family(kind)
        else:
            _sample(line, current, found[current])
    for name, family in found.items():
        _check(name, family)
    return found


def _sample(line: str, current: str, family: Family) -> None:
    match = SAMPLE.fullmatch(line)
    assert match, f"no sample: {line!r}"
    labels = tuple(re.findall(LABEL, match[2] or ""))
    assert len({key for key, _ in labels}) == len(labels), "a label stands only once"
    name = match[1]
    allowed = [current + end for end in SUFFIXES] if family.kind == "histogram" else [current]
    assert name in allowed, f"{name} in the group of {current}"
    assert (name, labels) not in family.samples, "a sample stands only once"
    family.samples[name, labels] = float(match[match.lastindex or 0])


def _check(name: str, family: Family) -> None:
    if family.kind == "counter":
        assert name.endswith("_total")
        assert all(value >= 0 for value in family.samples.values())
    if family.kind == "histogram":
        _check_histogram(name, family)


def _check_histogram(name: str, family: Family) -> None:
    """Buckets rise up to +Inf, which is the count; each has its sum."""
    series: dict[Labels, list[tuple[float, float]]] = {}
    for (sample, labels), value in family.samples.items():
        if sample == f"{name}_bucket":
            rest = tuple(pair for pair in labels if pair[0] != "le")
            series.setdefault(rest, []).append((float(dict(labels)["le"]), value))
    for rest, buckets in series.items():
        assert buckets == sorted(buckets)
        assert [count for _, count in buckets] == sorted(count for _, count in buckets)
        assert buckets[-1][0] == float("inf")
        assert buckets[-1][1] == family.samples[f"{name}_count", rest]
        assert (f"{name}_sum", rest) in family.samples
    assert len(family.samples) == sum(len(one) + 2 for one in series.values())
