"""DuckDB's errors and the system's as ours: one sentence that says what to do."""

from __future__ import annotations

import errno
import re
from pathlib import Path

from llmos.errors import DatabaseLockedError, LLMOSError, StorageError

_FULL = re.compile(r"no space left|file too large|disk quota|enough (disk )?space|out of disk", re.IGNORECASE)
_READ_ONLY = re.compile(r"permission denied|read-only|operation not permitted", re.IGNORECASE)
_DAMAGED = re.compile(
    r"not a valid duckdb|corrupt|checksum|deserializ|unexpected end of file|read enough bytes|replaying wal",
    re.IGNORECASE,
)
_BROKEN = ("InternalException", "SerializationException")
"""Classes of DuckDB's errors that stand for a file it does not understand."""

_NEWER = re.compile(r"newer|version number|storage version", re.IGNORECASE)
_LOCKED = re.compile(r"could not set lock|conflicting lock", re.IGNORECASE)


def translated(error: Exception, path: Path) -> LLMOSError:
    """The one place where DuckDB's and the system's errors become ours."""
    text = str(error)
    if _LOCKED.search(text):
        return locked(path, text)
    if _FULL.search(text) or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return StorageError(
            f"there is no space left for {path}: nothing of this change was stored, everything before it is safe; "
            "make room and try again."
        )
    if _READ_ONLY.search(text):
        return StorageError(
            f"{path} can't be written: check the rights of the file and its folder, or choose another --home."
        )
    if is_damage(error):
        return damaged(path)
    if _NEWER.search(text):
        return StorageError(
            f"{path} was written by a newer DuckDB than the one installed here, or is damaged: update duckdb, or let "
            "`boot.py repair` look at it."
        )
    first_line = text.strip().partition("\n")[0].rstrip(".")
    return StorageError(f"{path} could not be read or written: {first_line}; `boot.py repair` looks at it.")


def is_damage(error: Exception) -> bool:
    """Whether an error means that a file does not hold what was written into it."""
    return bool(_DAMAGED.search(str(error))) or type(error).__name__ in _BROKEN


def damaged(path: Path) -> StorageError:
    """What every command but `repair` says of a database that can't be read."""
    return StorageError(
        f"{path} is damaged or no database: `boot.py repair` says what is wrong and brings back what it can."
    )


def locked(path: Path, text: str = "") -> DatabaseLockedError:
    """Another process holds the file; `text` may name it."""
    found = re.search(r"\(PID (\d+)\)", text)
    if found is None:
        return DatabaseLockedError(f"{path} is in use by another process: end it, or choose another --home.")
    pid = int(found.group(1))
    if " up --foreground" in _command(pid):
        return DatabaseLockedError(
            f"{path} is held by the resident kernel (process {pid}): `boot.py down` ends it.",
            pid=pid,
        )
    return DatabaseLockedError(
        f"{path} is in use by process {pid} ({_command(pid)}): end it, or choose another --home.", pid=pid
    )


def _command(pid: int) -> str:
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return "its command is not known"
    command = raw.replace(b"\0", b" ").decode(errors="replace").strip()
    return command if len(command) <= 160 else f"{command[:159]}…"
