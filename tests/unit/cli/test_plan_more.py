"""llmctl plan --observed and --verify: what people and scripts read."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from support.heads import write_head
from support.oracle import header_of, oracle
from support.world import DATA

from llmctl.core.memory import Device, Estimator, Settings, model_of
from llmctl.core.memory.settings import MIB

if TYPE_CHECKING:
    from collections.abc import Sequence

    from support.commandline import CommandLine

FIT = "CUDA0 11146 2592 316 \nHost 5600 0 200 \n"
CARD = "Available devices:\n  CUDA0: NVIDIA Big (24105 MiB, 24000 MiB free)\n"
PROFILE = "ctx: 16384\nkv: q8_0\ngpu_layers: all\nn_cpu_moe: 4\ntensor_split: [1]\n"
PID = 4711


@pytest.fixture
def big(llmctl: CommandLine) -> CommandLine:
    """A profile of a real shape on a box with one GPU."""
    llmctl.profile("big", PROFILE)
    write_head(llmctl.home / "models/big-Q4_K_M.gguf", oracle()["models"]["qwen3_30b"])
    llmctl.program("nvidia-smi", "exit 6")
    llmctl.program(
        "llama-server",
        f"""case "$1" in
--version) echo "version: 0.7.0 (build 11669, commit x)";;
--list-devices) cat <<'END'
{CARD}END
;;
*) cat '{DATA / "llama-server-help-0.7.0.txt"}';;
esac""",
    )
    return llmctl


def runs(llmctl: CommandLine, *words: str, wrong: Sequence[str] = (), kv: str = "q8_0") -> None:
    """It runs, and its log says what was estimated, but for the lines in `wrong`.

    A stub's process cannot be one in /proc, so what it was started with is put where it is kept.
    """
    one = oracle()["models"]["qwen3_30b"]
    model = model_of(header_of(one["metadata"], one["tensors"]))
    settings = Settings(ctx=16384, type_k=kv, type_v=kv, n_cpu_moe=4)
    made = Estimator(model, [Device("CUDA0")], build=11669).estimate(settings)
    log = [
        "common_params_print_info: build 11669 (x) with GNU",
        "common_param:   - CUDA0 : NVIDIA Big (24105 MiB, 24000 MiB free)",
        "llama_model_loader: loaded meta data with 1 key-value pairs and 1 tensors from x (ver",
        "llama_prepare_model_devices: using device CUDA0 (NVIDIA Big) (0) - 1 MiB free",
        *_sizes("load_tensors", "model", made.devices[0].weights_bytes, made.host.weights_bytes),
        "llama_context: constructing llama_context",
        *_sizes("llama_context", "output", 0, made.host.output_bytes),
        *_sizes("llama_kv_cache", "KV", made.devices[0].kv_bytes, 0),
        *_sizes("sched_reserve", "compute", 100 * MIB, made.host.compute_bytes),
        *wrong,
        "llama_server: model loaded",
    ]
    _keep(llmctl, log, words)


def _sizes(who: str, kind: str, device: int, host: int) -> list[str]:
    both = (("CUDA0", device), ("CUDA_Host", host))
    return [f"{who}: {name:>10} {kind} buffer size = {n / MIB:8.2f} MiB" for name, n in both if n]


def _keep(llmctl: CommandLine, log: Sequence[str], words: Sequence[str]) -> None:
    from llmctl.core.buffers import parse_start
    from llmctl.core.said import said
    from llmctl.engine.box import Box
    from llmctl.engine.observing import FORMAT, Record, _Kept, present
    from llmctl.host.local import LocalHost

    import msgspec  # isort: skip

    box = Box(LocalHost())
    now = present(box, box.store.profile("big"))
    assert now.binary
    files = tuple(one for one in now.files if one)
    start = parse_start(log)
    assert start.is_whole
    record = Record(
        "1" * 32, now.binary, files, {**now.said, **said(words)}, now.environment, start
    )
    path = llmctl.home / ".local/state/llmctl/observed/big.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(msgspec.json.encode(_Kept(FORMAT, (record,))))


# --observed


def test_nothing_was_observed_yet(big: CommandLine) -> None:
    said = big("plan", "big", "--observed")
    assert said.status == 0
    assert "observed: nothing yet. `llmctl switch big` starts it" in said.stdout
    told = big("plan", "big", "--observed", "--json").json
    assert told["observed"] is None
    assert told["compute_from"] == "estimated"
    assert "observed" not in big("plan", "big", "--json").json


def test_what_ran_stands_beside_what_was_predicted(big: CommandLine) -> None:
    runs(big)
    before = big("plan", "big", "--device", "CUDA0:24104MiB", "--json").json
    said = big("plan", "big", "--observed")
    assert said.status == 0
    lines = [line.split() for line in said.stdout.splitlines()]
    assert "observed: a start of build 11669, as planned" in said.stdout
    assert ["CUDA0", "kv", "816.00", "816.00", "+0.00", "equal"] in lines
    compute = before["devices"][0]["compute_bytes"] / MIB
    row = next(one for one in lines if one[:2] == ["CUDA0", "compute"])
    assert row[2:5] == [f"{compute:.2f}", "100.00", f"{100 - compute:+.2f}"]
    assert "compute: as a start with these settings had it" in said.stdout
    assert "predicted" not in said.stderr


def test_the_plan_has_what_was_observed(big: CommandLine) -> None:
    runs(big)
    facts = big("plan", "big", "--json").json
    assert facts["compute_from"] == "observed"
    assert facts["devices"][0]["compute_bytes"] == 100 * MIB
    assert facts["devices"][0]["compute_error_bytes"] < MIB // 50
    for other in (["--ctx", "8192"], ["--ubatch", "256"], ["--device", "CUDA0:24104MiB"]):
        assert big("plan", "big", "--json", *other).json["compute_from"] == "estimated"


def test_other_settings_are_compared_with_themselves(big: CommandLine) -> None:
    runs(big)
    told = big("plan", "big", "--ctx", "8192", "--observed", "--json").json["observed"]
    assert told["differs"] == ["ctx 16384, now 8192"]
    device = next(one for one in told["devices"] if one["name"] == "CUDA0")
    kv = next(one for one in device["parts"] if one["part"] == "kv")
    assert kv == {
        "part": "kv", "predicted_bytes": 816 * MIB, "observed_bytes": 816 * MIB,
        "difference_bytes": 0, "verdict": "equal",
    }  # fmt: skip
    said = big("plan", "big", "--ctx", "8192", "--observed").stdout
    assert "observed: a start of build 11669, with other settings" in said
    assert "  differs: ctx 16384, now 8192" in said


LIE = "llama_kv_cache: CUDA0 KV buffer size = 96.00 MiB"


def test_a_deviation_is_called_what_it_is(big: CommandLine) -> None:
    runs(big, wrong=[LIE])
    said = big("plan", "big", "--observed")
    assert said.status == 0
    assert re.search(r"CUDA0 +kv +816\.00 +912\.00 +\+96\.00 +DEVIATES", said.stdout)
    assert "a rule of llmctl is wrong or missing: this is a bug" in said.stderr
    report = next(line for line in said.stdout.splitlines() if line.startswith("report: "))
    assert "llama.cpp build 11669, architecture qwen3moe, batch=2048 ctx=16384 " in report
    assert report.endswith("; CUDA0 kv: 816.00 MiB predicted, 912.00 observed")
    told = big("plan", "big", "--observed", "--json").json
    assert told["observed"]["report"] == report.removeprefix("report: ")
    assert told["observed"]["reason"].endswith("this is a bug")
    assert told["devices"][0]["kv_bytes"] == 912 * MIB  # what was allocated counts


def test_what_no_rule_covers_is_no_bug(big: CommandLine) -> None:
    runs(big, "-ncffn", "3", wrong=[LIE])
    said = big("plan", "big", "--observed")
    assert "no rule for what n_cpu_ffn does to memory" in said.stderr
    assert "bug" not in said.stderr
    assert "  differs: n_cpu_ffn 3, now not given" in said.stdout


def test_another_file_says_nothing(big: CommandLine) -> None:
    runs(big)
    write_head(big.home / "models/big-Q4_K_M.gguf", oracle()["models"]["qwen3_30b"])
    said = big("plan", "big", "--observed")
    assert "  differs: other model files, or they were replaced" in said.stdout
    assert "says nothing of this plan. `llmctl switch big` starts it." in said.stdout
    told = big("plan", "big", "--observed", "--json").json
    assert told["observed"]["devices"] == []
    assert told["compute_from"] == "estimated"


def test_words_that_cannot_be_priced_are_said(big: CommandLine) -> None:
    runs(big, "-ot", "x=CUDA7")
    said = big("plan", "big", "--observed")
    assert said.status == 0
    assert "  differs: An override puts tensors on CUDA7, which is not there." in said.stdout


def test_a_file_alone_was_not_started(big: CommandLine) -> None:
    said = big("plan", str(big.home / "models/big-Q4_K_M.gguf"), "--observed")
    assert said.status == 2
    assert "--observed is about a profile" in said.stderr


def test_a_box_without_systemd_says_what_it_knows(big: CommandLine) -> None:
    runs(big)
    big.program("systemctl", "echo 'Failed to connect to bus' >&2; exit 1")
    said = big("plan", "big", "--observed")
    assert said.status == 0
    assert "warning: what runs was not read: " in said.stderr
    assert "observed: a start of build 11669, as planned" in said.stdout


# --verify


def fit_params(llmctl: CommandLine, script: str) -> None:
    llmctl.program("llama-fit-params", f'echo "$*" >"{llmctl.home}/asked"; {script}')


@pytest.mark.parametrize("what", ["big", "FILE"])
def test_llama_cpp_is_asked_about_the_plan(big: CommandLine, what: str) -> None:
    fit_params(big, f"echo '0.0 I printing'; printf '{FIT}'")
    name = str(big.home / "models/big-Q4_K_M.gguf") if what == "FILE" else what
    given = ["--ctx", "16384", "--kv", "q8_0", "--n-cpu-moe", "4"] if what == "FILE" else []
    facts = big("plan", name, "--verify", "--json", *given).json
    assert facts["verified"] == {
        "tool": str(big.home / "bin/llama-fit-params"),
        "devices": [
            {"name": "CUDA0", "weights_bytes": 11146 * MIB, "context_bytes": 2592 * MIB,
             "compute_bytes": 316 * MIB},
            {"name": "host", "weights_bytes": 5600 * MIB, "context_bytes": 0,
             "compute_bytes": 200 * MIB},
        ],
    }  # fmt: skip
    asked = (big.home / "asked").read_text().split()
    assert asked[asked.index("-m") + 1].endswith("big-Q4_K_M.gguf")
    assert " ".join(facts["args"]) in " ".join(asked)
    assert asked[-2:] == ["-fitp", "on"]


def test_people_see_both_in_whole_mib(big: CommandLine) -> None:
    fit_params(big, f"printf '{FIT}'")
    lines = [line.split() for line in big("plan", "big", "--verify").stdout.splitlines()]
    assert ["CUDA0", "context", "816", "2592", "+1776"] in lines
    assert ["DEVICE", "PART", "OURS", "MIB", "LLAMA-FIT-PARAMS", "MIB", "DIFFERENCE"] in lines


def test_a_tool_that_is_not_there_is_named_with_what_to_do(big: CommandLine) -> None:
    said = big("plan", "big", "--verify")
    assert said.status == 3
    assert said.stdout == ""
    assert f"there is no llama-fit-params beside {big.home}/bin/llama-server." in said.stderr
    assert "cmake --build build --target llama-fit-params" in said.stderr


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("echo '0.1 E llama_model_load: error loading model: x' >&2; exit 134",
         "0.1 E llama_model_load: error loading model: x"),
        ("echo 'error: invalid argument: -kvu' >&2; exit 1", "invalid argument: -kvu"),
        ("exit 0", "it said nothing"),
        ("echo 'CUDA0 1 2'", "it said nothing"),
    ],
)  # fmt: skip
def test_a_tool_that_refuses_is_told_with_its_words(
    big: CommandLine, script: str, says: str
) -> None:
    fit_params(big, script)
    said = big("plan", "big", "--verify")
    assert said.status == 5
    assert says in said.stderr
    assert "hint: Run it yourself: " in said.stderr


def test_a_tool_that_hangs_is_not_waited_for(
    big: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmctl.engine.verify.TIMEOUT_S", 0.2)
    fit_params(big, "exec sleep 60")
    said = big("plan", "big", "--verify")
    assert said.status == 5
    assert "llama-fit-params" in said.stderr
