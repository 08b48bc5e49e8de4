"""Runs and their steps, as they happened."""

from __future__ import annotations

import builtins
import json
import threading
from collections.abc import Hashable, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from llmos.accounts import MICROUSD_PER_USD
from llmos.errors import NotFoundError, StorageError
from llmos.memory import sql
from llmos.memory.audit_notes import Kind, note
from llmos.memory.bulk import insert_many
from llmos.memory.database import Clock, Database, clean, digest, from_utc, to_utc, utc_now
from llmos.trace.lex import normalise
from llmos.trace.program import Effect
from llmos.trace.run import Finish, Handover, Mode, Origin, Run, RunStatus, Source, StepRecord

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from llmos.memory.embeddings import Embedding


class RunStore:
    """Every execution of every goal; rows are written as things happen, so a crash leaves what was done."""

    def __init__(self, db: Database, *, clock: Clock = utc_now) -> None:
        self._db = db
        self._clock = clock
        self._soon: builtins.list[builtins.list[Any]] = []
        self._lock = threading.Lock()

    async def start(self, run: Run) -> None:
        """Store a run before anything is done for it.

        Raises:
            StorageError: there is a run of this id already.
        """
        started = self._db.redactor.record(replace(run, started_at=run.started_at or self._clock()))

        def work(connection: DuckDBPyConnection) -> None:
            if connection.execute(sql.RUN_EXISTS, [run.id]).fetchone():
                raise StorageError(f"run {run.id!r} was started already; every run needs an id of its own.")
            _insert(connection, started)

        await self._db.run(work)

    def start_soon(self, run: Run) -> None:
        """The same, stored together with the intent of what is done first: nothing may be done before that."""
        started = self._db.redactor.record(replace(run, started_at=run.started_at or self._clock()))
        self._db.later(lambda connection: _insert(connection, started))

    async def add_step(self, run_id: str, step: StepRecord) -> None:
        """Store one tool call with its outcome; a step of the same index is left as it was stored first."""
        row = step_row(run_id, self._db.redactor.record(step))
        await self._db.run(lambda connection: insert_many(connection, sql.INSERT_STEPS, [row]))

    def add_step_soon(self, run_id: str, step: StepRecord) -> None:
        """The same, together with what is stored next; one that holds a secret is only stored with the end of its run.

        Whoever went on from it would do so without the secret.
        """
        kept = self._db.redactor.record(step)
        if kept != step:
            return
        with self._lock:
            self._soon.append(step_row(run_id, kept))
            is_first = len(self._soon) == 1
        if is_first:
            self._db.later(self._add_soon)

    def _add_soon(self, connection: DuckDBPyConnection) -> None:
        with self._lock:
            rows, self._soon = self._soon, []
        insert_many(connection, sql.INSERT_STEPS, rows)

    def is_whole(self, run: Run) -> bool:
        """Whether a run is kept as it is: nothing secret is taken out."""
        return self._db.redactor.record(run) == run

    async def drop_steps(self, run_id: str, indexes: Sequence[int]) -> None:
        """Remove the calls of these numbers, which were cut off, before they are made again."""
        rows = [[run_id, index] for index in indexes]
        if rows:
            await self._db.run(lambda connection: connection.executemany(sql.DELETE_STEP, rows) and None)

    async def finish(self, run: Run) -> None:
        """Store how a run ended, and those of its steps that are not stored yet."""
        run = self._db.redactor.record(replace(run, steps=tuple(map(self._db.redactor.record, run.steps))))
        started = replace(run, started_at=run.started_at or self._clock())
        ended(self._db, run)
        await self._db.run(lambda connection: finish(connection, started))

    async def hand_over(self, run: Run) -> None:
        """Store that a replay diverged, where, and what it had done, before a learner goes on with it."""
        steps = [step_row(run.id, step) for step in run.steps]
        row = [str(run.mode), run.trace_id, run.trace_version, run.model, clean(run.reason), run.id]

        def work(connection: DuckDBPyConnection) -> None:
            connection.execute(sql.HAND_OVER, row)
            insert_many(connection, sql.HAND_OVER_STEPS, steps)
            _put_handover(connection, run)

        await self._db.run(work)

    async def go_on(self, run: Run) -> None:
        """Say that a run that was interrupted is being worked on again."""
        row = [str(run.mode), str(RunStatus.RUNNING), clean(run.reason), run.id]
        await self._db.run(lambda connection: connection.execute(sql.RUN_GOES_ON, row) and None)

    async def add_cost(self, run_id: str, cost_usd: float) -> None:
        """Charge a run with dollars that became known after it ended; nothing happens if it was never stored."""
        row = [cost_usd, run_id]
        await self._db.run(lambda connection: connection.execute(sql.ADD_RUN_COST, row) and None)

    async def get(self, run_id: str) -> Run:
        """A run with its steps.

        Raises:
            NotFoundError: there is none of that id.
            StorageError: its rows can't be read as a run.
        """

        def work(connection: DuckDBPyConnection) -> list[list[Any]]:
            queries = (sql.GET_RUN, sql.GET_STEPS, sql.GET_HANDOVER, sql.TAINTS_OF_RUN)
            return [connection.execute(query, [clean(run_id)]).fetchall() for query in queries]

        rows, steps, handovers, taints = await self._db.run(work)
        if not rows:
            raise NotFoundError(f"there is no run {run_id!r}: `llmos runs list` shows those there are.")
        try:
            handover = _handover(handovers[0]) if handovers else None
            taint = tuple(Source(tool=tool, place=place, step=step) for tool, place, step in taints)
            return replace(_run(rows[0]), steps=tuple(map(_step, steps)), handover=handover, taint=taint)
        except (ValueError, TypeError) as error:
            raise StorageError(f"run {run_id!r} in {self._db.path} can't be read: {error}.") from error

    async def list(
        self, limit: int = 50, status: RunStatus | None = None, mode: Mode | None = None
    ) -> builtins.list[Run]:
        """Runs without their steps, newest first; one that can't be read is listed as failed, with the reason."""
        wanted = [status and str(status), status and str(status), mode and str(mode), mode and str(mode), max(0, limit)]
        rows = await self._db.run(lambda connection: connection.execute(sql.LIST_RUNS, wanted).fetchall())
        return [_run_or_stub(row) for row in rows]

    async def last_answered(self) -> Run | None:
        """The run that ended last with an answer, with its steps."""
        row = await self._db.run(lambda connection: connection.execute(sql.LAST_ANSWERED).fetchone())
        return await self.get(row[0]) if row else None

    async def learner_costs(
        self, embedding: Embedding | None = None, k: int = 20
    ) -> builtins.list[tuple[float, float]]:
        """What learning cost in dollars, as (cosine, cost): the `k` goals most like the embedded one.

        Without an embedding, or while no goal is embedded by its model, the newest `k`, each with cosine 1.
        """

        def work(connection: DuckDBPyConnection) -> list[Any]:
            rows: list[Any] = []
            if embedding is not None:
                parameters = [embedding.model, embedding.vector.tolist(), k]
                rows = connection.execute(sql.SIMILAR_LEARNER_COSTS, parameters).fetchall()
            return rows or connection.execute(sql.RECENT_LEARNER_COSTS, [k]).fetchall()

        return [(float(cosine), float(cost)) for cosine, cost in await self._db.run(work)]


