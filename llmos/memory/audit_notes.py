"""What is to be recorded in the audit log, noted where it happens: inside the transaction that stores it."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """What a row records."""

    START = "start"
    DECISION = "decision"
    APPROVAL = "approval"
    EFFECT = "effect"
    TAINT = "taint"
    UNDO = "undo"
    CHARGE = "charge"
    SETTING = "setting"
    TRACE = "trace"
    RUN_END = "run_end"
    RESEAL = "reseal"
    RETENTION = "retention"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Something to be recorded; `at` None: the moment it is written."""

    kind: Kind
    body: Mapping[str, Any]
    run_id: str = ""
    at: datetime | None = None


_notes: ContextVar[list[Entry] | None] = ContextVar("llmos_audit_notes", default=None)
_takes_waiting: ContextVar[bool] = ContextVar("llmos_audit_takes_waiting", default=False)


def note(kind: Kind, body: Mapping[str, Any], *, run_id: str = "", at: datetime | None = None) -> None:
    """Record something with the transaction that is under way: both are stored, or neither.

    Nothing happens where no audit log is kept.
    """
    notes = _notes.get()
    if notes is not None:
        notes.append(Entry(kind=kind, body=body, run_id=run_id, at=at))


def take_waiting() -> None:
    """Record with the transaction that is under way what waits for one: both are stored, or neither."""
    _takes_waiting.set(True)


def takes_waiting() -> bool:
    """Whether the transaction that is under way records what waits, even if it notes nothing itself."""
    return _takes_waiting.get()


def begin_notes() -> None:
    """A transaction begins: nothing is noted yet."""
    _notes.set([])
    _takes_waiting.set(False)


def noted() -> list[Entry]:
    """What was noted in the transaction that is under way."""
    return _notes.get() or []
