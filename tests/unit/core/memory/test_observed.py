"""Estimates beside what logs say, and what is learned from them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from support.oracle import header_of, models, oracle

from llmctl.core.buffers import Start, parse_start
from llmctl.core.memory import Device, Estimate, Estimator, Model, Override, Settings, model_of
from llmctl.core.memory.advice import advised
from llmctl.core.memory.drafting import Drafting
from llmctl.core.memory.learned import Learned, Seen
from llmctl.core.memory.observed import Verdict, compared, deviations, span, told
from llmctl.core.memory.place import CPU, place
from llmctl.core.memory.planner import Planner
from llmctl.core.memory.request import words_of
from llmctl.core.memory.saying import (
    differing,
    normal,
    not_modelled,
    seat_said,
    settings_said,
)
from llmctl.core.memory.settings import MIB, Era
from llmctl.core.memory.wanted import Room, Wanted
from llmctl.core.said import said

BUILD = 11669
TOTAL = 24105
SETTINGS = Settings(ctx=32768, gpu_layers=49)


def coder() -> Model:
    return models()["qwen3_30b"]


def room(name: str = "CUDA0", total: int = TOTAL * MIB) -> Room:
    return Room(name, total, total)


def logged(estimate: Estimate, **changed: float) -> Start:
    """What a server logs that allocates what was estimated; `changed`: MiB of a part."""
    kinds = {"weights": "model", "kv": "KV", "state": "RS", "compute": "compute",
             "output": "output"}  # fmt: skip
    lines = [f"common_params_print_info: build {BUILD} (x) with cc"]
    lines += [f"x:   - {one.name} : A card ({TOTAL} MiB, {TOTAL} MiB free)"
              for one in estimate.devices]  # fmt: skip
    lines += ["llama_model_loader: loaded meta data with 1 key-value pairs and 1 tensors from m (v"]
    lines += [f"x: using device {one.name} (A card) - 1 MiB free" for one in estimate.devices]
    for part, kind in kinds.items():
        lines += ["x: constructing llama_context"] if part == "kv" else []
        for need in (*estimate.devices, estimate.host):
            mib = changed.get(f"{need.name}_{part}", getattr(need, f"{part}_bytes") / MIB)
            name = "CPU" if need.name == "host" else need.name
            who = "load_tensors" if part == "weights" else "x"
            lines += [f"{who}: {name:>10} {kind} buffer size = {mib:8.2f} MiB"] if mib else []
    start = parse_start([*lines, "main: model loaded"])
    assert start.is_whole
    return start


def estimated(settings: Settings = SETTINGS, *, build: int = BUILD, n: int = 1) -> Estimate:
    devices = [Device(f"CUDA{one}") for one in range(n)]
    return Estimator(coder(), devices, build=build).estimate(settings)


def verdicts(estimate: Estimate, start: Start) -> dict[str, Verdict]:
    return {f"{one.device}_{one.part}": one.verdict for one in compared(estimate, start)}


# Beside


def test_what_is_as_predicted_is_equal() -> None:
    found = verdicts(estimated(), logged(estimated()))
    assert set(found.values()) == {Verdict.EQUAL}
    assert set(found) >= {"CUDA0_weights", "CUDA0_kv", "CUDA0_compute", "host_output"}


@pytest.mark.parametrize("part", ["weights", "kv"])
@pytest.mark.parametrize("off", [-0.02, 0.02, 512.0])
def test_what_should_be_equal_and_is_not_deviates(part: str, off: float) -> None:
    made = estimated()
    size: int = getattr(made.devices[0], f"{part}_bytes")
    start = logged(made, **{f"CUDA0_{part}": size / MIB + off})
    (wrong,) = deviations(compared(made, start))
    assert (wrong.device, wrong.part) == ("CUDA0", part)
    assert wrong.difference_bytes == pytest.approx(off * MIB, abs=0.01 * MIB)
    assert told(wrong).startswith(f"CUDA0 {part}: {size / MIB:.2f} MiB predicted, ")


def test_what_was_not_predicted_at_all_deviates() -> None:
    start = logged(estimated(), CUDA0_state=1.0)
    assert [one.part for one in deviations(compared(estimated(), start))] == ["state"]
    gone = logged(estimated(), CUDA0_kv=0.0)
    assert [one.part for one in deviations(compared(estimated(), gone))] == ["kv"]


def test_compute_is_an_estimate() -> None:
    made = estimated()
    need = made.devices[0]
    most = (need.compute_bytes + need.compute_error_bytes) / MIB
    assert verdicts(made, logged(made, CUDA0_compute=most - 1))["CUDA0_compute"] is Verdict.WITHIN
    assert verdicts(made, logged(made, CUDA0_compute=most + 1))["CUDA0_compute"] is Verdict.BEYOND


def test_a_span_of_the_file_is_no_deviation() -> None:
    """Older builds print how far apart the first and the last tensor are."""
    settings = replace(SETTINGS, n_cpu_moe=2)
    estimator = Estimator(coder(), [Device("CUDA0")], build=BUILD)
    made = estimator.estimate(settings)
    where = place(coder(), settings, estimator.devices)
    bytes_ = span(estimator.loader(mtp=False).weights, settings, where)
    assert bytes_ > made.host.weights_bytes + 1 * MIB
    for mib, mapped, expected in (
        (bytes_ / MIB, "_Mapped", Verdict.UNJUDGED), (bytes_ / MIB, "", Verdict.DEVIATES),
        (bytes_ / MIB + 1, "_Mapped", Verdict.DEVIATES),
        (made.host.weights_bytes / MIB - 1, "_Mapped", Verdict.DEVIATES),
        (made.host.weights_bytes / MIB, "_Mapped", Verdict.EQUAL),
        (made.host.weights_bytes / MIB + 99, "_REPACK", Verdict.UNJUDGED),
    ):  # fmt: skip
        start = logged(made, host_weights=mib)
        weights = tuple(
            replace(one, type=f"CPU{mapped}") if one.type == "CPU" else one
            for one in start.models[0].weights
        )
        start = replace(start, models=(replace(start.models[0], weights=weights),))
        rows = compared(made, start, span_bytes=bytes_)
        (row,) = (one for one in rows if (one.device, one.part) == ("host", "weights"))
        assert row.verdict is expected, (mib, mapped)


def test_the_span_of_all_experts_is_nearly_the_whole_file() -> None:
    """As in `CPU_Mapped 17447.91 MiB` for a 30B model with all experts there."""
    settings = replace(SETTINGS, n_cpu_moe=48)
    estimator = Estimator(coder(), [Device("CUDA0")], build=BUILD)
    bytes_ = span(
        estimator.loader(mtp=False).weights, settings,
        place(coder(), settings, estimator.devices),
    )  # fmt: skip
    whole = sum(tensor.nbytes for tensor in coder().tensors)
    assert (
        estimator.estimate(settings).host.weights_bytes
        < bytes_
        <= whole + len(coder().tensors) * 32
    )


# Words


def test_what_a_plan_says_is_understood() -> None:
    rooms = [room(f"CUDA{n}", 8 << 30) for n in range(2)]
    for wanted in (
        Wanted(), Wanted(ctx=16384, n_cpu_moe=20), Wanted(ctx=4096, gpu_layers=10),
        Wanted(settings=Settings(parallel=3, unified=True, type_k="q8_0", flash_attn=False)),
    ):  # fmt: skip
        plan = Planner(coder(), rooms, None, build=BUILD).plan(wanted)
        back = settings_said(said(words_of(plan)))
        assert normal(back, coder(), 2) == normal(plan.settings, coder(), 2)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", Settings(parallel=4, unified=True)),
        ("-np 2", Settings(parallel=2)),
        ("-np 2 -kvu", Settings(parallel=2, unified=True)),
        ("-ngl all -fa on", Settings(parallel=4, unified=True)),
        ("-np 1 -ngl 12 -ts 2,1", Settings(gpu_layers=12, tensor_split=(2.0, 1.0))),
        ("-np 1 --spec-type draft-mtp", Settings(mtp=True, n_draft=3)),
        ("-np 1 --spec-type draft-mtp --spec-draft-n-max 2", Settings(mtp=True, n_draft=2)),
        ("-np 1 --spec-type draft-mtp -ctkd q8_0 -ctvd q4_0",
         Settings(mtp=True, n_draft=3, draft_k="q8_0", draft_v="q4_0")),
        ("-np 1 -md d.gguf --spec-type draft-simple -ctkd q8_0", Settings(n_draft=3)),
        ("-np 1 --spec-type ngram-mod", Settings(n_draft=64)),
        ("-np 1 --swa-full -nkvo --no-op-offload",
         Settings(swa_full=True, kv_offload=False, op_offload=False)),
        ("-np 1 -ot a=CPU,b=CUDA0", Settings(overrides=(Override("a", "CPU"),
                                                        Override("b", "CUDA0")))),
    ],
)  # fmt: skip
def test_words_become_settings(words: str, expected: Settings) -> None:
    found = settings_said(said(words.split()))
    count = 2 if expected.tensor_split else 1
    assert normal(found, coder(), count) == normal(expected, coder(), count)


def test_settings_that_allocate_the_same_are_equal() -> None:
    one = Settings(ctx=8000, gpu_layers=999, tensor_split=(1,), cache_ram_bytes=0)
    other = Settings(ctx=8192, gpu_layers=None)
    assert normal(one, coder(), 1) == normal(other, coder(), 1)
    assert list(differing(normal(one, coder(), 1), normal(other, coder(), 1))) == []
    words = differing(Settings(ctx=1, overrides=(Override("a", "CPU"),)), Settings(swa_full=True))
    assert set(words) == {"ctx 1, now 0", "overrides a=CPU, now none", "swa_full off, now on"}


@pytest.mark.parametrize(
    ("words", "devices", "seat"),
    [
        ("-m a", ["CUDA0"], None),
        ("-md d", [], "host"),
        ("-md d", ["CUDA0"], "CUDA0"),
        ("-md d", ["CUDA0", "CUDA1"], "divided"),
        ("-md d -devd CUDA1 -ngld 17", ["CUDA0", "CUDA1"], "CUDA1"),
        ("-md d -devd none -ngld 0", ["CUDA0", "CUDA1"], "host"),
        ("-md d -ngld 0", ["CUDA0"], "host"),
    ],
)
def test_where_a_draft_model_was_is_understood(
    words: str, devices: list[str], seat: str | None
) -> None:
    given_ = said(words.split())
    assert seat_said(given_, devices) == seat
    assert not_modelled(given_, {}) == ()


def test_a_draft_model_over_named_devices_has_no_rule() -> None:
    assert not_modelled(said(["-md", "d", "-devd", "CUDA0,CUDA1"]), {}) == ("draft_devices",)


def test_what_no_rule_covers_is_named() -> None:
    given_ = said(["-fit", "on", "--lora", "x.gguf", "-c", "1"])
    assert not_modelled(given_, {"LLAMA_ARG_CTX_SIZE": "1", "GGML_X": "1"}) == (
        "lora", "fit", "LLAMA_ARG_CTX_SIZE",
    )  # fmt: skip
    assert not_modelled(said(["-fit", "off"]), {}) == ()


@given(st.dictionaries(st.sampled_from(sorted(said(["-c", "1", "-ngl", "1", "-ts", "1", "-ot", "a",
                                                    "-np", "1", "-mg", "1", "-fa", "1"]))),
                       st.text(max_size=8)))  # fmt: skip
def test_no_words_are_an_error(words: dict[str, str]) -> None:
    assert settings_said(words).parallel >= 1


# Learned


def learned(*seen: Seen, rooms: tuple[Room, ...] = (room(),), build: int = BUILD) -> Learned:
    return Learned(coder(), rooms, seen, build=build)


def test_what_was_seen_takes_the_place_of_the_estimate() -> None:
    made = estimated()
    start = logged(made, CUDA0_compute=250.0, host_compute=40.0)
    found = learned(Seen(SETTINGS, start)).correct(SETTINGS, made)
    assert found.is_seen
    assert found.devices[0].compute_bytes == 250 * MIB
    assert found.host.compute_bytes == 40 * MIB
    assert found.devices[0].compute_error_bytes < MIB // 50
    assert found.devices[0].weights_bytes == made.devices[0].weights_bytes
    assert found.devices[0].kv_bytes == made.devices[0].kv_bytes


@pytest.mark.parametrize(
    "other",
    [
        {"ctx": 16384}, {"ctx": 33024}, {"ubatch": 256}, {"parallel": 2}, {"type_k": "q8_0"},
        {"n_cpu_moe": 1}, {"gpu_layers": 48}, {"flash_attn": False}, {"unified": True},
        {"op_offload": False}, {"overrides": (Override("x", "CPU"),)}, {"swa_full": True},
    ],
)  # fmt: skip
def test_what_is_only_alike_changes_nothing(other: dict[str, Any]) -> None:
    settings = replace(SETTINGS, **other)
    made, start = estimated(settings), logged(estimated(), CUDA0_compute=1.0)
    assert learned(Seen(SETTINGS, start)).correct(settings, made) == made


def test_a_draft_model_elsewhere_is_another_start() -> None:
    made = estimated()
    seen = Seen(SETTINGS, logged(made, CUDA0_compute=500.0), "CUDA0")
    for seat in (None, "host", "CUDA1"):
        assert learned(seen).correct(SETTINGS, made, seat) == made
    assert learned(seen).correct(SETTINGS, made, "CUDA0").is_seen


@pytest.mark.parametrize(("home", "is_seen"), [(0, False), (1, True), (CPU, False), (None, False)])
def test_a_planner_asks_for_its_own_seat(home: int | None, is_seen: bool) -> None:
    rooms = (room("CUDA0"), room("CUDA1"))
    drafting = None if home is None else Drafting(models()["qwen3_32b"], home=home)
    settings = replace(SETTINGS, tensor_split=(25, 24))
    seen = Seen(settings, logged(estimated(settings, n=2)), "CUDA1")
    known = learned(replace(seen, start=drafted_on(seen.start, "CUDA1")), rooms=rooms)
    planner = Planner(coder(), rooms, None, build=BUILD, draft=drafting, learned=known)
    assert planner.priced(settings).estimate.is_seen is is_seen


def drafted_on(start: Start, device: str) -> Start:
    """The same with a draft model there."""
    sizes = ("model", "KV", "compute")
    lines = ["llama_model_loader: loaded meta data with 1 key-value pairs and 1 tensors from d (v"]
    lines += [f"x: {device} {kind} buffer size = 9.00 MiB" for kind in sizes]
    return replace(start, models=(*start.models, *parse_start(lines).models))


def test_another_card_or_order_or_build_changes_nothing() -> None:
    made = estimated()
    seen = Seen(SETTINGS, logged(made, CUDA0_compute=1.0))
    for rooms in ((room(total=8 << 30),), (room("CUDA1"),), (room(), room("CUDA1"))):
        assert learned(seen, rooms=rooms).correct(SETTINGS, made) == made
    assert learned(seen, build=9999).correct(SETTINGS, made) == made
    unknown = Seen(SETTINGS, replace(seen.start, cards=()))
    assert learned(unknown).correct(SETTINGS, made) == made
    partly = Seen(SETTINGS, replace(seen.start, is_whole=False))
    assert learned(partly).correct(SETTINGS, made) == made


def test_a_line_that_is_not_there_proves_nothing() -> None:
    made = estimated()
    start = logged(made, CUDA0_compute=0.0)
    assert learned(Seen(SETTINGS, start)).correct(SETTINGS, made).devices == made.devices


def test_the_first_era_allocates_more_later_so_nothing_gets_smaller() -> None:
    made = estimated(build=8000)
    assert made.era is Era.A
    start = replace(logged(made, CUDA0_compute=1.0), build=8000)
    found = learned(Seen(SETTINGS, start), build=8000).correct(SETTINGS, made)
    assert found.devices == made.devices
    more = replace(logged(made, CUDA0_compute=5000.0), build=8000)
    found = learned(Seen(SETTINGS, more), build=8000).correct(SETTINGS, made)
    assert found.devices[0].compute_bytes == 5000 * MIB


def test_more_weights_than_computed_count_less_do_not() -> None:
    made = estimated()
    for off, expected in ((100.0, 100 * MIB), (-100.0, 0)):
        start = logged(made, CUDA0_kv=made.devices[0].kv_bytes / MIB + off)
        found = learned(Seen(SETTINGS, start)).correct(SETTINGS, made)
        assert found.devices[0].kv_bytes == made.devices[0].kv_bytes + expected


def test_a_plan_fits_by_what_was_seen_and_not_by_what_is_alike() -> None:
    """A start whose compute buffer was half of the estimate's lower bound."""
    made = estimated()
    need = made.devices[0]
    half = need.compute_bytes // 2
    total = TOTAL * MIB
    tight = Room("CUDA0", total, need.total_bytes - half + MIB)
    seen = (Seen(SETTINGS, logged(made, CUDA0_compute=half / MIB)),)
    wanted = Wanted(settings=SETTINGS, ctx=SETTINGS.ctx, gpu_layers=49, n_cpu_moe=0)
    with_it = Learned(coder(), [tight], seen, build=BUILD)
    assert not Planner(coder(), [tight], None, build=BUILD).plan(wanted).fits
    found = Planner(coder(), [tight], None, build=BUILD, learned=with_it).plan(wanted)
    assert found.fits
    assert found.estimate.is_seen
    alike = replace(wanted, settings=replace(SETTINGS, ubatch=511))
    assert not Planner(coder(), [tight], None, build=BUILD, learned=with_it).plan(alike).fits


