"""The watchdog of temperatures: what it reads, says and stops."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(scope="session")
def module(ansible_file: Callable[[str], Any]) -> Any:
    return ansible_file("roles/gpu_guard/files/gpu_guard.py")


def stops(module: Any, readings: list[float], *, sustained: float = 30) -> list[int]:
    """The readings, one each ten seconds, at which it stops the model."""
    watch = module.Watch(85, 95, sustained)
    return [n for n, one in enumerate(readings) if watch.read({"card": one}, 10.0 * n)[1]]


@pytest.mark.parametrize(
    ("readings", "at"),
    [
        ([60, 99, 60, 99, 60, 99], []),  # a sensor that jumps
        ([96, 96, 96], []),  # not long enough
        ([60, 96, 96, 96, 96, 96, 96], [4]),  # once, however long it stays hot
        ([96, 96, 96, 94, 96, 96, 96, 96], [7]),  # it began anew
        ([96, 96, 96, 96, 70, 96, 96, 96, 96], [3, 8]),  # it had cooled down
        ([96, 96, 96, 96, 90, 96, 96, 96, 96], [3]),  # it had not
    ],
)
def test_only_a_heat_that_lasts_stops_the_model(
    module: Any, readings: list[float], at: list[int]
) -> None:
    assert stops(module, readings) == at


def test_a_limit_of_no_seconds_stops_at_once(module: Any) -> None:
    assert stops(module, [60, 95], sustained=0) == [1]


def test_a_warning_is_said_once_and_taken_back(module: Any) -> None:
    watch = module.Watch(85, 95, 30)
    said = [watch.read({"card": one}, 0.0)[0] for one in (84, 85, 90, 84, 84)]
    assert said == [[], ["card: 85 C, warm (warning at 85)"], [], ["card: 84 C again"], []]


def test_each_card_has_its_own_clock(module: Any) -> None:
    watch = module.Watch(85, 95, 30)
    assert not watch.read({"a": 96.0, "b": 60.0}, 0)[1]
    assert not watch.read({"a": 60.0, "b": 96.0}, 30)[1]
    assert watch.read({"a": 60.0, "b": 96.0}, 60)[1]


def test_nvidias_lines_are_read(module: Any) -> None:
    assert module.nvidia("0, 61\n1, [N/A]\n2, 70\n") == {"nvidia 0": 61.0, "nvidia 2": 70.0}


def test_the_hottest_sensor_of_a_card_counts(module: Any, tmp_path: Path) -> None:
    for number, name, sensors in (
        (0, "coretemp", [99000]), (1, "amdgpu", [61000, 74500]), (2, "xe", [])
    ):  # fmt: skip
        place = tmp_path / f"hwmon{number}"
        place.mkdir()
        (place / "name").write_text(f"{name}\n", "ascii")
        for n, degrees in enumerate(sensors, 1):
            (place / f"temp{n}_input").write_text(f"{degrees}\n", "ascii")
    assert module.hwmon(tmp_path) == {"amdgpu hwmon1": 74.5}


def test_a_named_source_that_is_missing_is_said(
    module: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert module.temperatures("auto", tmp_path) == {}
    with pytest.raises(OSError, match="nvidia-smi does not answer"):
        module.temperatures("nvidia-smi", tmp_path)
