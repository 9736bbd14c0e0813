"""core/fleet.py: names and ports are each somebody's alone."""

from __future__ import annotations

import pytest

from llmctl.core.config import Config, Group
from llmctl.core.fleet import clashes
from llmctl.core.profile import Profile

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
