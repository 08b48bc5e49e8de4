"""The write-ahead journal: an intent before each effect, the outcome after it, both durable; what a crash left open."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol, TypeVar

from llmos.errors import LLMOSError, NotPermittedError
from llmos.kernel.capture import Capture, Capturing, look_again
from llmos.kernel.images import Images
from llmos.kernel.leavings import remove_leavings
from llmos.kernel.sealing import Sealing
from llmos.kernel.survey import Survey, Surveyor
from llmos.plugins.tool import ToolCall, ToolResult
from llmos.settings import JournalSettings
from llmos.trace.effects import FileChange, JournalEntry, Outcome, Reach, decide
from llmos.trace.program import Effect

log = logging.getLogger(__name__)

T = TypeVar("T")
_SHOWN_CHARS = 2_000
_PRUNE_EVERY = timedelta(days=1)
_NEWEST = 50


class JournalLog(Protocol):
    """Where the entries are stored (`llmos.memory.journal`); what a method stored is durable once it returned.

    Raises:
        StorageError: it could not be stored or read; nothing of it was.
    """

    async def intend(self, entry: JournalEntry) -> JournalEntry:
        """Store an intent and give it its number; or give the unsettled entry of the same key, and store nothing."""

    async def conclude(self, entry: JournalEntry) -> None:
        """Store the outcome, files and note of an entry."""

    def conclude_soon(self, entry: JournalEntry, *, otherwise: Callable[[], None]) -> None:
        """The same, durable with whatever is stored next, or soon; `otherwise` is called where that failed."""

    async def open(self) -> list[JournalEntry]:
        """The entries without an outcome, oldest first."""

    async def needed(self, since: datetime, newest: int = 0) -> set[str]:
        """The contents that undoing a run begun since then, or one of the newest, or settling any, may need."""

    async def pruned_at(self) -> datetime | None:
        """When contents were removed last."""

    async def set_pruned(self, at: datetime) -> None:
        """Say that contents were removed."""


@dataclass(kw_only=True, eq=False)
class Pending:
    """A call under way: its entry, what stood there before, and what others did in the workspace meanwhile."""

    entry: JournalEntry
    survey: Survey | None = None
    foreign: set[str] = field(default_factory=set)
    shared: set[str] = field(default_factory=set)


class Journal:
    """Middleware that journals every call that may change the world; calls that don't are passed on at once.

    `folder` is where contents are kept, encrypted where `redact` finds a secret in them; `closed` are folders that are
    no part of a workspace.
    """

    def __init__(
        self,
        store: JournalLog,
        folder: Path,
        limits: JournalSettings,
        *,
        redact: Callable[[str], str],
        closed: tuple[Path, ...] = (),
        clock: Callable[[], datetime],
    ) -> None:
        shut = frozenset(str(path.resolve()) for path in closed)
        self.images = Images(folder, limits, Sealing(key=folder.with_suffix(".key"), redact=redact))
        self.store = store
        self.limits = limits
        self._clock = clock
        self._surveyor = Surveyor(self.images, limits, shut)
        self._capturing = Capturing(images=self.images, surveyor=self._surveyor, limits=limits, closed=shut)
        self._alone = asyncio.Lock()
        self._live: list[Pending] = []
        self._loose: list[Pending] = []
        self._withdrawals: set[asyncio.Task[None]] = set()

    async def __call__(self, call: ToolCall, proceed: Callable[[], Awaitable[ToolResult]]) -> ToolResult:
        """Store the intent, make the call, store the outcome.

        Raises:
            NotPermittedError: the same effect was begun before and nobody knows what came of it, or what would be
                changed is too large to be kept; the call is not made.
            StorageError: intent, contents or outcome can't be stored.
        """
        if not call.effect.changes_world:
            return await proceed()
        pending = await self._begun(call)
        try:
            result = await proceed()
        except BaseException:
            self._live.remove(pending)
            self._loose.append(pending)  # a thread of it may still be at work: it is judged when somebody asks
            raise
        try:
            await asyncio.shield(self._concluded(pending, result))
        except LLMOSError:
            self._loose.append(pending)
            raise
        return result

    def alone(self) -> asyncio.Lock:
        """Held while contents are kept and until the intent that needs them is stored: nothing is removed meanwhile."""
        return self._alone

    async def aclose(self) -> None:
        """Finish what was withdrawn."""
        await asyncio.gather(*self._withdrawals, return_exceptions=True)

    # --- before ----------------------------------------------------------------------------------------

    async def _begun(self, call: ToolCall) -> Pending:
        beginning = asyncio.ensure_future(self._begin(call))
        try:
            return await asyncio.shield(beginning)
        except asyncio.CancelledError:
            task = asyncio.ensure_future(self._withdraw(beginning))
            self._withdrawals.add(task)
            task.add_done_callback(self._withdrawals.discard)
            raise

    async def _withdraw(self, beginning: asyncio.Future[Pending]) -> None:
        """The call was cancelled while its intent was stored: it is not made."""
        try:
            pending = await beginning
        except LLMOSError:
            return
        self._live.remove(pending)
        await self.store.conclude(replace(pending.entry, outcome=Outcome.NOT_DONE, note="it was cancelled before"))

    async def _begin(self, call: ToolCall) -> Pending:
        if self._loose:
            await self.settle_loose()
        async with self._alone:
            captured = await self._captured(call)
            entry = entry_of(call, captured)
            stored = await self.store.intend(replace(entry, began_at=self._clock()))
        if stored.outcome is Outcome.UNKNOWN:
            raise NotPermittedError(_unsettled(stored))
        pending = Pending(entry=stored, survey=captured.survey)
        self._meet(pending)
        return pending

    async def _captured(self, call: ToolCall) -> Capture:
        """What the call may change, kept; if there is no room for it, room is made where that is possible."""
        self.images.was_full = False
        try:
            captured = await asyncio.to_thread(self._capturing.capture, call)
            if not self.images.was_full:
                return captured
        except NotPermittedError:
            if not self.images.was_full or not await self._prune():
                raise
            return await asyncio.to_thread(self._capturing.capture, call)
        return await asyncio.to_thread(self._capturing.capture, call) if await self._prune() else captured

    def _meet(self, pending: Pending) -> None:
        """Note who works in the workspace at the same time, so that nobody is credited with the changes of others."""
        named = {change.path for change in pending.entry.files}
        for other in self._live:
            if other.survey is not None:
                other.foreign |= named
            if pending.survey is None:
                continue
            pending.foreign |= {change.path for change in other.entry.files}
            if other.survey is not None and other.entry.run_id != pending.entry.run_id:
                pending.shared.add(other.entry.run_id)
                other.shared.add(pending.entry.run_id)
        self._live.append(pending)

    # --- after -----------------------------------------------------------------------------------------

    async def _concluded(self, pending: Pending, result: ToolResult) -> None:
        try:
            entry = await asyncio.to_thread(self._seen, pending)
        except OSError as error:
            why = f"its files could not be looked at ({error.strerror or error})"
            entry = replace(pending.entry, reach=Reach.UNSEEN, note=why)
        finally:
            self._live.remove(pending)
        outcome = Outcome.FAILED if result.is_error else Outcome.DONE
        note = result.text[:300] if result.is_error else entry.note
        concluded = replace(entry, outcome=outcome, note=note)
        told_by_files = entry.effect is Effect.WRITE and entry.reach is Reach.EXACT and entry.files
        if told_by_files and outcome is Outcome.DONE:  # so nothing hangs on when it is stored
            self.store.conclude_soon(concluded, otherwise=lambda: self._loose.append(pending))
        else:
            await self.store.conclude(concluded)

    def _seen(self, pending: Pending) -> JournalEntry:
        """The entry with its files as they are now."""
        entry, root = pending.entry, Path(pending.entry.workspace)
        if pending.survey is None:
            return replace(entry, files=look_again(root, entry.files))
        changed = self._surveyor.after(pending.survey)
        if changed is None:
            return replace(entry, reach=Reach.UNSEEN, note="the workspace has grown too large to be compared")
        shared = tuple(sorted(pending.shared))
        files = [
            FileChange(path=path, before=before, after=after, shared=shared)
            for path, (before, after) in changed.items()
            if path not in pending.foreign
        ]
        return replace(entry, files=tuple(files))

    async def carried_out(self, entry: JournalEntry, work: Callable[[], T]) -> T:
        """Do work of our own in a thread, to its end even when cancelled, and store its outcome.

        Raises:
            LLMOSError: that of the work; the entry is judged by the files it was to change.
        """
        task = asyncio.ensure_future(self._carry_out(Pending(entry=entry), work))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait({task})
            raise

    async def _carry_out(self, pending: Pending, work: Callable[[], T]) -> T:
        self._meet(pending)
        try:
            result = await asyncio.to_thread(work)
        except BaseException:
            await self._settle(pending)
            raise
        finally:
            self._live.remove(pending)
        entry = await asyncio.to_thread(self._seen, pending)
        await self.store.conclude(replace(entry, outcome=Outcome.DONE))
        return result

    # --- what was left open ----------------------------------------------------------------------------

    async def settle_loose(self) -> None:
        """Judge the calls of this process that never came back, by what they left."""
        loose, self._loose = self._loose, []
        for pending in loose:
            await self._settle(pending)

    async def settle_open(self) -> list[JournalEntry]:
        """Judge, at boot, what an earlier process left open, and remove what it left; gives what stays unknown."""
        judged = []
        for entry in await self.store.open():
            await asyncio.to_thread(remove_leavings, entry)
            judged.append(await self._settle(Pending(entry=entry)))
        unknown = [entry for entry in judged if entry.outcome is Outcome.UNKNOWN]
        for entry in unknown:
            log.warning(
                "what came of %s in run %s (step %d) is not known: `runs show %s` says what to look at.",
                entry.tool,
                entry.run_id,
                entry.step + 1,
                entry.run_id,
                extra={"action": "unknown_outcome", "run_id": entry.run_id},
            )
        return unknown

    async def _settle(self, pending: Pending) -> JournalEntry:
        judged = await asyncio.to_thread(self._judged, pending)
        settled = replace(judged, ended_at=self._clock())
        await self.store.conclude(settled)
        return settled

    async def settled(self, entry: JournalEntry, *, is_done: bool) -> JournalEntry:
        """Take the user's word for an outcome; the files are as they are now."""
        judged = await asyncio.to_thread(self._judged, Pending(entry=entry))
        outcome, said = (Outcome.DONE, "done") if is_done else (Outcome.NOT_DONE, "not done")
        settled = replace(judged, outcome=outcome, note=f"the user says it was {said}", ended_at=self._clock())
        await self.store.conclude(settled)
        return settled

    def _judged(self, pending: Pending) -> JournalEntry:
        entry, root = pending.entry, Path(pending.entry.workspace)
        if not root.is_dir():
            return replace(entry, outcome=Outcome.UNKNOWN, note=f"the workspace {root} is not there")
        if entry.reach is not Reach.SEEN:
            return decide(entry, look_again(root, entry.files))
        if pending.survey is None:
            pending.survey = self._read_survey(root, entry.manifest)
        if pending.survey is None:
            return replace(entry, outcome=Outcome.UNKNOWN, note="what stood in the workspace before is not known")
        seen = self._seen(pending)
        return decide(seen, seen.files)

    def _read_survey(self, root: Path, manifest: str) -> Survey | None:
        try:
            content = self.images.content(manifest)
            if hashlib.sha256(content).hexdigest() != manifest:
                return None
            return Survey.from_manifest(root, content)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    # --- housekeeping ----------------------------------------------------------------------------------

    async def prune(self) -> int:
        """Remove the contents that no run needs that can still be undone; gives how many bytes that freed."""
        async with self._alone:
            return await self._prune()

    async def prune_if_due(self) -> None:
        """The same, once a day; but of the newest runs nothing, for the clock may be wrong."""
        last = await self.store.pruned_at()
        if last is None or abs(self._clock() - last) > _PRUNE_EVERY:
            async with self._alone:
                await self._prune(_NEWEST)

    async def _prune(self, newest: int = 0) -> int:
        now = self._clock()
        needed = await self.store.needed(now - timedelta(days=self.limits.keep_days), newest)
        freed = await asyncio.to_thread(self.images.prune, needed)
        await self.store.set_pruned(now)
        return freed


