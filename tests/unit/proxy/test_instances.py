"""instances.py: which instance gets a request; by examples, and against a model."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from llmctl.proxy.instances import (
    AGAIN_AFTER_S,
    FIRST,
    Action,
    Instances,
    Seat,
    StartReplica,
    StopReplica,
)

IDLE = 600.0


def three(slots: int = 1) -> Instances:
    """Three that answer, and have nothing to do."""
    made = Instances(most=3, slots=slots, idle_timeout=IDLE)
    assert made.observed({2, 3}, (), 0.0) == []
    return made


def test_the_first_one_is_enough_while_it_has_a_slot() -> None:
    made = Instances(most=3, slots=2)
    assert made.arrive(1, (), 0.0) == [Seat(1, 1)]
    assert made.arrive(2, (), 0.0) == [Seat(2, 1)]
    assert made.arrive(3, (), 0.0) == [StartReplica(2)]


def test_who_waits_for_a_start_takes_a_slot_that_becomes_free_first() -> None:
    made = Instances(most=2)
    made.arrive(1, (), 0.0)
    assert made.arrive(2, (), 0.0) == [StartReplica(2)]
    assert made.arrive(3, (), 0.0) == []
    assert made.leave(1, 1.0) == [Seat(2, 1)]
    assert made.started(2, 2.0) == [Seat(3, 2)]


def test_one_start_at_a_time_and_no_more_than_may_be() -> None:
    made = Instances(most=3)
    for ticket in range(5):
        made.arrive(ticket, (), 0.0)
    assert made.starting == 2
    assert made.started(2, 1.0) == [Seat(1, 2), StartReplica(3)]
    assert made.started(3, 2.0) == [Seat(2, 3), Seat(3, 1), Seat(4, 2)]


def test_where_none_fits_the_least_busy_is_taken_and_nothing_tried_for_a_while() -> None:
    made = Instances(most=2)
    made.arrive(1, (), 0.0)
    assert made.arrive(2, (), 0.0) == [StartReplica(2)]
    assert made.failed(2, 1.0) == [Seat(2, 1)]
    assert made.arrive(3, (), 2.0) == [Seat(3, 1)]
    assert made.arrive(4, (), 1.0 + AGAIN_AFTER_S) == [StartReplica(2)]


def test_a_word_from_a_person_ends_the_while() -> None:
    made = Instances(most=2)
    made.arrive(1, (), 0.0)
    made.arrive(2, (), 0.0)
    made.failed(2, 1.0)
    made.reset()
    assert made.arrive(3, (), 1.0) == [StartReplica(2)]


def test_a_conversation_goes_where_it_was() -> None:
    made = three()
    made.arrive(1, (10,), 0.0)
    made.arrive(2, (20,), 0.0)
    made.leave(1, 0.0)
    made.leave(2, 0.0)
    assert made.arrive(3, (20, 21), 1.0) == [Seat(3, 2)]
    assert made.arrive(4, (20, 22), 1.0) == [Seat(4, 1)]  # it is busy


def test_the_longest_prefix_tells() -> None:
    made = three()
    made.arrive(1, (1, 10), 0.0)
    made.arrive(2, (1, 20), 0.0)
    made.leave(1, 0.0)
    made.leave(2, 0.0)
    assert made.arrive(3, (1, 10, 11), 1.0) == [Seat(3, 1)]
    assert made.arrive(4, (1, 20, 21), 1.0) == [Seat(4, 2)]


def test_replicas_stop_when_they_had_nothing_to_do_for_long() -> None:
    made = three()
    made.arrive(1, (), 0.0)
    made.arrive(2, (), 0.0)
    assert made.tick(IDLE - 1) == []
    assert made.tick(IDLE) == [StopReplica(3)]
    made.leave(1, IDLE)
    made.leave(2, IDLE)
    assert made.tick(2 * IDLE - 1) == []
    assert made.tick(2 * IDLE) == [StopReplica(2)]
    assert made.tick(9 * IDLE) == []


def test_what_stops_gets_nothing_and_is_not_believed_to_be_up() -> None:
    made = three()
    assert made.tick(IDLE) == [StopReplica(2), StopReplica(3)]
    made.observed({2, 3}, (), IDLE)
    assert made.arrive(1, (), IDLE) == [Seat(1, 1)]
    assert made.arrive(2, (), IDLE) == [Seat(2, 1)]  # two may come back when they are gone
    made.stopped(2)
    made.observed({3}, (), IDLE)
    assert made.arrive(3, (), IDLE) == [StartReplica(2)]


def test_memory_that_is_needed_takes_those_with_nothing_to_do() -> None:
    made = three()
    made.arrive(1, (), 0.0)
    made.arrive(2, (), 0.0)
    assert made.spare == [3]
    assert made.trim() == [StopReplica(3)]
    assert made.spare == []
    assert made.busy == {1: 1, 2: 1}


def test_none_is_started_while_memory_is_needed() -> None:
    made = Instances(most=3)
    made.is_held = True
    made.arrive(1, (), 0.0)
    assert made.arrive(2, (), 0.0) == [Seat(2, 1)]
    made.is_held = False
    assert made.arrive(3, (), 0.0) == [StartReplica(2)]


def test_fewer_are_allowed_by_now() -> None:
    made = three()
    made.arrive(1, (), 0.0)
    made.arrive(2, (), 0.0)
    made.most = 1
    assert made.tick(1.0) == [StopReplica(3)]
    made.leave(2, 1.0)
    assert made.tick(1.0) == [StopReplica(2)]


def test_one_that_died_is_not_counted_and_not_replaced_at_once() -> None:
    made = three()
    for ticket in (1, 2, 3):
        made.arrive(ticket, (), 0.0)
    assert made.observed({3}, (), 1.0) == []
    assert made.busy == {1: 1, 3: 1}
    assert made.leave(2, 1.0) == []
    assert made.arrive(4, (), 1.0) == [Seat(4, 1)]
    assert made.busy == {1: 2, 3: 1}


def test_one_that_is_doubted_gets_nothing_until_it_is_seen_again() -> None:
    made = three()
    made.arrive(1, (7,), 0.0)
    made.leave(1, 0.0)
    made.arrive(2, (), 0.0)
    made.arrive(3, (8,), 0.0)
    made.doubt(2, 0.0)
    made.leave(3, 0.0)
    assert made.arrive(4, (8,), 0.0) == [Seat(4, 3)]
    made.observed({2, 3}, (), 1.0)
    made.leave(4, 1.0)
    assert made.busy == {1: 1, 2: 0, 3: 0}


def test_what_somebody_else_started_is_waited_for() -> None:
    made = Instances(most=2)
    made.arrive(1, (), 0.0)
    made.observed((), {2}, 0.0)
    assert made.arrive(2, (), 0.0) == []
    assert made.observed({2}, (), 1.0) == [Seat(2, 2)]


class Model(RuleBasedStateMachine):
    """Any order of events; what systemd says is the truth, some looks later."""

    @initialize(most=st.integers(1, 4), slots=st.integers(1, 3))
    def begin(self, most: int, slots: int) -> None:
        self.most, self.slots = most, slots
        self.made = Instances(most=most, slots=slots, idle_timeout=IDLE)
        self.now, self.next = 0.0, 1
        self.runs: set[int] = set()
        self.starting: int | None = None
        self.stopping: set[int] = set()
        self.seats: dict[int, int] = {}
        self.live: set[int] = set()

    def carry_out(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Seat(ticket, number):
                    assert ticket in self.live
                    assert ticket not in self.seats, "seated twice"
                    assert number not in self.stopping
                    self.seats[ticket] = number
                case StartReplica(number):
                    assert self.starting is None, "two starts at a time"
                    assert FIRST < number <= self.most
                    assert number not in self.stopping
                    self.starting = number
                case StopReplica(number):
                    assert number != FIRST
                    assert number not in self.seats.values() or number not in self.runs
                    assert number not in self.stopping
                    self.stopping.add(number)

    @rule(keys=st.lists(st.integers(1, 5), max_size=3))
    def arrives(self, keys: list[int]) -> None:
        ticket, self.next = self.next, self.next + 1
        self.live.add(ticket)
        self.carry_out(self.made.arrive(ticket, tuple(keys), self.now))

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def leaves(self, data: st.DataObject) -> None:
        ticket = data.draw(st.sampled_from(sorted(self.live)))
        self.live.remove(ticket)
        self.seats.pop(ticket, None)
        self.carry_out(self.made.leave(ticket, self.now))

    @precondition(lambda self: self.starting)
    @rule(is_well=st.booleans())
    def start_ends(self, is_well: bool) -> None:  # hypothesis gives it
        assert self.starting is not None
        number, self.starting = self.starting, None
        if is_well:
            self.runs.add(number)
            self.carry_out(self.made.started(number, self.now))
        else:
            self.carry_out(self.made.failed(number, self.now))

    @precondition(lambda self: self.stopping)
    @rule(data=st.data())
    def stop_ends(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.stopping)))
        self.stopping.remove(number)
        self.runs.discard(number)
        self.made.stopped(number)

    @precondition(lambda self: self.runs)
    @rule(data=st.data())
    def dies(self, data: st.DataObject) -> None:
        """Its requests notice by themselves, in any order with the look."""
        self.runs.discard(data.draw(st.sampled_from(sorted(self.runs))))

    @rule()
    def looks(self) -> None:
        coming = {self.starting} - {None}
        self.carry_out(self.made.observed(self.runs, coming, self.now))  # type: ignore[arg-type]

    @rule(seconds=st.sampled_from([1.0, AGAIN_AFTER_S, IDLE]))
    def waits(self, seconds: float) -> None:
        self.now += seconds
        self.carry_out(self.made.tick(self.now))

    @invariant()
    def every_request_has_one_place(self) -> None:
        assert self.live == self.seats.keys() | self.made.held.keys()
        assert not self.seats.keys() & self.made.held.keys()

    @invariant()
    def counts_are_right(self) -> None:
        for number, count in self.made.busy.items():
            mine = [one for one in self.seats.values() if one == number]
            assert count <= len(mine)
            if number == FIRST:
                assert count == len(mine)

    @invariant()
    def nobody_waits_for_nothing(self) -> None:
        if self.made.held:
            assert all(count >= self.slots for count in self.made.busy.values())
            assert self.made.starting is not None or self.made.coming
        assert self.made.starting == self.starting

    @invariant()
    def there_are_not_too_many(self) -> None:
        assert len(self.made.busy) <= self.most
        assert FIRST in self.made.busy

    def teardown(self) -> None:
        if not hasattr(self, "live"):
            return
        for ticket in sorted(self.live):
            self.live.discard(ticket)
            self.seats.pop(ticket, None)
            self.carry_out(self.made.leave(ticket, self.now))
        assert not self.made.held
        assert set(self.made.busy.values()) <= {0}


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
