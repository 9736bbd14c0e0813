"""turns.py: whose turn it is. Scripts of events, and then any order of them."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from llmctl.proxy.dialect import Trouble
from llmctl.proxy.turns import Action, Admit, Cut, Refuse, StartSwitch, Turns

MAX_WAIT, DRAIN = 30.0, 60.0
BROKEN = Trouble(503, "switch_failed", "It is broken.")


def running(model: str | None = "a", *, autoswitch: bool = True) -> Turns:
    turns = Turns(max_wait=MAX_WAIT, drain_timeout=DRAIN, autoswitch=autoswitch)
    turns.observed(model, None, 0.0)
    return turns


def test_a_request_for_the_model_that_is_ready_goes_ahead() -> None:
    turns = running("a")
    assert turns.arrive(1, "a", 0.0) == [Admit(1)]
    assert turns.busy == {"a": 1}


def test_a_request_for_another_model_switches_when_nothing_is_under_way() -> None:
    turns = running("a")
    assert turns.arrive(1, "b", 0.0) == [StartSwitch("b")]
    assert turns.switched("b", 1.0) == [Admit(1)]


def test_what_is_under_way_ends_first() -> None:
    turns = running("a")
    turns.arrive(1, "a", 0.0)
    assert turns.arrive(2, "b", 0.0) == []
    assert turns.done("a", 5.0) == [StartSwitch("b")]


def test_six_requests_in_turn_cost_one_switch() -> None:
    """ABABAB with A running: A's go ahead, B's wait together."""
    turns = running("a")
    done: list[Action] = []
    for ticket, model in enumerate("ababab"):
        done += turns.arrive(ticket, model, 0.0)
    assert done == [Admit(0), Admit(2), Admit(4)]
    assert [turns.done("a", 1.0) for _ in range(3)] == [[], [], [StartSwitch("b")]]
    assert turns.switched("b", 2.0) == [Admit(1), Admit(3), Admit(5)]
    assert turns.switches == 1


def test_six_requests_in_turn_cost_two_switches_when_nothing_runs() -> None:
    turns = running(None)
    assert turns.arrive(0, "a", 0.0) == [StartSwitch("a")]
    for ticket, model in enumerate("babab", start=1):
        assert turns.arrive(ticket, model, 0.0) == []
    assert turns.switched("a", 1.0) == [Admit(0), Admit(2), Admit(4)]
    assert [turns.done("a", 2.0) for _ in range(3)] == [[], [], [StartSwitch("b")]]


def test_nobody_starves() -> None:
    """After max_wait no further request for the running model goes ahead."""
    turns = running("a")
    turns.arrive(1, "a", 0.0)
    turns.arrive(2, "b", 1.0)
    assert turns.arrive(3, "a", MAX_WAIT) == [Admit(3)]
    assert turns.arrive(4, "a", MAX_WAIT + 1.0) == []
    turns.done("a", MAX_WAIT + 2.0)
    assert turns.done("a", MAX_WAIT + 3.0) == [StartSwitch("b")]


def test_what_does_not_end_is_cut_in_the_end() -> None:
    turns = running("a")
    turns.arrive(1, "a", 0.0)
    turns.arrive(2, "b", 0.0)
    assert turns.tick(MAX_WAIT) == []
    assert turns.tick(MAX_WAIT + DRAIN - 0.1) == []
    assert turns.tick(MAX_WAIT + DRAIN) == [Cut("a")]
    assert turns.done("a", MAX_WAIT + DRAIN) == [StartSwitch("b")]


def test_who_waited_for_the_new_model_goes_ahead_however_long_others_have() -> None:
    """Else two models could take turns for ever without serving anybody."""
    turns = running("a")
    turns.arrive(1, "a", 0.0)
    turns.arrive(2, "b", 0.0)
    turns.arrive(3, "c", 0.0)
    turns.done("a", 2 * MAX_WAIT)
    assert turns.switching == "b"
    assert turns.switched("b", 3 * MAX_WAIT) == [Admit(2)]
    assert turns.done("b", 3 * MAX_WAIT) == [StartSwitch("c")]


def test_a_failure_is_told_to_who_waits_for_that_model_only() -> None:
    turns = running("a")
    turns.arrive(1, "b", 0.0)
    turns.arrive(2, "a", 0.0)
    assert turns.failed("b", BROKEN, 1.0, ready="a") == [Refuse(1, BROKEN), Admit(2)]


def test_who_leaves_while_waiting_is_forgotten() -> None:
    turns = running("a")
    turns.arrive(1, "a", 0.0)
    turns.arrive(2, "b", 0.0)
    turns.leave(2, 1.0)
    assert turns.done("a", 2.0) == []


def test_a_switch_by_hand_lets_go_who_waits_for_it() -> None:
    turns = running("a")
    turns.arrive(1, "a", 0.0)
    turns.arrive(2, "b", 0.0)
    assert turns.observed(None, "b", 1.0) == []
    assert turns.observed("b", None, 2.0) == [Admit(2)]


def test_somebody_elses_load_is_waited_for() -> None:
    turns = running(None)
    turns.observed(None, "a", 0.0)
    assert turns.arrive(1, "b", 0.0) == []


def test_but_not_for_ever() -> None:
    """A load that never ends is somebody's mistake."""
    turns = running(None)
    turns.observed(None, "a", 0.0)
    turns.arrive(1, "b", 0.0)
    assert turns.tick(MAX_WAIT + DRAIN) == [StartSwitch("b")]


