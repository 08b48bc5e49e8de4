"""The watchdog on a real event loop: time, circles, and what is left of the work."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from llmos.errors import LearnerError, UsageError, WatchdogError
from llmos.kernel.bus import EventBus, WatchdogBarked
from llmos.kernel.process import State, Wait, at_work_for
from llmos.kernel.process_table import ProcessTable
from llmos.kernel.watchdog import Watchdog

# ----------------------------------------------------------------------------------------------------- circles


def test_the_same_call_with_the_same_outcome_may_follow_itself_so_often() -> None:
    with Watchdog(max_repeats=3).watching("r") as watch:
        for _ in range(3):
            watch.saw_call("read", {"path": "a", "limit": 5}, "text")
        with pytest.raises(
            WatchdogError, match="read was called 4 times in a row with the same arguments and the same"
        ):
            watch.saw_call("read", {"limit": 5, "path": "a"}, "text")


@pytest.mark.parametrize(
    "other",
    [
        ("glob", {"path": "a"}, "text", False),
        ("read", {"path": "b"}, "text", False),
        ("read", {"path": "a"}, "another text", False),
        ("read", {"path": "a"}, "text", True),
    ],
    ids=["tool", "arguments", "output", "error"],
)
def test_anything_different_begins_anew(other: tuple[str, dict[str, Any], str, bool]) -> None:
    with Watchdog(max_repeats=2).watching("r") as watch:
        for _ in range(5):
            watch.saw_call("read", {"path": "a"}, "text")
            watch.saw_call(other[0], other[1], other[2], is_error=other[3])


def test_arguments_that_are_no_json_are_compared_too() -> None:
    with Watchdog(max_repeats=1).watching("r") as watch:
        watch.saw_call("read", {"path": {1, 2}})
        with pytest.raises(WatchdogError):
            watch.saw_call("read", {"path": {1, 2}})


def test_two_runs_are_watched_apart() -> None:
    watchdog = Watchdog(max_repeats=1)
    with watchdog.watching("a") as a, watchdog.watching("b") as b:
        a.saw_call("read", {})
        b.saw_call("read", {})


# -------------------------------------------------------------------------------------------------------- time


async def test_work_within_its_time_gives_its_result() -> None:
    async def work() -> int:
        return 7

    with Watchdog(timeout_s=5).watching("r") as watch:
        assert await watch.limit(work()) == 7


async def test_an_exception_of_the_work_passes() -> None:
    async def work() -> None:
        raise ValueError("broken")

    with Watchdog(timeout_s=5).watching("r") as watch, pytest.raises(ValueError, match="broken"):
        await watch.limit(work())


async def test_work_beyond_its_time_has_ended_when_the_error_arrives() -> None:
    log: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.01)
            log.append("cleaned up")

    with Watchdog(timeout_s=0.02).watching("r") as watch, pytest.raises(WatchdogError) as caught:
        await watch.limit(work())
    assert str(caught.value) == "the run was stopped: it took more than 0.02 s."
    assert log == ["cleaned up"]
    assert caught.value.__cause__ is None


async def test_the_last_word_of_stopped_work_is_the_cause() -> None:
    async def work() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise LearnerError("stopped", cost_usd=0.3) from None

    with Watchdog(timeout_s=0.02).watching("r") as watch, pytest.raises(WatchdogError) as caught:
        await watch.limit(work())
    assert isinstance(caught.value.__cause__, LearnerError)
    assert caught.value.__cause__.cost_usd == 0.3


async def test_work_that_returns_instead_of_ending_is_late_all_the_same() -> None:
    async def work() -> str:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return "almost"
        return "done"

    with Watchdog(timeout_s=0.02).watching("r") as watch, pytest.raises(WatchdogError):
        await watch.limit(work())


async def test_the_time_is_that_of_the_whole_run() -> None:
    now = 100.0

    async def work() -> int:
        return 7

    with Watchdog(timeout_s=10, clock=lambda: now).watching("r") as watch:
        now += 4
        assert watch.remaining_s == 6
        assert await watch.limit(work()) == 7
        now += 60
        assert watch.remaining_s == 0
        with pytest.raises(WatchdogError):
            await watch.limit(work())


async def test_cancelling_the_waiter_ends_the_work() -> None:
    log: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            log.append("ended")

    with Watchdog(timeout_s=60).watching("r") as watch:
        waiter = asyncio.create_task(watch.limit(work()))
        await asyncio.sleep(0.01)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
    assert log == ["ended"]


# ---------------------------------------------------------------------------------------------------- together


async def test_circles_end_the_work_even_if_it_swallows_the_error() -> None:
    with Watchdog(timeout_s=60, max_repeats=2, grace_s=0.05).watching("r") as watch:

        async def work() -> str:
            for _ in range(10):
                try:
                    watch.saw_call("read", {}, "same")
                except WatchdogError:
                    await asyncio.sleep(60)  # a client that hands the error to its model and waits for it
            return "never"

        with pytest.raises(WatchdogError, match="read was called 3 times") as caught:
            await asyncio.wait_for(watch.limit(work()), 5)
    assert caught.value.__cause__ is None


async def test_circles_that_end_the_work_directly_are_one_error() -> None:
    with Watchdog(timeout_s=60, max_repeats=1).watching("r") as watch:

        async def work() -> None:
            while True:
                watch.saw_call("read", {}, "same")

        with pytest.raises(WatchdogError) as caught:
            await asyncio.wait_for(watch.limit(work()), 5)
    assert caught.value.__cause__ is None


async def test_work_that_circles_may_clean_up_undisturbed() -> None:
    log: list[str] = []
    with Watchdog(timeout_s=60, max_repeats=1).watching("r") as watch:

        async def work() -> None:
            try:
                while True:
                    watch.saw_call("read", {}, "same")
            finally:
                await asyncio.sleep(0.01)
                log.append("cleaned up")

        with pytest.raises(WatchdogError):
            await watch.limit(work())
    assert log == ["cleaned up"]


async def test_circles_seen_by_another_task_end_the_work_at_once() -> None:
    told: list[BaseException | None] = []
    with Watchdog(timeout_s=60, max_repeats=1).watching("r") as watch:

        async def serve() -> None:
            watch.saw_call("read", {}, "same")
            watch.saw_call("read", {}, "same")

        async def work() -> None:
            server = asyncio.create_task(serve())
            server.add_done_callback(lambda done: told.append(done.exception()))
            await asyncio.sleep(60)

        with pytest.raises(WatchdogError, match="read was called 2 times") as caught:
            await asyncio.wait_for(watch.limit(work()), 5)
    assert told == [caught.value]


async def test_a_bark_is_heard_once() -> None:
    bus = EventBus()
    told: list[WatchdogBarked] = []
    bus.subscribe(WatchdogBarked, told.append)
    with Watchdog(timeout_s=0.01, bus=bus).watching("run-1") as watch, pytest.raises(WatchdogError):
        await watch.limit(asyncio.sleep(60))
    assert told == [WatchdogBarked(run_id="run-1", reason="it took more than 0.01 s")]


@pytest.mark.parametrize(
    "limits", [{"timeout_s": 0}, {"timeout_s": -1}, {"timeout_s": float("nan")}, {"max_repeats": 0}]
)
def test_limits_that_mean_nothing_are_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="a watchdog needs"):
        Watchdog(**limits)


# --------------------------------------------------------------------------------------------------- no progress


def test_calls_that_fail_one_after_the_other_are_stopped_however_they_differ() -> None:
    with Watchdog(max_fruitless=3).watching("r") as watch:
        for number in range(3):
            watch.saw_call("read", {"path": f"{number}"}, "not there", is_error=True)
        with pytest.raises(WatchdogError, match="the last 4 calls failed or gave what had been given before"):
            watch.saw_call("read", {"path": "3"}, "not there", is_error=True)


def test_a_circle_of_several_calls_is_no_progress() -> None:
    with Watchdog(max_fruitless=4).watching("r") as watch, pytest.raises(WatchdogError, match="the last 5 calls"):
        for _ in range(20):
            for path in "abc":
                watch.saw_call("read", {"path": path}, "text")


def test_something_new_begins_anew() -> None:
    with Watchdog(max_fruitless=2).watching("r") as watch:
        for number in range(20):
            watch.saw_call("read", {"path": "a"}, "not there", is_error=True)
            watch.saw_call("read", {"path": "b"}, f"text {number}")


def test_a_flood_of_output_is_stopped() -> None:
    with Watchdog(max_output_chars=1_000).watching("r") as watch:
        watch.saw_call("read", {"path": "a"}, "x" * 900)
        with pytest.raises(WatchdogError, match="gave more than 1,000 characters"):
            watch.saw_call("read", {"path": "b"}, "x" * 200)


async def test_a_turn_that_takes_too_long_is_stopped_and_tools_have_time_of_their_own() -> None:
    with Watchdog(turn_timeout_s=0.2).watching("r") as watch:

        async def work() -> str:
            watch.answered()
            await asyncio.sleep(0.5)  # a tool
            watch.asked()
            await asyncio.sleep(30)  # the model
            return ""

        with pytest.raises(WatchdogError, match=r"the model took more than 0.2 s for one turn"):
            await asyncio.wait_for(watch.limit(work()), 10)


async def test_time_in_which_its_process_stands_still_does_not_count() -> None:
    process = ProcessTable(clock=lambda: datetime(2026, 11, 28, tzinfo=UTC)).spawn("goal")
    process.move(State.RUNNING)
    with at_work_for(process), Watchdog(timeout_s=0.5, turn_timeout_s=0.3).watching("r") as watch:

        async def work() -> str:
            process.move(State.SUSPENDED)
            await asyncio.sleep(1.0)
            process.move(State.BLOCKED, Wait.TURN)
            process.move(State.THINKING)
            return "done"

        assert await watch.limit(work()) == "done"
