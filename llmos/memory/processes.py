"""Processes that can go on after the kernel that ran them has ended: what must be known of each, one row a process."""

from __future__ import annotations

import builtins
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from llmos.memory import process_sql as sql
from llmos.memory.database import Clock, Database, clean, to_utc, utc_now

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A process as it stood at the end of its last turn.

    `spent_usd` is what its run cost until then, `open_usd` how much of that its open reservation is for; while
    `is_asking` a request to the model is under way, of which nobody knows the cost yet: at most `asking_usd`.
    `dearest_usd` is what the dearest turn cost so far, `borrowed` what others lent it, by their runs. `session_id` is
    the model's session (`llmos.memory.sessions`), `workspace` the folder it works in, `began_at` an ISO time. `above`
    are the classes of the processes it comes from, `origin` the run of the first of them. `agent` is the profile that
    it works under, `mode` who was at work, and `plan` what its model was told beside the goal. `turns` to `held_s`, and
    `tokens` (of which `tokens_out` were received), count from its beginning, in whichever kernel that was.

    With `taken_over` a replay of `trace_id` had begun it: of what that had done the first `settled` calls had come out
    as they should; `due` are calls that it was still to make and are like ones that were made, by what they have in
    common, and `rejoined` is the step from which the rest was replayed again. Without it a process of a `trace_id` is
    the replay itself: `env` are the values of `env.*` that it began with, and it was `asked` for in this mode.
    """

    run_id: str
    pid: int
    goal: str
    kind: str
    priority: int
    model: str
    session_id: str
    workspace: str
    began_at: str
    mode: str = ""
    parent: int | None = None
    above: Sequence[str] = ()
    origin: str = ""
    blocks: Mapping[str, str] = field(default_factory=dict)
    agent: Mapping[str, Any] | None = None
    budget_usd: float | None = None
    budget_tokens: int | None = None
    max_usd: float = 0.0
    max_turns: int = 0
    turns: int = 0
    steps: int = 0
    held_s: float = 0.0
    spent_usd: float = 0.0
    open_usd: float = 0.0
    dearest_usd: float = 0.0
    asking_usd: float = 0.0
    borrowed: dict[str, float] = field(default_factory=dict)
    tokens: int = 0
    tokens_out: int = 0
    context_tokens: int = 0
    context_max: int | None = None
    unsent_bytes: int = 0
    is_asking: bool = False
    is_suspended: bool = False
    may_confirm: bool = False
    plan: str | None = None
    taken_over: bool = False
    trace_id: str = ""
    trace_version: int | None = None
    settled: int = 0
    due: Mapping[str, str] = field(default_factory=dict)
    rejoined: str | None = None
    env: Mapping[str, Any] = field(default_factory=dict)
    asked: str = "auto"

    @property
    def is_replay(self) -> bool:
        """Whether no model works on it."""
        return bool(self.trace_id) and not self.taken_over

    @property
    def unsure_usd(self) -> float:
        """What a request under way may have cost at most."""
        return self.asking_usd if self.is_asking else 0.0


class ProcessStore:
    """The checkpoints of a home."""

    def __init__(self, db: Database, *, clock: Clock = utc_now) -> None:
        self._db = db
        self._clock = clock

    async def put(self, *checkpoints: Checkpoint) -> None:
        """Keep how processes stand now, all or none; durable on return."""
        await self._db.run(self._putting(*checkpoints))

    def put_soon(self, checkpoint: Checkpoint) -> None:
        """The same, stored together with the intent of what is done first."""
        self._db.later(self._putting(checkpoint))

    def is_whole(self, checkpoint: Checkpoint) -> bool:
        """Whether it is kept as it is: nothing secret is taken out."""
        return self._db.redactor.record(checkpoint) == checkpoint

    async def remove(self, run_id: str) -> None:
        """Forget a process and its model's session: it is over."""
        await self._db.run(_removing(run_id))

    def remove_soon(self, run_id: str) -> None:
        """The same, stored together with the end of the run."""
        self._db.later(_removing(run_id))

    def _putting(self, *checkpoints: Checkpoint) -> Callable[[DuckDBPyConnection], None]:
        rows = []
        for one in checkpoints:
            kept = self._db.redactor.record(one)
            rows.append([clean(kept.run_id), kept.pid, clean(json.dumps(asdict(kept))), to_utc(self._clock())])

        def work(connection: DuckDBPyConnection) -> None:
            for row in rows:
                connection.execute(sql.PUT_PROCESS, row)

        return work

    async def list(self) -> builtins.list[Checkpoint]:
        """Every process that is not over, by pid; a row that can't be read is left out, and told."""
        rows = await self._db.run(lambda connection: connection.execute(sql.LIST_PROCESSES).fetchall())
        found = [_read(str(body)) for (body,) in rows]
        return [one for one in found if one is not None]


def _removing(run_id: str) -> Callable[[DuckDBPyConnection], None]:
    def work(connection: DuckDBPyConnection) -> None:
        connection.execute(sql.DELETE_PROCESS, [clean(run_id)])
        connection.execute(sql.DELETE_SESSION_LINES, [clean(run_id)])

    return work


_KNOWN = {one.name for one in fields(Checkpoint)}


def _read(body: str) -> Checkpoint | None:
    try:
        data: dict[str, Any] = json.loads(body)
        return Checkpoint(**{name: value for name, value in data.items() if name in _KNOWN})
    except (ValueError, TypeError) as error:
        log.warning("the record of a process can't be read: %s", error, extra={"action": "process_unread"})
        return None
