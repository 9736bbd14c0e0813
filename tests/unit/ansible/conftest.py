"""The modules of ansible/, which travel to boxes one file at a time, as Python modules."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

ANSIBLE = Path(__file__).resolve().parents[3] / "ansible"


def load(path: Path) -> Any:
    """A file as a module, whatever directory it is in."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def ansible_file() -> Callable[[str], Any]:
    return lambda name: load(ANSIBLE / name)
