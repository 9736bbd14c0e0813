"""Commands import what they need and no more: what `make bench` measures, held without a clock."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from usermgr.site import ManagerSite

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from kit.managers import UserManager

HEAVY = {"dataclasses", "hashlib", "jinja2", "json", "rich", "ssl", "email", "tempfile", "yaml"}
FAR = {"paramiko", "cryptography", "llmctl.host.ssh", "llmctl.engine.survey"}
"""What only a box elsewhere needs."""


Imported = Callable[..., set[str]]


@pytest.fixture
def imported(user_manager: UserManager, fake_llama: Path) -> Iterator[Imported]:
    site = ManagerSite(user_manager, str(fake_llama)).set_up()
    site.profile("one")
    site.llmctl("apply")
    site.llmctl("switch", "one")

    def run(*argv: str) -> set[str]:
        command = (sys.executable, "-X", "importtime", "-m", "llmctl", *argv)
        told = site.run(*command).stderr.splitlines()
        lines = [line for line in told if line.startswith("import time:")]
        assert lines
        return {line.rpartition("|")[2].strip() for line in lines}

    yield run
    site.close()


def test_status_imports_nothing_heavy(imported: Imported) -> None:
    seen = imported("status")
    assert "llmctl.engine.status" in seen
    assert not seen & {*HEAVY, *FAR, "typer", "llmctl.engine.switch"}


def test_a_switch_to_a_unit_that_is_current_renders_nothing(imported: Imported) -> None:
    seen = imported("switch", "one")
    assert "llmctl.engine.switch" in seen
    assert not seen & {"jinja2", "yaml", "hashlib", "ssl", "email", "rich.console", *FAR}