def test_a_load_that_is_wanted_is_joined() -> None:
    """The engine waits for it, tells how far it is, and what went wrong."""
    turns = running(None)
    turns.observed(None, "a", 0.0)
    assert turns.arrive(1, "a", 0.0) == [StartSwitch("a")]


def test_without_autoswitch_nothing_is_switched() -> None:
    turns = running("a", autoswitch=False)
    assert turns.arrive(1, "b", 0.0) == []
    assert turns.tick(1e9) == []
    assert turns.arrive(2, "a", 1e9) == [Admit(2)]
    assert turns.observed("b", None, 1e9) == [Admit(1)]


def test_a_request_that_waits_again_keeps_its_place() -> None:
    turns = running(None)
    turns.observed(None, "a", 10.0)
    turns.arrive(1, "b", 20.0)
    turns.arrive(2, "c", 30.0, since=0.0)
    assert turns.tick(20.0 + MAX_WAIT + DRAIN) == [StartSwitch("c")]


def kinds(actions: list[Action]) -> list[tuple[int, str]]:
    return [(one.ticket, one.trouble.kind) for one in actions if isinstance(one, Refuse)]


def test_what_waits_when_somebody_types_off_starts_nothing() -> None:
    turns = running("a")
    turns.arrive(1, "a", 0.0)
    turns.arrive(2, "b", 1.0)
    assert turns.observed(None, None, 2.0, leaving=True) == []
    turns.arrive(3, "a", 2.0)
    assert turns.done("a", 2.0) == []
    told = turns.observed(None, None, 3.0, stopped={"a", "b"})
    assert kinds(told) == [(2, "stopped"), (3, "stopped")]
    assert len(told) == 2
    assert "Type: llmctl switch b" in told[0].trouble.message  # type: ignore[union-attr]
    assert told[0].trouble.is_final  # type: ignore[union-attr]
    assert kinds(turns.arrive(1, "a", 3.1, since=0.0)) == [(1, "stopped")]


def test_what_comes_after_an_off_starts_a_model() -> None:
    turns = running("a")
    turns.observed(None, None, 3.0, stopped={"a", "b"})
    assert turns.arrive(1, "b", 3.1) == [StartSwitch("b")]
    turns.switched("b", 4.0)
    turns.observed(None, "b", 5.0)
    assert turns.arrive(2, "b", 5.1, since=2.0) == []  # that off is over


def test_a_crash_is_no_off() -> None:
    turns = running("a")
    turns.observed(None, None, 1.0, leaving=True)
    assert turns.arrive(1, "a", 1.0) == []
    assert turns.observed(None, None, 2.0, stopped={"b"}) == [StartSwitch("a")]


def test_a_switch_by_hand_that_fails_is_no_off() -> None:
    turns = running("a")
    turns.observed(None, "b", 1.0, leaving=True)
    turns.arrive(1, "a", 1.0)
    assert turns.observed(None, None, 2.0, stopped={"a"}) == [StartSwitch("a")]


def test_a_restart_by_hand_is_no_off() -> None:
    turns = running("a")
    turns.observed(None, None, 1.0, leaving=True)
    assert turns.arrive(1, "a", 1.0, since=0.0) == []
    assert turns.observed(None, "a", 1.1) == [StartSwitch("a")]  # it is joined


def test_an_off_during_a_switch_of_ours_holds_for_all_that_wait() -> None:
    turns = running(None)
    turns.arrive(1, "a", 0.0)
    turns.arrive(2, "b", 0.0)
    told = turns.failed("a", BROKEN, 1.0, ready=None, stopped={"a"})
    assert kinds(told) == [(1, "switch_failed"), (2, "stopped")]
    assert turns.switching is None


