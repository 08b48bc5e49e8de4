"""What a call is about to change, looked at and kept before it is made."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from llmos.errors import LLMOSError, StorageError
from llmos.kernel.images import Images
from llmos.kernel.survey import Survey, Surveyor, glance, look, look_and_keep
from llmos.plugins.tool import FileWrite, ToolCall
from llmos.settings import JournalSettings
from llmos.trace.effects import FileChange, FileKind, FileState, Reach

log = logging.getLogger(__name__)

_FOLDER = FileState(kind=FileKind.FOLDER)


@dataclass(frozen=True, kw_only=True)
class Capture:
    """What stood there before a call: the `files` it names, else a `survey`; `why` says what that does not know."""

    reach: Reach
    files: tuple[FileChange, ...] = ()
    survey: Survey | None = None
    manifest: str = ""
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Capturing:
    """Captures calls; `capture` blocks, one thread at a time."""

    images: Images
    surveyor: Surveyor
    limits: JournalSettings
    closed: frozenset[str]

    def capture(self, call: ToolCall) -> Capture:
        """Look at what a call may change and keep it, durably.

        Raises:
            LLMOSError: it can't be kept, or the tool says already that the call can't be made.
        """
        try:
            captured = self._captured(call)
            self.images.flush()
        except BaseException:
            self.images.discard()
            raise
        return captured

    def _captured(self, call: ToolCall) -> Capture:
        writes = named_writes(call)
        if writes is not None:
            return Capture(reach=Reach.EXACT, files=tuple(self._files(call, writes)))
        try:
            survey = self.surveyor.before(call.ctx.workspace.resolve())
        except OSError as error:
            return Capture(reach=Reach.UNSEEN, why=f"the workspace could not be read ({error.strerror or error})")
        if not survey.complete:
            return Capture(reach=Reach.UNSEEN, why=survey.why)
        manifest = self.images.put(survey.manifest())
        return Capture(reach=Reach.SEEN, survey=survey, manifest=manifest, why=survey.why)

    # --- calls that name their files -----------------------------------------------------------------

    def _files(self, call: ToolCall, writes: Iterable[FileWrite]) -> Iterable[FileChange]:
        root = call.ctx.workspace.resolve()
        placed = {place_of(root, write): write for write in writes}
        moved = {write.content for write in placed.values() if isinstance(write.content, Path)}
        states = {place: self._before(root, place, write, moved) for place, write in placed.items()}
        for folder in _missing_folders(root, states):
            yield FileChange(path=folder.relative_to(root).as_posix(), before=FileState(), intended=_FOLDER)
        for place, write in placed.items():
            intended = self._intended(root, write, states)
            name = place.relative_to(root).as_posix() if place.is_relative_to(root) else str(place)
            yield FileChange(path=name, before=states[place], intended=intended)

    def _before(self, root: Path, place: Path, write: FileWrite, moved: set[Path]) -> FileState:
        if not place.is_relative_to(root) or any(str(one) in self.closed for one in (place, *place.parents)):
            return glance(place)  # not ours to keep, and undo says so
        state = glance(place)
        if state.kind is not FileKind.FILE:
            return state
        name = place.relative_to(root).as_posix()
        if write.removed and write.path in moved and state.size > self.limits.max_file_bytes:
            return look(place)  # its content moves on, and is brought back from there
        try:
            return look_and_keep(place, name, self.images)
        except OSError as error:
            raise StorageError(
                f"{name} can't be read to be kept ({error.strerror or error}), so it is not changed."
            ) from error

    def _intended(self, root: Path, write: FileWrite, states: dict[Path, FileState]) -> FileState | None:
        import hashlib

        if write.removed:
            return FileState()
        if isinstance(write.content, Path):
            source = place_of(root, FileWrite(path=write.content, removed=True))
            known = states.get(source) or look(source)
            return FileState(kind=FileKind.FILE, sha256=known.sha256, size=known.size) if known.sha256 else None
        if write.content is None:
            return None
        digest = hashlib.sha256(write.content).hexdigest()
        return FileState(kind=FileKind.FILE, sha256=digest, size=len(write.content))


def named_writes(call: ToolCall) -> list[FileWrite] | None:
    """The files a call will change, by its tool's word; None: the tool does not say.

    Raises:
        LLMOSError: the tool says that the call can't be made.
    """
    if call.tool.writes is None:
        return None
    try:
        return list(call.tool.writes(call.ctx, call.arguments))
    except LLMOSError:
        raise
    except Exception:  # a plugin's code; the workspace is looked at instead
        log.warning("asking %s what it writes failed", call.tool.name, exc_info=True, extra={"action": "writes"})
        return None


def look_again(root: Path, files: Iterable[FileChange]) -> tuple[FileChange, ...]:
    """The files of a call as they are now."""
    return tuple(replace(change, after=look(root / change.path)) for change in files)


def place_of(root: Path, write: FileWrite) -> Path:
    """Where a write goes: links are followed, except the one that is itself removed."""
    place = root / write.path
    return place.parent.resolve() / place.name if write.removed else place.resolve()


def _missing_folders(root: Path, states: dict[Path, FileState]) -> list[Path]:
    """The folders that will be made for files that are not there yet, the upper ones first."""
    missing = {
        folder
        for place, state in states.items()
        if state.kind is FileKind.ABSENT
        for folder in place.parents
        if folder.is_relative_to(root) and glance(folder).kind is FileKind.ABSENT
    }
    return sorted(missing)
