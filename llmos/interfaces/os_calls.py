"""What processes ask of the kernel through their tools: children, messages and shared memory."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmos.errors import LLMOSError, LowBatteryError, NotFoundError, ToolError, UsageError
from llmos.kernel.messages import Envelope, Type, address_of, group_name, stays_in_family
from llmos.kernel.process import Kind, Process, Wait, current
from llmos.kernel.process_table import ProcessTable

if TYPE_CHECKING:
    from llmos.boot import LLMOS
    from llmos.memory.mail import Block

MAX_DEPTH = 4
"""How many generations of children there may be."""

MAX_CHILDREN = 8
"""How many children of one process may be alive at once."""

MAX_FAMILY = 32

_BELOW = frozenset({Kind.USER, Kind.SPECIALIST, Kind.HOUSEKEEPING})


@dataclass(frozen=True, kw_only=True)
class ProcessCalls:
    """The kernel as tools of a process see it; `system` carries children out."""

    system: LLMOS

    def stays_in_family(self, to: str) -> bool:
        """Whether a message to an address goes to family alone; an address that is none goes nowhere."""
        own = _own()
        try:
            return stays_in_family(address_of(to), own, [one for one in self._table if one.is_alive])
        except UsageError:
            return True

    # --- children --------------------------------------------------------------------------------------

    async def spawn(
        self,
        goal: str,
        *,
        budget_usd: float | None,
        kind: str,
        priority: int | None,
        group: str,
        blocks: Mapping[str, str],
        wait: bool,
    ) -> dict[str, Any]:
        """Begin a goal as a child of the process that asks.

        Raises:
            ToolError: there are enough of them, or it may not be one of that class.
            LowBatteryError: not so much is left.
        """
        own = _own()
        begun: asyncio.Future[Process] = asyncio.get_running_loop().create_future()
        self._check_room(own)
        child_kind = self._kind(own, kind)
        run_id = uuid.uuid4().hex[:12]
        usual = self.system.settings.classes[child_kind]
        groups = {group_name(group)} if group else set()
        for name in (name for name, how in blocks.items() if how == "write"):
            _check_writable(own, name)

        def begins(process: Process) -> None:
            process.groups |= groups
            process.blocks = dict(blocks)
            own.begun[process.pid] = task
            if wait:
                own.awaits.add(process.pid)
            begun.set_result(process)

        async def work() -> dict[str, Any]:
            return await self._carried_out(
                goal,
                mode=own.asked.mode if own.asked is not None else "auto",
                confirm=own.asked.confirm if own.asked is not None else None,
                kind=child_kind,
                priority=max(own.priority, usual.priority if priority is None else priority),
                budget_usd=self._budget(own, budget_usd, usual.max_usd),
                run_id=run_id,
                begun=begins,
            )

        await self.system.taint.begotten(run_id, own.run_id)
        task = asyncio.create_task(work())
        either: set[asyncio.Future[Any]] = {task, begun}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not begun.done():
            self.system.taint.forget(run_id)
            await task
        child = begun.result()
        if wait:
            return (await self.wait_for([child.pid]))[0]
        return {"pid": child.pid, "goal": child.goal, "status": "begun", "budget_usd": child.budget.allocated_usd}

    async def wait_for(self, pids: Sequence[int]) -> list[dict[str, Any]]:
        """What children came to, once they have ended.

        Raises:
            ToolError: one of them is no child of the process that asks.
        """
        own = _own()
        children = [self._child(own, pid) for pid in dict.fromkeys(pids)]
        waits = [one.over for one in children if one.is_alive]
        own.awaits.update(one.pid for one in children)
        if waits:
            async with own.waiting(Wait.CHILD):
                await asyncio.gather(*(over.wait() for over in waits))
        return [await self._told(own, one) for one in children]

    def _check_room(self, own: Process) -> None:
        if len(own.above) >= MAX_DEPTH:
            raise ToolError(f"children of children go {MAX_DEPTH} deep at most: do this goal yourself.")
        alive = [one for one in self._table if one.is_alive]
        if sum(one.parent == own.pid for one in alive) >= MAX_CHILDREN:
            raise ToolError(f"this process has {MAX_CHILDREN} living children, and more it can't have: wait for one.")
        if sum(one.family == own.family for one in alive) >= MAX_FAMILY:
            raise ToolError(f"{MAX_FAMILY} processes work on this already, and more can't: wait for some.")
        if own.budget.is_spent:
            raise ToolError("the budget of this process is spent: it can begin nothing more.")

    def _kind(self, own: Process, kind: str) -> Kind:
        """The class of a child; none that has more than its parent's."""
        if kind and kind not in _BELOW:
            raise ToolError(f"a child's class is one of {', '.join(sorted(_BELOW))}, not {kind!r}.")
        return Kind(kind) if kind else own.kind

    def _budget(self, own: Process, wanted_usd: float | None, usual_usd: float | None) -> float | None:
        left_usd = own.budget.left_usd
        if wanted_usd is None:
            return usual_usd if usual_usd is None or left_usd is None else min(usual_usd, left_usd)
        available_usd = self.system.economy.available_usd
        if left_usd is None and wanted_usd > available_usd:
            raise LowBatteryError(
                f"only ${available_usd:.4f} of the battery is left, not ${wanted_usd:.4f}.",
                needed_usd=wanted_usd,
                available_usd=available_usd,
            )
        return wanted_usd

    async def _carried_out(self, goal: str, **terms: Any) -> dict[str, Any]:
        """Carry a child's goal out; what becomes of it is told to its parent, good or bad."""
        told: list[Process] = []
        begins = terms.pop("begun")

        def begun(process: Process) -> None:
            told.append(process)
            begins(process)

        try:
            result = await self.system.execute(goal, begun=begun, **terms)
        except LLMOSError as error:
            if not told:
                raise
            result_of = getattr(error, "result", None)
            cost_usd = result_of.cost_usd if result_of is not None else told[0].spent_usd
            return _outcome(told[0], answer="", cost_usd=cost_usd, reason=str(error))
        return _outcome(told[0], answer=result.answer, cost_usd=result.cost_usd, reason="")

    def _child(self, own: Process, pid: int) -> Process:
        found = next((one for one in self._table if one.pid == pid), None)
        if found is None or found.parent != own.pid:
            raise ToolError(f"process {pid} is no child of this one: only a parent waits for its children.")
        return found

    async def _told(self, own: Process, child: Process) -> dict[str, Any]:
        task = own.begun.get(child.pid)
        if task is not None:
            outcome: dict[str, Any] = await asyncio.shield(task)
            return outcome
        run = await self.system.runs.get(child.run_id)  # an earlier kernel had begun it
        reason = "" if child.why == "done" else run.reason
        return _outcome(child, answer=run.answer or "", cost_usd=run.cost_usd, reason=reason)

    # --- messages --------------------------------------------------------------------------------------

    async def send(
        self,
        to: str,
        text: str,
        *,
        kind: str,
        priority: int | None,
        requires_ack: bool,
        ttl_s: float | None,
        reply_to: str,
        key: str,
    ) -> dict[str, Any]:
        """Send a message for the process that asks."""
        own = _own()
        sent = await self.system.home.post.send(
            own,
            to,
            text,
            kind=Type(kind),
            priority=own.priority if priority is None else priority,
            requires_ack=requires_ack,
            ttl_s=ttl_s,
            reply_to=reply_to,
            key=key,
        )
        return {"sent": [{"id": one.id, "to": one.receiver} for one in sent], "count": len(sent)}

    async def receive(self, *, timeout_s: float, key: str) -> dict[str, Any]:
        """The messages for the process that asks."""
        began_s = time.monotonic()
        found = await self.system.home.post.receive(_own(), timeout_s=timeout_s, key=key)
        lines = [f"from process {one.sender} ({one.type}): {one.payload}" for one in found]
        return {
            "messages": [_shown(one) for one in found],
            "count": len(found),
            "waited_s": round(time.monotonic() - began_s, 3),
            "text": "\n".join(lines) or "no message came.",
        }

    # --- shared memory ---------------------------------------------------------------------------------

    async def read_shared(self, name: str) -> dict[str, Any]:
        """A block of the asking process's family, with its version; version 0 and null where there is none."""
        return _data(await self.system.home.post.store.block(_own().family, name))

    async def write_shared(self, name: str, value: Any, *, expected: int | None) -> dict[str, Any]:
        """Replace a block, if it still has the version that is expected."""
        own, store = _own(), self.system.home.post.store
        _check_writable(own, name)
        written = await store.write(own.family, name, value, expected=expected, by=own.run_id)
        return {"name": written.name, "version": written.version}

    async def mounted(self) -> str:
        """The blocks that stand in the first message to the asking process's model; they taint its run."""
        own = current()
        if own is None or not own.blocks:
            return ""
        store = self.system.home.post.store
        found = [await store.block(own.family, name) for name in own.blocks]
        await self.system.taint.shown(own.run_id, [f"the shared block {one.name}" for one in found])
        return "\n".join(json.dumps(_data(one) | {"may": own.blocks[one.name]}, ensure_ascii=False) for one in found)

    @property
    def _table(self) -> ProcessTable:
        return self.system.home.processes


