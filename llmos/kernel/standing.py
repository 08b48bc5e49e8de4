"""Watching what a replay reads and writes, and telling later whether a fresh one would still give the same.

A fresh replay gives the same if it reads the same: everything a call read is, at the end of the run, as it was before
the call, and is so still; and what the run wrote still stands. So a run that changes what it reads never counts.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

from llmos.errors import LLMOSError
from llmos.kernel.capture import place_of
from llmos.kernel.images import sha256_of
from llmos.kernel.survey import glance, is_racy, look
from llmos.plugins.context import ToolContext
from llmos.plugins.registry import ToolRegistry
from llmos.plugins.tool import FileRead, Tool, ToolCall, ToolResult
from llmos.trace.effects import FileKind, FileState, JournalEntry, Outcome, Reach
from llmos.trace.program import Effect, Trace
from llmos.trace.standing import Asked, CallInputs, Input, StandingRun, may_stand, shows

log = logging.getLogger(__name__)

MAX_INPUTS = 2_000
"""A run that reads more is done again: looking at so many files costs more than many a replay."""
MAX_HASHED_BYTES = 64_000_000
"""A larger file counts as changed when it was touched."""
_RACY_NS = 2_000_000_000
"""Coarse file systems keep times of two seconds (FAT): a file changed less long before it was read is read again."""
_VALUE = "\0value"
_OUTPUT = Input(digest="output")
_TOO_MANY = f"more than {MAX_INPUTS:,} files are read"


class ChangedError(Exception):
    """Something is not as it was, or can't be told; a fresh replay is due."""


def could_stand(trace: Trace, registry: ToolRegistry) -> bool:
    """Whether a replay could be one that still stands later: its tools say what they read and write."""
    return may_stand(trace) and all(step.tool in registry and _is_told(registry.get(step.tool)) for step in trace.calls)


def _is_told(tool: Tool) -> bool:
    reads = tool.effect is Effect.PURE or tool.reads is not None or tool.valid_for_s is not None
    return reads and (tool.effect.rank < Effect.WRITE.rank or tool.writes is not None)


@dataclass(kw_only=True)
class Watching:
    """Middleware around the calls of one replay: notes what each reads before it is made.

    `world` is what else the replay depends on; `void` says why the run will not count.
    """

    trace: Trace
    now: Callable[[], datetime]
    world: Mapping[str, Any] = field(default_factory=dict)
    void: str = ""
    valid_until: datetime | None = None
    calls: list[tuple[ToolCall, CallInputs]] = field(default_factory=list)
    asked: dict[str, tuple[Path, FileState]] = field(default_factory=dict)

    async def __call__(self, call: ToolCall, proceed: Callable[[], Awaitable[ToolResult]]) -> ToolResult:
        if self.void:
            return await proceed()
        left_out = await asyncio.to_thread(self._note, call)
        result = await proceed()
        if result.is_error:
            self.void = f"{call.tool.name} failed"
        elif left_out and not (isinstance(result.output, dict) and isinstance(result.output.get("text"), str)):
            self.void = f"all that {call.tool.name} gave may be the answer"
        return result

    def _note(self, call: ToolCall) -> bool:
        """Note what a call reads; gives whether something was left out, for the trace does not show it."""
        left_out = False

        def counts(read: FileRead) -> bool:
            nonlocal left_out
            left_out = left_out or not self._shows(read)
            return self._shows(read)

        try:
            if call.tool.reads is None and call.tool.valid_for_s is not None:
                until = self.now() + timedelta(seconds=call.tool.valid_for_s)
                self.valid_until = min(until, self.valid_until or until)
            seen = seen_of(call, {}, counts)
            if sum(len(one.inputs) for _, one in self.calls) + len(seen.inputs) > MAX_INPUTS:
                raise ChangedError(_TOO_MANY)
            self.calls.append((call, seen))
        except ChangedError as error:
            self.void = str(error)
        return left_out

    def _shows(self, read: FileRead) -> bool:
        """Whether a read counts; one that shows in some fields of the output only where they show in the trace."""
        return not read.shows_in or any(shows(self.trace, name) for name in read.shows_in)

    def asking(self, resolve: Callable[[str], Path]) -> Callable[[str], Path]:
        """`resolve` for checks and conditions: what they ask for is an input as well, a missing file too."""

        def resolved(path: str) -> Path:
            try:
                place = resolve(path)
            except LLMOSError:
                self.void = self.void or f"it asks for {path!r}, which is no path it may use"
                raise
            self._ask(path, place)
            return place

        return resolved

    def _ask(self, path: str, place: Path) -> None:
        seen = (place, glance(place))
        if self.asked.setdefault(path, seen) != seen:
            self.void = self.void or f"{path} changed while the goal was done"

    def ended(self, entries: Sequence[JournalEntry], root: Path) -> StandingRun:
        """What is known of the run once it is over, without its name and answer; it blocks.

        Raises:
            ChangedError: it will not count.
        """
        if self.void:
            raise ChangedError(self.void)
        calls = tuple(self._again(call, before) for call, before in self.calls)
        written = sum(seen.effect.changes_world for seen in calls)
        files = _outputs(entries, root, written)
        left = {root / path for path in files}
        asked = {path: _unmoved(path, *one, is_output=one[0] in left) for path, one in self.asked.items()}
        return StandingRun(
            key="",
            run_id="",
            trace_id=self.trace.id,
            done_at=self.now(),
            answer="",
            outputs={},
            world=self.world,
            calls=calls,
            asked=asked,
            files=files,
            valid_until=self.valid_until,
        )

    def _again(self, call: ToolCall, before: CallInputs) -> CallInputs:
        seen = seen_of(call, before.inputs, self._shows)
        if seen.targets != before.targets or not _same_inputs(before, seen, strictly=True):
            raise ChangedError(f"what {call.tool.name} reads changed while the goal was done, or by it")
        return _settled(seen)


