"""What taking a run back would do to the files it changed: decided from the journal and a look at what is there now."""

from __future__ import annotations

import difflib
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from llmos.errors import NotPermittedError
from llmos.kernel.images import Images
from llmos.kernel.survey import inside, look
from llmos.trace.effects import FileChange, FileKind, FileState, JournalEntry, Outcome, Reach
from llmos.trace.program import Effect

_MAX_DIFF_BYTES = 1_000_000
_NO_NEWLINE = "\\ No newline at end of file"
"""As `diff` and git say it."""


@dataclass(frozen=True, kw_only=True)
class Restoration:
    """A path to be brought back: what is there now, what was there before, and where that content is.

    `source` is the SHA-256 of a kept content, a file of the workspace that holds it, or '' where none is needed.
    """

    path: str
    present: FileState
    before: FileState
    source: str = ""

    @property
    def verb(self) -> str:
        """What is done to the path."""
        if self.before.kind is FileKind.ABSENT:
            return "remove"
        if self.present.kind is FileKind.ABSENT:
            return "bring back"
        return "set permissions" if self.before.same_content(self.present) else "restore"


@dataclass(frozen=True, kw_only=True)
class Conflict:
    """A path that is not as the run left it, or of which nobody knows how the run left it."""

    path: str
    why: str
    after: FileState
    present: FileState
    diff: str = ""


@dataclass(frozen=True, kw_only=True)
class UndoPlan:
    """What undoing a run does.

    `lost` are pairs of a path that can't be brought back, and why; `beyond` says what else the run did that can't be
    undone; `unchanged` are paths that are as before the run already.
    """

    run_id: str
    root: Path
    restore: tuple[Restoration, ...] = ()
    conflicts: tuple[Conflict, ...] = ()
    lost: tuple[tuple[str, str], ...] = ()
    beyond: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()


@dataclass(kw_only=True)
class _Story:
    """What a run did to one path: the state before its first call and after its last, and why that may not be all."""

    path: str
    before: FileState
    after: FileState
    why: str = ""
    shared: set[str] = field(default_factory=set)

    def goes_on(self, change: FileChange, why: str) -> None:
        assert change.after is not None
        is_same = change.before.same_content(self.after) or change.before.same_content(self.before)
        if not is_same:
            self.why = self.why or "somebody else changed it while the run went on"
        self.after = change.after
        self.why = self.why or why
        self.shared |= set(change.shared)


def plan_undo(
    run_id: str, root: Path, entries: Sequence[JournalEntry], images: Images, closed: frozenset[str]
) -> UndoPlan:
    """What undoing a run would do; reads files, changes nothing."""
    stories = _stories(entries)
    restore: list[Restoration] = []
    conflicts: list[Conflict] = []
    lost: list[tuple[str, str]] = []
    unchanged: list[str] = []
    present = {story.path: _present(root, story.path, closed) for story in stories}
    held = {state.sha256: path for path, state in present.items() if isinstance(state, FileState) and state.sha256}
    for story in stories:
        now = present[story.path]
        if isinstance(now, str):
            lost.append((story.path, now))
        elif now.same(story.before):
            unchanged.append(story.path)
        elif why := _conflict(story, now):
            diff = difference(root, story, now, images)
            conflicts.append(Conflict(path=story.path, why=why, after=story.after, present=now, diff=diff))
        elif why := _why_lost(story.before, now, images, held):
            lost.append((story.path, why))
        else:
            source = _source(root, story.before, now, images, held)
            restore.append(Restoration(path=story.path, present=now, before=story.before, source=source))
    restore, crowded = _without_crowded(root, restore)
    return UndoPlan(
        run_id=run_id,
        root=root,
        restore=tuple(restore),
        conflicts=(*conflicts, *crowded),
        lost=tuple(lost),
        beyond=tuple(_beyond(entries)),
        unchanged=tuple(unchanged),
    )


def _stories(entries: Sequence[JournalEntry]) -> list[_Story]:
    told: dict[str, _Story] = {}
    for entry in entries:
        why = ""
        if entry.outcome in (Outcome.UNKNOWN, Outcome.OPEN):
            settle = f"`journal settle {entry.run_id} {entry.step + 1} done` or `not-done`"
            why = f"what came of {entry.tool} is not known; look at it and say {settle} first"
        for change in entry.changed:
            assert change.after is not None
            if change.path in told:
                told[change.path].goes_on(change, why)
                continue
            shared = set(change.shared)
            told[change.path] = _Story(
                path=change.path, before=change.before, after=change.after, why=why, shared=shared
            )
    return list(told.values())


def _present(root: Path, path: str, closed: frozenset[str]) -> FileState | str:
    """What is at a path now, or why nobody goes there."""
    try:
        place = inside(root, path)
    except NotPermittedError as error:
        return str(error).rstrip(".")
    if any(str(one) in closed for one in (place, *place.parents)):
        return "it belongs to LLM OS itself"
    return look(place)


