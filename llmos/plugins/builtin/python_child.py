"""The child of the `python` tool: runs code it reads from stdin under a guard, and answers in JSON.

Run as `python -P -s -S -B python_child.py`. Only the standard library is importable, and it is the only
thing the guard has to watch: a native package could open files behind its back.
"""

from __future__ import annotations

import contextlib
import io
import json
import linecache
import os
import re
import resource
import sys
import traceback
from collections.abc import Callable
from typing import Any

MAX_MEMORY_BYTES = 2_000_000_000
CODE = "<code>"

# Events of sys.addaudithook that change the world, by prefix. Source: docs.python.org/3.11/library/audit_events.html
REFUSED = (
    "ctypes.",
    "fcntl.",
    "ftplib.",
    "http.client.",
    "imaplib.",
    "mmap.__new__",
    "msvcrt.",
    "nntplib.",
    "os.add_dll_directory",
    "os.chflags",
    "os.chmod",
    "os.chown",
    "os.exec",
    "os.fork",
    "os.kill",
    "os.link",
    "os.lockf",
    "os.mkdir",
    "os.posix_spawn",
    "os.remove",
    "os.removexattr",
    "os.rename",
    "os.rmdir",
    "os.setxattr",
    "os.spawn",
    "os.startfile",
    "os.symlink",
    "os.system",
    "os.truncate",
    "os.utime",
    "poplib.",
    "pty.spawn",
    "resource.",
    "shutil.",
    "signal.pthread_kill",
    "smtplib.",
    "socket.",
    "subprocess.Popen",
    "syslog.",
    "telnetlib.",
    "tempfile.",
    "urllib.Request",
    "webbrowser.",
)
SYSTEM_FILES = ("/usr/share", "/etc/localtime", "/etc/mime.types", "/dev/urandom", "/dev/random")
READS = frozenset({"open", "os.listdir", "os.scandir", "os.walk", "os.fwalk", "glob.glob", "pathlib.Path.glob"})

# What reaches the world without an audit event, and modules that would hold such a thing.
UNAUDITED_CALLS = (
    ("posix", ("mkfifo", "mknod", "setsid", "setpgid", "chroot", "setuid", "setgid", "memfd_create", "pidfd_open")),
    ("posix", ("setpriority", "sched_setscheduler", "sched_setparam", "sched_setaffinity")),
    ("time", ("clock_settime", "clock_settime_ns")),
    ("_posixsubprocess", ("fork_exec",)),
)
UNAUDITED_MODULES = (
    "_ctypes",
    "_dbm",
    "_gdbm",
    "_interpreters",
    "_multiprocessing",
    "_posixshmem",
    "_sqlite3",
    "_testbuffer",
    "_testcapi",
    "_testinternalcapi",
    "_testmultiphase",
    "_tkinter",
    "_xxinterpchannels",
    "_xxsubinterpreters",
    "readline",
)


class Guard:
    """Refuses what would change the world, and reading outside the workspace and Python itself.

    It stops accidents and careless code. It is no wall against code written to break out: that needs the
    operating system's sandbox.
    """

    def __init__(self, workspace: str, closed: list[str], patterns: list[str]) -> None:
        python = {os.path.realpath(path) for path in (*sys.path, sys.prefix, sys.base_prefix) if path}
        self._readable = (workspace, *python, *SYSTEM_FILES, os.devnull)
        self._closed = tuple(closed)
        self._patterns = [re.compile(pattern) for pattern in patterns]

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            self._check_open(*args)
        elif event in READS:
            self._check_read(args[0] if args else ".")
        elif event.startswith(REFUSED):
            raise PermissionError(f"{event} is not allowed in the python tool, which changes nothing; {_WAY_OUT}")

    def _check_open(self, path: Any, mode: str | None, flags: int) -> None:
        writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        if (writes or (mode and set(mode) & set("wax+"))) and path != os.devnull:
            raise PermissionError(f"the python tool opens no file for writing ({path!r}); {_WAY_OUT}")
        self._check_read(path)

    def _check_read(self, path: Any) -> None:
        if path is None or isinstance(path, int):
            return
        real = os.path.realpath(os.fsdecode(path))
        if not _inside(real, self._readable) or _inside(real, self._closed):
            raise PermissionError(f"{os.fsdecode(path)!r} is outside the workspace and can't be read")
        if any(pattern.fullmatch(real) for pattern in self._patterns):
            raise PermissionError(f"{os.fsdecode(path)!r} is closed by a rule of llmos.yaml")