def exact_key(goal_hash: str) -> Hashable:
    """What the traces of just this goal are kept under (`llmos.memory.caching`)."""
    return "exact", goal_hash


def finish(connection: DuckDBPyConnection, run: Run) -> None:
    """Store how a run ended, in the database's thread; it holds no secrets any more."""
    ending = [*_outcome(run), run.id]
    if not connection.execute(sql.FINISH_RUN, ending).fetchall():
        _insert(connection, run)
        connection.execute(sql.FINISH_RUN, ending)
    stored = {row[0] for row in connection.execute(sql.STEPS_STORED, [run.id]).fetchall()}
    steps = [step_row(run.id, step) for step in run.steps if step.index not in stored]
    insert_many(connection, sql.ADD_STEPS, steps)
    _put_handover(connection, run)
    note(Kind.RUN_END, audited(run), run_id=run.id)


def ended(db: Database, run: Run) -> None:
    """Let what is kept of a run's goal be looked up again, if this run adds to it."""
    goal_hash = digest(normalise(run.goal))
    db.goals.add(goal_hash)
    db.cache.drop(exact_key(goal_hash), unless=lambda known: run.trace_id in known)


def audited(run: Run) -> dict[str, Any]:
    """The end of a run as the audit log has it."""
    return {
        "mode": str(run.mode),
        "status": str(run.status),
        "goal": run.goal,
        "trace": f"{run.trace_id}@{run.trace_version}" if run.trace_id else None,
        "model": run.model,
        "cost_microusd": round(run.cost_usd * MICROUSD_PER_USD),
        "saved_microusd": round(run.saved_usd * MICROUSD_PER_USD),
        "steps": len(run.steps),
        "reason": run.reason,
    }