def entry_of(call: ToolCall, captured: Capture) -> JournalEntry:
    """The intent of a call."""
    tool = call.tool
    return JournalEntry(
        run_id=call.ctx.run_id,
        step=call.ctx.step or 0,
        tool=tool.name,
        tool_version=tool.version,
        effect=call.effect,
        key=key_of(tool.name, tool.version, call.arguments),
        arguments=_shortened(call.arguments),
        workspace=str(call.ctx.workspace.resolve()),
        reach=captured.reach,
        files=captured.files,
        manifest=captured.manifest,
        note=captured.why,
    )


def key_of(tool: str, version: str, arguments: Mapping[str, Any]) -> str:
    """What tells effects apart: the digest of a tool, its version and the arguments of a call."""
    text = json.dumps([tool, version, arguments], sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _shortened(value: Any) -> Any:
    """Arguments for people to read: long texts cut."""
    if isinstance(value, str) and len(value) > _SHOWN_CHARS:
        return f"{value[:_SHOWN_CHARS]}… ({len(value):,} characters)"
    if isinstance(value, Mapping):
        return {str(name): _shortened(item) for name, item in value.items()}
    return [_shortened(item) for item in value] if isinstance(value, list | tuple) else value


def _unsettled(entry: JournalEntry) -> str:
    step = entry.step + 1
    return (
        f"{entry.tool} was begun with the same arguments in run {entry.run_id} (step {step}) and nobody knows what "
        f"came of it, so it is not done again: look (`runs show {entry.run_id}`), then say "
        f"`journal settle {entry.run_id} {step} done` or `not-done`."
    )
