"""The commands `schedule` and `watch`: goals that nobody types any more."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmos import caller
from llmos.errors import UsageError
from llmos.interfaces import render
from llmos.interfaces.session import Action, Session
from llmos.kernel.timing import checked_cron, next_time, spoken, zone_of
from llmos.kernel.watched import Seen, Sight, gone, too_large
from llmos.orders import AnyOrder, Job, OrderState, Schedule, Watch
from llmos.settings import local_zone, own_variables
from llmos.trace.lex import check_goal

if TYPE_CHECKING:
    from llmos.boot import LLMOS

SCHEDULES = ("id", "state", "when", "next", "runs", "last run", "came to", "goal")
WATCHES = ("id", "state", "path", "runs", "last run", "came to", "goal")
PATH = "{path}"

PATIENCE_S = 30.0
"""So long it is waited for the kernel to look."""


def add_schedule(
    words: Sequence[str], *, cron: str | None, at: str | None, timezone: str | None, skip_missed: bool, may_learn: bool
) -> Action:
    """Store a goal that is to be reached at certain times."""

    async def action(session: Session) -> None:
        system = await session.system()
        now = datetime.now(UTC)
        name = timezone or local_zone()
        said, goal = _times_and_goal(words, has_times=cron is not None or at is not None)
        new = Schedule(
            job=_job(session, system, goal, may_learn=may_learn),
            created_at=now,
            timezone=name,
            skip_missed=skip_missed,
            **_when(said, cron, at, zone_of(name), now),
        )
        stored = await system.home.schedules.add(replace(new, next_at=next_time(new, now)))
        _told(session, stored, f"schedule {stored.id}: next at {_local(stored.next_at, stored.timezone)}")
        _note_kernel(session, "keeps the time")

    return action


def _times_and_goal(words: Sequence[str], *, has_times: bool) -> tuple[str, str]:
    if has_times:
        return "", " ".join(words)
    if len(words) < 2:
        raise UsageError('when? Write `schedule add "every 10 minutes" GOAL`, or use --cron or --at.')
    return words[0], " ".join(words[1:])


def _when(said: str, cron: str | None, at: str | None, zone: tzinfo, now: datetime) -> dict[str, Any]:
    """The fields of a schedule that say when.

    Raises:
        UsageError: they can't be understood, or never come.
    """
    if cron is not None and at is not None:
        raise UsageError("--cron and --at exclude each other.")
    if cron is not None:
        cron = checked_cron(cron, zone, now)
        return {"cron": cron, "said": f"cron {cron}"}
    if at is not None:
        moment = _moment(at, zone)
        if moment <= now:
            raise UsageError(f"{at} is over.")
        return {"at": moment, "said": f"at {at}"}
    every_s, cron = spoken(said)
    return {"every_s": every_s, "cron": cron, "said": " ".join(said.split())}


def _moment(text: str, zone: tzinfo) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text!r} is no time; write one as 2026-12-01T09:00.") from None
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=zone)).astimezone(UTC)


def add_watch(path: str, goal: str, *, may_learn: bool) -> Action:
    """Store a goal that is to be reached when files change."""

    async def action(session: Session) -> None:
        system = await session.system()
        place = _place(path, system.settings.memory)
        job = _job(session, system, goal, may_learn=may_learn)
        if why := await asyncio.to_thread(too_large, place):
            raise UsageError(f"{why}.")
        stored = await system.home.watches.add(Watch(job=job, created_at=datetime.now(UTC), path=str(place)))
        seen = await _seen(session, system, stored)
        if seen.word:
            await system.home.watches.remove(stored.id)
            raise UsageError(f"{seen.said}.")
        _told(session, stored, f"watch {stored.id}: {place}")
        _note_kernel(session, "looks")

    return action


async def _seen(session: Session, system: LLMOS, watch: Watch) -> Seen:
    """What is seen of a watch, once the kernel looks: whatever changes from then on is served."""
    if caller.current() is None:
        return Seen()
    seen = await system.home.sight.first(watch.id, PATIENCE_S)
    if seen is None:
        session.screen.note(f"llmos: watch {watch.id} is not on yet; `watch list` says when it is")
    return seen or Seen()


def _place(path: str, memory: Path) -> Path:
    """What is to be watched.

    Raises:
        UsageError: it is not there, or each goal changes it.
    """
    place = Path(os.path.normpath(caller.folder() / path))
    if not place.exists():
        raise UsageError(f"{place} is not there, so nothing can change in it.")
    if place.resolve().is_relative_to(memory.resolve()):
        raise UsageError(f"{place} lies in the memory of LLM OS, which each goal changes.")
    return place


def _job(session: Session, system: LLMOS, goal: str, *, may_learn: bool) -> Job:
    """The goal, with what whoever asks has set."""
    options, settings = session.options, system.settings
    if options.budget_usd is not None and not may_learn:
        raise UsageError("--budget is what the learner may spend: it needs --may-learn.")
    if options.agent is not None:
        raise UsageError("a goal on a schedule or a watch works as no agent: leave --as out.")
    check_goal(goal.replace(PATH, "x"))
    return Job(
        goal=system.redactor.named(goal),
        workspace=str(settings.workspace),
        plugins=tuple(str(caller.placed(one)) for one in options.plugins),
        model=options.model,
        audit_rate=options.audit_rate,
        frozen=options.frozen,
        again=options.again,
        may_learn=may_learn,
        budget_usd=options.budget_usd,
        environ=own_variables(),
    )


def _note_kernel(session: Session, does: str) -> None:
    if caller.current() is None:
        session.screen.note(f"llmos: nobody {does} until a resident kernel runs: `up` starts one")


async def list_schedules(session: Session) -> None:
    """List the schedules."""
    found = await (await session.system()).home.schedules.list()
    session.screen.data({"schedules": [data(one) for one in found]})
    rows = [
        [one.id, one.state, one.said, _local(one.next_at, one.timezone), one.runs, *_came_to(one), _goal(one)]
        for one in found
    ]
    session.screen.table(SCHEDULES, rows, empty="no goal is scheduled")


async def list_watches(session: Session) -> None:
    """List the watches."""
    home = (await session.system()).home
    found = await home.watches.list()
    seen = {one.id: _sight(home.sight, one) for one in found}
    session.screen.data({"watches": [data(one) | {"sight": seen[one.id].word} for one in found]})
    rows = [[one.id, _standing(one, seen[one.id]), one.path, one.runs, *_came_to(one), _goal(one)] for one in found]
    session.screen.table(WATCHES, rows, empty="nothing is watched")
    for one in found:
        for said in filter(None, (seen[one.id].said, one.note)):
            session.screen.note(f"watch {one.id}: {said}")


def _sight(sight: Sight, watch: Watch) -> Seen:
    """What is seen of a watch, or would be if a kernel looked."""
    if not watch.is_active:
        return Seen()
    path = Path(watch.path)
    return sight.of(watch.id) or (Seen() if path.exists() else gone(path))


def _standing(watch: Watch, seen: Seen) -> str:
    return f"{watch.state} ({seen.word})" if seen.word else str(watch.state)


def show(kind: str, number: int) -> Action:
    """Show one with all that is known of it."""

    async def action(session: Session) -> None:
        order: AnyOrder = await _store(await session.system(), kind).get(number)
        session.screen.data({kind: data(order)})
        shown = {name: value for name, value in data(order).items() if value not in (None, "", [], {})}
        width = max(map(len, shown))
        session.screen.show("\n".join(f"{name:<{width}}  {value}" for name, value in shown.items()))

    return action


def pause(kind: str, number: int) -> Action:
    """Begin nothing for one until it is continued."""
    return _changing(kind, number, lambda one: replace(one, state=OrderState.PAUSED, reason="by you"), "is paused")


def go_on(kind: str, number: int) -> Action:
    """Let one hold again."""

    def change(one: Any) -> Any:
        if one.state is not OrderState.PAUSED:
            raise UsageError(f"{one.name} is not paused, but {one.state}.")
        one = replace(one, state=OrderState.ACTIVE, reason="", failures=0)
        return replace(one, next_at=_next(one)) if isinstance(one, Schedule) else one

    async def action(session: Session) -> None:
        await _changing(kind, number, change, "goes on")(session)
        system = await session.system()
        if kind == "watch":
            seen = await _seen(session, system, await system.home.watches.get(number))
            if seen.word:
                session.screen.note(f"llmos: watch {number}: {seen.said}")

    return action


def _next(schedule: Schedule) -> datetime:
    due = next_time(schedule, datetime.now(UTC))
    if due is None:
        raise UsageError(f"schedule {schedule.id} was for {_local(schedule.at, schedule.timezone)}, which is over.")
    return due


def _changing(kind: str, number: int, change: Any, said: str) -> Action:
    async def action(session: Session) -> None:
        changed = await _store(await session.system(), kind).change(number, change, by_person=True)
        _told(session, changed, f"{kind} {number} {said}")

    return action


def remove(kind: str, number: int) -> Action:
    """Forget one."""

    async def action(session: Session) -> None:
        await _store(await session.system(), kind).remove(number)
        session.screen.data({"removed": number})
        session.screen.show(f"{kind} {number} is removed")

    return action


# --- telling -----------------------------------------------------------------------------------------


def _store(system: LLMOS, kind: str) -> Any:
    return system.home.schedules if kind == "schedule" else system.home.watches


def _told(session: Session, order: AnyOrder, text: str) -> None:
    session.screen.data({type(order).__name__.lower(): data(order)})
    session.screen.show(text)


def data(order: AnyOrder) -> dict[str, Any]:
    """An order as JSON tells it."""
    fields = {name: value for name, value in asdict(order).items() if name != "job"}
    job = {name: value for name, value in asdict(order.job).items() if name != "environ"}
    fields["state"] = str(order.state)
    shown: dict[str, Any] = render.data(fields | job)
    return shown


def _local(moment: datetime | None, timezone: str) -> str:
    return moment.astimezone(zone_of(timezone)).isoformat(timespec="seconds") if moment is not None else ""


def _came_to(order: AnyOrder) -> list[str]:
    came = order.last_status
    if order.failures:
        came = f"{came} ({order.failures} in a row)"
    said = order.reason if order.state is OrderState.PAUSED else order.last_said or order.note
    return [order.last_run_id, render.one_line(f"{came}: {said}" if came and said else came or said, 60)]


def _goal(order: AnyOrder) -> str:
    return render.one_line(order.job.goal, 60)
