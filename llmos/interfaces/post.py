"""The post of a home: finds whom an address means, puts messages into mailboxes and wakes whoever waits for one."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from llmos.kernel.messages import (
    MAX_WAITING,
    USER,
    Envelope,
    Meaning,
    Type,
    address_of,
    checked_text,
    envelope_of,
    expiry,
    nearest,
    receipt,
    receivers,
    return_of,
)
from llmos.kernel.process import Process, Wait, checked
from llmos.kernel.process_table import ProcessTable
from llmos.memory.mail import Body, Letter, MailStore
from llmos.memory.recall import Recall

AT_ONCE = 10
"""How many messages are read at once."""

_GOAL_CHARS = 200


@dataclass(kw_only=True, eq=False)
class Post:
    """Carries messages between the processes of a home, whichever LLMOS they belong to."""

    store: MailStore
    processes: ProcessTable
    recall: Recall
    clock: Callable[[], datetime]
    _bells: dict[str, asyncio.Event] = field(default_factory=dict)
    _is_settled: bool = False

    async def send(
        self,
        sender: Process | None,
        to: str,
        text: str,
        *,
        kind: Type = Type.NOTIFICATION,
        priority: int = 10,
        requires_ack: bool = False,
        ttl_s: float | None = None,
        reply_to: str = "",
        key: str = "",
    ) -> list[Envelope]:
        """Put a message into the mailbox of everybody whom an address means; without a sender it is a person's.

        One that is sent again under the same `key` is there already.

        Raises:
            NotFoundError, UndeliverableError: nobody is meant, or it is not plain who.
            UsageError: a part of it is none, or a mailbox is full.
        """
        await self._settle()
        now = self.clock()
        draft = Envelope(
            id="",
            sender=USER if sender is None else sender.pid,
            sender_run="" if sender is None else sender.run_id,
            sender_goal="" if sender is None else sender.goal[:_GOAL_CHARS],
            receiver=USER,
            receiver_run="",
            type=kind,
            payload=checked_text(text),
            priority=checked(priority),
            sent_at=now.isoformat(),
            expires_at=expiry(now, ttl_s).isoformat(),
            requires_ack=requires_ack,
            reply_to=reply_to,
        )
        found, vector = await self._found(sender, to)
        sent = [
            replace(draft, id=_id(key, one), receiver=one.pid, receiver_run=one.run_id, vector=vector) for one in found
        ]
        await self._deliver(sent)
        return sent

    async def receive(self, process: Process, *, timeout_s: float, key: str = "") -> list[Envelope]:
        """The messages that wait for a process; if none does, whichever comes first, or none when time is up."""
        bell = self._bells.setdefault(process.run_id, asyncio.Event())
        found = await self._taken(process, bell, key)
        if found or timeout_s <= 0:
            return found
        deadline_s = asyncio.get_running_loop().time() + timeout_s
        async with process.waiting(Wait.MESSAGE):
            while not found:
                try:
                    async with asyncio.timeout_at(deadline_s):
                        await bell.wait()
                except TimeoutError:
                    return []
                found = await self._taken(process, bell, key)
        return found

    async def closed(self, run_id: str) -> None:
        """A process is over: what waits for it is dead, and senders who want to know are told."""
        self._bells.pop(run_id, None)
        await self._return(await self.store.ended(run_id), "it has ended")

    async def letters(self, run_id: str | None = None) -> list[Letter]:
        """What lies in a mailbox, or in all, with what is dead; the newest first."""
        await self._settle()
        await self._return(await self.store.over(), "its time was up")
        return await self.store.list(run_id)

    # --- inside ----------------------------------------------------------------------------------------

    async def _found(self, sender: Process | None, to: str) -> tuple[Sequence[Process], tuple[float, ...]]:
        """Who is meant, and by which vector if it was by meaning."""
        address = address_of(to)
        alive = [one for one in self.processes if one.is_alive and one.run_id and one is not sender]
        if isinstance(address, Meaning):
            near = await self.recall.likeness(address.words, [one.goal for one in alive])
            one = nearest(address.words, alive, near)
            meaning = await self.recall.embed(address.words)
            return [each for each in alive if each is one], tuple(map(float, meaning.vector))
        pids = {one.pid for one in receivers(address, sender, alive)}
        return [one for one in alive if one.pid in pids], ()

    async def _deliver(self, envelopes: Sequence[Envelope]) -> None:
        await self.store.put([one.data for one in envelopes], most_waiting=MAX_WAITING)
        for one in envelopes:
            if one.receiver_run in self._bells:
                self._bells[one.receiver_run].set()

    async def _taken(self, process: Process, bell: asyncio.Event, key: str) -> list[Envelope]:
        bell.clear()
        await self._return(await self.store.over(), "its time was up")
        found = [*map(envelope_of, await self.store.take(process.run_id, key or uuid.uuid4().hex, limit=AT_ONCE))]
        now = self.clock()
        await self._answer([receipt(one, now=now) for one in found if one.requires_ack])
        return found

    async def _return(self, bodies: Iterable[Body], why: str) -> None:
        """Tell the senders of dead messages, where they asked to be told."""
        dead, now = [*map(envelope_of, bodies)], self.clock()
        await self._answer([return_of(one, why, now=now) for one in dead if one.requires_ack])

    async def _answer(self, envelopes: Sequence[Envelope]) -> None:
        """Put what the post itself says into the mailboxes of those who are still there."""
        alive = {one.run_id for one in self.processes if one.is_alive}
        told = [one for one in envelopes if one.receiver_run in alive]
        if told:
            await self._deliver(told)

    async def _settle(self) -> None:
        """Once: what waits for processes of earlier kernels that nobody can go on with is dead."""
        if not self._is_settled:
            self._is_settled = True
            alive = {one.run_id for one in self.processes if one.is_alive}
            await self.store.orphaned(alive)


def _id(key: str, receiver: Process) -> str:
    """An id that is the same for the same call and receiver."""
    return hashlib.sha256(f"{key or uuid.uuid4().hex}:{receiver.run_id}".encode()).hexdigest()[:12]