def test_a_form_that_was_wrong_is_doubted_everywhere() -> None:
    """A start took twice what was estimated: another context is planned as if it did, too."""
    made = estimated()
    need = made.devices[0]
    start = logged(made, CUDA0_compute=2 * need.compute_bytes / MIB)
    seen = (Seen(SETTINGS, start),)
    rooms = [Room("CUDA0", TOTAL * MIB, TOTAL * MIB)]
    known = Learned(coder(), rooms, seen, build=BUILD)
    assert known.doubt.device == pytest.approx(1.0, rel=0.001)
    assert known.doubt.host == 0.0
    before = advised(Planner(coder(), rooms, None, build=BUILD), Wanted())
    after = advised(Planner(coder(), rooms, None, build=BUILD, learned=known), Wanted())
    assert after.settings.ctx < before.settings.ctx
    assert after.fits
    one = after.estimate.devices[0]
    assert one.compute_error_bytes >= 0.999 * one.compute_bytes


@pytest.mark.parametrize("odd", [{"overrides": (Override("x", "CUDA7"),)}, {"type_k": "q9"}])
def test_a_start_that_cannot_be_priced_teaches_nothing(odd: dict[str, Any]) -> None:
    start = logged(estimated(), CUDA0_compute=9000.0)
    assert learned(Seen(replace(SETTINGS, **odd), start)).doubt.device == 0.0