def _conflict(story: _Story, now: FileState) -> str:
    if story.why:
        return story.why
    if story.shared:
        runs = ", ".join(sorted(story.shared))
        return f"run {runs} worked in the workspace at the same time, so it may be its change"
    return "" if now.same_content(story.after) else "it was changed since the run"


def _why_lost(before: FileState, now: FileState, images: Images, held: dict[str, str]) -> str:
    if before.kind is FileKind.SPECIAL:
        return "it was a device, a pipe or a socket"
    if before.kind is not FileKind.FILE or before.same_content(now):
        return ""
    if images.has(before.sha256) or before.sha256 in held:
        return ""
    return (
        "what it held is not kept any more" if before.kept else "what it held was not kept (see journal in llmos.yaml)"
    )


def _source(root: Path, before: FileState, now: FileState, images: Images, held: dict[str, str]) -> str:
    if before.kind is not FileKind.FILE or before.same_content(now):
        return ""
    return before.sha256 if images.has(before.sha256) else str(root / held[before.sha256])


def _without_crowded(root: Path, restore: list[Restoration]) -> tuple[list[Restoration], list[Conflict]]:
    """A folder in whose place a file is to be brought back must hold nothing else."""
    removed = {one.path for one in restore if one.before.kind is FileKind.ABSENT}
    kept: list[Restoration] = []
    crowded: list[Conflict] = []
    for one in restore:
        is_replaced = one.present.kind is FileKind.FOLDER and one.before.kind not in (FileKind.FOLDER, FileKind.ABSENT)
        inner = {f"{one.path}/{name}" for name in os.listdir(root / one.path)} if is_replaced else set()  # noqa: PTH208
        if inner <= removed:
            kept.append(one)
        else:
            why = "it is a folder now, with files in it that the run did not make"
            crowded.append(Conflict(path=one.path, why=why, after=one.present, present=one.present))
    return kept, crowded


def _beyond(entries: Sequence[JournalEntry]) -> Iterator[str]:
    """What of a run is no change of known files, one sentence for each call."""
    for entry in entries:
        if entry.outcome is Outcome.NOT_DONE:
            continue
        call = f"step {entry.step + 1}, {entry.tool} ({entry.effect})"
        if entry.reach is Reach.UNSEEN:
            why = entry.note or "the workspace could not be compared"
            yield f"{call}: which files it changed is not known, for {why}"
        elif entry.effect is Effect.EXTERNAL:
            yield f"{call}: what it did outside of the workspace can't be undone"
        elif entry.effect is Effect.UNKNOWN:
            yield f"{call}: what it did besides to files of the workspace is not known and can't be undone"
        elif entry.reach is Reach.EXACT and not entry.files:
            yield f"{call}: what it stored is in no file of the workspace and can't be undone"


# --- differences -------------------------------------------------------------------------------------


def difference(root: Path, story: _Story, now: FileState, images: Images) -> str:
    """What was changed since the run, or, where that is not kept, what undo would do to what is there now."""
    if images.has(story.after.sha256):
        old, new = (story.after, "after the run"), (now, "now")
    else:
        old, new = (now, "now"), (story.before, "before the run")
    texts = [
        _text(root / story.path, state, is_now, images)
        for (state, is_now) in ((old[0], old[1] == "now"), (new[0], new[1] == "now"))
    ]
    names = (f"{story.path} ({old[1]})", f"{story.path} ({new[1]})")
    if texts[0] is None or texts[1] is None:
        return "\n".join(
            f"{sign} {name}: {described(state)}"
            for sign, name, state in zip("-+", names, (old[0], new[0]), strict=True)
        )
    lines = difflib.unified_diff(texts[0], texts[1], *names)
    return "".join(line if line.endswith("\n") else f"{line}\n{_NO_NEWLINE}\n" for line in lines).removesuffix("\n")


def _text(place: Path, state: FileState, is_now: bool, images: Images) -> list[str] | None:
    """The lines of a state's content; none where nothing is, None where it is no text, too large, or not kept."""
    if state.kind is FileKind.ABSENT:
        return []
    if state.kind is not FileKind.FILE or state.size > _MAX_DIFF_BYTES:
        return None
    try:
        content = place.read_bytes() if is_now else images.content(state.sha256)
        return None if b"\0" in content else io.StringIO(content.decode("utf-8"), newline="\n").readlines()
    except (OSError, UnicodeDecodeError):
        return None


def described(state: FileState) -> str:
    """A state in a few words."""
    match state.kind:
        case FileKind.ABSENT:
            return "nothing there"
        case FileKind.LINK:
            return f"a link to {state.target}"
        case FileKind.FILE:
            return f"{state.size:,} bytes, sha256 {state.sha256[:16] or '?'}"
    return f"a {state.kind}" if state.kind is FileKind.FOLDER else "a special file"
