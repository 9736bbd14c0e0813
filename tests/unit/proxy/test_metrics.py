"""metrics.py: the page as a strict scraper reads it."""

from __future__ import annotations

import re

import pytest
from support.prometheus import Family, parse
from support.reference import DOCS

from llmctl.proxy.guard_record import Finding
from llmctl.proxy.metrics import SECONDS, Metrics
from llmctl.proxy.record import Record


def record(**more: object) -> Record:
    facts = {
        "began": 10.0, "endpoint": "chat", "path": b"/v1/chat/completions", "peer": "127.0.0.1",
        "served": "coder", "stream": True, "admitted": 10.5, "first": 11.0, "ended": 14.0,
        "status": 200, "outcome": "ok", "tokens_in": 100, "tokens_out": 20, "draft": (10, 7),
    }  # fmt: skip
    return Record(**{**facts, **more})  # type: ignore[arg-type]  # as the dict says


def page(metrics: Metrics, **gauges: float) -> dict[str, Family]:
    return parse(metrics.text({name: {(): value} for name, value in gauges.items()}).decode())


def value(family: Family, name: str, **labels: str) -> float:
    (found,) = [
        value for (sample, given), value in family.samples.items()
        if sample == name and dict(given) == labels
    ]  # fmt: skip
    return found


def test_a_page_with_nothing_counted_is_a_page() -> None:
    assert all(not one.samples for one in page(Metrics()).values())


def test_requests_are_counted_by_endpoint_model_and_outcome() -> None:
    metrics = Metrics()
    for one in (record(), record(), record(outcome="client_gone"), record(is_own=True)):
        metrics.ended(one)
    found = page(metrics)["llmctl_requests_total"]
    name = "llmctl_requests_total"
    assert value(found, name, endpoint="chat", model="coder", outcome="ok") == 2
    assert value(found, name, endpoint="chat", model="coder", outcome="client_gone") == 1
    assert value(found, name, endpoint="own", model="coder", outcome="ok") == 1


def test_times_are_in_buckets() -> None:
    metrics = Metrics()
    metrics.ended(record())
    found = page(metrics)
    labels = {"endpoint": "chat", "model": "coder"}
    for name, seconds in (("ttft", 1.0), ("duration", 4.0), ("queue", 0.5)):
        full = f"llmctl_request_{name}_seconds"
        assert value(found[full], f"{full}_sum", **labels) == seconds
        for bound in SECONDS:
            bucket = value(found[full], f"{full}_bucket", **labels, le=f"{bound:g}")
            assert bucket == (seconds <= bound)


def test_a_plain_answer_has_no_time_to_its_first_token() -> None:
    metrics = Metrics()
    metrics.ended(record(stream=False))
    assert page(metrics)["llmctl_request_ttft_seconds"].samples == {}


def test_a_request_that_no_model_served_is_counted_and_not_timed() -> None:
    metrics = Metrics()
    metrics.ended(record(served=None, outcome="no_api_key"))
    found = page(metrics)
    assert len(found["llmctl_requests_total"].samples) == 1
    assert found["llmctl_request_duration_seconds"].samples == {}


def test_tokens_are_counted() -> None:
    metrics = Metrics()
    for _ in range(2):
        metrics.ended(record())
    found = page(metrics)
    tokens, drafts = found["llmctl_tokens_total"], found["llmctl_draft_tokens_total"]
    assert value(tokens, "llmctl_tokens_total", model="coder", direction="in") == 200
    assert value(tokens, "llmctl_tokens_total", model="coder", direction="out") == 40
    assert value(drafts, "llmctl_draft_tokens_total", model="coder", what="accepted") == 14


@pytest.mark.parametrize("outcome", ["ok", "failed"])
def test_switches_are_counted_and_timed(outcome: str) -> None:
    metrics = Metrics()
    metrics.switched("coder", 3.0, outcome=outcome)
    found = page(metrics)
    name = "llmctl_switches_total"
    assert value(found[name], name, model="coder", outcome=outcome) == 1
    seconds = found["llmctl_switch_seconds"]
    assert value(seconds, "llmctl_switch_seconds_sum", model="coder") == 3.0


def test_gauges_are_what_they_are_now() -> None:
    found = page(Metrics(), llmctl_connections=7)
    assert found["llmctl_connections"].samples == {("llmctl_connections", ()): 7}


def test_what_a_client_sends_is_no_label() -> None:
    metrics = Metrics()
    for number in range(50):
        metrics.ended(record(asked=f"invented-{number}", peer=f"10.0.0.{number}", key=f"k{number}"))
    text = metrics.text({})
    assert b"invented" not in text
    assert len(page(metrics)["llmctl_requests_total"].samples) == 1


def test_labels_are_escaped() -> None:
    metrics = Metrics()
    metrics.ended(record(served='a"b\\c\nd'))
    (labels,) = [dict(one) for _, one in page(metrics)["llmctl_requests_total"].samples]
    assert labels["model"] == 'a\\"b\\\\c\\nd'


def test_every_metric_is_in_the_reference() -> None:
    text = (DOCS / "reference/proxy-watching.md").read_text("utf-8")
    kinds = {name: one.kind for name, one in page(Metrics()).items()}
    rows = dict(re.findall(r"^\| `(llmctl_\w+)` \| (\w+) \|", text, re.M))
    assert rows == kinds


def test_numbers_stay_exact() -> None:
    metrics = Metrics()
    metrics.ended(record(tokens_in=123_456_789))
    assert b'direction="in"} 123456789\n' in metrics.text({})


def test_what_the_guard_found_is_counted() -> None:
    metrics = Metrics()
    for held, saved in ((0, 0), (120, 700), (80, 0)):
        metrics.found("coder", Finding(
            kind="exact", step="retry", outcome="healed", held=held, saved=saved,
        ))  # fmt: skip
    found = page(metrics)
    name = "llmctl_guard_findings_total"
    labels = {"model": "coder", "kind": "exact", "step": "retry", "outcome": "healed"}
    assert value(found[name], name, **labels) == 3
    for what, count in (("held_characters", 200), ("saved_tokens", 700)):
        name = f"llmctl_guard_{what}_total"
        assert value(found[name], name, model="coder") == count