def test_a_start_within_the_bounds_raises_no_doubt() -> None:
    made = estimated()
    start = logged(made, CUDA0_compute=made.devices[0].compute_bytes / MIB * 1.01)
    assert learned(Seen(SETTINGS, start)).doubt.device == 0.0
    smaller = logged(made, CUDA0_compute=1.0)
    assert learned(Seen(SETTINGS, smaller)).doubt.device == 0.0


@given(
    st.sampled_from([2048, 8192, 32768, 65536]), st.sampled_from([128, 512, 1024]),
    st.sampled_from([0.1, 0.9, 1.0, 1.3, 4.0]), st.sampled_from([0, 4, 48]),
)  # fmt: skip
def test_what_was_not_seen_is_never_planned_smaller(
    ctx: int, ubatch: int, share: float, moe: int
) -> None:
    made = estimated()
    start = logged(made, CUDA0_compute=made.devices[0].compute_bytes / MIB * share)
    known = learned(Seen(SETTINGS, start))
    settings = replace(SETTINGS, ctx=ctx, ubatch=ubatch, n_cpu_moe=moe)
    plain = Planner(coder(), [room()], None, build=BUILD).priced(settings).estimate
    found = Planner(coder(), [room()], None, build=BUILD, learned=known).priced(settings).estimate
    if normal(settings, coder(), 1) == normal(SETTINGS, coder(), 1):
        assert found.devices[0].compute_bytes == compute_of(start)
        return
    for ours, theirs in zip(
        (*found.devices, found.host), (*plain.devices, plain.host), strict=True
    ):
        assert ours.total_bytes == theirs.total_bytes
        assert ours.compute_error_bytes >= theirs.compute_error_bytes