_WAY_OUT = "put the value in `result` and use the write tool"


def _inside(path: str, folders: tuple[str, ...]) -> bool:
    return any(path == folder or path.startswith(folder.rstrip("/") + "/") for folder in folders)


def limit(cpu_s: int) -> None:
    """Bound processor time, memory, files written (none) and processes (none)."""
    for kind, value in (
        (resource.RLIMIT_CPU, cpu_s),
        (resource.RLIMIT_AS, MAX_MEMORY_BYTES),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 64),
    ):
        _, hard = resource.getrlimit(kind)
        allowed = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (allowed, allowed))


def close_side_doors() -> None:
    """Take away what the audit hook would not see."""

    def refused(*_args: Any, **_kwargs: Any) -> Any:
        raise PermissionError("this is not allowed in the python tool, which changes nothing")

    for module, names in UNAUDITED_CALLS:
        for name in names:
            for home in (__import__(module), os):
                if hasattr(home, name):
                    setattr(home, name, refused)
    for name in UNAUDITED_MODULES:
        sys.modules[name] = None  # type: ignore[assignment]


def execute(code: str, inputs: Any, printed: io.StringIO) -> dict[str, Any]:
    """Run the code; gives `result` (its variable, else the printed text) or `error`, and what was printed."""
    variables: dict[str, Any] = {"__name__": "__main__", "__builtins__": __builtins__, "inputs": inputs}
    linecache.cache[CODE] = (len(code), None, code.splitlines(keepends=True), CODE)
    try:
        exec(compile(code, CODE, "exec", dont_inherit=True), variables)
    except SystemExit as stop:
        if stop.code not in (None, 0):
            return {"error": f"it ended itself with {stop.code!r}", "printed": printed.getvalue()}
    except BaseException as error:
        return {"error": _explained(error), "printed": printed.getvalue()}
    text = printed.getvalue()
    if "result" not in variables:
        return {"result": text.rstrip("\n"), "printed": text}
    try:
        encoded = json.dumps(variables["result"], default=_simple, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        return {"error": f"`result` can't be written as JSON: {error}", "printed": text}
    return {"result": json.loads(encoded), "printed": text}


def _simple(value: Any) -> Any:
    if isinstance(value, set | frozenset):
        return sorted(value, key=repr)
    for name, convert in _CONVERSIONS:
        if hasattr(value, name):
            return convert(value)
    if isinstance(value, bytes):
        return value.decode()
    if hasattr(value, "__iter__"):
        return list(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


_CONVERSIONS: tuple[tuple[str, Callable[[Any], Any]], ...] = (
    ("isoformat", lambda value: value.isoformat()),
    ("__fspath__", os.fspath),
    ("__float__", lambda value: int(value) if value == int(value) else float(value)),
)


def _explained(error: BaseException) -> str:
    """The error with the line of the code it came from."""
    what = traceback.format_exception_only(type(error), error)[-1].strip()[:1000]
    if isinstance(error, SyntaxError):
        return f"line {error.lineno}: {error.msg}"
    lines = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == CODE]
    return f"line {lines[-1].lineno}, `{lines[-1].line}`: {what}" if lines else what


def main() -> None:
    """Read the request, shut the doors, run the code, answer on what was stdout."""
    request = json.loads(sys.stdin.buffer.read())
    answer = os.dup(1)
    with open(os.devnull, "rb+") as nothing:  # noqa: PTH123 - no pathlib in here
        os.dup2(nothing.fileno(), 0)
        os.dup2(nothing.fileno(), 1)
    sys.stdin = io.StringIO()
    printed = io.StringIO()
    guard = Guard(request["workspace"], request["closed"], request["patterns"])
    limit(request["cpu_s"])
    close_side_doors()
    sys.addaudithook(guard)
    with contextlib.redirect_stdout(printed):
        outcome = execute(request["code"], request["inputs"], printed)
    body = json.dumps(outcome).encode()
    while body:
        body = body[os.write(answer, body) :]
    os._exit(0)


if __name__ == "__main__":
    main()
