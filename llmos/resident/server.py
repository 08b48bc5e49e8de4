"""The resident kernel's process: it holds the home, listens on a socket in it, and does what is asked for there."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from llmos import __version__, caller, thin
from llmos.errors import LLMOSError, StorageError
from llmos.home import OpenHome
from llmos.interfaces.cli import CallersLog, obey
from llmos.interfaces.render import one_line
from llmos.interfaces.session import INTERRUPTED, Interrupts
from llmos.resident.firing import Firing
from llmos.resident.keeper import Keeper
from llmos.resident.pool import Pool
from llmos.resident.request import BadRequestError, Request, caller_of, close, receive
from llmos.resident.starting import NOW_S, in_the_way
from llmos.settings import Settings, load_settings, plain_environment

log = logging.getLogger(__name__)

LOCK = "kernel.lock"
LOOK_EVERY_S = 5.0
MOST_BYTES = 1_000_000_000
"""So large it makes room for another one as soon as it has nothing to do: DuckDB keeps some kB of each transaction."""

LAST_S = 2.0
"""What does not end at once has `NOW_S` for it, and then so long for what else can be shut down."""

_SAME = ("HOME", "TZ", "TMPDIR")
"""Variables that hold for a whole process, so that its callers must agree in them."""

_SIGNALS = {thin.INTERRUPT: "interrupt", thin.TERMINATE: "terminate", thin.HANG_UP: "terminate"}


@dataclass(kw_only=True, eq=False)
class _Work:
    """One connection's command: `serving` it ends with its exit code sent, `doing` it with the code there."""

    connection: socket.socket
    args: list[str]
    serving: asyncio.Task[None]
    doing: asyncio.Task[int]
    interrupts: Interrupts

    def stop(self, signal: str) -> None:
        """Pass a signal on."""
        getattr(self.interrupts, signal)()