def compute_of(start: Start) -> int:
    (buffer,) = (
        one for one in start.models[0].contexts[0].buffers if one.type + one.kind == "CUDA0compute"
    )
    return round(buffer.mib * MIB)


def test_what_drafts_is_compared_as_one_sum_and_learned() -> None:
    model = model_of(header_of(**_header("qwen36_27b")))
    settings = Settings(ctx=8192, mtp=True, n_draft=3)
    estimator = Estimator(model, [Device("CUDA0")], build=BUILD)
    made = estimator.estimate(settings)
    assert made.devices[0].draft_bytes
    context = "x: constructing llama_context"
    sizes = ("CUDA0 KV buffer size = 32.00", "CUDA0 compute buffer size = 9.00",
             "CPU compute buffer size = 3.00")  # fmt: skip
    lines = [context, *(f"x: {one} MiB" for one in sizes)]
    start = logged(made)
    more = parse_start([context, *lines]).models[0].contexts[-1]
    start = replace(start, models=(replace(
        start.models[0], contexts=(*start.models[0].contexts, more)),))  # fmt: skip
    rows = {(row.device, row.part): row for row in compared(made, start)}
    assert rows["CUDA0", "draft"].observed_bytes == 41 * MIB
    assert rows["CUDA0", "kv"].verdict is Verdict.EQUAL
    found = Learned(model, [room()], [Seen(settings, start)], build=BUILD).correct(settings, made)
    assert found.devices[0].draft_bytes == 41 * MIB


def _header(name: str) -> dict[str, Any]:
    one = oracle()["models"][name]
    return {"metadata": one["metadata"], "tensors": one["tensors"]}
