"""Plans of 123 models of 93 architectures, priced by llama.cpp b11434 itself.

The files hold real shapes and no weights; llama.cpp loaded them with `no_alloc` on dry CUDA devices
(alignment 128, rows padded to 512, the operators and flash attention kernels of ggml-cuda), and
`llama_get_memory_breakdown` said where every byte would go.
"""

import json
import lzma
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.oracle import BUILD, Point, compared, header_of

from llmctl.core.memory import Estimator, Model, Need, model_of
from llmctl.core.memory.kernels import has_kernel

DATA = Path(__file__).parents[3] / "data" / "memory-architectures.json.xz"


@cache
def read() -> dict[str, Any]:
    with lzma.open(DATA) as file:
        found: dict[str, Any] = json.load(file)
    return found


@cache
def model(name: str) -> Model:
    one = read()["models"][name]
    metadata = {key: value for key, value in one["metadata"].items() if value != []}
    return model_of(header_of(metadata, one["tensors"]))


def priced(point: Point) -> tuple[tuple[Need, ...], Need]:
    return Estimator(model(point.model), point.devices, build=BUILD).needs(point.settings())[:2]


EMPTY = {"model": 0, "context": 0, "compute": 0}


def filled(point: Point) -> Point:
    """The file leaves out buffers of nothing."""
    devices = {f"CUDA{n}": EMPTY for n in range(point.n_gpus)}
    return msgspec.structs.replace(point, buffers_bytes={**devices, **point.buffers_bytes})


POINTS = [filled(point) for point in msgspec.convert(read()["points"], list[Point])]


def identity(point: Point) -> str:
    return f"{point.model} {point.args}"


@pytest.mark.parametrize("point", POINTS, ids=identity)
def test_weights_and_context_to_the_byte(point: Point) -> None:
    devices, host = priced(point)
    real = [point.buffers_bytes[device.name] for device in devices]
    assert [one.weights_bytes for one in devices] == [b["model"] for b in real]
    assert host.weights_bytes == point.host("model")
    assert [one.kv_bytes + one.state_bytes for one in devices] == [b["context"] for b in real]
    assert host.kv_bytes + host.state_bytes == point.host("context")


def test_compute_is_never_more_than_its_bound() -> None:
    """Not for shapes whose attention is on the CPU, of which a warning tells."""
    beyond = []
    for point in POINTS:
        if not has_kernel(model(point.model)) or model(point.model).architecture == "mistral4":
            continue
        for truth, need in compared(point, *priced(point)):
            if truth > need.compute_bytes + need.compute_error_bytes + 4096:
                beyond.append((identity(point), need.name, truth >> 20, need.compute_bytes >> 20))
    assert beyond == []


def test_every_architecture_of_the_file_is_known() -> None:
    for name in read()["models"]:
        assert model(name).traits.guess is None
