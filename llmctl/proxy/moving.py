"""Requests whose model takes turns with others by now: its group has become a pool, or is none any
more, or its profile names another group. They go where it goes, so that they still count as what it
works on, and who waits keeps his place."""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from msgspec.structs import replace

from llmctl.proxy.routing import Served, Table
from llmctl.proxy.turns import Turns

if TYPE_CHECKING:
    from llmctl.proxy.parties import Waiting


def move(
    before: Table, served: Iterable[Served], requests: "Iterable[Waiting]",
    turns: Callable[[str], Turns],
) -> None:  # fmt: skip
    """Between two looks. before: what the earlier one gave; turns: the machine of a queue."""
    for one in served:
        was = before.served.get(one.name)
        if was is not None and was.queue != one.queue:
            _move(one.name, turns(was.queue), turns(one.queue))
            for request in requests:
                its = request.served
                if its is not None and (its.name, its.queue) == (was.name, was.queue):
                    request.served = replace(its, group=one.group, is_shared=one.is_shared)


def _move(model: str, old: Turns, new: Turns) -> None:
    mine = {ticket: one for ticket, one in old.waiting.items() if one.model == model}
    for ticket in mine:
        del old.waiting[ticket]
    both = {**new.waiting, **mine}
    new.waiting = OrderedDict(sorted(both.items(), key=lambda pair: pair[1].since))
    under_way = old.busy.pop(model, 0)
    if under_way:
        new.busy[model] = new.busy.get(model, 0) + under_way
