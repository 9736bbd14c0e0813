"""store/hosts.py: hosts.yaml, read and edited."""

from __future__ import annotations

import pytest
from support.fakes import HOME, FakeHost

from llmctl.core.hosts import HostEntry
from llmctl.errors import ProfileError
from llmctl.store.hosts import HostsFile

PATH = f"{HOME}/.config/llmctl/hosts.yaml"


def machine(text: str | None = None) -> FakeHost:
    host = FakeHost(name="local")
    if text is not None:
        host.put(PATH, text)
    return host


def test_without_a_file_there_are_no_boxes() -> None:
    assert HostsFile(machine()).boxes == {}


def test_boxes_are_read_by_name_in_the_order_of_the_file() -> None:
    boxes = HostsFile(machine("boxes:\n  z: {ssh: z1}\n  a: {ssh: a1}\n")).boxes
    assert list(boxes) == ["z", "a"]
    assert boxes["z"] == HostEntry(ssh="z1")


def test_a_file_is_parsed_once_for_all_commands() -> None:
    host = machine("boxes: {a: {ssh: b}}")
    assert HostsFile(host).boxes
    host.put(PATH, "boxes: {a: {ssh: b}}")  # another time of change
    assert host.written == [f"{HOME}/.cache/llmctl/documents.json"]
    assert HostsFile(host).boxes
    assert HostsFile(host).boxes
    assert len(host.written) == 2


def test_the_first_box_makes_the_file() -> None:
    host = machine()
    HostsFile(host).add("big", HostEntry(ssh="llm@big", mac="00:11:22:33:44:55", notes="3090: two"))
    assert host.text(PATH) == (
        'boxes:\n  big: {ssh: llm@big, mac: "00:11:22:33:44:55", notes: "3090: two"}\n'
    )
    assert HostsFile(host).boxes["big"].notes == "3090: two"


def test_a_box_that_is_added_leaves_comments_and_order() -> None:
    text = "# mine\nboxes:\n  # the closet\n  a:\n    ssh: a1  # slow\n\n# end\n"
    host = machine(text)
    file = HostsFile(host)
    file.add("b", HostEntry(ssh="b1"))
    assert host.text(PATH) == (
        "# mine\nboxes:\n  # the closet\n  a:\n    ssh: a1  # slow\n  b: {ssh: b1}\n\n# end\n"
    )
    assert list(file.boxes) == ["a", "b"]


def test_a_box_that_is_there_is_written_anew() -> None:
    host = machine("boxes:\n  a:\n    ssh: a1\n    notes: old\n  b: {ssh: b1}\n")
    file = HostsFile(host)
    file.add("a", HostEntry(ssh="a2"))
    assert file.boxes == {"a": HostEntry(ssh="a2"), "b": HostEntry(ssh="b1")}


def test_a_box_goes_and_the_rest_stays() -> None:
    host = machine("boxes:\n  a:\n    ssh: a1\n\n  # the second\n  b: {ssh: b1}\n")
    HostsFile(host).remove("a")
    assert host.text(PATH) == "boxes:\n\n  # the second\n  b: {ssh: b1}\n"


def test_the_last_box_may_go_and_another_come() -> None:
    host = machine("boxes:\n  a: {ssh: a1}\n")
    file = HostsFile(host)
    file.remove("a")
    assert file.boxes == {}
    file.add("b", HostEntry(ssh="b1"))
    assert file.boxes == {"b": HostEntry(ssh="b1")}


def test_a_file_for_its_owner_alone_stays_so() -> None:
    host = machine()
    HostsFile(host).add("a", HostEntry(ssh="a1"))
    assert host.mode(PATH) == 0o644
    host.put(PATH, host.text(PATH), mode=0o600)
    HostsFile(host).add("b", HostEntry(ssh="b1"))
    assert host.mode(PATH) == 0o600


def test_an_empty_section_takes_its_first_box() -> None:
    host = machine("boxes: {}\n")
    HostsFile(host).add("b", HostEntry(ssh="b1"))
    assert HostsFile(host).boxes == {"b": HostEntry(ssh="b1")}


def test_a_file_in_another_style_is_left_alone_with_what_to_write() -> None:
    text = "boxes: {a: {ssh: a1}}\n"
    host = machine(text)
    with pytest.raises(ProfileError) as caught:
        HostsFile(host).add("b", HostEntry(ssh="b1"))
    assert caught.value.hint == "Write there yourself, below `boxes:`: b: {ssh: b1}"
    with pytest.raises(ProfileError) as caught:
        HostsFile(host).remove("a")
    assert caught.value.hint == "Remove a there yourself."
    assert host.text(PATH) == text


def test_what_is_added_must_be_right() -> None:
    host = machine()
    with pytest.raises(ProfileError, match=r"boxes\.local: local is the machine"):
        HostsFile(host).add("local", HostEntry(ssh="x"))
    assert host.paths(HOME) == ()


def test_a_broken_file_is_named() -> None:
    with pytest.raises(ProfileError, match=rf"{PATH}: boxes\.a\.ssh: missing"):
        _ = HostsFile(machine("boxes: {a: {}}")).boxes
