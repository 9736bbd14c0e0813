"""A fresh box of each system, provisioned once and shared by the tests of a module."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from conftest import cache_dir, without_ring
from kit.boxes import LAB, Lab
from kit.commands import KIT
from support.provisioning import (
    PLAYBOOK,
    ROOT,
    SUPPLIES,
    Played,
    Provisioner,
    archive_of,
    offline,
    sha256,
    supplies,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from kit.boxes import Box


KEY = "a-key-kept-to-ourselves"


@pytest.fixture(scope="session")
def provisioner(
    request: pytest.FixtureRequest, tiny_models: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Provisioner]:
    """Ansible, and a lab whose boxes see what they are provisioned from."""
    for command in ([LAB, "missing"], [str(KIT / "get-llama.sh")], [str(PLAYBOOK), "--version"]):
        try:
            done = subprocess.run(command, capture_output=True, text=True)
        except FileNotFoundError as error:
            without_ring(request, "ansible", str(error))
            raise
        if done.returncode or (command[0] == LAB and done.stdout):
            without_ring(request, "ansible", (done.stdout + done.stderr).strip())
    stock = supplies("trixie").parent
    with Lab(binds={"/srv/models": tiny_models, SUPPLIES: stock}) as lab:
        made = Provisioner(lab, tmp_path_factory.mktemp("inventory"))
        yield made
        made.close()


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """llmctl, as its users get it."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--wheel-dir", str(folder), str(ROOT)], check=True, capture_output=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """llama.cpp, as its users get it."""
    path = tmp_path_factory.mktemp("release") / "llama-b11669-bin.tar.gz"
    archive_of(cache_dir() / "llama" / "root" / "usr", path)
    return path


@dataclass
class Ground:
    """A box, how it is provisioned, and what the first run said."""

    box: Box
    provisioner: Provisioner
    variables: dict[str, Any]
    first: Played

    def play(self, *words: str, check: bool = True, **variables: Any) -> Played:
        return self.provisioner.play(self.box, *words, check=check, **self.variables | variables)

    def evidence(self) -> str:
        return self.box.evidence()


def variables_of(system: str, release: Path, wheel: Path) -> dict[str, Any]:
    """What the guide's example says, for a box without a network."""
    build = {"name": "upstream", "method": "package"}
    if system != "forky":  # the first Debian that has a llama.cpp of its own
        build |= {"method": "archive", "archive": str(release), "sha256": sha256(release)}
    return {
        "base_user": "serve",  # who does not exist yet, and is not the one who logs in
        "llama_cpp_builds": [build],
        "llmctl_source": str(wheel),
        "llmctl_config": {"models_dir": "/srv/models", "proxy": {"api_keys": "keys"}},
        "llmctl_keys": [{"name": "tester", "key": KEY}],
        "llmctl_profiles": {
            "tiny": {"model": "llama-script.gguf", "ctx": 512},
            "other": {"model": "qwen3-script.gguf", "ctx": 512},
        },
        "llmctl_enabled": ["tiny"],
    }


def prepare(provisioner: Provisioner, system: str, release: Path, wheel: Path) -> Ground:
    """A fresh box, provisioned."""
    box = provisioner.lab.boot(system)
    variables = variables_of(system, release, wheel) | offline(box, supplies(system))
    return Ground(box, provisioner, variables, provisioner.play(box, **variables))


@pytest.fixture(scope="module")
def ground(provisioner: Provisioner, release: Path, wheel: Path) -> Ground:
    """A trixie that was fresh."""
    return prepare(provisioner, "trixie", release, wheel)
