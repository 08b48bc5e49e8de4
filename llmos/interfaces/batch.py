"""Many goals from a file: several at a time, each told in a line of JSON, gone on with where it was broken off."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from llmos import caller
from llmos.errors import LLMOSError, NotFoundError, UsageError
from llmos.interfaces import render
from llmos.interfaces.acting import acting
from llmos.interfaces.reading import text_of
from llmos.interfaces.session import Action, Session, failure
from llmos.trace.lex import check_goal
from llmos.trace.run import RunStatus

if TYPE_CHECKING:
    from llmos.boot import LLMOS
    from llmos.interfaces.results import Result

MAX_BYTES = 200_000_000
MODES = ("auto", "follow", "learn")
DONE = "done"


@dataclass(frozen=True, kw_only=True)
class Item:
    """One goal of a batch: the number of its line, the name it was given there, and its mode (None: the batch's)."""

    line: int
    goal: str
    id: str | int | None = None
    mode: str | None = None

    @property
    def key(self) -> str:
        """What tells it from others: a goal that was changed in its line is another one."""
        return sha256(json.dumps([self.line, self.goal, self.mode]).encode()).hexdigest()[:16]


def read_items(text: str, name: str) -> list[Item]:
    """The goals of a file: each line a goal as it is, as a JSON string, or as a JSON object with `goal`.

    Raises:
        UsageError: a line is none of these, or there is no goal at all.
    """
    found = [_item(number, line, name) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not found:
        raise UsageError(f'{name} holds no goal; write one a line, as text or as {{"goal": …}}.')
    return found


def _item(number: int, line: str, name: str) -> Item:
    where = f"{name}, line {number}"
    given: Any = line.strip()
    if given[0] in '{"':
        try:
            given = json.loads(given)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{where} is not JSON: {error}") from None
    if isinstance(given, dict):
        goal, mode, label = given.get("goal"), given.get("mode"), given.get("id")
        if unknown := sorted(set(given) - {"goal", "mode", "id"}):
            raise UsageError(f"{where} has the key {unknown[0]!r}; goal, mode and id are known.")
        if mode is not None and mode not in MODES:
            raise UsageError(f"{where}: mode must be one of {', '.join(MODES)}, not {mode!r}.")
        if label is not None and (isinstance(label, bool) or not isinstance(label, str | int)):
            raise UsageError(f"{where}: id must be a text or a whole number, not {label!r}.")
    else:
        goal, mode, label = given, None, None
    if not isinstance(goal, str):
        raise UsageError(f'{where} has no goal; write {{"goal": "…"}}.')
    try:
        return Item(line=number, goal=check_goal(goal), id=label, mode=mode)
    except LLMOSError as error:
        raise UsageError(f"{where}: {error}") from None


# ------------------------------------------------------------------------------------------------------- results


class Results:
    """The lines of results: what an earlier batch of the same file left, and what this one adds.

    A line is written whole before the next one; one that a crash cut off is removed. Before a goal is begun its run's
    id is written, so that nothing is done twice though its result was not written any more; `begun` holds those runs.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.done: dict[str, dict[str, Any]] = {}
        self.begun: dict[str, str] = {}
        self._stream: BinaryIO | None = None

    def open(self) -> None:
        """Read what there is, and go on behind it.

        Raises:
            UsageError: it can't be read or written, or holds something else.
        """
        if self.path == Path("-"):
            raise UsageError("results are kept in a file, so that a batch which is broken off can go on: name one.")
        at = caller.placed(self.path)
        if at.exists() and not at.is_file():
            raise UsageError(f"{self.path} is no file that results could be kept in; name another with --out.")
        try:
            self._stream = at.open("a+b")
            fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._stream.seek(0)
            kept = 0
            for number, raw in enumerate(self._stream, 1):
                if not raw.endswith(b"\n"):
                    break
                self._known(number, raw)
                kept += len(raw)
            self._stream.truncate(kept)
        except BlockingIOError:
            self.close()
            raise UsageError(f"another batch is writing to {self.path}; wait for it, or name another --out.") from None
        except OSError as error:
            self.close()
            raise UsageError(f"{self.path} can't be written: {error.strerror or error}") from None
        except UsageError:
            self.close()
            raise

    def _known(self, number: int, raw: bytes) -> None:
        try:
            row = json.loads(raw)
            key, status = row["key"], row["status"]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise UsageError(
                f"{self.path}, line {number} is no result of a batch; name another file with --out."
            ) from None
        if status == "begun":
            self.begun[key] = row["run_id"]
        elif status == DONE:
            self.done[key] = row

    def write(self, row: dict[str, Any], *, durably: bool = False) -> None:
        """Add a line.

        Raises:
            StorageError: it can't be written.
        """
        from llmos.errors import StorageError

        assert self._stream is not None
        try:
            self._stream.write(json.dumps(row, ensure_ascii=False, default=str).encode("utf-8", "replace") + b"\n")
            self._stream.flush()
            if durably:
                os.fsync(self._stream.fileno())
        except OSError as error:
            raise StorageError(f"{self.path} can't be written: {error.strerror or error}") from None

    def close(self) -> None:
        """Let go of the file."""
        if self._stream is not None:
            with contextlib.suppress(OSError):
                self._stream.close()


# --------------------------------------------------------------------------------------------------------- doing


class Bar(Protocol):
    """Shows how far a batch is."""

    def tell(self, tally: Tally) -> None: ...


@dataclass(kw_only=True)
class Tally:
    """How a batch went: how many goals ended in which way, and what that cost."""

    total: int
    known: int = 0
    modes: Counter[str] = field(default_factory=Counter)
    failed: int = 0
    cost_usd: float = 0.0
    saved_usd: float = 0.0
    started: float = field(default_factory=time.monotonic)

    @property
    def done(self) -> int:
        return self.modes.total() + self.failed

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def to_json(self) -> dict[str, Any]:
        """As plain JSON data."""
        return {
            "goals": self.total,
            "done_before": self.known,
            "modes": dict(sorted(self.modes.items())),
            "failed": self.failed,
            "cost_usd": round(self.cost_usd, 6),
            "saved_usd": round(self.saved_usd, 6),
            "duration_s": round(self.seconds, 3),
            "goals_per_s": round(self.done / self.seconds, 2) if self.seconds > 0 else 0.0,
        }


def batch(file: Path, *, jobs: int, out: Path | None) -> Action:
    """Do the goals of a file, `jobs` at a time; the results go to `out`, by default a file beside it."""

    async def action(session: Session) -> None:
        items = read_items(await text_of(file, most=MAX_BYTES), str(file))
        results = Results(out if out is not None else _beside(file))
        session.engine.min_jobs = jobs
        system = await session.system()
        await asyncio.to_thread(results.open)
        try:
            tally = await _Batch(session=session, system=system, results=results).do(items, jobs)
        finally:
            results.close()
        facts = {**tally.to_json(), "results": str(results.path)}
        session.screen.data({"status": "failed" if tally.failed else "done", **facts})
        session.screen.note(_summary(tally, results.path))
        if tally.failed:
            raise BatchFailedError(f"{tally.failed} of {tally.total} goals failed; the same command tries those again.")

    return action


class BatchFailedError(LLMOSError):
    """Not every goal of a batch was reached."""


def _beside(file: Path) -> Path:
    if str(file) == "-":
        raise UsageError("goals from standard input need a file for the results: --out FILE.")
    return file.with_name(f"{file.name}.results.jsonl")


def _summary(tally: Tally, path: Path) -> str:
    ways = [f"{count} {mode}" for mode, count in sorted(tally.modes.items())]
    ways += [f"{tally.failed} failed"] if tally.failed else []
    ways += [f"{tally.known} done before"] if tally.known else []
    facts = tally.to_json()
    parts = [f"{tally.total} goals: {', '.join(ways) or 'nothing to do'}", render.money(tally.cost_usd)]
    parts += [f"saved {render.money(tally.saved_usd)}", render.duration(tally.seconds)]
    parts += [f"{facts['goals_per_s']:.0f} goals/s"] if tally.done else []
    return " · ".join([*parts, f"results in {path}"])


@dataclass(frozen=True, kw_only=True)
class _Batch:
    session: Session
    system: LLMOS
    results: Results

    async def do(self, items: list[Item], jobs: int) -> Tally:
        """Do what is not done yet, and count; Ctrl-C ends it between goals and inside those that run."""
        todo = [item for item in items if item.key not in self.results.done]
        tally = Tally(total=len(items), known=len(items) - len(todo))
        waiting = iter(todo)
        async with self.system.crew.working(jobs):
            with _bar(tally, self.session) as tell:

                async def work() -> None:
                    for item in waiting:
                        await self._one(item, tally)
                        tell()

                workers = [asyncio.create_task(work()) for _ in range(min(jobs, len(todo)))]
                try:
                    await asyncio.gather(*workers)
                finally:  # one that can't write its results, or Ctrl-C, ends them all
                    for worker in workers:
                        worker.cancel()
                    await asyncio.gather(*workers, return_exceptions=True)
        return tally

    async def _one(self, item: Item, tally: Tally) -> None:
        row = await self._earlier(item)
        if row is None:
            run_id = os.urandom(6).hex()
            self.results.write({"key": item.key, "line": item.line, "status": "begun", "run_id": run_id})
            row = await self._done(item, run_id)
        self.results.write({"key": item.key, "line": item.line, "id": item.id, "goal": item.goal, **row})
        tally.cost_usd += row["cost_usd"]
        tally.saved_usd += row["saved_usd"]
        if row["status"] == DONE:
            tally.modes[row["mode"]] += 1
        else:
            tally.failed += 1

    async def _earlier(self, item: Item) -> dict[str, Any] | None:
        """The result of a run that an earlier batch began and nobody wrote down any more.

        None where there is none that counts: one that was broken off before it changed anything is done anew.
        """
        run_id = self.results.begun.get(item.key)
        if run_id is None:
            return None
        try:
            run = await self.system.runs.get(run_id)
        except NotFoundError:
            return None
        if run.status is RunStatus.INTERRUPTED:
            if self.session.options.again or not await self.system.undoing.stands(run_id):
                return None
            told = {"run_id": run_id, "status": "failed", "error": _BROKEN_OFF.format(run_id), "exit_code": 1}
            return {**_NOTHING, **told}
        if run.status is not RunStatus.DONE:
            return None
        trace_id = f"{run.trace_id}@{run.trace_version}" if run.trace_id else None
        told = {"run_id": run.id, "mode": str(run.mode), "status": DONE, "answer": run.answer or ""}
        return {
            **told,
            "cost_usd": run.cost_usd,
            "saved_usd": run.saved_usd,
            "trace_id": trace_id,
            "reason": run.reason,
        }

    async def _done(self, item: Item, run_id: str) -> dict[str, Any]:
        options = self.session.options
        try:
            result = await self.system.execute(
                item.goal,
                mode=item.mode or options.mode,
                confirm=self.session.confirm if options.yes else None,
                again=options.again,
                run_id=run_id,
                **await acting(self.session),
            )
        except LLMOSError as error:
            sentence, exit_code = failure(error)
            known: Result | None = getattr(error, "result", None)
            row = _row(known) if known is not None else _NOTHING
            return {**row, "status": "failed", "error": sentence, "exit_code": exit_code}
        return _row(result)


def _row(result: Result) -> dict[str, Any]:
    """A result as one line has it: without the steps, which `runs show` has."""
    names = ("run_id", "mode", "status", "answer", "cost_usd", "saved_usd", "trace_id", "duration_s", "reason")
    return {name: getattr(result, name) for name in names}


_BROKEN_OFF = (
    "run {0} was broken off after it had changed something: `undo {0}` takes that back, then this is done anew; with "
    "`--again` it is done once more all the same."
)
_NOTHING = {"run_id": None, "mode": "none", "answer": "", "cost_usd": 0.0, "saved_usd": 0.0, "trace_id": None}


@contextlib.contextmanager
def _bar(tally: Tally, session: Session) -> Iterator[Any]:
    """A progress bar on a terminal's stderr; nothing elsewhere. What it gives is to be called after each goal."""
    stderr = caller.stderr()
    if not caller.is_terminal(stderr) or session.options.as_json:
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    console = Console(file=stderr, width=caller.columns(stderr))
    with (
        session.engine.progress.paused() if session.engine.progress is not None else contextlib.nullcontext(),
        Progress(*columns, console=console, transient=True) as shown,
    ):
        task = shown.add_task("", total=tally.total, completed=tally.known)

        def tell() -> None:
            failed = f", {tally.failed} failed" if tally.failed else ""
            text = f"{render.money(tally.cost_usd)}, saved {render.money(tally.saved_usd)}{failed}"
            shown.update(task, completed=tally.known + tally.done, description=text)

        yield tell
