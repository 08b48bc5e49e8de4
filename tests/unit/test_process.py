"""The states of a process: every way there is, and none that there is not."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from llmos.kernel.process import End, IllegalTransitionError, Process, State, Wait
from llmos.kernel.process_table import ProcessTable

AT_WORK = (State.RUNNING, State.THINKING)


def table() -> ProcessTable:
    return ProcessTable(clock=lambda: datetime(2026, 11, 28, tzinfo=UTC))


class Life(RuleBasedStateMachine):
    """A process as the kernel moves it; the model is the state by name."""

    @initialize()
    def born(self) -> None:
        self.table = table()
        self.process = self.table.spawn("goal")
        self.model: tuple[State, Wait | End | None] = (State.BLOCKED, Wait.TURN)

    @rule(state=st.sampled_from(State), why=st.sampled_from([None, *Wait, *End]))
    def move(self, state: State, why: Wait | End | None) -> None:
        before, _ = self.model
        reasons: dict[State, type] = {State.BLOCKED: Wait, State.TERMINATED: End}
        fits = isinstance(why, reasons.get(state, type(None)))
        allowed = (
            fits
            and before is not State.TERMINATED
            and (state, why) != self.model
            and (before is not State.SUSPENDED or state in (State.BLOCKED, State.TERMINATED))
        )
        if allowed:
            self.process.move(state, why)
            self.model = (state, why)
        else:
            with pytest.raises(IllegalTransitionError, match=f"process {self.process.pid} is"):
                self.process.move(state, why)

    @precondition(lambda self: self.model[0] in AT_WORK)
    @rule(state=st.sampled_from(AT_WORK))
    def nested(self, state: State) -> None:
        with self.process.doing(state):
            assert self.process.state is state

    @invariant()
    def is_as_the_model_says(self) -> None:
        assert (self.process.state, self.process.why) == self.model
        assert self.process.is_alive is (self.model[0] is not State.TERMINATED)
        assert self.process.over.is_set() is not self.process.is_alive


TestLife = Life.TestCase


def test_a_block_leaves_a_process_that_was_blocked_meanwhile_as_it_is() -> None:
    process = table().spawn("goal")
    process.move(State.RUNNING)
    with process.doing(State.THINKING):
        process.move(State.BLOCKED, Wait.APPROVAL)
    assert (process.state, process.why) == (State.BLOCKED, Wait.APPROVAL)
    with process.doing(State.THINKING):
        assert process.state is State.BLOCKED


def test_the_last_that_ended_are_still_told_of_and_those_alive_always() -> None:
    processes = table()
    alive = processes.spawn("alive")
    for _ in range(500):
        processes.ended(processes.spawn("short"), End.DONE)
    kept = list(processes)
    assert kept[0] is alive
    assert len(kept) == 201
    assert [one.pid for one in kept[1:]] == list(range(302, 502))


def test_each_step_of_priority_is_worth_a_quarter_more() -> None:
    processes = table()
    weights = [processes.spawn("goal", priority=priority).weight for priority in range(20)]
    assert all(a / b == pytest.approx(1.25) for a, b in itertools.pairwise(weights))
    assert isinstance(Process.weight, property)
