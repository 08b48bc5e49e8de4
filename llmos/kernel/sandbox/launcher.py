"""The first process of a sandbox: it puts up the walls that bubblewrap doesn't, starts the command and watches it.

Run as `python -I -S -B -c STARTER ROOT SPEC COMMAND...`; the standard library only, and little of it: every command
waits for this to start. As process 1 of its namespace it can't be signalled from inside, and when it ends the kernel
ends all others there. Where there is no such namespace it stays outside of the command's Landlock domain, which keeps
signals in, and ends what it has started itself.
"""

from __future__ import annotations

import contextlib
import marshal
import os
import signal
import stat
import sys

from llmos.kernel.sandbox import landlock, limits, seccomp, syscalls

TYPE_CHECKING = False  # importing typing would take as long as all the rest
if TYPE_CHECKING:
    from typing import Any

FAILED = 125
"""Exit status of a sandbox that could not be put up, as of `docker run` and `env`."""

STOPPED = 137
_SAID = "sandbox: "
_POLL_S = 0.05
_NO_SUCH_PROGRAM, _NO_PROGRAM = 127, 126


def main() -> None:
    """Put up the walls, run the command, end as it does."""
    spec, command = marshal.loads(bytes.fromhex(sys.argv[1])), sys.argv[2:]
    try:
        _enter(spec)
        command_pid = _start(spec, command)
    except OSError as error:
        _say(f"it can't be put up: {error.strerror or error}")
        os._exit(FAILED)
    _close_descriptors()
    status = _watch(spec, command_pid)
    _tell_peak(spec["tells"])
    _end_all()
    os._exit(status)


def _enter(spec: dict[str, Any]) -> None:
    """The walls around all processes, this one included."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    _keep_only(spec)
    if spec["kind"] != "bubblewrap":
        _die_with(os.getppid())
    if spec["kind"] == "namespaces":
        from llmos.kernel.sandbox import namespaces

        namespaces.enter(spec["view"], network=spec["network"])
        os.chdir(spec["cwd"])
    elif spec["kind"] == "landlock":
        syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
    spec["others"] = limits.others(is_apart=spec["kind"] != "landlock")
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)


def _die_with(parent: int) -> None:
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    signal.signal(signal.SIGTERM, _end)


def _end(*_: object) -> None:
    _end_all()
    os._exit(128 + signal.SIGTERM)


def _start(spec: dict[str, Any], command: list[str]) -> int:
    """Fork the command behind the walls that are its own."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _become(spec, command, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        failure = pipe.read()
    if failure:
        raise OSError(0, failure.decode(errors="replace"))
    return pid


def _become(spec: dict[str, Any], command: list[str], failed: int) -> None:
    """The last steps to the command; what goes wrong before them is told through `failed`."""
    try:
        os.setsid()
        if spec["kind"] == "landlock":
            syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        syscalls.prctl(syscalls.PR_SET_DUMPABLE, 1)
        limits.apply(spec["limits"], others=spec["others"])
        if spec["landlock"] is not None:
            landlock.restrict(**spec["landlock"], network=spec["network"])
        elif spec["scope"]:
            landlock.scope()
        syscalls.drop_capabilities()
        seccomp.install(spec["families"], metadata=spec["kind"] != "landlock")
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        for number in (signal.SIGTERM, signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
    except OSError as error:
        os.write(failed, (error.strerror or str(error)).encode())
        os._exit(FAILED)
    try:
        os.execvp(command[0], command)
    except FileNotFoundError:
        _say(f"the program {command[0]!r} is not there, or not visible in here")
        os._exit(_NO_SUCH_PROGRAM)
    except OSError as error:
        _say(f"the program {command[0]!r} can't be started: {error.strerror}")
        os._exit(_NO_PROGRAM)


# --- watching ---------------------------------------------------------------------------------------------------


def _watch(spec: dict[str, Any], command_pid: int) -> int:
    """Wait for the command's end, and stop everything where all together are beyond a limit; gives the exit status."""
    while True:
        signal.sigtimedwait({signal.SIGCHLD}, _POLL_S)
        status = _reaped(command_pid)
        if status is not None:
            return status
        said = limits.exceeded(_pids(), spec["limits"])
        if said:
            _say(f"stopped, since {said}")
            return STOPPED


def _reaped(command_pid: int) -> int | None:
    """Collect every process that ended; the command's exit status if it is among them."""
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == command_pid:
                return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)
            if pid == 0:
                break
    return None


def _pids() -> list[int]:
    """Every process of the sandbox but this one."""
    own = os.getpid()
    every = [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != own]
    return every if own == 1 else _descendants(own, every)


def _descendants(root: int, every: list[int]) -> list[int]:
    children: dict[int, list[int]] = {}
    for pid in every:
        with contextlib.suppress(OSError, ValueError), open(f"/proc/{pid}/stat", "rb") as stream:
            children.setdefault(int(stream.read().rpartition(b") ")[2].split()[1]), []).append(pid)
    found, waiting = [], [root]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def _end_all() -> None:
    """Kill what still runs; as process 1 the kernel does it, when this process ends."""
    while os.getpid() != 1 and (pids := _pids()):
        for pid in pids:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        _reaped(0)


def _close_descriptors() -> None:
    """Let go of the command's pipes but stderr, so that their end is the command's end."""
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    os.close(nothing)


def _keep_only(spec: dict[str, Any]) -> None:
    """Close all that was inherited but the pipe through which the peak is told, and keep that from the command."""
    kept = spec["tells"]
    if kept is None or not _is_pipe(kept):
        kept = spec["tells"] = None
    else:
        os.set_inheritable(kept, False)
        os.closerange(3, kept)
    os.closerange(3 if kept is None else kept + 1, _most_descriptors())


def _is_pipe(descriptor: int) -> bool:
    try:
        return stat.S_ISFIFO(os.fstat(descriptor).st_mode)
    except OSError:
        return False


def _tell_peak(descriptor: int | None) -> None:
    """Tell the most memory that one of the programs held, this one and those that are still to be ended included."""
    if descriptor is not None:
        peak = max(limits.peak_bytes_of_ended(), *map(limits.peak_bytes, (os.getpid(), *_pids())))
        with contextlib.suppress(OSError):
            os.write(descriptor, peak.to_bytes(8, sys.byteorder))


def _most_descriptors() -> int:
    return max(256, min(os.sysconf("SC_OPEN_MAX"), 65_536))


def _say(text: str) -> None:
    with contextlib.suppress(OSError):
        os.write(2, f"{_SAID}{text}\n".encode())
