"""The commands `tell` and `interrupts`: saying something to a goal at work, and what waits to be said."""

from __future__ import annotations

from typing import Any

from llmos.interfaces import render
from llmos.interfaces.session import Action, Session
from llmos.orders import Interrupt

COLUMNS = ("id", "kind", "for", "raised", "delivered", "what")
_NEWEST = 1_000


def tell(pid: int, text: str) -> Action:
    """Tell the model of a process something at its next turn."""

    async def action(session: Session) -> None:
        system = await session.system()
        told = await system.home.interrupts.tell(pid, system.redactor.named(text))
        session.screen.data({"interrupt": _data(told)})
        session.screen.show(f"process {pid} is told at its next turn")
        session.screen.note(f"`interrupts` lists it as {told.id} until then")

    return action


def interrupts(*, everything: bool) -> Action:
    """List what waits to be delivered, or everything, the newest first."""

    async def action(session: Session) -> None:
        found = await (await session.system()).home.raised.list(_NEWEST)
        shown = [one for one in found if everything or one.delivered_at is None][::-1]
        session.screen.data({"interrupts": [_data(one) for one in shown]})
        session.screen.table(COLUMNS, [_row(one) for one in shown], empty="no interrupt waits")

    return action


def _row(one: Interrupt) -> list[Any]:
    target = one.order or (f"process {one.pid}" if one.pid is not None else one.run_id)
    delivered = render.data(one.delivered_at) if one.delivered_at is not None else "no"
    return [one.id, one.kind, target, render.data(one.created_at), delivered, render.one_line(one.text, 80)]


def _data(one: Interrupt) -> dict[str, Any]:
    return {
        "id": one.id,
        "kind": str(one.kind),
        "run_id": one.run_id,
        "pid": one.pid,
        "order": one.order,
        "payload": dict(one.payload),
        "created_at": one.created_at,
        "delivered_at": one.delivered_at,
    }
