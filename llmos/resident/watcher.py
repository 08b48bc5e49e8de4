"""File watches: what changed below a path, without what the runs of the watch changed themselves."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from llmos.home import OpenHome
from llmos.kernel.watched import Seen, files_below, folders_below, gone, identity, leads_below, too_large
from llmos.orders import AnyOrder, Interrupt, InterruptKind, Watch, left_out
from llmos.trace.effects import Reach

if TYPE_CHECKING:
    from watchfiles import Change

    from llmos.resident.keeper import Keeper

log = logging.getLogger(__name__)

DEBOUNCE_MS, STEP_MS = 400, 100
MOST_AT_ONCE = 200
FIRST_GAP_S, MOST_GAP_S = 1.0, 60.0
"""How long a watch rests after it was served, twice as long each time it is served again at once."""

LOOK_MS = 500
"""How often it is looked whether what is watched is still there."""

GONE_S, AGAIN_S = 0.5, 30.0
"""How often it is looked for what is gone, and how often what could not be watched is tried again."""

KNOWN_S = 1.0
KNOWN_NS = int(KNOWN_S * 1e9)
"""A change may be so old before it is told of."""

_UNREADABLE = "Unable to decode path"
"""What watchfiles says of a name that is no text, and then no more of anything."""

_LIMITS = ("limit reached", "os error 24", "os error 28")
"""What it says where the system gives it no more. Source: inotify(7)."""

_MARK = "{path}"
_PLAIN = re.compile(r"[\w./+@%=,~-]+")
_QUOTABLE = re.compile(r"[^\"'«»`\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")
_PASSING = re.compile(r"\..*\.tmp")
"""What a file is called while it is being written."""

Signature = tuple[int, int, int] | None


@dataclass(kw_only=True)
class _State:
    """What is known of one watch: paths that changed and were not served, files as its own runs left them, and those
    whose names are too odd to be served.

    `known_ns` is the moment up to which all changes were told of, by the system's clock; None before the first look.
    Where `is_singly` some folders are closed to us, and each of the others is watched by itself.
    """

    watch: Watch
    task: asyncio.Task[None] | None = None
    held: dict[str, None] = field(default_factory=dict)
    own: dict[str, Signature] = field(default_factory=dict)
    odd: set[str] = field(default_factory=set)
    gap_s: float = FIRST_GAP_S
    rests_until_s: float = 0.0
    resting: asyncio.TimerHandle | None = None
    known_ns: int | None = None
    is_singly: bool = False


class Watcher:
    """Watches files for the watches there are, and raises their interrupts."""

    def __init__(self, home: OpenHome, keeper: Keeper, *, clock: Callable[[], datetime]) -> None:
        self._home = home
        self._keeper = keeper
        self._clock = clock
        self._states: dict[int, _State] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def follow(self, watches: Sequence[Watch]) -> None:
        """Watch for these, and for no others."""
        active = {one.id: one for one in watches if one.is_active}
        for number in [*self._states.keys() - active.keys()]:
            await self._stop(self._states.pop(number))
        for number, watch in active.items():
            if number not in self._states:
                state = self._states[number] = _State(watch=watch)
                state.task = asyncio.create_task(self._watch(state))

    async def close(self) -> None:
        """Watch for nobody any more."""
        states, self._states = [*self._states.values()], {}
        for state in states:
            await self._stop(state)

    async def changed(self, number: int, paths: Sequence[str]) -> None:
        """Take in paths that changed; what a run of the watch did itself is left out."""
        state = self._states.get(number)
        if state is None:
            return
        for path in paths:
            if path not in state.own or state.own[path] != signature(path):
                state.own.pop(path, None)
                state.held[path] = None
        await self._serve(state)

    async def ended(self, order: AnyOrder, run_id: str) -> None:
        """A run of an order is over: what it wrote is not news to its watch."""
        state = self._states.get(order.id) if isinstance(order, Watch) else None
        if state is None:
            return
        await self._know_own(state, run_id)
        now = time.monotonic()
        is_again = now < state.rests_until_s + state.gap_s
        state.gap_s = min(2 * state.gap_s, MOST_GAP_S) if is_again else FIRST_GAP_S
        state.rests_until_s = now + state.gap_s
        self._later(state)

    # --- inside ----------------------------------------------------------------------------------------

    async def _know_own(self, state: _State, run_id: str) -> None:
        entries = await self._home.effects.made_by(run_id)
        paths = {os.path.join(one.workspace, change.path) for one in entries for change in one.changed}  # noqa: PTH118
        if any(one.reach is Reach.UNSEEN for one in entries):
            paths |= {*state.held}  # nobody can say whose they are
        for path in paths:
            state.held.pop(path, None)
            state.own[path] = signature(path)

    def _later(self, state: _State) -> None:
        """Serve a watch once it has rested."""
        if state.resting is not None:
            state.resting.cancel()

        def begin() -> None:
            state.resting = None
            task = asyncio.create_task(self._serve(state))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        left_s = max(0.0, state.rests_until_s - time.monotonic())
        state.resting = asyncio.get_running_loop().call_later(left_s, begin)

    async def _serve(self, state: _State) -> None:
        if not state.held or self._states.get(state.watch.id) is not state or self._keeper.is_at_work(state.watch):
            return
        if time.monotonic() < state.rests_until_s:
            if state.resting is None:
                self._later(state)
            return
        paths = [*state.held][:MOST_AT_ONCE]
        for path in paths:
            del state.held[path]
        raised, odd = self._interrupts(state.watch, paths)
        odd = [name for name in odd if name not in state.odd]
        state.odd.update(odd)
        for name in odd:
            log.warning("%s: %r is left out: its name can't stand in a goal", state.watch.name, name)
        if raised or odd:
            await self._home.watches.fire(state.watch.id, lambda one: left_out(one, odd), raised)
        if raised:
            self._keeper.go(self._home.watches, state.watch)
        elif state.held:
            self._later(state)

    def _interrupts(self, watch: Watch, paths: Sequence[str]) -> tuple[list[Interrupt], list[str]]:
        """What these changes raise: one for each file where the goal names it, else one; and names that can't be."""
        goal, now = watch.job.goal, self._clock()

        def raised(text: str, changed: Sequence[str]) -> Interrupt:
            payload = {"text": text, "paths": [*changed[:20]]}
            return Interrupt(
                kind=InterruptKind.FILE, order=watch.name, payload=payload, created_at=now, key=_key(watch, changed)
            )

        if _MARK not in goal:
            news = [path for path in paths if not Path(path).is_dir()]
            return ([raised(goal, news)] if news else []), []
        found, odd = [], []
        for path in paths:
            if not Path(path).is_file():
                continue
            named = spelled(os.path.relpath(path, watch.job.workspace))
            if named is None:
                odd.append(path)
            else:
                found.append(raised(goal.replace(_MARK, named), [path]))
        return found, odd

    async def _watch(self, state: _State) -> None:
        """Look for as long as the watch holds; what could not be looked at is tried again."""
        path = Path(state.watch.path)
        while True:
            pause_s = GONE_S
            try:
                seen = await asyncio.to_thread(_in_the_way, path)
                if not seen.word:
                    await self._look(state, path)
            except Exception as error:  # a watch is a border: the others go on
                error = error.exceptions[0] if isinstance(error, ExceptionGroup) else error
                seen = Seen()
                if isinstance(error, PermissionError) and not state.is_singly:
                    state.is_singly, pause_s = True, 0.0
                elif not isinstance(error, FileNotFoundError) and _UNREADABLE not in str(error):
                    seen, pause_s = Seen("not watched", f"{path} can't be watched: {_reason(error)}"), AGAIN_S
            if seen.word:
                self._tell(state, seen)
            await asyncio.sleep(pause_s)

    def _tell(self, state: _State, seen: Seen) -> None:
        """Take in what is seen of a watch; what keeps it from being on is logged once."""
        number = state.watch.id
        if self._home.sight.tell(number, seen) and seen.word:
            log.warning("watch %s: %s", number, seen.said, extra={"action": "watch_off"})
        if state.known_ns is None:
            state.known_ns = time.time_ns()  # what was before is not news

    async def _look(self, state: _State, path: Path) -> None:
        """Tell of changes until the path is gone, or another one; of a file its folder is watched, for programs put a
        new one in its place. What changed since somebody looked last is told of first."""
        from watchfiles import Change, awatch

        top = path if path.is_dir() else path.parent  # noqa: ASYNC240 (a stat)
        is_folder, own, missed = top is path, identity(top), state.known_ns
        counts, is_singly = self._counting(path, is_folder=is_folder), state.is_singly and is_folder
        async for changes in awatch(
            *(await asyncio.to_thread(_open_folders, top, counts) if is_singly else [top]),
            watch_filter=counts,
            debounce=DEBOUNCE_MS,
            step=STEP_MS,
            rust_timeout=LOOK_MS,
            yield_on_timeout=True,
            recursive=is_folder and not is_singly,
            ignore_permission_denied=False,  # it would ignore every other error, too
        ):
            now_ns = time.time_ns()
            self._tell(state, Seen() if path.exists() else gone(path))  # noqa: ASYNC240 (a stat)
            found = {one for _, one in changes}
            if missed is not None:
                found |= await asyncio.to_thread(_files, path, counts, missed - KNOWN_NS)
                missed = None
            added = [one for change, one in changes if change is Change.added and is_folder]
            if added:
                found |= await asyncio.to_thread(_came_with, added, counts)
            if found:
                await self.changed(state.watch.id, sorted(found))
            if (Change.deleted, str(top)) in changes or identity(top) != own or path.is_dir() != is_folder:  # noqa: ASYNC240
                return
            if is_singly and any(Path(one).is_dir() for one in added):  # noqa: ASYNC240 (a stat)
                return  # which is watched from now on, too
            state.known_ns = now_ns

    def _counting(self, path: Path, *, is_folder: bool) -> Callable[[Change, str], bool]:
        """Says which changes count: none in the memory, none of a file that is being written, nor in tools' folders."""
        from watchfiles import DefaultFilter

        usual, is_memory = DefaultFilter(), leads_below(self._home.settings.memory)

        def counts(change: Change, found: str) -> bool:
            if _PASSING.fullmatch(os.path.basename(found)):  # noqa: PTH119
                return False
            if not is_folder:
                return found == str(path)
            return usual(change, os.path.relpath(found, path)) and not is_memory(found)

        return counts

    async def _stop(self, state: _State) -> None:
        self._home.sight.forget(state.watch.id)
        if state.resting is not None:
            state.resting.cancel()
        if state.task is not None:
            state.task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await state.task


