"""The commands that are about messages: what lies in the mailboxes, and a word from a person to a process."""

from __future__ import annotations

from typing import Any

from llmos.interfaces import render
from llmos.interfaces.session import Action, Session
from llmos.kernel.messages import USER, Fate, envelope_of
from llmos.memory.mail import Letter


def mail(pid: int | None) -> Action:
    """List what lies in one mailbox, or in all, dead letters too."""

    async def action(session: Session) -> None:
        home = (await session.system()).home
        run_id = None if pid is None else home.processes.get(pid).run_id
        letters = await home.post.letters(run_id)
        session.screen.data({"messages": [_data(one) for one in letters]})
        rows = [_row(one) for one in letters]
        session.screen.table(
            ("id", "from", "to", "type", "prio", "sent", "state", "message"), rows, empty="there are no messages"
        )

    return action


def send(pid: int, text: str, *, priority: int, ttl_s: float | None) -> Action:
    """Put a person's words into a process's mailbox."""

    async def action(session: Session) -> None:
        home = (await session.system()).home
        home.processes.alive(pid)
        sent = await home.post.send(None, str(pid), text, priority=priority, ttl_s=ttl_s)
        session.screen.data({"messages": [one.data for one in sent]})
        session.screen.show(f"message {sent[0].id} waits for process {pid}")

    return action


def _data(letter: Letter) -> dict[str, Any]:
    return {**letter.body, "state": letter.state, "why": letter.note}


def _row(letter: Letter) -> list[Any]:
    one = envelope_of(letter.body)
    state = f"{letter.state}: {letter.note}" if letter.state == Fate.DEAD else letter.state
    return [
        one.id,
        "you" if one.sender == USER else one.sender,
        one.receiver,
        str(one.type),
        one.priority,
        one.sent_at[:19].replace("T", " "),
        state,
        render.one_line(one.payload, 60),
    ]
