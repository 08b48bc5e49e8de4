"""The kinds of walls, and what each makes of a child that is to stand behind them."""

from __future__ import annotations

import asyncio
import marshal
import os
import re
import shutil
import socket
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import llmos
from llmos.errors import NotPermittedError
from llmos.kernel.sandbox import bubblewrap
from llmos.kernel.sandbox.plan import Access, Plan, interpreter
from llmos.plugins.confined import Child
from llmos.settings import SandboxLimits

STARTER = "import sys; sys.path.append(sys.argv.pop(1)); from llmos.kernel.sandbox import launcher; launcher.main()"
"""Its first argument is the folder of the package; behind the standard library, so that it can hide nothing of it."""

FLAGS = ("-I", "-S", "-B")
_ROOT = str(Path(llmos.__file__).resolve().parents[1])
_DEVICES = tuple(f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom", "tty", "shm"))
_VERSION_TIMEOUT_S = 5.0
_SCOPE_ABI = 6
_OF_THE_NETWORK = (int(socket.AF_INET), int(socket.AF_INET6), int(socket.AF_NETLINK))
_LASTING = ("cpu_s", "wall_s")


class Kind(StrEnum):
    """Which walls; the value is how the user reads it."""

    BUBBLEWRAP = "bubblewrap"
    NAMESPACES = "landlock with namespaces"
    LANDLOCK = "landlock"
    NONE = "none"


CHOICES = {
    "auto": (Kind.BUBBLEWRAP, Kind.NAMESPACES, Kind.LANDLOCK),
    "bubblewrap": (Kind.BUBBLEWRAP,),
    "landlock": (Kind.NAMESPACES, Kind.LANDLOCK),
    "none": (),
}
"""The kinds that each value of the setting allows, the best first."""


@dataclass(frozen=True, kw_only=True)
class Walls:
    """One kind with what it needs: bubblewrap's program and version, the version of Landlock (0: none)."""

    kind: Kind
    program: str = ""
    version: tuple[int, ...] = ()
    landlock: int = 0

    def __str__(self) -> str:
        if self.kind is Kind.BUBBLEWRAP:
            return f"{self.kind} {'.'.join(map(str, self.version))}"
        return str(self.kind)

    def command(
        self,
        child: Child,
        plan: Plan,
        limits: SandboxLimits,
        *,
        network: bool,
        tmp: str = "",
        tells: int | None = None,
    ) -> list[str]:
        """The command line that runs a child behind these walls; `tmp` is a folder of temporary files if it needs one.

        Through the descriptor `tells` the launcher says at the end how much memory the largest program held.

        Raises:
            NotPermittedError: they can't give it the view it needs.
        """
        spec: dict[str, Any] = {
            "kind": {Kind.BUBBLEWRAP: "bubblewrap", Kind.NAMESPACES: "namespaces"}.get(self.kind, "landlock"),
            "limits": _limits(limits, lasting=child.lasting),
            "network": network,
            "cwd": str(child.cwd),
            "families": self._families(network),
            "scope": self.landlock >= _SCOPE_ABI,
            "landlock": self._landlock(plan, tmp),
            "tells": tells,
        }
        if self.kind is Kind.NAMESPACES:
            places = [(place.path, str(place.access), place.is_folder) for place in plan.places]
            spec["view"] = {"places": places, "links": dict(plan.links), "tmp_bytes": limits.tmp_bytes}
        own_tmp = ["/usr/bin/env", f"TMPDIR={tmp}", f"HOME={tmp}"] if tmp else []
        program, *arguments = child.argv
        program = interpreter() if program == sys.executable else program
        command = [
            interpreter(),
            *FLAGS,
            "-c",
            STARTER,
            _ROOT,
            marshal.dumps(spec).hex(),
            *own_tmp,
            program,
            *arguments,
        ]
        if self.kind is not Kind.BUBBLEWRAP:
            return command
        return bubblewrap.arguments(
            self.program,
            plan,
            command,
            cwd=str(child.cwd),
            network=network,
            tmp_bytes=limits.tmp_bytes,
            version=self.version,
        )

    def _families(self, network: bool) -> list[int]:
        """The sockets there may be; of the host's own Unix sockets only Landlock or a namespace keeps away."""
        if self.kind is Kind.LANDLOCK:
            return [*_OF_THE_NETWORK] if network else []
        keeps_unix = not network or self.landlock >= _SCOPE_ABI
        return [*_OF_THE_NETWORK, *([int(socket.AF_UNIX)] if keeps_unix else [])]

    def _landlock(self, plan: Plan, tmp: str) -> dict[str, list[str]] | None:
        writable = plan.of(Access.WRITE)
        if self.kind is Kind.NAMESPACES and self.landlock:
            return {"read": ["/"], "write": [*writable, *plan.of(Access.TEMPORARY), "/dev/shm"], "devices": [*_DEVICES]}
        if self.kind is not Kind.LANDLOCK:
            return None
        if holes := plan.holes():
            raise NotPermittedError(
                f"Landlock alone can't keep {holes[0]} from a command that may write around it; install bubblewrap, "
                "or choose another workspace."
            )
        hidden = plan.of(Access.HIDDEN)
        read = [one for path in (*plan.links, *plan.of(Access.READ)) for one in _but(path, hidden)]
        return {"read": read, "write": [*writable, tmp], "devices": [*_DEVICES[:-1]]}


def _but(path: str, hidden: Sequence[str]) -> Iterator[str]:
    """A path, or in its place all that is in it where something in it is hidden."""
    below = [one for one in hidden if one.startswith(path + "/")]
    if not below:
        yield path
        return
    for entry in os.scandir(path):
        if entry.path not in hidden and not entry.is_symlink():
            yield from _but(entry.path, below)


def _limits(limits: SandboxLimits, *, lasting: bool) -> dict[str, float]:
    return {name: value for name, value in asdict(limits).items() if not (lasting and name in _LASTING)}


async def find(kind: Kind) -> Walls | str:
    """The walls of a kind, or why there are none here."""
    from llmos.kernel.sandbox import landlock, syscalls

    if sys.platform != "linux":
        return "only Linux has them"
    try:
        syscalls.architecture()
    except syscalls.UnsupportedError as error:
        return str(error)
    abi = landlock.abi()
    if kind is Kind.BUBBLEWRAP:
        return await _find_bubblewrap(abi)
    if kind is Kind.LANDLOCK and abi < _SCOPE_ABI:
        return f"the kernel's Landlock is version {abi}, and without namespaces {_SCOPE_ABI} is needed (Linux 6.12)"
    return Walls(kind=kind, landlock=abi)


async def _find_bubblewrap(abi: int) -> Walls | str:
    program = shutil.which("bwrap")
    if program is None:
        return "it is not installed"
    said = b""
    try:
        process = await asyncio.create_subprocess_exec(
            program, "--version", stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
        )
        said, _ = await asyncio.wait_for(process.communicate(), _VERSION_TIMEOUT_S)
    except (OSError, TimeoutError) as error:
        return f"{program} does not run ({str(error) or 'no answer'})"
    found = re.search(rb"(\d+)\.(\d+)\.(\d+)", said)
    version = tuple(map(int, found.groups())) if found else ()
    if version < bubblewrap.MIN_VERSION:
        return f"{program} is too old ({said.decode(errors='replace').strip()})"
    return Walls(kind=Kind.BUBBLEWRAP, program=program, version=version, landlock=abi)
