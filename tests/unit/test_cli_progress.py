"""What is told while a goal runs."""

from __future__ import annotations

import pytest

from llmos.interfaces.progress import Progress
from llmos.kernel.bus import (
    Decided,
    EventBus,
    GoalAccepted,
    LearnerStarted,
    ModelSpoke,
    RunEnded,
    ToolCalled,
    ToolReturned,
)


def learn(bus: EventBus) -> None:
    bus.publish(Decided(decision="learn", reason="no trace is near"))
    bus.publish(LearnerStarted(model="sonnet", reserved_usd=2.0))
    bus.publish(ModelSpoke(text="I will\nlook first.", cost_usd=0.01))
    bus.publish(ToolCalled(tool="bash", args={"command": "ls -la"}))


def test_without_a_terminal_and_without_v_it_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    bus = EventBus()
    with Progress.watching(bus, verbose=0, live=False):
        learn(bus)
    assert capsys.readouterr() == ("", "")


def test_with_v_each_thing_is_one_line_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    bus = EventBus()
    with Progress.watching(bus, verbose=1, live=False):
        learn(bus)
        bus.publish(ToolReturned(tool="bash", is_error=True, duration_s=0.3, output="no such\nfolder"))
        bus.publish(RunEnded(mode="learner", status="done", cost_usd=0.02, duration_s=3.0))
    out, err = capsys.readouterr()
    assert out == ""
    assert err.split("\n") == [
        "· learn: no trace is near",
        "· learner sonnet started, $2.0000 reserved",
        "· model: I will look first.",
        "· bash command=ls -la · 300 ms · failed: no such folder",
        "",
    ]


def test_the_live_line_has_the_tool_the_dollars_and_the_seconds() -> None:
    now = [100.0]
    bus = EventBus()
    progress = Progress(verbose=0, live=False, clock=lambda: now[0])
    for kind, handler in progress.handlers().items():
        bus.subscribe(kind, handler)
    assert progress.status() == ""
    learn(bus)
    now[0] += 12
    assert progress.status() == "learner sonnet · bash command=ls -la · $0.0100 · 12.0 s"
    bus.publish(ToolReturned(tool="bash", is_error=False, duration_s=0.3))
    assert progress.status() == "learner sonnet · thinking · $0.0100 · 12.0 s"
    bus.publish(RunEnded(mode="learner", status="done", cost_usd=0.02, duration_s=3.0))
    assert progress.status() == ""


async def test_a_goal_that_takes_a_moment_shows_what_it_waits_for() -> None:
    bus = EventBus()
    with Progress.watching(bus, verbose=0, live=True) as progress:
        bus.publish(GoalAccepted(goal="a goal"))
        assert progress.status().startswith("looking for a trace · ")
        bus.publish(Decided(decision="follow", reason="proven", trace="calculate@1"))
        assert progress.status().startswith("following calculate@1 · ")
        bus.publish(RunEnded(mode="follower", status="done", cost_usd=0.0, duration_s=0.1))
        assert progress.status() == ""


def test_the_live_line_goes_away_and_stdout_stays_clean(capsys: pytest.CaptureFixture[str]) -> None:
    bus = EventBus()
    with Progress.watching(bus, verbose=1, live=True) as progress:
        learn(bus)
        with progress.paused():
            pass
        bus.publish(RunEnded(mode="learner", status="done", cost_usd=0.02, duration_s=3.0))
    assert capsys.readouterr().out == ""
