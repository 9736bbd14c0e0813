"""What a log says of memory. The logs in tests/data/buffers are a real llama-server's (0.7.0), less
the lines that are about something else; the older forms are llama.cpp's own, from its source."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.world import DATA

from llmctl.core.buffers import (
    MOST_MODELS,
    PATTERN,
    Buffer,
    Start,
    by_home,
    drafting,
    parse_start,
    sums,
    target,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

LOGS = {path.stem: path.read_text("utf-8").splitlines() for path in DATA.glob("buffers/*.log")}
FIT = [
    "llama_model_loader: loaded meta data with 9 key-value pairs and 3 tensors from /m.gguf (ver",
    "llama_context: constructing llama_context",
    "llama_kv_cache:      CUDA0 KV buffer size =     0.00 MiB",
]
"""What `--fit` tried: older builds log it."""


def own(start: Start) -> dict[str, float]:
    """The buffers of the target, by `home kind`."""
    weights, context = target(start)
    found = sums((*weights, *context))
    return {f"{home} {kind}": round(one.mib, 2) for (home, kind), one in found.items()}


def drafts(start: Start) -> dict[str, float]:
    return {home: round(one.mib, 2) for home, one in by_home(drafting(start)).items()}


def test_a_log_of_a_plain_model_on_the_cpu() -> None:
    start = parse_start(LOGS["cpu-fit"])
    assert start.is_whole
    assert start.build == 11669
    assert [(card.name, card.total_mib) for card in start.cards] == [("CPU", 24105)]
    assert own(start) == {"host model": 1.83, "host KV": 8.0, "host compute": 6.77,
                          "host output": 0.01}  # fmt: skip
    assert start.models[0].path == "/srv/models/llama-script.gguf"


def test_weights_that_are_laid_out_anew_are_the_hosts() -> None:
    start = parse_start(LOGS["cpu-amx"])
    assert {one.type for one in start.models[0].weights} == {"AMX", "CPU_Mapped"}
    assert own(start)["host model"] == 1.82


def test_both_caches_of_a_model_with_windows_count() -> None:
    assert own(parse_start(LOGS["vk1-gemma3"]))["Vulkan0 KV"] == 9.0


def test_two_devices_in_their_order() -> None:
    start = parse_start(LOGS["vk2-qwen3moe"])
    assert start.models[0].devices == ("Vulkan0", "Vulkan1")
    found = own(start)
    assert (found["Vulkan0 model"], found["Vulkan1 model"]) == (2.27, 1.3)
    assert (found["Vulkan0 compute"], found["Vulkan1 compute"]) == (21.3, 19.04)


def test_the_parts_of_a_model_that_stay_on_the_cpu_add_up() -> None:
    found = own(parse_start(LOGS["vk1-partial"]))
    assert (found["host model"], found["host KV"], found["host RS"]) == (2.4, 2.0, 0.27)


def test_an_mtp_context_is_not_the_targets_and_counts_once_however_often_it_is_laid_out() -> None:
    start = parse_start(LOGS["vk1-mtp"])
    assert own(start)["Vulkan0 KV"] == 4.0
    assert own(start)["Vulkan0 compute"] == 8.03
    assert own(start)["Vulkan0 RS"] == 1.64
    assert drafts(start) == {"Vulkan0": 8.52, "host": 4.52}  # 2.00 of K/V, 6.52 of compute


def test_a_draft_model_is_a_model_of_its_own() -> None:
    start = parse_start(LOGS["vk1-draft"])
    assert [len(one.contexts) for one in start.models] == [1, 1]
    assert own(start)["Vulkan0 model"] == 1.67
    assert drafts(start) == {"Vulkan0": 8.71, "host": 5.18}


def test_what_was_only_tried_does_not_count() -> None:
    log = LOGS["cpu-fit"]
    assert parse_start([*log[:1], *FIT, *log[1:]]).models[-1] == parse_start(log).models[0]
    again = [*log[:1], *FIT, FIT[1], "llama_kv_cache: CUDA0 KV buffer size = 3.00 MiB"]
    (model,) = parse_start(again).models
    assert [one.buffers[0].mib for one in model.contexts] == [3.0]


def test_the_same_file_read_again_takes_the_place_of_all_before() -> None:
    """A server that was put to sleep loads its model, and what drafts, once more."""
    log = LOGS["vk1-draft"]
    assert parse_start([*log, *log[1:]]).models == parse_start(log).models


def test_only_the_last_start_counts() -> None:
    both = parse_start([*LOGS["vk1-draft"], *LOGS["cpu-fit"]])
    assert both == parse_start(LOGS["cpu-fit"])
    died = parse_start([*LOGS["vk1-draft"], *LOGS["cpu-fit"][:4]])
    assert (died.is_whole, died.models, died.build) == (False, (), 11669)


@pytest.mark.parametrize(
    "prefix",
    ["", "Nov 21 10:54:04 box llama-server[2319]: ", "2026-11-21T10:54:04+0000 box x[1]: ",
     "\x1b[34m", "llm-1  | "],
)  # fmt: skip
def test_what_stands_before_a_line_does_not_matter(prefix: str) -> None:
    for log in LOGS.values():
        bare = [line.partition(" I ")[2] for line in log]
        assert parse_start(prefix + line for line in bare) == parse_start(log)


@pytest.mark.parametrize(
    ("line", "buffer", "home"),
    [
        ("llm_load_tensors:      CUDA0 buffer size =  4155.99 MiB",
         Buffer("CUDA0", "model", 4155.99), "CUDA0"),
        ("load_tensors:   MTL0_Mapped model buffer size = 21098.65 MiB",
         Buffer("MTL0_Mapped", "model", 21098.65), "MTL0"),
        ("llama_kv_cache_init:      ROCm0 KV buffer size =   256.00 MiB",
         Buffer("ROCm0", "KV", 256.0), "ROCm0"),
        ("llama_kv_cache_unified:      CUDA1 KV buffer size =   256.00 MiB",
         Buffer("CUDA1", "KV", 256.0), "CUDA1"),
        ("llama_new_context_with_model:  CUDA_Host  output buffer size =     0.49 MiB",
         Buffer("CUDA_Host", "output", 0.49), "host"),
        ("llama_context:      CUDA0 compute buffer size =   300.75 MiB",
         Buffer("CUDA0", "compute", 300.75), "CUDA0"),
        ("load_tensors: CPU_REPACK model buffer size =   512.00 MiB",
         Buffer("CPU_REPACK", "model", 512.0), "host"),
        ("load_tensors: RPC0[10.0.0.2:50052] model buffer size =   512.00 MiB",
         Buffer("RPC0[10.0.0.2:50052]", "model", 512.0), "RPC0[10.0.0.2:50052]"),
        ("llama_memory_recurrent:    Vulkan0 RS buffer size =     0.41 MiB",
         Buffer("Vulkan0", "RS", 0.41), "Vulkan0"),
    ],
)  # fmt: skip
def test_a_line_of_any_age_and_backend(line: str, buffer: Buffer, home: str) -> None:
    (model,) = parse_start([line]).models
    found = [*model.weights, *(one for context in model.contexts for one in context.buffers)]
    assert found == [buffer]
    assert found[0].home == home


@pytest.mark.parametrize(
    "line",
    [
        "~llama_context:      CUDA0 compute buffer size is 300.7500 MiB, matches expectation of x",
        "sched_reserve: CUDA0 compute buffer size of 1.0000 MiB, does not match expectation",
        "srv   prompt_save:  - saving prompt with length 30, total state size = 0.059 MiB",
        "llama_kv_cache: size =    8.00 MiB (  4096 cells,   4 layers,  4/1 seqs), K (f16):  4 MiB",
        "llama_adapter_lora_init_impl:      CUDA0 LoRA buffer size =   160.00 MiB",
    ],
)
def test_a_line_that_is_no_buffer_of_ours(line: str) -> None:
    assert parse_start([line]).models == ()


def test_a_projector_is_apart() -> None:
    start = parse_start([
        *LOGS["cpu-fit"],
        "clip_ctx: CLIP using CUDA0 backend",
        "load_hparams: model size:         887.99 MiB",
        "alloc_compute_meta:      CUDA0 compute buffer size =   248.10 MiB",
        "alloc_compute_meta:        CPU compute buffer size =    24.93 MiB",
        "alloc_compute_meta:        CPU compute buffer size =    24.93 MiB",
    ])  # fmt: skip
    images = {home: round(one.mib, 2) for home, one in by_home(start.images).items()}
    assert images == {"CUDA0": 1136.09, "host": 24.93}
    assert own(start) == own(parse_start(LOGS["cpu-fit"]))


@pytest.mark.parametrize(
    ("line", "build"),
    [
        ("common_params_print_info: build 11669 (Debian) with GNU 16.2.0 for Linux x86_64", 11669),
        ("build: 6096 (fd1234f69) with cc (Debian 14.2.0) for x86_64-linux-gnu", 6096),
        ("main: build = 3265 (72272b83)", 3265),
        ("a build 12 (x)", None),
    ],
)
def test_the_number_of_a_build(line: str, build: int | None) -> None:
    assert parse_start([line]).build == build


def test_grep_finds_every_line_that_counts() -> None:
    for log in LOGS.values():
        done = subprocess.run(
            ["grep", "--text", "--extended-regexp", "--regexp", PATTERN],
            input="\n".join(log), capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert parse_start(done.stdout.splitlines()) == parse_start(log)


def test_a_start_can_be_kept() -> None:
    for log in LOGS.values():
        start = parse_start(log)
        assert msgspec.json.decode(msgspec.json.encode(start), type=Start) == start


# Whatever is in a log

lines = st.sampled_from([line for log in LOGS.values() for line in log] + FIT)
noise = st.text(max_size=60)
cut = st.builds(
    lambda line, at, n: line[at : at + n], lines, st.integers(0, 80), st.integers(0, 80)
)


@given(st.lists(lines | noise | cut, max_size=40))
def test_no_log_is_an_error(log: Sequence[str]) -> None:
    start = parse_start(log)
    by_home([*target(start)[0], *target(start)[1], *drafting(start), *start.images])
    assert msgspec.json.decode(msgspec.json.encode(start), type=Start) == start


@given(st.sampled_from(sorted(LOGS)), st.lists(st.tuples(st.integers(0, 40), noise), max_size=8))
def test_lines_of_others_change_nothing(name: str, more: Sequence[tuple[int, str]]) -> None:
    log = list(LOGS[name])
    for at, line in more:
        log.insert(at, f"# {line}")
    assert parse_start(log) == parse_start(LOGS[name])


def test_a_log_cannot_fill_memory() -> None:
    many = [FIT[0].replace("/m", f"/{n}") for n in range(1000)]
    contexts = [FIT[0], *[FIT[1]] * 1000]
    sizes = ["llama_kv_cache: CUDA0 KV buffer size = 1.00 MiB"] * 10_000
    start = parse_start([*contexts, *sizes, *many])
    assert len(start.models) == MOST_MODELS
    assert len(start.models[0].contexts) <= MOST_MODELS
    assert sum(len(one.buffers) for one in start.models[0].contexts) < 5000
