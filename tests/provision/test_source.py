"""A build from source with real compilers: cmake, ninja and g++ of the box's distribution."""

from __future__ import annotations

import io
import tarfile
from typing import TYPE_CHECKING, Any

import pytest
from support.provisioning import offline, sha256, soak, supplies

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from kit.boxes import Box
    from support.provisioning import Provisioner

HOUR = 3600
pytestmark = pytest.mark.timeout(2 * HOUR)
PROJECT = {
    "CMakeLists.txt": """\
cmake_minimum_required(VERSION 3.20)
project(small CXX)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
add_executable(llama-server server.cpp)
""",
    "server.cpp": '#include <cstdio>\nint main() { std::puts("version: small"); }\n',
}


@pytest.fixture(scope="module")
def builder(provisioner: Provisioner) -> Iterator[tuple[Box, dict[str, Any]]]:
    """A fresh trixie that can install compilers."""
    if not soak():
        pytest.skip("ring ansible: builds with real compilers need LLMCTL_SOAK=1")
    box = provisioner.lab.boot("trixie")
    yield box, {"base_user": "serve"} | offline(box, supplies("trixie", "build"))
    box.remove()


def build(
    provisioner: Provisioner, builder: tuple[Box, dict[str, Any]], archive: Path
) -> tuple[str, list[str]]:
    """What the built program says of itself, and what a second run changes."""
    box, variables = builder
    one = {"name": "own", "method": "source", "archive": str(archive), "sha256": sha256(archive)}
    given = variables | {"llama_cpp_builds": [one]}
    provisioner.play(box, "--tags", "base,gpu,llama_cpp", timeout=HOUR, **given)
    done = box.root("/opt/llama.cpp/own/current/llama-server --version")
    again = provisioner.play(box, "--tags", "llama_cpp", **given)
    return done.stdout + done.stderr, again.changed


def test_a_small_project_is_built(
    provisioner: Provisioner, builder: tuple[Box, dict[str, Any]], tmp_path: Path
) -> None:
    archive = tmp_path / "small.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for name, text in PROJECT.items():
            member = tarfile.TarInfo(f"small-1/{name}")
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    assert build(provisioner, builder, archive) == ("version: small\n", [])


def test_llama_cpp_is_built(provisioner: Provisioner, builder: tuple[Box, dict[str, Any]]) -> None:
    said, again = build(provisioner, builder, supplies("trixie", "build") / "llama.cpp.tar.gz")
    assert "version:" in said
    assert again == []
