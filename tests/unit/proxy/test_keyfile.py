"""keyfile.py: the file of API keys as it is read, read again, and refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.fakes import FakeHost

from llmctl.proxy.keyfile import KeyFile

if TYPE_CHECKING:
    from llmctl.proxy.keys import Keyring

PATH = "/home/ana/keys"
ONE = "- {name: one, key: sk-0123456789abcdef}\n"
TWO = ONE + "- {name: two, key: sk-fedcba9876543210}\n"


def host(text: str = ONE, *, mode: int = 0o600) -> FakeHost:
    made = FakeHost()
    made.put(PATH, text, mode=mode)
    return made


def names(ring: Keyring | None) -> list[str]:
    assert ring is not None
    return [one.name for one in ring.keys]


def test_no_file_named_means_that_there_are_no_keys() -> None:
    assert KeyFile().read(host(), None) is None


def test_its_keys_are_read() -> None:
    assert names(KeyFile().read(host(), PATH)) == ["one"]


def test_it_is_read_again_when_it_has_changed() -> None:
    box, file = host(), KeyFile()
    first = file.read(box, PATH)
    assert file.read(box, PATH) is first
    box.put(PATH, TWO, mode=0o600)
    assert names(file.read(box, PATH)) == ["one", "two"]


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o602])
def test_one_that_others_may_read_lets_nobody_in(mode: int) -> None:
    ring = KeyFile().read(host(mode=mode), PATH)
    assert names(ring) == []
    assert ring is not None
    assert f"mode {mode:04o}); type: chmod 600 {PATH}" in (ring.problem or "")


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_one_that_is_its_owners_alone_is_good(mode: int) -> None:
    assert names(KeyFile().read(host(mode=mode), PATH)) == ["one"]


def test_chmod_is_noticed() -> None:
    box, file = host(mode=0o644), KeyFile()
    assert names(file.read(box, PATH)) == []
    box._files[PATH].mode = 0o600  # as chmod does: neither size nor time of change differ
    assert names(file.read(box, PATH)) == ["one"]


@pytest.mark.parametrize("wrong", ["- [", "- {name: x}", "\xff"])
def test_a_broken_file_keeps_the_keys_that_were_known(wrong: str) -> None:
    box, file = host(), KeyFile()
    file.read(box, PATH)
    box.put(PATH, wrong.encode("latin-1"), mode=0o600)
    ring = file.read(box, PATH)
    assert names(ring) == ["one"]
    assert ring is not None
    assert (ring.problem or "").startswith(PATH)


def test_a_file_that_is_gone_keeps_them_too() -> None:
    box, file = host(), KeyFile()
    file.read(box, PATH)
    box.remove(PATH)
    ring = file.read(box, PATH)
    assert names(ring) == ["one"]
    assert file.read(box, PATH) is ring  # and it is said once


@pytest.mark.parametrize("trouble", ["missing", "broken", "unreadable"])
def test_a_file_that_was_never_right_lets_nobody_in(trouble: str) -> None:
    box = host("- [")
    if trouble == "missing":
        box.remove(PATH)
    elif trouble == "unreadable":
        box.failing[PATH] = "Permission denied"
    ring = KeyFile().read(box, PATH)
    assert ring is not None
    assert (ring.keys, bool(ring.problem)) == ((), True)


def test_the_keys_of_another_file_are_not_kept() -> None:
    box, file = host(), KeyFile()
    file.read(box, PATH)
    assert names(file.read(box, "/home/ana/other")) == []


def test_what_is_wrong_is_said_by_who_reads_it_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """The Switchboard writes every problem to the journal, once."""
    ring = KeyFile().read(host(mode=0o644), PATH)
    assert ring is not None
    assert "others may read it" in (ring.problem or "")
    assert capsys.readouterr().err == ""
