"""engine/bench.py, asking.py, bench_log.py, draft_view.py: a running model measured."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest
from support.benchworld import BUILD, BenchWorld
from support.fakes import FakeHost
from support.world import PORT, Run

from llmctl.core.progress import Note, Waiting
from llmctl.engine import bench_log
from llmctl.engine.asking import Asker, GivenUpError
from llmctl.engine.bench import Bench, Wish
from llmctl.engine.draft_view import draft_view
from llmctl.engine.status import overview
from llmctl.errors import HostError, UsageError

if TYPE_CHECKING:
    from llmctl.core.bench import Record

LOG = "/home/ana/.local/state/llmctl/bench.jsonl"
DRAFTS = "ctx: 2048\ndraft: ngram\n"
SPEC = "--spec-type ngram-mod"


def measured(world: BenchWorld, **keys: Any) -> list[Record]:
    wish = Wish(**{"generate": 100, "runs": 2, "prompts": (512,), **keys})
    nonces = itertools.count(1)
    bench = Bench(
        world.box, "a", wish, clock=world.clock, report=world.notes.append,
        nonce=lambda: next(nonces),
    )  # fmt: skip
    return list(bench.run())


def refused(world: BenchWorld, **keys: Any) -> UsageError:
    with pytest.raises(UsageError) as caught:
        measured(world, **keys)
    return caught.value


def running(text: str = "ctx: 2048\n", words: str = "") -> BenchWorld:
    world = BenchWorld()
    world.running("a", text, words=words)
    return world


# What is asked


def test_the_first_run_does_not_count_and_no_prompt_comes_twice() -> None:
    world = running()
    (found,) = measured(world)
    assert len(world.asked) == 3
    prompts = [one["messages"][0]["content"] for one in world.asked]
    assert len({one.split()[0] for one in prompts}) == 3
    assert all(len(one.split()) == 256 for one in prompts)  # two tokens a word
    assert all((one["cache_prompt"], one["ignore_eos"]) == (False, True) for one in world.asked)
    assert found.figures.runs == 2


def test_figures_are_the_servers_and_the_clocks() -> None:
    (found,) = measured(running())
    assert found.figures.generation_per_s.median == 50
    assert found.figures.prompt_per_s.median == 500
    assert found.figures.wall_s.median == 3
    assert (found.build, found.flags["model"]) == (BUILD, "/models/a.gguf")


def test_each_case_is_measured_by_itself_and_kept() -> None:
    world = running()
    found = measured(world, prompts=(64, 512))
    assert [one.case.prompt for one in found] == [64, 512]
    assert bench_log.known(world.box) == tuple(found)
    assert world.host.mode(LOG) == 0o600


def test_sizes_that_do_not_fit_are_left_out_unless_they_were_asked_for() -> None:
    assert [one.case.prompt for one in measured(running(), prompts=())] == [512]
    (small,) = measured(running(), prompts=(), generate=1900)
    assert small.case.prompt == 2048 - 1900 - 64
    error = refused(running(), prompts=(4096,))
    assert "4096 + 100 tokens do not fit: a slot of a has 2048" in error.message


def test_requests_at_once_are_no_more_than_slots() -> None:
    world = running()
    (found,) = measured(world, concurrency=2)
    assert len(world.asked) == 6
    assert found.figures.tokens == 400
    assert "serves 2 requests at once, not 3" in refused(world, concurrency=3).message


def test_progress_is_told() -> None:
    world = running()
    measured(world)
    waits = [one.what for one in world.notes if isinstance(one, Waiting)]
    assert waits == ["512+100: warming up", "512+100: run 1 of 2", "512+100: run 2 of 2"]


# Not ready, or not alone


def test_a_model_that_does_not_run_is_not_started() -> None:
    world = BenchWorld()
    world.profile("a")
    world.apply()
    error = refused(world)
    assert (error.message, error.hint) == ("a is not ready: it is stopped.", "llmctl switch a")
    assert world.up() == []


def test_a_model_that_loads_is_waited_for_by_the_user() -> None:
    world = BenchWorld()
    world.profile("a")
    world.apply()
    world.goes("llm-a.service", Run(ready_s=60))
    world.start("llm-a.service")
    assert refused(world).hint == "Wait for it: llmctl status"


def test_others_spoil_figures_before() -> None:
    world = running()
    world.busy = 1
    error = refused(world)
    assert "1 of its slots is busy" in error.message
    assert "--force" in (error.hint or "")
    assert world.asked == []


def test_others_spoil_figures_in_between_and_nothing_is_kept() -> None:
    world = running()
    world.strangers = 7
    assert "other requests came in between" in refused(world).message
    assert bench_log.known(world.box) == ()


def test_what_was_forced_is_shown_and_not_kept() -> None:
    world = running()
    world.busy, world.strangers = 2, 7
    assert len(measured(world, force=True)) == 1
    assert bench_log.known(world.box) == ()


# What goes wrong


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b'HTTP/1.1 400 Bad\r\n\r\n{"error":{"message":"no chat"}}', "a answers 400: no chat"),
        (b"HTTP/1.1 500 Oh\r\n\r\n", "a answers 500: nothing"),
        (b"HTTP/1.1 200 OK\r\n\r\ndata: [DONE]\n\n", "stopped in the midst"),
        (b'HTTP/1.1 200 OK\r\n\r\ndata: {"error":{"message":"oom"}}\n\n', "failed to answer: oom"),
        (b'HTTP/1.1 200 OK\r\n\r\ndata: {"timings":{}}\n\n', "neither tokens nor times"),
        (b"", "went away without an answer"),
    ],
)
def test_an_answer_that_is_none_ends_it_with_the_reason(answer: bytes, told: str) -> None:
    world = running()
    world.refusal = answer
    with pytest.raises(HostError, match=told):
        measured(world)


def test_an_interrupt_ends_the_requests_and_keeps_what_was_measured() -> None:
    world = running()

    def interrupt() -> None:
        if len(world.asked) == 5:
            raise KeyboardInterrupt

    world.during = interrupt
    with pytest.raises(KeyboardInterrupt):
        measured(world, prompts=(64, 512))
    assert [one.case.prompt for one in bench_log.known(world.box)] == [64]


def test_a_full_disk_costs_the_comparison_only() -> None:
    world = running()
    world.host.full.add(LOG)
    assert len(measured(world)) == 1
    notes = [one.text for one in world.notes if isinstance(one, Note)]
    assert notes == [f"it was not kept: {LOG} cannot be written: No space left on device."]


def test_lines_that_are_none_are_passed_over() -> None:
    world = running()
    measured(world)
    world.host.put(LOG, world.host.text(LOG) + '{"format": 99}\nbroken\n')
    measured(world)
    assert len(bench_log.known(world.box)) == 2


def test_the_oldest_lines_go() -> None:
    world = running()
    found = measured(world, prompts=(8, 64))
    bench_log.keep(world.box, found[:1], most=2)
    assert bench_log.known(world.box) == (found[1], found[0])


def test_whoever_gave_up_asks_no_more() -> None:
    world = running()
    asker = Asker(world.host, PORT, world.clock)
    asker.give_up()
    with pytest.raises(GivenUpError):
        asker.post("/tokenize", {"content": "x"})


def test_a_server_that_hangs_is_not_waited_for_for_ever() -> None:
    host = FakeHost()
    host.servers[PORT] = lambda _: None
    with pytest.raises(HostError, match="does not answer"):
        Asker(host, PORT, BenchWorld().clock).post("/x", {})


# Drafts


def test_where_a_request_can_switch_drafts_off_both_are_measured() -> None:
    world = running(DRAFTS, words=SPEC)
    world.obeys = True
    off, on = measured(world)
    assert (off.case.drafting, on.case.drafting) == (False, True)
    assert (off.figures.drafted, on.figures.drafted) == (0, 600)
    assert off.draft_cost is None
    assert on.draft_cost == pytest.approx(1 / 6, abs=0.0001)


def test_a_server_that_does_not_listen_is_measured_as_it_is() -> None:
    (found,) = measured(running(DRAFTS, words=SPEC))
    assert found.case.drafting
    assert found.figures.drafted == 600
    assert found.draft_cost is None


SAMPLES = {
    "llamacpp:spec_decode_num_drafts_total": 100.0,
    "llamacpp:spec_decode_num_draft_tokens_total": 300.0,
    "llamacpp:spec_decode_num_accepted_tokens_total": 30.0,
}


def test_status_judges_a_draft_by_what_was_measured() -> None:
    world = running(DRAFTS, words=SPEC)
    profile, pid = world.box.store.profile("a"), world.unit("llm-a.service").pid
    before = draft_view(world.box, profile, pid, SAMPLES)
    assert before is not None
    assert before.facts["cost_measured"] is False
    assert before.facts["remedy"] == "draft: off"
    assert "`llmctl tune a --draft` measures" in before.told[1]
    world.obeys = True
    measured(world)
    after = draft_view(world.box, profile, pid, SAMPLES)
    assert after is not None
    assert (after.facts["cost_measured"], after.facts["cost"]) == (True, 0.1667)
    assert after.told[0] == "draft: 10% of 300 tokens accepted, 1.3 tokens per step"
    assert "costs 17% of a step of the model" in after.told[1]


def test_a_model_that_drafts_nothing_has_no_line() -> None:
    world = running()
    profile = world.box.store.profile("a")
    assert draft_view(world.box, profile, 1, {}) is None
    assert overview(world.box).instances[0].draft is None
