"""The estimate beside what a real llama-server allocates: every architecture of kit/mkgguf.py.

Weights, K/V, state and output must be the printed ones to 0.01 MiB, compute buffers within the
error that the estimate states for them, on the CPU and on two GPUs made of software. Each start
reads until memory is reserved, and is then killed: 0.1 s, or 0.2 s with GPUs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest
from kit.test_models import ask, served_by
from support.memory_log import started
from support.oracle import settings_of
from support.pairs import Row, pairwise

from llmctl.core.gguf import read_buffer
from llmctl.core.memory import Device, Draft, Estimator, Need, Settings, model_of
from llmctl.core.memory.context import shape_of
from llmctl.core.memory.place import place
from llmctl.core.memory.planner import NO_PIPELINE, Planner
from llmctl.core.memory.request import words_of
from llmctl.core.memory.wanted import Room, Wanted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.memory_log import Context

BUILD = 11669
MIB = 1 << 20
EXACT = 0.0101
"""MiB. Lines have two digits, and K/V of two caches come in two lines."""
MODELS = [
    f"{name}-script"
    for name in ("llama", "qwen2", "qwen3", "qwen3moe", "deepseek2", "gemma3", "gptoss", "qwen35",
                 "lfm2", "mamba")
] + ["qwen3-q8", "qwen35-mtp"]  # fmt: skip
MTP = "--spec-type draft-mtp --spec-draft-n-max"
COMMON = {
    "model": MODELS,
    "ctx": ["-c 4096", "-c 5000", "-c 20000", "-c 300"],
    "slots": ["", "-np 1", "-np 3", "-np 4 -kvu"],
    "fa": ["-fa on", "-fa off"],
    "ub": ["", "-ub 64", "-b 1024 -ub 1024", "-b 256"],
    "swa": ["", "--swa-full"],
    "draft": ["", f"{MTP} 3", f"{MTP} 1 -ctkd q8_0 -ctvd q5_0"],
}
ON_THE_CPU = {
    **COMMON,
    "kv": [
        "", "-ctk q8_0 -ctv q8_0", "-ctk q4_0 -ctv q4_0", "-ctk f32 -ctv f32", "-ctk q8_0",
        "-ctk bf16 -ctv bf16", "-ctk q5_1 -ctv iq4_nl", "-ctk q4_1 -ctv q5_0",
    ],
}  # fmt: skip
ON_GPUS = {
    **COMMON,
    "kv": ["", "-ctk q8_0 -ctv q8_0", "-ctk q4_0 -ctv q4_0", "-ctk f32 -ctv f32", "-ctk q8_0"],
    "devices": ["1", "2"],
    "layers": ["-ngl 99", "-ngl 4", "-ngl 1", "-ngl 0"],
    "split": ["", "-ts 1,1", "-ts 3,1", "-ts 1,4"],
    "place": [
        "", "-ncmoe 2", "-ot exps=CPU", r"-ot blk\.[02]\.=CPU,blk\.1\.=Vulkan0", "-nkvo",
        f"-ot {NO_PIPELINE.pattern}=CPU",
    ],
}  # fmt: skip


def allowed(row: Row) -> bool:
    """What llama-server takes, and what is exact: devices that share say how."""
    model, draft, devices = (row.get(name) for name in ("model", "draft", "devices"))
    given = settings_of(row.get("kv", ""))
    mixed = given.type_k != given.type_v
    quantized = given.type_v[0] in "qi" or "-ctvd" in (draft or "")
    split = row.get("split")
    return not (
        (row.get("fa") == "-fa off" and quantized)
        or (model == "deepseek2-script" and mixed)
        or (model not in (None, "qwen35-mtp") and draft)
        or (None not in (split, devices) and bool(split) != (devices == "2"))
    )


def words(row: Row) -> str:
    last = "--no-repack" if row["model"] == "deepseek2-script" else ""  # it aborts with AMX
    given = [text for name, text in row.items() if name not in ("model", "devices")]
    return " ".join(filter(None, (*given, last)))


def name_of(row: Row) -> str:
    return f"{row['model']} {row.get('devices', '0')} {words(row)}"


def settings(args: str) -> Settings:
    """llama-server's own default: four slots that share their cells."""
    given = {} if "-np" in args else {"parallel": 4, "unified": True}
    return settings_of(args, **given)


class Line(NamedTuple):
    """One number, estimated and printed, in MiB."""

    what: str
    where: str
    ours: float
    printed: float
    error: float = EXACT

    @property
    def differs(self) -> bool:
        return abs(self.ours - self.printed) > self.error


