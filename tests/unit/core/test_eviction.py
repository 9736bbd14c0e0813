"""Which members of a pool go for another one."""

from itertools import combinations
from math import fsum, isclose
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from llmctl.core.eviction import HOST, Member, cheapest

GIB = 1 << 30
DEVICES = ("CUDA0", "CUDA1", HOST)


def member(name: str, idle_s: float = 60.0, reload_s: float = 10.0, **holds: int) -> Member:
    held = {device: size * GIB for device, size in holds.items()}
    return Member(name=name, holds=held or {"CUDA0": 8 * GIB}, idle_s=idle_s, reload_s=reload_s)


def goes(need: int, free: int, *members: Member) -> tuple[str, ...] | None:
    return cheapest({"CUDA0": need * GIB}, {"CUDA0": free * GIB}, members)


def test_nobody_goes_where_there_is_room() -> None:
    assert goes(8, 8, member("a")) == ()


def test_the_longest_idle_one_goes() -> None:
    assert goes(8, 0, member("a", idle_s=5), member("b", idle_s=600), member("c")) == ("b",)


def test_of_two_that_are_alike_the_quicker_to_load_goes() -> None:
    assert goes(8, 0, member("a", reload_s=60), member("b", reload_s=5)) == ("b",)


def test_of_two_that_are_alike_the_smaller_one_goes() -> None:
    assert goes(8, 0, member("a", CUDA0=20), member("b", CUDA0=9)) == ("b",)


def test_one_large_member_may_be_cheaper_than_several_small_ones() -> None:
    small = [member(f"s{n}", reload_s=20, CUDA0=4) for n in range(3)]
    assert goes(12, 0, *small, member("large", reload_s=20, CUDA0=12)) == ("large",)


def test_several_go_where_one_does_not_do() -> None:
    assert goes(20, 3, member("a"), member("b"), member("c", idle_s=0)) == ("a", "b", "c")
    assert goes(20, 4, member("a"), member("b"), member("c", idle_s=0)) == ("a", "b")


def test_none_goes_where_all_together_would_not_do() -> None:
    """A member that is stopped in vain is the worst of both."""
    assert goes(40, 0, member("a"), member("b")) is None


def test_who_is_busy_or_pinned_stays() -> None:
    busy, pinned = member("busy", idle_s=0), member("pinned", idle_s=9999)
    kept = [replaced(busy, busy=True), replaced(pinned, pinned=True)]
    assert goes(8, 0, *kept) is None
    assert goes(8, 0, *kept, member("c")) == ("c",)


def replaced(one: Member, *, busy: bool = False, pinned: bool = False) -> Member:
    return Member(name=one.name, holds=one.holds, idle_s=one.idle_s, busy=busy, pinned=pinned)


def test_the_room_must_be_on_every_device() -> None:
    members = [member("a", CUDA0=20), member("b", CUDA1=20), member("c", CUDA0=4, CUDA1=4)]
    need = {"CUDA0": 4 * GIB, "CUDA1": 4 * GIB}
    assert cheapest(need, {}, members) == ("c",)
    assert cheapest({**need, HOST: 1}, {}, members) is None
    assert cheapest({**need, HOST: 1}, {HOST: 1}, members) == ("c",)


def test_what_another_device_has_too_little_of_does_not_matter() -> None:
    """Only what the new one needs counts, not that a device is full."""
    assert cheapest({"CUDA0": 1}, {"CUDA0": 1, "CUDA1": 0}, [member("a", CUDA1=1)]) == ()


def test_who_gives_nothing_of_what_is_needed_stays() -> None:
    assert goes(8, 0, member("a", idle_s=9999, CUDA1=20), member("b", idle_s=0)) == ("b",)


sizes = st.integers(0, 24).map(lambda size: size * GIB // 2)
held = st.dictionaries(st.sampled_from(DEVICES), sizes, max_size=3)


@st.composite
def pools(draw: st.DrawFn) -> list[Member]:
    return [
        Member(
            name=f"m{number}", holds=draw(held), idle_s=draw(st.floats(0, 1e5)),
            reload_s=draw(st.floats(0, 600)), busy=draw(st.booleans()), pinned=number == 3,
        )
        for number in range(draw(st.integers(0, 7)))
    ]  # fmt: skip


@given(need=held, free=held, members=pools())
def test_it_is_what_trying_all_sets_gives(
    need: dict[str, int], free: dict[str, int], members: list[Member]
) -> None:
    found = cheapest(need, free, members)
    fitting = list(fitting_sets(need, free, members))
    if not fitting:
        assert found is None
        return
    assert found is not None
    assert set(found) in [{one.name for one in group} for group in fitting]
    by_name = {one.name: one for one in members}
    best = min(fsum(one.price for one in group) for group in fitting)
    assert isclose(fsum(by_name[name].price for name in found), best, rel_tol=1e-9)


def fitting_sets(
    need: dict[str, int], free: dict[str, int], members: list[Member]
) -> list[tuple[Member, ...]]:
    may_go = [one for one in members if not one.busy and not one.pinned]
    groups = (group for size in range(len(may_go) + 1) for group in combinations(may_go, size))
    return [group for group in groups if fits(need, free, group)]


def fits(need: dict[str, int], free: dict[str, int], gone: tuple[Member, ...]) -> bool:
    return all(
        size <= free.get(device, 0) + sum(one.holds.get(device, 0) for one in gone)
        for device, size in need.items()
    )


def test_thirty_members_are_no_matter() -> None:
    """Alike they are the worst case of a search; it must come to an end."""
    alike = [member(f"m{number}") for number in range(30)]
    found = goes(8 * 15, 0, *alike)
    assert found is not None
    assert len(found) == 15
    dice = Random(7)
    unlike = [
        member(f"m{n}", dice.uniform(0, 900), dice.uniform(1, 90), CUDA0=dice.randint(1, 24))
        for n in range(30)
    ]
    found = goes(160, 5, *unlike)
    assert found is not None