class Server:
    """The kernel of one home. `run` returns when it was told to end, was idle for `idle_s`, or its code is outdated.

    `is_followed` says then that another one is needed at once: there are schedules or watches to keep.
    """

    def __init__(self, settings: Settings, *, idle_s: float) -> None:
        self.settings = settings
        self.path = settings.memory / thin.SOCKET
        self._idle_s = idle_s
        self._started, self._used = time.monotonic(), time.monotonic()
        self._own = _process_variables()
        self._code = _code()
        self._config = _stamps(settings)
        self._work: set[_Work] = set()
        self._served = 0
        self.is_followed = False
        self._leaving, self._given_up = asyncio.Event(), asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._unread: set[asyncio.Task[None]] = set()

    async def run(self, ready: Callable[[], None]) -> None:
        """Open the home, tell that it is `ready`, and serve until the end.

        Raises:
            StorageError: the home can't be opened, or the socket not be made.
        """
        async with OpenHome(self.settings, clock=lambda: datetime.now(UTC)) as home:
            self._home, self._pool = home, Pool(home)
            firing = Firing(self.settings.home, self._pool.opened)
            self._keeper = Keeper(home, firing, clock=lambda: datetime.now(UTC))
            with self._listening() as listener:
                loop = asyncio.get_running_loop()
                loop.add_reader(listener, self._accept, listener)
                for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                    loop.add_signal_handler(number, self._end_all)
                ready()
                warming = asyncio.create_task(_warm(home))
                housekeeping = asyncio.create_task(self._housekeeping())
                keeping = asyncio.create_task(self._keeper.run())
                await self._leaving.wait()
                housekeeping.cancel()
                warming.cancel()
                keeping.cancel()
                await asyncio.wait({keeping})
                await self._all_ended()
                loop.remove_reader(listener)

    def retire(self) -> None:
        """Take nothing new, and end when what is being done is done; what stands still is kept for the next kernel.

        Until then it is still there to be asked for its status, and to be told to end at once.
        """
        self._leaving.set()
        self._home.let_go()

    def _end_all(self) -> None:
        self._home.is_ending = True
        asyncio.get_running_loop().call_later(NOW_S, self._given_up.set)
        self.retire()
        for work in self._work:
            work.stop("terminate")
        for task in self._home.background:
            task.cancel()

    async def _all_ended(self) -> None:
        """Wait for what is being done and shut down what it was done with; told to end at once, for `NOW_S` at most."""
        giving_up = asyncio.create_task(self._given_up.wait())
        while (ending := {*(self._tasks - self._unread), *self._home.background}) and not giving_up.done():
            await asyncio.wait({*ending, giving_up}, return_when=asyncio.FIRST_COMPLETED)
        closing = asyncio.create_task(self._pool.close())
        await asyncio.wait({closing, giving_up}, return_when=asyncio.FIRST_COMPLETED)
        if not closing.done():
            await asyncio.wait({closing}, timeout=LAST_S)
        giving_up.cancel()
        if closing.done():
            closing.result()
        for work in self._work:
            log.warning("did not end in time: %s", " ".join(work.args)[:200], extra={"action": "left"})

    @contextmanager
    def _listening(self) -> Iterator[socket.socket]:
        """The socket, in the place of one that a dead kernel left; whoever has the lock may do that."""
        if reason := in_the_way(self.path):
            raise StorageError(f"{reason}.")
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        mask, folder = os.umask(0o177), None
        try:
            self.path.unlink(missing_ok=True)
            address, folder = thin.address(str(self.path.parent))
            listener.bind(address)
        except OSError as error:
            raise StorageError(f"the socket {self.path} can't be made: {error.strerror or error}.") from None
        finally:
            os.umask(mask)
            if folder is not None:
                os.close(folder)
        listener.listen(128)
        listener.setblocking(False)
        self._identity = _identity(self.path)
        try:
            yield listener
        finally:
            if _identity(self.path) == self._identity:
                self.path.unlink(missing_ok=True)
            listener.close()

    # --- requests --------------------------------------------------------------------------------------

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError, OSError):
            connection, _ = listener.accept()
            connection.setblocking(False)
            task = asyncio.get_running_loop().create_task(self._serve(connection))
            self._tasks.add(task)
            self._unread.add(task)
            task.add_done_callback(self._ended)

    def _read(self) -> None:
        """This task's request is there as a whole: the kernel does not end before it is answered."""
        task = asyncio.current_task()
        if task is not None:
            self._unread.discard(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._unread.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a request broke", exc_info=task.exception(), extra={"action": "request_broke"})

    async def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                if not _is_ours(connection):
                    return
                request, descriptors = await receive(connection)
            except BadRequestError:
                return
            self._read()
            if request.kind == thin.STATUS:
                close(descriptors)
                await _send(connection, json.dumps(self.status()).encode())
            elif request.kind == thin.DOWN:
                close(descriptors)
                self._end_all() if "--now" in request.args else self.retire()
                await self._only_this_left(connection)
            elif not self._fits(request) or self._leaving.is_set():
                close(descriptors)
                self.retire()
                await _send(connection, thin.GONE)
            else:
                await self._goal(connection, request, descriptors)

    async def _only_this_left(self, connection: socket.socket) -> None:
        """Hold the connection of whoever waits for the end until all work is done."""
        while ending := {*(work.serving for work in self._work), *self._home.background}:
            await asyncio.wait(ending)

    async def _goal(self, connection: socket.socket, request: Request, descriptors: list[int]) -> None:
        try:
            asking = caller_of(request, descriptors, _peer_pid(connection))
        except BadRequestError:
            return
        if request.umask != self._own["umask"]:
            self._own["umask"] = request.umask
            os.umask(request.umask)
        self._served += 1
        await _send(connection, thin.GOES_ON)
        work = self._begun(connection, request, asking)
        self._work.add(work)
        loop = asyncio.get_running_loop()
        loop.add_reader(connection, self._heard, work)
        try:
            await asyncio.wait([work.doing])
        finally:
            loop.remove_reader(connection)
            _let_go(asking)
            self._work.discard(work)
            self._used = time.monotonic()
        code = INTERRUPTED if work.doing.cancelled() else work.doing.result()
        await _send(connection, thin.EXIT + bytes([code & 0xFF]))

    def _begun(self, connection: socket.socket, request: Request, asking: caller.Caller) -> _Work:
        """Begin a command in a task of its own, which can be cancelled."""
        serving = asyncio.current_task()
        assert serving is not None

        @contextmanager
        def stopping() -> Iterator[Interrupts]:
            yield interrupts

        with caller.calling(asking):
            doing = asyncio.create_task(
                obey(request.args, prog_name=request.prog_name, stopped_by=stopping, opened=self._pool.opened)
            )
        interrupts = Interrupts(doing)
        return _Work(connection=connection, args=request.args, serving=serving, doing=doing, interrupts=interrupts)

    def _heard(self, work: _Work) -> None:
        """A signal of the client; that it is gone counts as one too."""
        try:
            said = work.connection.recv(64)
        except BlockingIOError:
            return
        except OSError:
            said = b""
        if not said:
            asyncio.get_running_loop().remove_reader(work.connection)
            work.stop("terminate")
        for number in range(len(said)):
            how = _SIGNALS.get(said[number : number + 1])
            if how is not None:
                work.stop(how)

    def _fits(self, request: Request) -> bool:
        """Whether what holds for the whole process is the same for this client; its code must be, too."""
        if request.package != thin.PACKAGE or request.executable != sys.executable or not self._is_its_code():
            return False
        if any(request.environ.get(name) != self._own[name] for name in _SAME) or not self._is_set_up_so():
            return False
        return request.umask == self._own["umask"] or not self._work

    def _is_its_code(self) -> bool:
        """Whether the code on disk is what runs here; a folder changes also when compiled code comes to lie in it."""
        if self._code.folders != _folders():
            now = _code()
            if now.files != self._code.files:
                return False
            self._code = now
        return True

    def _is_set_up_so(self) -> bool:
        """Whether the home was opened as its settings have it now."""
        stamps = _stamps(self.settings)
        if stamps != self._config:
            try:
                now = load_settings(home=self.settings.home, workspace=self.settings.workspace)
            except LLMOSError:
                return True  # told where the command loads them
            if not self._home.fits(now):
                return False
            self._config = stamps
        return True

    # --- looking after itself --------------------------------------------------------------------------

    async def _housekeeping(self) -> None:
        while True:
            await asyncio.sleep(min(LOOK_EVERY_S, self._idle_s / 2))
            if self._home.has_background_work or self._keeper.active:
                self._used = time.monotonic()
            is_busy = bool(self._work or self._home.has_background_work)
            is_idle = not is_busy and time.monotonic() - self._used > self._idle_s
            is_large = not is_busy and _resident_bytes() > MOST_BYTES
            is_gone = _identity(self.path) != self._identity
            is_outdated = (await asyncio.to_thread(_code)).files != self._code.files
            if is_idle or is_large or is_gone or is_outdated:
                self.is_followed = bool(self._keeper.active) and not is_gone
                self.retire()
                return
            await self._pool.tidy()

    def _awaited(self) -> list[str]:
        """What has to end before this kernel does: processes, and commands that are none."""
        processes = [one for one in self._home.processes if one.is_alive and one.task is not None]
        goals = [f"process {one.pid} ({one_line(one.goal, 200)})" for one in processes]
        commands = [_shown(work) for work in self._work]
        return goals + [text for text in commands if not any(one.goal[:100] in text for one in processes)]

    def status(self) -> dict[str, object]:
        """What there is to tell of this kernel."""
        return {
            "pid": os.getpid(),
            "version": __version__,
            "home": str(self.settings.home),
            "up_s": round(time.monotonic() - self._started, 1),
            "idle_s": 0.0 if self._work else round(time.monotonic() - self._used, 1),
            "ends_after_s": self._idle_s,
            "served": self._served,
            "running": [_shown(work) for work in self._work],
            "ending": self._leaving.is_set(),
            "waits_for": self._awaited(),
            "background": len(self._home.background),
            "orders": self._keeper.active,
            "systems": len(self._pool),
            "memory_bytes": _resident_bytes(),
        }


def _shown(work: _Work) -> str:
    return " ".join(work.args)[:200]


def _let_go(asking: caller.Caller) -> None:
    """Let go of a client's streams."""
    for stream in (asking.stdin, asking.stdout, asking.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.close()
    if asking.outlet is not None:
        asking.outlet.close()


async def _warm(home: OpenHome) -> None:
    try:
        await home.warm()
    except LLMOSError as error:
        log.info("not warmed up: %s", error, extra={"action": "warm"})


async def _send(connection: socket.socket, body: bytes) -> None:
    with contextlib.suppress(OSError):
        await asyncio.get_running_loop().sock_sendall(connection, body)


def _peer_pid(connection: socket.socket) -> int | None:
    """The client's process id, where the system tells."""
    if not hasattr(socket, "SO_PEERCRED"):
        return None
    return int.from_bytes(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[:4], sys.byteorder)


def _is_ours(connection: socket.socket) -> bool:
    """Whether the client runs as the same user."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True  # the socket's rights have to do
    peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return int.from_bytes(peer[4:8], sys.byteorder) == os.geteuid()


def _process_variables() -> dict[str, object]:
    mask = os.umask(0o077)
    os.umask(mask)
    own = plain_environment()
    return {"umask": mask, **{name: own.get(name) for name in _SAME}}


def _stamps(settings: Settings) -> list[tuple[int, int, int] | None]:
    """What changes when a file of settings does."""
    found: list[tuple[int, int, int] | None] = []
    for path in settings.config_files:
        try:
            stat = path.stat()
            found.append((stat.st_mtime_ns, stat.st_size, stat.st_ino))
        except OSError:
            found.append(None)
    return found


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


@dataclass(frozen=True)
class _Code:
    """What the code on disk looks like: its folders change when files are replaced, the files when they are edited."""

    folders: tuple[int, ...]
    files: tuple[tuple[str, int, int], ...]


def _folders() -> tuple[int, ...]:
    try:
        return tuple(os.stat(folder).st_mtime_ns for folder in _FOLDERS)  # noqa: PTH116 (at every request)
    except OSError:
        return ()


def _code() -> _Code:
    files = []
    for folder in _FOLDERS:
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.endswith((".py", ".yaml")):
                    found = entry.stat()
                    files.append((entry.path, found.st_mtime_ns, found.st_size))
    return _Code(_folders(), tuple(sorted(files)))


_FOLDERS = tuple(
    folder
    for folder, _, _ in os.walk(thin.PACKAGE)
    if os.path.basename(folder) != "__pycache__"  # noqa: PTH119
)


def _resident_bytes() -> int:
    """Resident memory of this process; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


# ----------------------------------------------------------------------------------------------------- the process


@asynccontextmanager
async def locked(settings: Settings, patience_s: float) -> AsyncIterator[bool]:
    """Whether this process may be the kernel of the home, for the length of a block; waits for one that is ending.

    Raises:
        StorageError: the folder can't be made or written.
    """
    try:
        settings.memory.mkdir(parents=True, exist_ok=True, mode=0o700)
        stream = (settings.memory / LOCK).open("a+")
    except OSError as error:
        raise StorageError(f"{settings.memory} can't be written: {error.strerror or error}.") from None
    deadline = time.monotonic() + patience_s
    with stream:
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                if time.monotonic() > deadline:
                    yield False
                    return
                await asyncio.sleep(0.02)
            else:
                yield True
                return


async def serve(settings: Settings, *, ready: Callable[[], None], patience_s: float) -> bool:
    """Be the resident kernel of a home until it ends; False if another is.

    Raises:
        StorageError: the home can't be opened.
    """
    async with locked(settings, patience_s) as is_first:
        if not is_first:
            return False
        with caller.forwarding():
            CallersLog(sys.__stderr__ or sys.stderr).listen()
            server = Server(settings, idle_s=settings.daemon.idle_s)
            await server.run(ready)
    if server.is_followed:
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    return True