# --- rows ------------------------------------------------------------------------------------------


def _insert(connection: DuckDBPyConnection, run: Run) -> None:
    connection.execute(sql.INSERT_RUN, run_row(run))


def run_row(run: Run) -> list[Any]:
    """The values of a run's row: those of RUN_COLUMNS after the digest of its goal."""
    mode, status, *rest, duration_s = _outcome(run)
    started_at = to_utc(run.started_at) if run.started_at else None
    return [digest(normalise(run.goal)), run.id, clean(run.goal), mode, status, *rest, started_at, duration_s]


def _outcome(run: Run) -> list[Any]:
    """The columns that change while a run goes on, in the order of RUN_COLUMNS."""
    return [
        str(run.mode),
        str(run.status),
        None if run.answer is None else clean(run.answer),
        None if run.finish is None else _json(asdict(run.finish)),
        run.trace_id,
        run.trace_version,
        _json(run.bindings),
        run.model,
        run.cost_usd,
        run.saved_usd,
        clean(run.reason),
        run.duration_s,
    ]


def step_row(run_id: str, step: StepRecord) -> list[Any]:
    """The values of a step's row."""
    return [
        run_id,
        step.index,
        step.tool,
        _json(step.args),
        _json(step.output),
        step.is_error,
        str(step.effect),
        step.tool_version,
        step.tool_use_id,
        step.duration_s,
        step.origin and str(step.origin),
    ]


def _put_handover(connection: DuckDBPyConnection, run: Run) -> None:
    if (told := run.handover) is not None:
        texts = [clean(text) for text in (told.trace, told.step_id, told.expected, told.actual)]
        connection.execute(sql.PUT_HANDOVER, [run.id, *texts, told.rejoined])


def _handover(row: Sequence[Any]) -> Handover:
    return Handover(**dict(zip(("trace", "step_id", "expected", "actual", "rejoined"), row, strict=True)))


def _json(value: Any) -> str:
    return json.dumps(value, default=str)


def _run(row: Sequence[Any]) -> Run:
    (run_id, goal, mode, status, answer, finish, trace_id, trace_version, bindings, model, *rest) = row
    cost_usd, saved_usd, reason, started_at, duration_s = rest
    return Run(
        id=run_id,
        goal=goal,
        mode=Mode(mode),
        status=RunStatus(status),
        answer=answer,
        finish=None if finish is None else _finish(json.loads(finish)),
        trace_id=trace_id,
        trace_version=trace_version,
        bindings=json.loads(bindings),
        model=model,
        cost_usd=cost_usd,
        saved_usd=saved_usd,
        reason=reason,
        started_at=from_utc(started_at) if started_at else None,
        duration_s=duration_s,
    )


def _finish(data: dict[str, Any]) -> Finish:
    return Finish(**{**data, "checks": tuple(data.get("checks", ()))})


def _run_or_stub(row: Sequence[Any]) -> Run:
    try:
        return _run(row)
    except (ValueError, TypeError) as error:
        reason = f"its record can't be read: {error}"
        return Run(id=row[0], goal=row[1], mode=Mode.LEARNER, status=RunStatus.FAILED, reason=reason)


def _step(row: Sequence[Any]) -> StepRecord:
    index, tool, args, output, is_error, effect, tool_version, tool_use_id, duration_s, origin = row
    return StepRecord(
        index=index,
        tool=tool,
        args=json.loads(args),
        output=json.loads(output),
        is_error=is_error,
        effect=Effect(effect),
        tool_version=tool_version,
        tool_use_id=tool_use_id,
        duration_s=duration_s,
        origin=None if origin is None else Origin(origin),
    )