def test_a_model_in_doubt_is_looked_at_before_it_is_started() -> None:
    """Else a request whose connection was lost would undo the `llmctl off` that it was lost by."""
    turns = running("a")
    turns.arrive(1, "a", 0.0)
    turns.done("a", 1.0)
    turns.doubt("a")
    assert turns.arrive(1, "a", 1.0, since=0.0) == []
    assert kinds(turns.observed(None, None, 1.1, stopped={"a"})) == [(1, "stopped")]


class AnyOrder(RuleBasedStateMachine):
    """Whatever happens in whatever order."""

    def __init__(self) -> None:
        super().__init__()
        self.turns = Turns(max_wait=MAX_WAIT, drain_timeout=DRAIN)
        self.now, self.next = 0.0, 1
        self.asked: dict[int, str] = {}
        self.under_way: dict[int, str] = {}
        self.real: str | None = None

    def carry_out(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Admit(ticket):
                    model = self.asked.pop(ticket)
                    assert model == self.turns.ready
                    assert self.turns.switching is None
                    self.under_way[ticket] = model
                case Refuse(ticket, _):
                    del self.asked[ticket]
                case StartSwitch():
                    assert not self.under_way
                case Cut(model):
                    for ticket in [t for t, m in self.under_way.items() if m == model]:
                        del self.under_way[ticket]
                        self.carry_out(self.turns.done(model, self.now))

    @rule(model=st.sampled_from("abc"))
    def a_request_comes(self, model: str) -> None:
        ticket, self.next = self.next, self.next + 1
        self.asked[ticket] = model
        self.carry_out(self.turns.arrive(ticket, model, self.now))

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def a_request_ends(self, data: st.DataObject) -> None:
        ticket = data.draw(st.sampled_from(sorted(self.under_way)))
        self.carry_out(self.turns.done(self.under_way.pop(ticket), self.now))

    @precondition(lambda self: self.asked)
    @rule(data=st.data())
    def a_client_goes(self, data: st.DataObject) -> None:
        ticket = data.draw(st.sampled_from(sorted(self.asked)))
        del self.asked[ticket]
        self.carry_out(self.turns.leave(ticket, self.now))

    @precondition(lambda self: self.turns.switching)
    @rule(works=st.booleans())
    def a_switch_ends(self, works: bool) -> None:
        model = self.turns.switching
        assert model is not None
        if works:
            self.real = model
            self.carry_out(self.turns.switched(model, self.now))
        else:
            self.carry_out(self.turns.failed(model, BROKEN, self.now, ready=self.real))

    @precondition(lambda self: self.turns.switching is None)
    @rule(model=st.sampled_from(["a", "b", "c", None]), is_ready=st.booleans())
    def somebody_switches(self, model: str | None, is_ready: bool) -> None:
        self.real = model if is_ready else None
        coming = model if not is_ready else None
        self.carry_out(self.turns.observed(self.real, coming, self.now))

    @precondition(lambda self: self.turns.switching is None)
    @rule()
    def somebody_stops_what_runs(self) -> None:
        ran = self.turns.ready or self.turns.coming
        self.real = None
        self.carry_out(self.turns.observed(None, None, self.now, leaving=True))
        self.carry_out(self.turns.observed(None, None, self.now, stopped={"a", "b", "c"}))
        assert not (ran and self.asked)

    @rule(seconds=st.sampled_from([0.5, 10.0, MAX_WAIT, DRAIN]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.carry_out(self.turns.tick(self.now))

    @invariant()
    def nothing_is_lost(self) -> None:
        assert set(self.turns.waiting) == set(self.asked)
        assert sum(self.turns.busy.values()) == len(self.under_way)

    @invariant()
    def who_waits_is_waited_for(self) -> None:
        """Nothing is under way, nothing is coming: then somebody's turn must have come."""
        turns = self.turns
        if self.asked and not self.under_way and turns.coming is None:
            assert turns.switching is not None

    def teardown(self) -> None:
        """Everybody is served or told in the end."""
        for _ in range(200):
            if not self.asked:
                return
            self.now += DRAIN
            self.carry_out(self.turns.tick(self.now))
            for ticket, model in list(self.under_way.items()):
                del self.under_way[ticket]
                self.carry_out(self.turns.done(model, self.now))
            if self.turns.switching:
                self.a_switch_ends(works=True)
        assert not self.asked


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
