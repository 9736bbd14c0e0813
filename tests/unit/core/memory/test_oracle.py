"""Every plan that real llama.cpp priced for us: weights and context to the byte."""

import pytest
from support.oracle import BUILD, Point, compared, models, points, table

from llmctl.core.memory import Estimator, Need

POINTS = points()


def identity(point: Point) -> str:
    loaded = " mtp-context" if point.mtp_context else " mtp" if point.mtp else ""
    return f"{point.model} {point.args}{loaded}"


def priced(point: Point) -> tuple[tuple[Need, ...], Need]:
    estimator = Estimator(models()[point.model], point.devices, build=BUILD)
    if point.mtp_context:
        return estimator.predicting(point.settings())
    return estimator.needs(point.settings())[:2]


@pytest.mark.parametrize("point", POINTS, ids=identity)
def test_weights_and_context_to_the_byte(point: Point) -> None:
    devices, host = priced(point)
    real = [point.buffers_bytes[device.name] for device in devices]
    assert [one.kv_bytes + one.state_bytes for one in devices] == [b["context"] for b in real]
    assert host.kv_bytes + host.state_bytes == point.host("context")
    if not point.mtp_context:  # it uses the weights that the main context has loaded
        assert [one.weights_bytes for one in devices] == [b["model"] for b in real]
        assert host.weights_bytes == point.host("model")


@pytest.mark.parametrize("point", POINTS, ids=identity)
def test_compute_within_its_error(point: Point) -> None:
    for truth, need in compared(point, *priced(point)):
        assert abs(need.compute_bytes - truth) <= need.compute_error_bytes


def test_one_gpu_with_plain_caches_is_nearly_exact() -> None:
    for point in POINTS:
        if point.kind() in ("one GPU", "no flash attention", "quantized K/V"):
            for truth, need in compared(point, *priced(point)):
                assert need.compute_bytes == pytest.approx(truth, rel=0.014)


def test_the_context_is_the_one_llama_cpp_made() -> None:
    for point in POINTS:
        estimator = Estimator(models()[point.model], point.devices)
        assert estimator.estimate(point.settings()).n_ctx == point.n_ctx


def test_the_table_for_the_documentation() -> None:
    assert table().startswith("Weights and context equal to the byte: 161 of 161 plans.")
