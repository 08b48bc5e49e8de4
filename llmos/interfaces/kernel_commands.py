"""The commands `up`, `down` and `status`, which are about the resident kernel and done beside it."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING, Any

from llmos.errors import LLMOSError, StorageError
from llmos.interfaces import render
from llmos.interfaces.reading import aside
from llmos.interfaces.session import INTERRUPTED, Action, Session

if TYPE_CHECKING:
    from llmos.settings import Settings


def _settings(session: Session) -> Settings:
    settings = session.options.settings()
    session.screen.redactor = settings.redactor
    return settings


async def up(session: Session) -> None:
    """Start the kernel, unless there is one."""
    from llmos.resident.starting import NotStartedError, start
    from llmos.resident.starting import status as asked

    settings = _settings(session)
    try:
        pid = await aside(lambda: start(settings))
    except NotStartedError as error:
        raise StorageError(f"the resident kernel was not started: {error.reason}") from None
    known = await aside(lambda: asked(settings)) or {}
    if known.get("ending"):
        raise StorageError(
            f"the resident kernel (process {known['pid']}) is ending, {_awaited(known)}; then `up` starts another one."
        )
    was = "was started" if pid is not None else "runs already"
    session.screen.show(f"the resident kernel {was} (process {known.get('pid', pid)})")
    session.screen.data({"started": pid is not None, **known})


class _NotAwaitedError(LLMOSError):
    """Whoever waited for something left before it had happened."""

    exit_code = INTERRUPTED


def down(*, now: bool) -> Action:
    """End the kernel, if there is one; whoever does not want to wait for that may leave."""

    async def action(session: Session) -> None:
        from llmos.resident.starting import status as asked
        from llmos.resident.starting import stop

        settings = _settings(session)
        known = await aside(lambda: asked(settings))
        pid = None if known is None else int(known["pid"])
        if pid is not None:
            try:
                await aside(lambda: stop(settings, pid, now=now))
            except asyncio.CancelledError:
                raise _NotAwaitedError(
                    f"the resident kernel (process {pid}) goes on ending; `status` says what it waits for, and "
                    "`down --now` ends it at once."
                ) from None
        session.screen.show("no resident kernel runs" if pid is None else f"the resident kernel (process {pid}) ended")
        session.screen.data({"ended": pid is not None, "pid": pid})

    return action


async def status(session: Session) -> None:
    """Tell of the kernel what it says of itself."""
    from llmos.resident.starting import status as asked

    settings = _settings(session)
    known = await aside(lambda: asked(settings))
    session.screen.data({"running": False, "home": str(settings.home)} if known is None else {"up": True, **known})
    if known is None:
        session.screen.show("no resident kernel runs; the next goal starts one")
        return
    session.screen.show(_told(known))


def _told(known: dict[str, Any]) -> str:
    running: list[str] = known["running"]
    rows = {
        "kernel": f"process {known['pid']}, llmos {known['version']}, up {render.duration(known['up_s'])}",
        "home": known["home"],
        "served": f"{known['served']} commands; {known['systems']} settings in use",
        "memory": f"{known['memory_bytes'] / 1e6:.0f} MB",
        "running": "; ".join(running) if running else f"nothing for {render.duration(known['idle_s'])}",
        "ends": _ends(known),
    }
    return "\n".join(f"{name:<8} {text}" for name, text in rows.items())


def _ends(known: dict[str, Any]) -> str:
    if known.get("ending"):
        return _awaited(known)
    if known["orders"]:
        return f"with `down` only: schedules and watches are kept ({known['orders']})"
    return f"after {render.duration(known['ends_after_s'])} without a command, or with `down`"


def _awaited(known: dict[str, Any]) -> str:
    """When a kernel that is ending will have ended."""
    awaited: list[str] = known["waits_for"]
    if not awaited:
        return "in a moment"
    return f"when {' and '.join(awaited)} {'has' if len(awaited) == 1 else 'have'} ended; `down --now` ends it at once"


async def be(session: Session) -> None:
    """Be the kernel in this process until it ends; says `ready` on stdout, then writes to its log alone.

    All is stored then and the memory let go: a thread of what was broken off must not go on beside the next holder.
    """
    from llmos.resident.server import serve
    from llmos.resident.starting import PATIENCE_S, READY, TAKEN

    def ready() -> None:
        os.write(1, f"{READY}\n".encode())
        if not sys.stdout.isatty():
            os.dup2(2, 1)

    if not await serve(_settings(session), ready=ready, patience_s=PATIENCE_S):
        os.write(1, f"{TAKEN}\n".encode())
        return
    os._exit(0)