class Run:
    """One start beside its estimate."""

    def __init__(self, server: str, model: Path, args: str, *, devices: int = 0) -> None:
        self.settings = settings(args)
        self.estimator = Estimator(
            model_of(read_buffer(model.read_bytes())),
            [Device(f"Vulkan{n}") for n in range(devices)],
            build=BUILD,
        )
        reservations = 3 if self.settings.mtp else 1  # a context that drafts reserves twice
        self.printed = started(
            server, ["-m", str(model), *args.split()], contexts=reservations,
            environment={"GGML_VK_VISIBLE_DEVICES": ",".join("0" * max(1, devices))},
        )  # fmt: skip
        self.main = self.printed.contexts[0]

    def lines(self) -> Iterator[Line]:
        """Everything that is printed."""
        told = self.estimator.estimate(self.settings)
        assert told.exact
        computed = not any("compute buffers are not predicted" in one for one in told.warnings)
        nothing = tuple(Need(name=one.name) for one in told.devices), Need(name="host")
        drafting = self.estimator.predicting(self.settings) if self.settings.mtp else nothing
        for need, own in zip((*told.devices, told.host), (*drafting[0], drafting[1]), strict=True):
            where = need.name
            printed = self.printed.weights.on("model", where)
            yield Line("weights", where, need.weights_bytes / MIB, printed)
            doubt = (
                need.compute_error_bytes
                - own.compute_error_bytes
                + unmasked(self.estimator, self.settings, where)
            )
            yield from context(need, self.main, doubt if computed else None)
            if self.settings.mtp:
                error = own.compute_error_bytes if computed else None
                yield from context(own, self.printed.contexts[1], error)
        # It grows when what was drafted is verified for the first time.
        output = told.host.output_bytes / (1 + self.settings.n_draft) / MIB
        yield Line("output", "host", output, self.main.on("output", "host"))


def unmasked(estimator: Estimator, settings: Settings, device: str) -> int:
    """Bytes that the estimate is too high by: it counts the masks of both kinds of layers on each
    device, be there layers of one kind only."""
    model, names = estimator.model, [one.name for one in estimator.devices]
    if device not in names or not model.has_swa:
        return 0
    run = place(model, settings, estimator.devices).runs[names.index(device)]
    if not all(layer.is_swa for layer in model.layers[slice(*run)]):
        return 0
    shape = shape_of(model, settings)
    return shape.ubatch * shape.cells * (2 if settings.flash_attn else 4)


def context(need: Need, printed: Context, doubt: int | None) -> Iterator[Line]:
    where = need.name
    yield Line("K/V", where, need.kv_bytes / MIB, printed.on("KV", where))
    yield Line("state", where, need.state_bytes / MIB, printed.on("RS", where))
    if doubt is not None:
        computed = printed.on("compute", where)
        yield Line("compute", where, need.compute_bytes / MIB, computed, doubt / MIB + EXACT)


def check(server: str, models: Path, row: Row, devices: int) -> None:
    run = Run(server, models / f"{row['model']}.gguf", words(row), devices=devices)
    assert [one for one in run.lines() if one.differs] == [], "\n".join(run.printed.lines)


@pytest.mark.parametrize("row", pairwise(ON_THE_CPU, allowed), ids=name_of)
def test_on_the_cpu(llama_server: str, tiny_models: Path, row: Row) -> None:
    check(llama_server, tiny_models, row, 0)


@pytest.mark.parametrize("row", pairwise(ON_GPUS, allowed), ids=name_of)
def test_on_gpus(vulkan_server: str, tiny_models: Path, row: Row) -> None:
    check(vulkan_server, tiny_models, row, int(row["devices"]))


@pytest.mark.parametrize("name", ["qwen3moe-script", "gptoss-script", "llama-script"])
@pytest.mark.parametrize(
    "args",
    [
        "-ngl 4 -ts 0,1 -c 4096",
        "-ngl 99 -ts 1,3 -ncmoe 99 -c 4096",
        "-ngl 4 -ts 1,1 -c 20000 -ub 16",
    ],
)
def test_the_first_device_works_on_what_the_host_holds(
    vulkan_server: str, tiny_models: Path, name: str, args: str
) -> None:
    """If it has no layers of its own, too; but not in batches of fewer than 32 tokens."""
    check(vulkan_server, tiny_models, {"model": name, "args": f"{args} -fa on"}, 2)


