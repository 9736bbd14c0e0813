"""Does the same plan fit once more, as it is? Held against its price on what is free."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from support.placements import BUILD, MIB, cases

from llmctl.core.memory.planner import Planner
from llmctl.core.memory.request import pinned, placing, settled
from llmctl.core.memory.wanted import Room, Wanted

if TYPE_CHECKING:
    from llmctl.core.memory.model import Model


def fits_again(model: Model, rooms: list[Room], words: tuple[str, ...]) -> bool:
    """What engine/replicas.py asks."""
    again = Planner(model, rooms, None, build=BUILD).plan(pinned(Wanted(), words))
    return again.fits and tuple(placing(again)) == words


@given(case=cases(), data=st.data())
@settings(max_examples=150, deadline=None)
def test_the_same_plan_fits_again_where_there_is_room_for_it_and_nowhere_else(
    case: tuple[Model, list[Room]], data: st.DataObject
) -> None:
    model, rooms = case
    found = Planner(model, rooms, None, build=BUILD).plan(Wanted())
    if not found.fits:
        return
    words = tuple(placing(found))
    free = [
        replace(one, free_bytes=data.draw(st.integers(0, one.free_bytes // MIB)) * MIB)
        if data.draw(st.booleans()) else one
        for one in rooms
    ]  # fmt: skip
    has_room = Planner(model, free, None, build=BUILD).priced(found.settings).fits
    said = fits_again(model, free, words)
    assert has_room or not said, "never where there is no room"
    if "-ot" not in words:
        assert said == has_room


def test_words_of_a_profile_that_leaves_nothing_open() -> None:
    argv = ("/b", "--port", "1", "-m", "m", "-c", "4096", "-ngl", "all", "-np", "1", "-ts", "3,1")
    assert settled(argv) == ("-c", "4096", "-ngl", "all", "-ts", "3,1")
    found = pinned(Wanted(all_layers=True), settled(argv))
    assert (found.ctx, found.gpu_layers, found.tensor_split, found.n_cpu_moe) == (
        4096, None, (3, 1), 0
    )  # fmt: skip