def _in_the_way(path: Path) -> Seen:
    """Why a path can't be watched now."""
    if not path.exists():
        return gone(path)
    why = too_large(path) if path.is_dir() else ""
    return Seen("not watched", why) if why else Seen()


def _files(path: Path, counts: Callable[[Change, str], bool], since_ns: int) -> set[str]:
    from watchfiles import Change

    return {one for one in files_below(path, since_ns) if counts(Change.added, one)}


def _open_folders(top: Path, counts: Callable[[Change, str], bool]) -> list[str]:
    """A folder and those below it that count and are ours to read: one that is not would end the system's own walk.

    Raises:
        PermissionError: not even the first is.
    """
    from watchfiles import Change

    found = [one for one in folders_below(top) if one == str(top) or counts(Change.added, one)]
    found = [one for one in found if os.access(one, os.R_OK | os.X_OK)]
    if not found:
        raise PermissionError(errno.EACCES, "it is not ours to read")
    return found


def _came_with(added: Sequence[str], counts: Callable[[Change, str], bool]) -> set[str]:
    """The files in folders that were made, or came from elsewhere, of which nobody tells one by one."""
    found: set[str] = set()
    last = ""
    for one in sorted(added):
        if (last and one.startswith(last + os.sep)) or Path(one).is_symlink() or not Path(one).is_dir():
            continue
        last = one
        found |= _files(Path(one), counts, 0)
    return found


def _reason(error: Exception) -> str:
    if any(sign in str(error) for sign in _LIMITS):
        return "the system watches no more folders (fs.inotify.max_user_watches and max_user_instances)"
    if isinstance(error, PermissionError):
        return "it is not ours to read"
    if not isinstance(error, OSError):
        log.error("a watch broke", exc_info=error, extra={"action": "watch_broke"})
    return str(error) or type(error).__name__


def _key(watch: Watch, paths: Sequence[str]) -> str:
    """What is the same for the same change of the same file, as long as it is not changed again."""
    if len(paths) != 1 or (now := signature(paths[0])) is None:
        return ""
    return f"{watch.name} {paths[0]} {now}"


def signature(path: str) -> Signature:
    """What changes when a file does; None: there is none."""
    try:
        found = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def spelled(path: str) -> str | None:
    """A path as it stands in a goal, in quotes where it needs them; None where its name could be read as words of one.

    Whoever names a file must not be able to say what is done with it.
    """
    if _PLAIN.fullmatch(path):
        return path
    return f'"{path}"' if _QUOTABLE.fullmatch(path) else None
