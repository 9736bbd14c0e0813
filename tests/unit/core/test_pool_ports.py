"""core/pool_ports.py: members of a pool run together, so each has ports of its own, for good."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from llmctl.core.config import Config, Group
from llmctl.core.pool_ports import pool_ports
from llmctl.core.profile import Profile
from llmctl.core.profile_parts import Replicas

POOL = Config(groups={"gpu": Group(port=12340, mode="pool"), "cpu": Group(port=12360)})


def sample(name: str, most: int = 1, **keys: Any) -> Profile:
    return Profile(name=name, model="a.gguf", replicas=Replicas(max=most), **keys)


def test_members_have_ports_in_steps_above_the_groups_own() -> None:
    members = [sample("b"), sample("a"), sample("c")]
    assert pool_ports(POOL, members, {}) == {"a": 12350, "b": 12370, "c": 12380}


def test_an_exclusive_group_has_none() -> None:
    assert pool_ports(Config(), [sample("a")], {}) == {}


def test_what_is_installed_stays_and_a_newcomer_moves_nobody() -> None:
    members = [sample("a"), sample("b"), sample("c")]
    installed = {"b": 12350, "c": 12400}
    assert pool_ports(POOL, members, installed) == {"a": 12370, "b": 12350, "c": 12400}


def test_a_port_from_when_the_group_was_exclusive_is_given_up() -> None:
    """A server may still listen there, started before."""
    members = [sample("a"), sample("b")]
    assert pool_ports(POOL, members, {"a": 12340, "b": 12340}) == {"a": 12350, "b": 12370}


def test_replicas_have_the_ports_after_their_first_instance() -> None:
    members = [sample("a", 9), sample("b", 12), sample("c")]
    assert pool_ports(Config(groups={"gpu": Group(port=12340, mode="pool")}), members, {}) == {
        "a": 12350, "b": 12360, "c": 12380,
    }  # fmt: skip


def test_what_is_written_goes_first() -> None:
    """A group and a resident say their ports; a member in their way moves."""
    resident = sample("r", 3, group="none", port=12351)
    members = [sample("a", 4), resident]
    assert pool_ports(POOL, members, {"a": 12350}) == {"a": 12370}
    assert pool_ports(POOL, [sample("a")], {"a": 12360}) == {"a": 12350}


def test_who_is_gone_or_broken_keeps_its_ports() -> None:
    assert pool_ports(POOL, [sample("a")], {"gone": 12350}) == {"a": 12370}


def test_there_is_an_end_to_ports() -> None:
    config = Config(groups={"gpu": Group(port=65500, mode="pool")})
    found = pool_ports(config, [sample(name) for name in "abcdef"], {})
    assert found == {"a": 65510, "b": 65520}


@given(st.data())
def test_no_port_is_anybody_elses_and_what_was_given_stays(data: st.DataObject) -> None:
    names = st.lists(st.sampled_from("abcdefgh"), unique=True)
    most = {name: data.draw(st.integers(1, 25)) for name in "abcdefgh"}
    installed: dict[str, int] = {}
    known: list[str] = []
    for _ in range(data.draw(st.integers(1, 4))):
        known = [*known, *(name for name in data.draw(names) if name not in known)]
        members = [sample(name, most[name]) for name in known]
        found = pool_ports(POOL, members, installed)
        assert found.keys() == set(known)
        assert found.items() >= installed.items()
        spans = [{found[n], *range(found[n] + 2, found[n] + most[n] + 1)} for n in known]
        assert all(one.isdisjoint(two) for one, two in itertools.combinations(spans, 2))
        assert all(one.isdisjoint({12340, 12360}) for one in spans)
        some = data.draw(st.lists(st.sampled_from(known), unique=True)) if known else []
        installed |= {name: found[name] for name in some}
