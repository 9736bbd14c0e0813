"""Linters as tests: "the tests pass" means all of it."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]
LONGEST_FUNCTION = 50
LONGEST_MODULE = 300


def passes(*argv: str) -> None:
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, f"{' '.join(argv)}\n{done.stdout}{done.stderr}"


def test_ruff_finds_nothing() -> None:
    passes(sys.executable, "-m", "ruff", "check", "--no-cache", "ansible", "llmctl", "tests")


def test_ruff_would_format_nothing() -> None:
    places = ("ansible", "llmctl", "tests")
    passes(sys.executable, "-m", "ruff", "format", "--no-cache", "--check", *places)


def test_the_types_are_right() -> None:
    passes(sys.executable, "-m", "mypy")


def test_imports_point_one_way() -> None:
    beside = Path(sys.executable).parent / "lint-imports"
    program = str(beside) if beside.exists() else shutil.which("lint-imports")
    assert program, "lint-imports is missing: pip install -e .[dev]"
    passes(program, "--no-cache")


def test_the_playbook_is_as_it_should_be() -> None:
    """ansible-lint at its strictest. Offline: it would fetch collections, and none is needed."""
    program = Path(sys.executable).parent / "ansible-lint"
    path = f"{program.parent}:{os.environ['PATH']}"  # it starts ansible-playbook
    done = subprocess.run(
        [program, "--offline", "--nocolor", "--config-file", ".ansible-lint.yml"],
        cwd=ROOT / "ansible", env=os.environ | {"PATH": path, "LC_ALL": "C.UTF-8"},
        capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Profile 'production' was required, and it passed" in done.stderr


def shell_scripts() -> Iterator[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    names = (ROOT / name for name in listed.stdout.splitlines())
    for path in (one for one in names if one.suffix in ("", ".sh") and one.is_file()):
        with path.open("rb") as file:
            if file.readline().rstrip() in (b"#!/bin/bash", b"#!/bin/sh", b"#!/usr/bin/env bash"):
                yield path


def test_shell_scripts_are_sound() -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is missing")
    passes("shellcheck", "--external-sources", *map(os.fspath, shell_scripts()))


def modules() -> list[Path]:
    return sorted((ROOT / "llmctl").rglob("*.py"))


def test_modules_fit_in_the_head() -> None:
    sizes = {str(one.relative_to(ROOT)): len(one.read_text().splitlines()) for one in modules()}
    assert {name: size for name, size in sizes.items() if size > LONGEST_MODULE} == {}


def test_functions_fit_in_the_eye() -> None:
    sizes = {
        f"{path.relative_to(ROOT)}:{node.name}": (node.end_lineno or 0) - node.lineno + 1
        for path in modules()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {name: size for name, size in sizes.items() if size > LONGEST_FUNCTION} == {}


def test_every_module_of_llmctl_says_what_it_is() -> None:
    assert [
        str(one) for one in modules() if ast.get_docstring(ast.parse(one.read_text())) is None
    ] == []


def test_tests_do_not_sleep() -> None:
    """Waiting is kit/waiting.py's alone; whoever sleeps for a fixed time is slow or flaky."""
    allowed = ("tests/kit/", "tests/bench/")
    files = (path for path in (ROOT / "tests").rglob("*.py"))
    named = {str(path.relative_to(ROOT)): path.read_text() for path in files}
    found = [name for name, text in named.items() if "time.sleep" + "(" in text]
    assert [name for name in found if not name.startswith(allowed)] == []
