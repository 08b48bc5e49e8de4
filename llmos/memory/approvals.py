"""Approvals that are remembered: of one call, or of a step of a trace with any values in its slots."""

from __future__ import annotations

import builtins
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from llmos.errors import NotFoundError
from llmos.memory import sql
from llmos.memory.database import Clock, Database, clean, from_utc, to_utc, utc_now
from llmos.trace.program import Effect

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


class Approved(Protocol):
    """What is remembered of an approval."""

    @property
    def digest(self) -> str: ...
    @property
    def tool(self) -> str: ...
    @property
    def effect(self) -> Effect: ...
    @property
    def shown(self) -> str: ...
    @property
    def trace_id(self) -> str | None: ...
    @property
    def step_id(self) -> str | None: ...


@dataclass(frozen=True, kw_only=True)
class StoredApproval:
    """A remembered approval; `id` is the beginning of its digest, as it is listed and revoked by."""

    digest: str
    tool: str
    effect: Effect
    shown: str
    trace_id: str | None
    step_id: str | None
    approved_at: datetime

    @property
    def id(self) -> str:
        return self.digest[:12]


class Approvals:
    """All remembered approvals of a home."""

    def __init__(self, db: Database, *, clock: Clock = utc_now) -> None:
        self._db = db
        self._clock = clock

    async def approved(self, digests: tuple[str, ...], effect: Effect) -> bool:
        """Whether one of the digests was approved, for effects that are no better than this one."""

        def work(connection: DuckDBPyConnection) -> list[str]:
            rows = connection.execute(sql.GET_APPROVALS, [list(digests)]).fetchall()
            return [str(row[0]) for row in rows]

        return any(Effect(known).rank >= effect.rank for known in await self._db.run(work))

    async def remember(self, approval: Approved) -> None:
        """Keep an approval; one of the same digest is replaced."""
        row = [
            approval.digest,
            clean(approval.tool),
            str(approval.effect),
            clean(approval.shown),
            approval.trace_id and clean(approval.trace_id),
            approval.step_id and clean(approval.step_id),
            to_utc(self._clock()),
        ]
        await self._db.run(lambda connection: connection.execute(sql.PUT_APPROVAL, row) and None)

    async def list(self) -> list[StoredApproval]:
        """Every approval, the newest first."""

        def work(connection: DuckDBPyConnection) -> list[StoredApproval]:
            return [_from_row(row) for row in connection.execute(sql.LIST_APPROVALS).fetchall()]

        return await self._db.run(work)

    async def revoke(self, name: str) -> builtins.list[StoredApproval]:
        """Forget the approval whose digest begins so, or all of a trace.

        Raises:
            NotFoundError: there is none, or the beginning is that of several.
        """
        known = await self.list()
        found = [one for one in known if one.trace_id == name]
        if not found:
            found = [one for one in known if name and one.digest.startswith(name)]
            if len(found) > 1:
                raise NotFoundError(f"{name!r} is the beginning of {len(found)} approvals; write more of it.")
        if not found:
            raise NotFoundError(f"there is no approval {name!r}; `approvals list` has them.")
        digests = [one.digest for one in found]
        await self._db.run(lambda connection: connection.execute(sql.DELETE_APPROVALS, [digests]) and None)
        return found


def _from_row(row: tuple[str, str, str, str, str | None, str | None, datetime]) -> StoredApproval:
    digest, tool, effect, shown, trace_id, step_id, approved_at = row
    return StoredApproval(
        digest=digest,
        tool=tool,
        effect=Effect(effect),
        shown=shown,
        trace_id=trace_id,
        step_id=step_id,
        approved_at=from_utc(approved_at),
    )
