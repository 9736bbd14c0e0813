"""core/fleet.py: names and ports are each somebody's alone."""

from __future__ import annotations

import pytest

from llmctl.core.config import Config, Group
from llmctl.core.fleet import clashes
from llmctl.core.profile import Profile
from llmctl.core.profile_parts import Replicas

CONFIG = Config(groups={"gpu": Group(port=12340), "vision": Group(port=12360)})


def sample(name: str, **keys: object) -> Profile:
    return Profile(name=name, **{"model": "a.gguf", **keys})  # type: ignore[arg-type]


def resident(name: str, port: int) -> Profile:
    return sample(name, group="none", port=port)


@pytest.mark.parametrize(
    ("profile", "others", "path", "text"),
    [
        (
            sample("a", aliases=("x", "b")),
            [sample("b")],
            ("aliases", 1),
            "of b already",
        ),
        (
            sample("a", aliases=("x",)),
            [sample("b", aliases=("x",))],
            ("aliases", 0),
            "of b already",
        ),
        (resident("a", 12400), [resident("b", 12400)], ("port",), "12400 is b's"),
        (resident("a", 12360), [], ("port",), "12360 is group vision's"),
    ],
    ids=["name", "alias", "resident", "group"],
)
def test_what_is_anothers_is_refused(
    profile: Profile, others: list[Profile], path: tuple[str | int, ...], text: str
) -> None:
    ((where, said),) = clashes(profile, [profile, *others], CONFIG)
    assert where == path
    assert said.endswith(text)


def test_members_of_a_group_share_its_port() -> None:
    assert list(clashes(sample("a"), [sample("a"), sample("b")], CONFIG)) == []


def test_a_profile_does_not_clash_with_itself() -> None:
    mine = sample("a", aliases=("x",), group="none", port=12400)
    assert list(clashes(mine, [mine], CONFIG)) == []


def copied(name: str, most: int, **keys: object) -> Profile:
    return sample(name, replicas=Replicas(max=most), **keys)


@pytest.mark.parametrize(
    ("profile", "others", "text"),
    [
        (copied("a", 20), [], "12360, which is group vision's"),
        (copied("a", 3), [resident("b", 12343)], "12343, which is b's"),
        (copied("a", 3, group="none", port=12341), [copied("b", 3)], "12343, which is b's"),
        (copied("a", 3, group="none", port=12338), [], "12340, which is group gpu's"),
        (copied("a", 3, group="none", port=65533), [], "65536; there is none"),
        (resident("b", 12343), [copied("a", 3)], "12343 is a's"),
    ],
)
def test_a_replicas_port_is_nobody_elses(
    profile: Profile, others: list[Profile], text: str
) -> None:
    found = [said for _, said in clashes(profile, others, CONFIG)]
    assert any(text in said for said in found), found


def test_members_of_a_group_share_the_ports_of_their_replicas() -> None:
    assert not list(clashes(copied("a", 3), [copied("b", 4), sample("c")], CONFIG))


POOL = Config(groups={"gpu": Group(port=12340, mode="pool")})


def test_members_of_a_pool_make_way_for_ports_that_are_written() -> None:
    members = [copied("a", 40), copied("b", 40)]
    one = copied("r", 3, group="none", port=12342)
    assert list(clashes(members[0], [*members, one], POOL)) == []
    assert list(clashes(one, [*members, one], POOL)) == []


def test_a_pin_is_for_a_pool() -> None:
    pinned = sample("a", pin=True)
    assert list(clashes(pinned, [pinned], POOL)) == []
    ((where, said),) = clashes(pinned, [pinned], CONFIG)
    assert where == ("pin",)
    assert "only in a pool" in said