async def mind(process: Process, table: ProcessTable, *, is_well: bool, is_ending: bool = False) -> None:
    """A process has done its work: it is over when its children are; if it failed, they are ended.

    While the house `is_ending` they are only let go of, so that the next kernel can go on with them.
    """
    tasks = [task for task in process.begun.values() if not task.done()]
    if not tasks:
        return
    try:
        if is_well:
            async with process.waiting(Wait.CHILD):
                await asyncio.wait(tasks)
            return
    except BaseException:
        await _end_children(process, table, is_ending)
        raise
    await _end_children(process, table, is_ending)


async def _end_children(process: Process, table: ProcessTable, is_ending: bool) -> None:
    for pid in process.begun:
        with suppress(NotFoundError):
            child = table.alive(pid)
            if not is_ending:
                table.kill(pid)
            elif child.task is not None:
                child.task.cancel()
    tasks = [task for task in process.begun.values() if not task.done()]
    if tasks:
        await asyncio.wait(tasks)


def _own() -> Process:
    own = current()
    if own is None:
        raise ToolError("only a process can do this, and there is none here.")
    return own


def _check_writable(own: Process, name: str) -> None:
    """Raises ToolError if a process may only read a block."""
    if own.blocks.get(name) == "read":
        raise ToolError(f"the block {name!r} was given to this process to read, not to write.")


def _outcome(child: Process, *, answer: str, cost_usd: float, reason: str) -> dict[str, Any]:
    status = str(child.why) if not child.is_alive else ("failed" if reason else "done")
    return {
        "pid": child.pid,
        "goal": child.goal,
        "status": status,
        "answer": answer,
        "cost_usd": cost_usd,
        "run_id": child.run_id,
        "reason": reason,
    }


def _shown(one: Envelope) -> dict[str, Any]:
    return {
        "id": one.id,
        "from": one.sender,
        "from_goal": one.sender_goal,
        "type": str(one.type),
        "text": one.payload,
        "priority": one.priority,
        "sent_at": one.sent_at,
        "reply_to": one.reply_to,
    }


def _data(block: Block) -> dict[str, Any]:
    return {"name": block.name, "version": block.version, "value": block.value}