def _unmoved(path: str, place: Path, before: FileState, *, is_output: bool) -> Asked:
    """What a path was asked for, if it is as it was then; what the run wrote is looked at with its outputs."""
    if glance(place) != before:
        raise ChangedError(f"{path} changed while the goal was done, or by it")
    state = _OUTPUT if is_output else _without_racy(content_of(place, None))
    return Asked(place=str(place), state=state)


# --- telling -----------------------------------------------------------------------------------------


def still_stands(run: StandingRun, registry: ToolRegistry, ctx: ToolContext, now: datetime) -> StandingRun:
    """The run with the stamps its files have now, if a fresh one would give the same; it blocks.

    Raises:
        ChangedError: it might not.
    """
    if run.valid_until is not None and not run.done_at <= now < run.valid_until:
        raise ChangedError("what was read elsewhere may have changed")
    root = ctx.workspace.resolve()
    calls = tuple(_call_stands(call, registry, ctx) for call in run.calls)
    asked = {path: _asked_stands(path, one, ctx) for path, one in run.asked.items()}
    files = {path: _file_stands(root / path, state) for path, state in run.files.items()}
    return replace(run, calls=calls, asked=asked, files=files)


def _call_stands(call: CallInputs, registry: ToolRegistry, ctx: ToolContext) -> CallInputs:
    if call.tool not in registry or registry.get(call.tool).version != call.version:
        raise ChangedError(f"the tool {call.tool} is another one")
    tool = registry.get(call.tool)
    effect = tool.effect_of(ctx, call.arguments)
    if effect is not call.effect:
        raise ChangedError(f"{call.tool} may do something else")
    again = ToolCall(tool=tool, arguments=call.arguments, effect=effect, ctx=ctx)
    seen = seen_of(again, call.inputs, lambda read: _name(read) in call.inputs or not read.shows_in)
    if seen.targets != call.targets or not _same_inputs(call, seen):
        raise ChangedError(f"what {call.tool} reads has changed")
    return _settled(seen)


def _asked_stands(path: str, one: Asked, ctx: ToolContext) -> Asked:
    try:
        place = ctx.resolve(path)
    except LLMOSError as error:
        raise ChangedError(str(error)) from None
    seen = _OUTPUT if one.state == _OUTPUT else content_of(place, one.state)
    if str(place) != one.place or seen.digest != one.state.digest:
        raise ChangedError(f"{path} has changed")
    return replace(one, state=_without_racy(seen))


def _file_stands(place: Path, state: FileState) -> FileState:
    """The state of a written file, if it is still the same, its other names included."""
    at_ns = time.time_ns()
    now = glance(place)
    if now.kind is FileKind.FILE and not (state.stamp and state.stamp == now.stamp):
        now = look(place)
    elif now.kind is FileKind.FILE:
        now = replace(now, sha256=state.sha256)
    if not state.same(now) or state.links != now.links:
        raise ChangedError(f"{place.name} is not as it was left")
    return replace(now, stamp="" if is_racy(now.stamp, at_ns, _RACY_NS) else now.stamp)


