"""What a wheel carries, and that it works without the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def _run(*argv: str, **extra: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv, check=True, text=True, capture_output=True, cwd="/", env={**os.environ, **extra}
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    _run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder), str(ROOT))
    return next(folder.glob("llmctl-*.whl"))


def test_the_wheel_carries_units_and_profiles(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder in ("units", "profiles"):
        for file in (ROOT / folder).iterdir():
            assert f"llmctl/_data/{folder}/{file.name}" in names


def test_the_wheel_carries_no_tests(wheel: Path) -> None:
    assert not [name for name in zipfile.ZipFile(wheel).namelist() if "test" in name]


def test_an_installed_wheel_finds_its_templates(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    code = (
        "import llmctl; from llmctl.store.data import example_profiles, template;"
        "print(llmctl.__file__, len(template('llm.service')) > 100,"
        "      *(name for name, _ in example_profiles()))"
    )
    told = _run(sys.executable, "-c", code, PYTHONPATH=str(tmp_path)).stdout.split()
    assert told[0].startswith(str(tmp_path))
    assert told[1:] == ["True", "coder", "gemma4", "qwen36", "qwen38", "steward"]
