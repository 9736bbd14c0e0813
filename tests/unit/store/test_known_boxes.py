"""store/known_boxes.py: what was last seen of boxes."""

from __future__ import annotations

from support.fakes import HOME, FakeHost
from support.world import World

from llmctl.store.known_boxes import Known, KnownBoxes, NotedStore

FOLDER = f"{HOME}/.cache/llmctl/boxes"


def test_nothing_is_known_at_first() -> None:
    assert KnownBoxes(FakeHost()).read("big") is None


def test_what_was_seen_is_kept_for_its_owner_alone() -> None:
    host = FakeHost()
    known = Known(("coder",), program="/usr/bin/llmctl", url="http://big:1234/v1")
    KnownBoxes(host).keep("big", known)
    assert KnownBoxes(host).read("big") == known
    assert host.mode(f"{FOLDER}/big.json") == 0o600


def test_names_alone_leave_the_rest() -> None:
    host = FakeHost()
    KnownBoxes(host).keep("big", Known(("a",), program="/usr/bin/llmctl"))
    KnownBoxes(host).keep_names("big", ["b"])
    assert KnownBoxes(host).read("big") == Known(("b",), program="/usr/bin/llmctl")


def test_what_did_not_change_is_not_written() -> None:
    host = FakeHost()
    KnownBoxes(host).keep_names("big", ["b"])
    KnownBoxes(host).keep_names("big", ["b"])
    assert host.written == [f"{FOLDER}/big.json"]


def test_any_destination_is_a_name_of_a_file() -> None:
    host = FakeHost()
    KnownBoxes(host).keep_names("ssh://llm@../../etc:22", ["b"])
    assert host.paths(FOLDER) == (f"{FOLDER}/ssh___llm@.._.._etc_22.json",)
    KnownBoxes(host).keep_names("..", ["b"])
    assert f"{FOLDER}/.json" in host.paths(FOLDER)


def test_a_disk_that_takes_nothing_is_no_error() -> None:
    host = FakeHost()
    host.failing[FOLDER] = "Permission denied"
    KnownBoxes(host).keep_names("big", ["b"])
    KnownBoxes(host).forget("big")
    assert KnownBoxes(host).read("big") is None


def test_a_box_is_forgotten() -> None:
    host = FakeHost()
    KnownBoxes(host).keep_names("big", ["b"])
    KnownBoxes(host).forget("big")
    assert KnownBoxes(host).read("big") is None


def test_a_box_is_noted_whenever_its_profiles_are_listed() -> None:
    here, world = FakeHost(), World()
    world.profile("b")
    world.profile("a", "ctx: nonsense")
    store = NotedStore(world.host, here=KnownBoxes(here))
    assert here.written == []
    assert store.names == ("a", "b")
    assert KnownBoxes(here).read("box") == Known(("a", "b"))
