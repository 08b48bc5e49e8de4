"""`python -m benchmarks.reliability.worker ROOT SCENARIO SEED`: boot, check, work until killed.

It says `ready` once the check is through, and `violated …` for each thing that is not as it must be. A sentence that
the product refuses something with is said as `refused …`; after a few of them in a row it ends.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.reliability.checking import check
from benchmarks.reliability.deeds import Deeds
from benchmarks.reliability.place import FILES, Place, task, teach
from llmos.boot import LLMOS
from llmos.errors import LLMOSError
from llmos.interfaces.render import one_line
from llmos.trace.codec import loads_yaml
from llmos.trace.program import Status


@dataclass(kw_only=True)
class Life:
    """What one process does: deeds of a scenario, one after another."""

    system: LLMOS
    place: Place
    deeds: Deeds
    chance: random.Random

    async def calculate(self) -> None:
        number = self.chance.randrange(1_000_000)
        deed = self.deeds.begin("calculate", goal=f"Calculate {number} + {len(self.deeds.all)}")
        result = await self.system.execute(deed.facts["goal"], mode="follow", again=True)
        self.deeds.acknowledge(deed, run=result.run_id, answer=result.answer)

    async def put(self) -> str:
        """Two files get the same text, one after the other."""
        first, second = self.chance.sample(FILES, 2)
        text = f"text {len(self.deeds.all) + 1} " * self.chance.randrange(1, 150)
        text = text.strip()
        held = self.place.contents()  # what a refused deed left is known by looking only
        before = {name: held[name] for name in (first, second)}
        deed = self.deeds.begin(
            "put", goal=f'Put "{text}" into {first} and {second}', files={first: text, second: text}, before=before
        )
        result = await self.system.execute(deed.facts["goal"], mode="follow", again=True)
        self.deeds.acknowledge(deed, run=result.run_id)
        return result.run_id

    async def ring(self) -> None:
        deed = self.deeds.begin("ring", name=f"guest-{len(self.deeds.all) + 1}")
        result = await self.system.execute(f"Ring the bell for {deed.facts['name']}", mode="follow", again=True)
        self.deeds.acknowledge(deed, run=result.run_id)

    async def store(self) -> None:
        deed = self.deeds.begin("store", id=f"task-{len(self.deeds.all) + 1}")
        await self.system.traces.add(loads_yaml(task(deed.no)))
        self.deeds.acknowledge(deed)

    async def change(self) -> None:
        """A trace that is there gets another version, or another standing."""
        known = [deed for deed in self.deeds.all.values() if deed.kind == "store" and deed.done is not None]
        if not known:
            return await self.store()
        chosen = self.chance.choice(known).facts["id"]
        if self.chance.random() < 0.5:
            trace = await self.system.traces.get(chosen)
            deed = self.deeds.begin("version", id=chosen, version=trace.version + 1)
            changed = replace(trace, description=f"changed by {deed.no}")
            stored = await self.system.traces.add(changed)
            self.deeds.acknowledge(deed, version=stored.version)
        else:
            deed = self.deeds.begin("confirm", id=chosen)
            await self.system.traces.set_status(chosen, Status.TRUSTED, f"confirmed by {deed.no}")
            self.deeds.acknowledge(deed)
        return None

    async def remember(self) -> None:
        no = len(self.deeds.all) + 1
        deed = self.deeds.begin("remember", key=f"colour {no}", value=f"shade-{no}")
        goal = f"Remember {deed.facts['key']} = {deed.facts['value']}"
        await self.system.execute(goal, mode="follow", again=True)
        self.deeds.acknowledge(deed)

    async def undo(self) -> None:
        """Write two files, and take it back."""
        run = await self.put()
        put = list(self.deeds.all.values())[-1]
        deed = self.deeds.begin("undo", run=run, files=put.facts["before"])
        await self.system.undoing.undo(await self.system.undoing.plan(run))
        self.deeds.acknowledge(deed)

    async def pay(self) -> None:
        """Money that is set aside and settled, as a learner's is, or charged at once."""
        no = len(self.deeds.all) + 1
        reserved, actual = self.chance.randrange(1, 9000), self.chance.randrange(1, 9000)
        economy, run = self.system.economy, f"paid-{no}"
        if economy.available_usd < 1:
            economy.recharge(5.0)
        if self.chance.random() < 0.3:
            deed = self.deeds.begin("charge", run=run, actual=actual)
            economy.deduct(actual / 1e6, "charge", run_id=run)
            self.deeds.acknowledge(deed)
            return
        deed = self.deeds.begin("settle", run=run, reserved=reserved, actual=actual)
        reservation = economy.reserve(reserved / 1e6, run, "learn")
        await asyncio.sleep(0)
        economy.settle(reservation, actual / 1e6)
        self.deeds.acknowledge(deed)


Work = Callable[[Life], Awaitable[object]]
_REFUSALS = 6
WORK: dict[str, tuple[Work, ...]] = {
    "following": (Life.calculate, Life.put, Life.ring),
    "storing": (Life.store, Life.change, Life.remember),
    "undoing": (Life.undo,),
    "paying": (Life.pay, Life.calculate),
    "everything": (Life.calculate, Life.put, Life.ring, Life.store, Life.remember, Life.undo, Life.pay),
}


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def live(place: Place, scenario: str, seed: int) -> None:
    """Boot, check, and work until somebody ends this; with the scenario `check` only the first two."""
    chance = random.Random(seed)
    began = time.perf_counter()
    async with place.system() as system:
        deeds = Deeds(path=place.deeds)
        if not deeds.path.exists():
            await teach(system)
            deeds.see(place.contents())
        for violation in await check(system, place, deeds, chance):
            say(f"violated {violation}")
        say(f"balance {round(system.economy.balance * 1e6)}")
        say(f"ready {time.perf_counter() - began:.3f}")
        if scenario == "check":
            return
        if scenario == "recall":
            found = await system.explain("Work out the case again, somehow, with numbers nobody knows")
            say(f"found {[one['trace_id'] for one in found.candidates]}")
            return
        await work_on(Life(system=system, place=place, deeds=deeds, chance=chance), WORK[scenario])


async def work_on(life: Life, kinds: tuple[Work, ...]) -> None:
    """One round after another, each in an order of its own."""
    refused = 0
    while refused < _REFUSALS:
        for work in life.chance.sample(kinds, len(kinds)):
            try:
                await work(life)
                refused = 0
            except LLMOSError as error:
                refused += 1
                say(f"refused {one_line(str(error), 400)}")
        say("round")


if __name__ == "__main__":
    asyncio.run(live(Place(Path(sys.argv[1])), sys.argv[2], int(sys.argv[3])))