def _outputs(entries: Sequence[JournalEntry], root: Path, written: int) -> dict[str, FileState]:
    """What the journal says that a run left, if it is there."""
    exact = [entry for entry in entries if entry.reach is Reach.EXACT and entry.outcome is Outcome.DONE]
    if len(exact) != len(entries) or len(entries) != written or any(one.workspace != str(root) for one in entries):
        raise ChangedError("the journal does not know for certain what it wrote")
    left = {change.path: change.after for entry in exact for change in entry.files}
    if not left:
        raise ChangedError("it wrote nothing")
    files: dict[str, FileState] = {}
    for path, after in left.items():
        if after is None or Path(path).is_absolute():
            raise ChangedError(f"the journal does not know what became of {path}")
        files[path] = _file_stands(root / path, replace(after, kept=False))
    return files


# --- looking -----------------------------------------------------------------------------------------


def seen_of(call: ToolCall, known: Mapping[str, Input], counts: Callable[[FileRead], bool]) -> CallInputs:
    """What a call would read now, and where it would write; a file whose stamp is known is not read again.

    Raises:
        ChangedError: it can't be told.
    """
    tool, effect = call.tool, call.effect
    if effect.rank > Effect.WRITE.rank or (effect is Effect.WRITE and tool.writes is None):
        raise ChangedError(f"{tool.name} does not say what it changes")
    if tool.reads is None and tool.valid_for_s is None and effect is not Effect.PURE:
        raise ChangedError(f"{tool.name} does not say what it reads")
    try:
        reads = list(tool.reads(call.ctx, call.arguments)) if tool.reads is not None else []
        if len(reads) > MAX_INPUTS:
            raise ChangedError(_TOO_MANY)
        writes = list(tool.writes(call.ctx, call.arguments)) if effect is Effect.WRITE and tool.writes else []
        inputs = {_name(read): _input(read, known) for read in reads if counts(read)}
        root = call.ctx.workspace.resolve()
        targets = tuple(sorted(str(place_of(root, write)) for write in writes))
    except (LLMOSError, OSError) as error:
        raise ChangedError(str(error)) from None
    except ChangedError:
        raise
    except Exception as error:  # a plugin's code
        log.warning("asking %s what it reads failed", tool.name, exc_info=True, extra={"action": "reads"})
        raise ChangedError(f"{tool.name} can't say what it reads") from error
    return CallInputs(
        tool=tool.name,
        version=tool.version,
        effect=effect,
        arguments=dict(call.arguments),
        inputs=inputs,
        targets=targets,
    )


def _name(read: FileRead) -> str:
    return str(read.path) + (_VALUE if read.value is not None else "")


def _input(read: FileRead, known: Mapping[str, Input]) -> Input:
    if read.value is None:
        return content_of(read.path, known.get(_name(read)))
    text = json.dumps(read.value, sort_keys=True)
    return Input(digest=f"value:{sha256(text.encode()).hexdigest()}")


def content_of(path: Path, known: Input | None) -> Input:
    """What stands at a path now; a racy stamp ends in `racy`.

    Raises:
        ChangedError: it can't be read, or changes this very moment.
    """
    at_ns = time.time_ns()
    state = glance(path)
    if state.kind is not FileKind.FILE:
        return Input(digest=f"{state.kind}:{state.target}")
    racy = is_racy(state.stamp, at_ns, _RACY_NS)
    stamp = f"{state.stamp}{_RACY if racy else ''}"
    if known is not None and known.stamp == state.stamp:
        return known
    if state.size > MAX_HASHED_BYTES:
        if racy:
            raise ChangedError(f"{path.name} was changed only now")
        return Input(digest=f"large:{state.stamp}", stamp=stamp)
    try:
        digest = sha256_of(path)
    except OSError as error:
        raise ChangedError(f"{path.name} can't be read ({error.strerror or error})") from None
    if glance(path).stamp != state.stamp:
        raise ChangedError(f"{path.name} changes this very moment")
    return Input(digest=f"file:{digest}", stamp=stamp)


_RACY = " racy"


def _without_racy(one: Input) -> Input:
    return replace(one, stamp="") if one.stamp.endswith(_RACY) else one


def _settled(call: CallInputs) -> CallInputs:
    return replace(call, inputs={name: _without_racy(one) for name, one in call.inputs.items()})


def _same_inputs(before: CallInputs, now: CallInputs, *, strictly: bool = False) -> bool:
    """Whether both read the same; `strictly`: and no file was as much as touched between."""
    if before.inputs.keys() != now.inputs.keys():
        return False
    pairs = [(one, now.inputs[name]) for name, one in before.inputs.items()]
    return all(_same(one, other) if strictly else one.digest == other.digest for one, other in pairs)


def _same(one: Input, other: Input) -> bool:
    """Whether both are the same, and nobody as much as touched the file between."""
    return one.digest == other.digest and one.stamp.removesuffix(_RACY) == other.stamp.removesuffix(_RACY)
