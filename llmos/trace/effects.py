"""What a call was about to change and what it changed: the entries of the journal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from llmos.trace.program import Effect


class FileKind(StrEnum):
    """What can stand at a path; SPECIAL is a device, pipe or socket, which is never opened."""

    ABSENT = "absent"
    FILE = "file"
    FOLDER = "folder"
    LINK = "link"
    SPECIAL = "special"


@dataclass(frozen=True, kw_only=True)
class FileState:
    """What stood at a path.

    `sha256` is of a file's content ('': it was not read), `mode` the permission bits, `target` what a link says,
    `links` how many names the file has. `stamp` changes whenever the file does; `kept` says that the content is kept.
    """

    kind: FileKind = FileKind.ABSENT
    sha256: str = ""
    size: int = 0
    mode: int = 0
    target: str = ""
    links: int = 1
    stamp: str = ""
    kept: bool = False

    def same_content(self, other: FileState) -> bool:
        """Whether both are the same but for permissions; unread files are compared by their stamps."""
        if self.kind is not other.kind:
            return False
        if self.kind is FileKind.FILE:
            read = bool(self.sha256 and other.sha256)
            return self.sha256 == other.sha256 if read else bool(self.stamp) and self.stamp == other.stamp
        return self.target == other.target

    def same(self, other: FileState) -> bool:
        """Whether both are the same, permissions included."""
        return self.same_content(other) and (self.mode == other.mode or self.kind is FileKind.LINK)


@dataclass(frozen=True, kw_only=True)
class FileChange:
    """One path of a call, counted from the workspace: what stood there, what was intended, what stood there after.

    `intended` None: not known beforehand; `after` None: nobody could look. `shared` names runs that worked in the
    workspace at the same time, so that the change may be theirs.
    """

    path: str
    before: FileState
    intended: FileState | None = None
    after: FileState | None = None
    shared: tuple[str, ...] = ()

    @property
    def has_changed(self) -> bool:
        return self.after is not None and not self.before.same(self.after)


class Reach(StrEnum):
    """How a call's files are known: EXACT beforehand, SEEN by comparing the workspace with before, UNSEEN: not."""

    EXACT = "exact"
    SEEN = "seen"
    UNSEEN = "unseen"


class Outcome(StrEnum):
    """What came of a call: OPEN while it is under way; FAILED is what the tool says, and it may have changed things."""

    OPEN = "open"
    DONE = "done"
    FAILED = "failed"
    NOT_DONE = "not-done"
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class JournalEntry:
    """One effect: the intent, stored before the call was made, with the last outcome stored after it.

    `key` is the digest of tool, version and arguments; `arguments` may be shortened. `manifest` is the SHA-256 of the
    list of what stood in the workspace before, where `reach` is SEEN. `note` says why the outcome is what it is.
    """

    no: int = 0
    run_id: str
    step: int
    tool: str
    tool_version: str = ""
    effect: Effect = Effect.UNKNOWN
    key: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    workspace: str = ""
    reach: Reach = Reach.EXACT
    files: tuple[FileChange, ...] = ()
    manifest: str = ""
    began_at: datetime | None = None
    outcome: Outcome = Outcome.OPEN
    note: str = ""
    ended_at: datetime | None = None

    @property
    def changed(self) -> tuple[FileChange, ...]:
        return tuple(change for change in self.files if change.has_changed)

    @property
    def digests(self) -> set[str]:
        """The kept contents that undoing this entry may need."""
        kept = {change.before.sha256 for change in self.files if change.before.kept}
        needs_list = self.manifest and self.outcome in (Outcome.OPEN, Outcome.UNKNOWN)
        return kept | ({self.manifest} if needs_list else set())


def decide(entry: JournalEntry, files: tuple[FileChange, ...]) -> JournalEntry:
    """What came of a call that never came back, judged by the files it was to change; `files` as they are now.

    Only a write whose files were named beforehand can be judged: as they were, it was not done; as intended, it was.
    """
    named = [change for change in files if not _is_made_folder(change)]
    unchanged = all(change.after and change.before.same_content(change.after) for change in named)
    if entry.effect is not Effect.WRITE or entry.reach is not Reach.EXACT or not named:
        return replace(entry, files=files, outcome=Outcome.UNKNOWN, note="its files alone don't tell what it did")
    if unchanged:
        return replace(entry, files=files, outcome=Outcome.NOT_DONE, note="its files are as they were")
    if all(_is_as_intended(change) for change in named):
        return replace(entry, files=files, outcome=Outcome.DONE, note="its files are as intended")
    return replace(entry, files=files, outcome=Outcome.UNKNOWN, note="its files are neither as before nor as intended")


def _is_made_folder(change: FileChange) -> bool:
    """Whether it is a folder on the way to a file; it says nothing of the file."""
    return change.intended is not None and change.intended.kind is FileKind.FOLDER and not change.intended.mode


def _is_as_intended(change: FileChange) -> bool:
    if change.intended is None or change.after is None:
        return False
    return change.intended.same_content(change.after)


# --- as plain data -----------------------------------------------------------------------------------

_DEFAULT = FileState()


def state_data(state: FileState) -> dict[str, Any]:
    """A state as JSON data, without what is as usual."""
    shown = {one.name: getattr(state, one.name) for one in fields(state)}
    return {name: value for name, value in shown.items() if name == "kind" or value != getattr(_DEFAULT, name)}


def state_from(data: Mapping[str, Any]) -> FileState:
    """The state of `state_data`."""
    return FileState(**{**data, "kind": FileKind(data["kind"])})


def change_data(change: FileChange) -> dict[str, Any]:
    """A change as JSON data."""
    states = {"before": change.before, "intended": change.intended, "after": change.after}
    known = {name: state_data(state) for name, state in states.items() if state is not None}
    return {"path": change.path, **known, **({"shared": list(change.shared)} if change.shared else {})}


def change_from(data: Mapping[str, Any]) -> FileChange:
    """The change of `change_data`."""
    states = {name: state_from(data[name]) for name in ("before", "intended", "after") if name in data}
    return FileChange(path=data["path"], shared=tuple(data.get("shared", ())), **states)
