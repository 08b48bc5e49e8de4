"""The proof of a sandbox: it is attacked before it is used."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from llmos.errors import ToolError
from llmos.kernel.sandbox import probe_child
from llmos.plugins.builtin.processes import Completed, run
from llmos.plugins.confined import Child, Confined
from llmos.settings import SandboxLimits

_TIMEOUT_S = 20.0
_LATE_S = 0.3
LIMITS = SandboxLimits(
    cpu_s=10, memory_bytes=150_000_000, max_processes=40, file_bytes=10_000_000, tmp_bytes=10_000_000
)
_HOG_BYTES = 3 * 150_000_000
_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}

Confine: TypeAlias = Callable[[Child], AbstractAsyncContextManager[Confined]]


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a probe saw: `escapes` are the attacks that went through, or why nothing could be tried at all."""

    escapes: tuple[str, ...]

    @property
    def holds(self) -> bool:
        return not self.escapes


async def probe(confine: Confine, *, is_bare: bool = False) -> Seen:
    """Attack a sandbox with files, sockets and a process planted outside of it.

    `is_bare`: these walls refuse workspaces with anything hidden in them, so that nothing is hidden there.
    """
    with _folder() as root:
        async with contextlib.AsyncExitStack() as stack:
            field = await stack.enter_async_context(_planted(root, is_bare=is_bare))
            child = field.child
            said = await asyncio.gather(
                _escape(confine, child, field.targets),
                _storm(confine, child),
                _hog(confine, child),
                _daemon(confine, child),
            )
            changed = list(field.changed())
    return Seen(escapes=tuple(dict.fromkeys([*(one for some in said for one in some), *changed])))


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="llmos-probe-") as folder:
        yield Path(folder).resolve()


@dataclass(frozen=True, kw_only=True)
class _Field:
    """What was planted."""

    root: Path
    child: Child
    targets: dict[str, Any]
    decoy: asyncio.subprocess.Process

    def changed(self) -> Iterator[str]:
        """What became of it, whatever the attacker says."""
        if (self.root / "outside").exists():
            yield "wrote outside of the workspace"
        if (self.root / "secret").read_text() != "secret":
            yield "changed a file outside"
        if self.decoy.returncode is not None:
            yield "killed a process outside"
        if not self.targets["bare"] and (self.root / "work/plugins").exists():
            yield "made a file that must not come to be"


@asynccontextmanager
async def _planted(root: Path, *, is_bare: bool) -> AsyncIterator[_Field]:
    work, token = root / "work", secrets.token_hex(16)
    (work / "home" / "memory").mkdir(parents=True)
    for path, text in (("secret", "secret"), ("work/home/memory/secret", "secret"), ("work/sealed.yaml", "sealed")):
        (root / path).write_text(text)
    (work / "link").symlink_to(root / "outside")
    decoy = await asyncio.create_subprocess_exec(
        "/bin/sh", "-c", "exec sleep 60", env={"LLMOS_PROBE": token, **_ENVIRONMENT}, start_new_session=True
    )
    try:
        with (
            _listening(socket.AF_INET, ("127.0.0.1", 0)) as tcp,
            _listening(socket.AF_UNIX, f"\0llmos-{token}") as unix,
        ):
            targets = {
                "workspace": str(work),
                "outside": str(root / "outside"),
                "link": str(work / "link"),
                "secret": str(root / "secret"),
                "hidden": str(work / "home/memory/secret"),
                "folder": str(work / "home"),
                "sealed": str(work / "sealed.yaml"),
                "missing": str(work / "plugins/evil.py"),
                "tcp": list(tcp.getsockname()),
                "abstract": unix.getsockname().decode(),
                "pid": decoy.pid,
                "token": token,
                "bare": is_bare,
            }
            child = Child(
                tool="probe",
                argv=(),
                cwd=work,
                env=_ENVIRONMENT,
                write=(work,),
                hidden=() if is_bare else (work / "home/memory", work / "plugins"),
                sealed=() if is_bare else (work / "sealed.yaml",),
                network=False,
            )
            yield _Field(root=root, child=child, targets=targets, decoy=decoy)
    finally:
        with contextlib.suppress(ProcessLookupError):
            decoy.kill()
        await decoy.wait()


@contextmanager
def _listening(family: int, address: Any) -> Iterator[socket.socket]:
    with socket.socket(family, socket.SOCK_STREAM) as server:
        server.bind(address)
        server.listen(8)
        yield server


async def _attack(confine: Confine, child: Child, kind: str, targets: dict[str, Any]) -> Completed:
    argv = (sys.executable, "-I", "-S", "-B", probe_child.__file__, kind, json.dumps(targets))
    async with confine(replace(child, argv=argv)) as confined:
        return await run(confined.argv, cwd=child.cwd, env=child.env, timeout_s=_TIMEOUT_S, max_bytes=100_000)


async def _escape(confine: Confine, child: Child, targets: dict[str, Any]) -> list[str]:
    try:
        done = await _attack(confine, child, "ESCAPE", targets)
        found: list[str] = json.loads(done.stdout)
    except (ToolError, OSError) as error:
        return [str(error)]
    except ValueError:
        lines = done.stderr.strip().splitlines()
        return [f"no process could be started in it ({lines[-1][:200] if lines else f'status {done.status}'})"]
    return found


async def _storm(confine: Confine, child: Child) -> list[str]:
    done = await _attack(confine, child, "STORM", {})
    return ["started processes without bound"] if done.timed_out or "unbounded" in done.stdout else []


async def _hog(confine: Confine, child: Child) -> list[str]:
    done = await _attack(confine, child, "HOG", {"bytes": _HOG_BYTES})
    return ["took memory without bound"] if done.timed_out or "unbounded" in done.stdout else []


async def _daemon(confine: Confine, child: Child) -> list[str]:
    """A process in a session of its own must end with the command."""
    late = child.cwd / "late"
    command = f"setsid sh -c 'sleep {_LATE_S}; echo > late' </dev/null >/dev/null 2>&1 & sleep 0.05"
    async with confine(replace(child, argv=("/bin/sh", "-c", command))) as confined:
        await run(confined.argv, cwd=child.cwd, env=child.env, timeout_s=_TIMEOUT_S, max_bytes=10_000)
    await asyncio.sleep(_LATE_S + 0.1)
    return ["left a process behind"] if late.exists() else []