@pytest.mark.parametrize("sizes", [(400, 400), (42, 30), (40, 14), (24, 24), (17, 17), (60, 10)])
@pytest.mark.parametrize("name", ["qwen3moe-script", "gptoss-script", "gemma3-script"])
def test_a_plan_is_taken_and_fits(
    vulkan_server: str, tiny_models: Path, name: str, sizes: tuple[int, int]
) -> None:
    """From a whole model with pipeline copies to experts and layers on the host."""
    path = tiny_models / f"{name}.gguf"
    rooms = [Room(f"Vulkan{n}", size * MIB, size * MIB) for n, size in enumerate(sizes)]
    planner = Planner(model_of(read_buffer(path.read_bytes())), rooms, None, build=BUILD)
    plan = planner.plan(Wanted(ctx=8192, settings=Settings(parallel=2)))
    assert plan.fits
    printed = started(vulkan_server, ["-m", str(path), *words_of(plan)])
    (main,) = printed.contexts
    for need, size in zip(plan.estimate.devices, sizes, strict=True):
        where = need.name
        doubt = need.compute_error_bytes + unmasked(planner.estimator, plan.settings, where)
        weights = Line(
            "weights", where, need.weights_bytes / MIB, printed.weights.on("model", where)
        )
        lines = [weights, *context(need, main, doubt)]
        assert [one for one in lines if one.differs] == []
        assert sum(one.printed for one in lines) <= size


class TestWithoutThePipeline:
    """An override that names no tensor saves the copies of the inputs."""

    ARGS = "-c 32768 -np 2 -ngl 99 -ts 3,4 -fa on"

    def run(self, server: str, models: Path, args: str) -> Run:
        run = Run(server, models / "qwen3moe-script.gguf", args, devices=2)
        assert [one for one in run.lines() if one.differs] == []
        return run

    def test_three_copies_of_the_inputs_are_gone(
        self, vulkan_server: str, tiny_models: Path
    ) -> None:
        piped = self.run(vulkan_server, tiny_models, self.ARGS)
        trick = f"-ot {NO_PIPELINE.pattern}={NO_PIPELINE.where}"
        plain = self.run(vulkan_server, tiny_models, f"{self.ARGS} {trick}")
        assert (piped.main.pipeline, plain.main.pipeline) == (True, False)
        inputs = plain.main.on("compute", "host")
        for device in ("Vulkan0", "Vulkan1"):
            saved = piped.main.on("compute", device) - plain.main.on("compute", device)
            assert saved == pytest.approx(3 * inputs, rel=0.05)
            assert piped.printed.weights.on("model", device) == plain.printed.weights.on(
                "model", device
            )

    def test_the_server_still_answers(self, vulkan_server: str, tiny_models: Path) -> None:
        trick = f"{NO_PIPELINE.pattern}={NO_PIPELINE.where}"
        argv = [vulkan_server, "-m", str(tiny_models / "qwen3moe-script.gguf"), "-ot", trick]
        with served_by([*argv, *self.ARGS.split()]) as port:
            answer = ask(port, "hi")["message"]["content"]
        assert answer == "Hello! This is a tiny model served by a real llama-server."


@pytest.mark.parametrize("devices", [0, 2])
def test_a_draft_model_has_the_context_of_its_target_and_types_of_its_own(
    llama_server: str, vulkan_server: str, tiny_models: Path, devices: int
) -> None:
    args = "-c 8192 -np 2 -ctk q8_0 -ctv q8_0 -fa on" + (" -ngl 99 -ts 3,2" if devices else "")
    names = [Device(f"Vulkan{n}") for n in range(devices)]
    both = [tiny_models / f"{name}.gguf" for name in ("llama-script", "llama-draft")]
    model, drafting = (model_of(read_buffer(path.read_bytes())) for path in both)
    plain = settings(args)
    draft = Draft(drafting, plain.drafting)
    told = Estimator(model, names, build=BUILD).estimate(plain, draft=draft)
    own = Estimator(drafting, names, build=BUILD).estimate(draft.settings)
    printed = started(
        vulkan_server if devices else llama_server,
        ["-m", str(both[0]), "-md", str(both[1]), "--spec-type", "draft-simple", *args.split()],
        contexts=2,
    )
    target, second = printed.contexts
    pairs = zip((*told.devices, told.host), (*own.devices, own.host), strict=True)
    for need, other in pairs:
        weights = printed.weights.on("model", need.name)
        lines = [
            Line("weights", need.name, (need.weights_bytes + other.weights_bytes) / MIB, weights)
        ]
        lines += [*context(need, target, None), *context(other, second, None)]
        assert [one for one in lines if one.differs] == []
        assert need.draft_bytes == other.total_bytes
