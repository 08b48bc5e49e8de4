"""What must be true of a home after a kill, whatever moment it came at."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

from benchmarks.reliability.deeds import Deed, Deeds
from benchmarks.reliability.place import Place
from llmos.accounts import EntryKind, LedgerEntry
from llmos.boot import LLMOS, Question
from llmos.errors import LLMOSError, NotFoundError, NotPermittedError
from llmos.trace.effects import JournalEntry, Outcome
from llmos.trace.run import Run, RunStatus

_REPLAYED = 2
"""How many of the stored traces are followed again at each check."""


async def check(system: LLMOS, place: Place, deeds: Deeds, chance: random.Random) -> list[str]:
    """Everything that is not as it must be, a sentence each; an effect that was cut off is asked for again."""
    checking = _Checking(system=system, place=place, deeds=deeds, chance=chance)
    for part in (
        checking.files,
        checking.runs,
        checking.traces,
        checking.facts,
        checking.ledger,
        checking.journal,
        checking.cut_off,
        checking.audit,
    ):
        await part()
    return checking.wrong


class _Checking:
    def __init__(self, *, system: LLMOS, place: Place, deeds: Deeds, chance: random.Random) -> None:
        self.system, self.place, self.deeds, self.chance = system, place, deeds, chance
        self.wrong: list[str] = []

    def must(self, holds: bool, sentence: str) -> None:
        if not holds:
            self.wrong.append(sentence)

    def of(self, *kinds: str) -> list[Deed]:
        return [deed for deed in self.deeds.all.values() if deed.kind in kinds]

    async def files(self) -> None:
        """Every file is as before a deed or as after it, and nothing else stands beside them."""
        contents = self.place.contents()
        known = set(self.deeds.files)
        self.must(set(contents) == known, f"files: {sorted(set(contents) ^ known)} are there or not, unlike before")
        for name in known & set(contents):
            held = contents[name]
            self.must(held in self.deeds.may_hold(name), f"files: {name} is half-written, or lost: {held[:60]!r}")
        self.deeds.see({name: contents[name] for name in known & set(contents)})

    async def runs(self) -> None:
        """Every acknowledged run is there, done, with its answer; none is left running."""
        runs = {run.id: run for run in await self.system.runs.list(limit=1_000_000)}
        for run in runs.values():
            self.must(run.status is not RunStatus.RUNNING, f"runs: {run.id} is said to be running")
        for deed in self.of("calculate", "put", "ring", "learn"):
            if deed.done is None:
                continue
            stored = runs.get(deed.done["run"])
            is_there = stored is not None and stored.status is RunStatus.DONE
            self.must(is_there or self._was_last(deed), f"runs: {deed.done['run']} is lost")
            if stored is not None and deed.kind == "calculate":
                self.must(stored.answer == deed.done["answer"], f"runs: {stored.id} has another answer")

    async def traces(self) -> None:
        """Every acknowledged trace is there, in every version, and replays; one that was not is whole or not there."""
        wanted = {deed.facts["id"] for deed in self.of("store") if deed.done is not None}
        wanted |= {
            deed.done["trace"].partition("@")[0] for deed in self.of("learn") if deed.done and deed.done["trace"]
        }
        listed = {trace.id: trace for trace in await self.system.traces.list()}
        self.must(wanted <= set(listed), f"traces: {sorted(wanted - set(listed))} are lost")
        for deed in self.of("version"):
            if deed.done is not None:
                have = listed[deed.facts["id"]].version if deed.facts["id"] in listed else 0
                self.must(have >= deed.done["version"], f"traces: {deed.facts['id']} has lost a version")
        there = sorted(trace_id for trace_id in listed if trace_id.startswith("task-"))
        for trace_id in self.chance.sample(there, min(_REPLAYED, len(there))):
            case = trace_id.removeprefix("task-")
            goal = f"Work out case number {case} with {case} * 7"
            result = await self.system.execute(goal, mode="follow", again=True, confirm=_yes)
            right = (result.answer, (result.trace_id or "").partition("@")[0]) == (str(int(case) * 7), trace_id)
            self.must(right, f"traces: {trace_id} does not replay")

    def _was_last(self, deed: Deed) -> bool:
        """Whether a replay that only computes was among the last things its process did before it was killed.

        Nobody waits for the record of such a one; but whatever changes something is stored after what came before it.
        """
        later = [one for one in self.deeds.all.values() if one.life == deed.life and one.no > deed.no]
        return deed.kind == "calculate" and all(one.done is None or one.kind == "calculate" for one in later)

    async def facts(self) -> None:
        """Every acknowledged fact is there."""
        known = {fact["key"]: fact["value"] for fact in await self.system.memory.facts()}
        for deed in self.of("remember"):
            if deed.done is not None or deed.facts["key"] in known:
                held = known.get(deed.facts["key"])
                self.must(held == deed.facts["value"], f"facts: {deed.facts['key']} is {held!r}")

    async def ledger(self) -> None:
        """No cent is lost or booked twice, and the rows add up."""
        rows = self.system.economy.entries(None)[::-1]
        self.must([row.id for row in rows] == list(range(1, len(rows) + 1)), "ledger: a row is missing")
        balance = 0
        for row in rows:
            balance += row.amount_microusd
            self.must(row.balance_microusd == balance, f"ledger: row {row.id} does not add up")
        self.must(round(self.system.economy.balance * 1e6) == balance, "ledger: the battery has another balance")
        self.must(self.system.economy.summary().reserved_usd == 0, "ledger: a reservation of a dead process is open")
        moved = Counter[str]()
        for row in rows:
            moved[row.run_id] += row.amount_microusd
        for deed in self.of("charge", "settle"):
            amount = moved[deed.facts["run"]]
            self.must(amount in _allowed(deed), f"ledger: {deed.facts} moved {amount}")
        for deed in self.of("learn"):
            if deed.done is not None:
                cost = round(deed.done["cost_usd"] * 1e6)
                self.must(moved[deed.done["run"]] == -cost, f"ledger: {deed.done} moved {moved[deed.done['run']]}")
        self._savings(rows)

    def _savings(self, rows: list[LedgerEntry]) -> None:
        """A replay is booked once at the most."""
        booked = Counter(row.run_id for row in rows if row.kind is EntryKind.SAVING)
        self.must(all(count == 1 for count in booked.values()), "ledger: a saving is booked twice")

    async def journal(self) -> None:
        """No intent is left without an outcome, and the bell was never rung twice."""
        self.must(not await self.system.effects.open(), "journal: an intent has no outcome")
        rung = Counter(self.place.rung())
        for deed in self.of("ring", "learn"):
            name = deed.facts["name"]
            self.must(rung[name] <= 1, f"effects: the bell was rung {rung[name]} times for {name}")
            self.must(deed.done is None or rung[name] == 1, f"effects: an acknowledged ring for {name} is lost")

    async def audit(self) -> None:
        """The audit log is whole, and agrees with the ledger and with its anchor."""
        for finding in (await self.system.audit_log.verify()).findings:
            self.wrong.append(f"audit: {finding.message}")

    # --- what was cut off ------------------------------------------------------------------------------

    async def cut_off(self) -> None:
        """What was begun and not acknowledged is asked for again, or taken back, as a user would."""
        after: dict[str, Callable[[Deed], object]] = {"ring": self._ring_again, "put": self._undo, "undo": self._undo}
        for deed in self.of(*after):
            if deed.done is None and not deed.settled and not self._is_written_over(deed):
                await after[deed.kind](deed)  # type: ignore[misc]
                self.deeds.settle(deed)

    def _is_written_over(self, deed: Deed) -> bool:
        """Whether a later deed had to do with its files: undoing it now is refused, and rightly."""
        files = set(deed.facts.get("files", {}))
        return any(
            other.no > deed.no and files & set(other.facts.get("files", {})) for other in self.deeds.all.values()
        )

    async def _ring_again(self, deed: Deed) -> None:
        """Where nobody knows whether it was rung, asking again is refused until somebody has looked."""
        name = deed.facts["name"]
        before, goal = self.place.rung().count(name), f"Ring the bell for {name}"
        entry = await self._entry(goal)
        if entry is None or entry.outcome is Outcome.NOT_DONE:
            self.must(before == 0, f"effects: the bell was rung for {name}, and the journal does not know it")
        elif entry.outcome is Outcome.DONE:
            self.must(before == 1, f"effects: the journal says that the bell was rung for {name}, and it was not")
            return
        if entry is not None and entry.outcome is Outcome.UNKNOWN:
            try:
                await self.system.execute(goal, mode="follow", again=True, confirm=_yes)
                self.wrong.append(f"effects: an unknown ring for {name} was done again blindly")
            except NotPermittedError:
                pass
            self.must(self.place.rung().count(name) == before, f"effects: a refused ring for {name} was done")
            await self.system.undoing.settle(entry.run_id, entry.step + 1, is_done=before == 1)
            if before == 1:
                return
        await self.system.execute(goal, mode="follow", again=True, confirm=_yes)
        self.must(self.place.rung().count(name) == 1, f"effects: the bell was not rung once for {name}")

    async def _undo(self, deed: Deed) -> None:
        """A write, or an undo, that was cut off can be undone: then the files are as before the write."""
        run = deed.facts.get("run") or await self._run_of(deed.facts["goal"])
        before = deed.facts["files"] if deed.kind == "undo" else deed.facts["before"]
        if run is None:
            return
        again = self.deeds.begin("undo", run=run, files=before)
        try:
            await self.system.undoing.undo(await self.system.undoing.plan(run))
        except NotFoundError:
            pass  # it had not begun to change anything
        except LLMOSError as error:
            self.wrong.append(f"undo: {run}: {error}")
        self.deeds.acknowledge(again)
        held = self.place.contents()
        wrong = [name for name, content in before.items() if held.get(name) != content]
        self.must(not wrong, f"undo: {wrong} are not as before run {run}")

    async def _run_of(self, goal: str) -> str | None:
        found: list[Run] = [run for run in await self.system.runs.list(limit=1_000) if run.goal == goal]
        return found[0].id if found else None

    async def _entry(self, goal: str) -> JournalEntry | None:
        run = await self._run_of(goal)
        entries = await self.system.effects.of_run(run) if run is not None else []
        return entries[-1] if entries else None


async def _yes(question: Question) -> bool:
    """A trace that `repair` brought back asks; here it is meant."""
    return True


def _allowed(deed: Deed) -> set[int]:
    """What a run's movements may add up to."""
    actual = -deed.facts["actual"]
    if deed.done is not None:
        return {actual}
    if deed.kind == "charge":
        return {0, actual}
    return {0, -deed.facts["reserved"], actual}
