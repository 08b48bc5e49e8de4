"""The induction suite: recorded runs become programs, and these have to make the right calls for other goals."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from benchmarks.encoder import RememberingEmbedder
from benchmarks.goals import Call, Goal
from benchmarks.own_runs import OWN_RUNS, OwnRun, lay_out
from benchmarks.product import Product, booted
from benchmarks.scoring import share
from llmos.plugins.context import ToolContext
from llmos.trace.decide import Choice, Decision
from llmos.trace.induce import NotATrace
from llmos.trace.program import Trace
from llmos.trace.run import Mode, Run, RunStatus, StepRecord

PER_SOURCE: Mapping[str, int] = {"taubench": 20, "bfcl_multi_turn": 20, "nl2bash": 20}
OWN = "own tools"
_ASKED_EACH = 3


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A goal put to an induced program; `calls` are what it has to make, None that it must not be followed."""

    goal: str
    calls: tuple[Call, ...] | None


@dataclass(frozen=True, kw_only=True)
class Case:
    """One recorded run of a source and the goals put to what was induced from it."""

    source: str
    goal: Goal
    asked: tuple[Asked, ...]

    def wanted(self, asked: Asked) -> tuple[Call, ...] | None:
        """The calls a goal needs, under the names that the tools of this run have."""
        if asked.calls is None or self.source == OWN:
            return asked.calls
        return replace(self.goal, text=asked.goal, recorded=asked.calls).calls


@dataclass(kw_only=True)
class InductionTally:
    """Programs and answers: a goal is `exact` (all calls right), `refused`, rightly refused, or `wrong`."""

    runs: int = 0
    no_program: int = 0
    asked: int = 0
    exact: int = 0
    refused: int = 0
    refused_rightly: int = 0
    wrong: int = 0
    whole: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    def add(self, other: InductionTally) -> None:
        """Take in what another source counted."""
        for name in ("runs", "no_program", "asked", "exact", "refused", "refused_rightly", "wrong", "whole"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.reasons.update(other.reasons)

    def summary(self) -> Mapping[str, Any]:
        """The numbers as they stand in the JSON; `exact_programs` were right for every goal put to them."""
        return {
            "runs": self.runs,
            "no_program": self.no_program,
            "exact_programs": self.whole,
            "asked": self.asked,
            "exact": self.exact,
            "exact_pct": share(self.exact + self.refused_rightly, self.asked),
            "refused": self.refused,
            "refused_rightly": self.refused_rightly,
            "wrong": self.wrong,
            "refusals": dict(self.reasons.most_common(8)),
        }


@dataclass(kw_only=True)
class InductionReport:
    """The tallies by source, and each wrong or refused goal."""

    tallies: dict[str, InductionTally] = field(default_factory=dict)
    errors: list[dict[str, Any]] = field(default_factory=list)

    def of(self, source: str) -> InductionTally:
        return self.tallies.setdefault(source, InductionTally())


# --- cases from ground truth -------------------------------------------------------------------------


def cases(streams: Mapping[str, Sequence[Goal]]) -> list[Case]:
    """The same cases every time: runs of each source whose changed goals have calls that are known for sure."""
    made: list[Case] = []
    for source, most in PER_SOURCE.items():
        goals = streams.get(source, ())
        found = [case for goal in goals if (case := _case(source, goal, goals)) is not None]
        shapes = {re.sub(r"\W.*", "", case.goal.task_id) + str(len(case.goal.recorded)): case for case in found}
        spread = [*shapes.values(), *(case for case in found if case not in shapes.values())]
        made += spread[:most]
    return made


def _case(source: str, goal: Goal, others: Sequence[Goal]) -> Case | None:
    """A goal whose every argument stands in it once, asked with one value changed at a time."""
    values = _values(goal)
    places = {value: _places(value, goal.text) for value in values}
    if not values or len(goal.text) > 600:
        return None
    known = [value for value in values if len(places[value]) == 1 and _changeable(value, goal, values)]
    if all(places.values()):
        asked = [_changed(goal, value, others) for value in known][:_ASKED_EACH]
        found = tuple(one for one in asked if one is not None)
        own = Asked(goal=goal.text, calls=goal.recorded)
        return Case(source=source, goal=goal, asked=(own, *found)) if found else None
    orders = [value for value in known if value.startswith("#W")] if source == "taubench" else []
    if not orders:
        return None
    # the items of another order are other items, and the goal does not say which
    changed = _changed(goal, orders[0], others)
    return Case(source=source, goal=goal, asked=(Asked(goal=changed.goal, calls=None),)) if changed else None


def _values(goal: Goal) -> list[str]:
    """The values that the calls take from somewhere: all leaves, or a command's slots."""
    commands = [call for call in goal.recorded if call.tool == "bash"]
    if commands:
        return [str(value) for value in goal.slots.values()]
    return list(dict.fromkeys(str(leaf) for call in goal.recorded for leaf in _leaves(call.args)))


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for item in value.values():
            yield from _leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    else:
        yield value


def _places(value: str, text: str) -> list[tuple[int, int]]:
    return [match.span() for match in re.finditer(rf"(?<![\w.-]){re.escape(value)}(?![\w-]|\.\w)", text)]


def _changeable(value: str, goal: Goal, values: Sequence[str]) -> bool:
    """Whether a value can be exchanged without touching another one or changing what is to be done."""
    inside = any(value != other and _places(value, other) for other in values)
    plain = re.fullmatch(r"#?[\w./~ -]{2,60}", value) and not re.fullmatch(r"\.+|/", value)
    times = sum(len(_places(value, str(leaf))) for call in goal.recorded for leaf in _leaves(call.args))
    return bool(plain) and not inside and times == 1 and value.lower() not in ("true", "false", "none")


def _changed(goal: Goal, value: str, others: Sequence[Goal]) -> Asked | None:
    """The goal with another value, and the calls with it."""
    new = another(value, goal, others)
    if new is None or new in goal.text:
        return None
    start, end = _places(value, goal.text)[0]
    calls = tuple(Call(tool=call.tool, args=_with(call.args, value, new)) for call in goal.recorded)
    return Asked(goal=f"{goal.text[:start]}{new}{goal.text[end:]}", calls=calls)


def _with(value: Any, old: str, new: str) -> Any:
    """A JSON value with one value exchanged, inside texts too; a number stays one."""
    if isinstance(value, dict):
        return {name: _with(item, old, new) for name, item in value.items()}
    if isinstance(value, list):
        return [_with(item, old, new) for item in value]
    if isinstance(value, str):
        for start, end in reversed(_places(old, value)):
            value = f"{value[:start]}{new}{value[end:]}"
        return value
    return type(value)(new) if not isinstance(value, bool) and str(value) == old else value


_STEMS = ("overview", "minutes", "draft", "ledger")
_NAMES = ("walnut", "harbour", "meadow", "copper")


def another(value: str, goal: Goal, others: Sequence[Goal]) -> str | None:
    """Another value of the same kind, always the same one; None where no kind is seen."""
    pick = sum(map(ord, value))
    if re.fullmatch(r"[0-7]{3}", value):
        return "750" if value != "750" else "640"
    if re.fullmatch(r"\d+", value):
        return str(int(value) + 3)
    if re.fullmatch(r"\d+\.\d+", value):
        return f"{float(value) + 1.5:.{len(value.partition('.')[2])}f}"
    if re.fullmatch(r"\d{1,4}[-/]\d{1,2}[-/]\d{1,4}", value):
        return None
    if path := re.fullmatch(r"((?:.*/)?)([\w-]+)(\.[a-z]\w{1,4})", value):
        return f"{path[1]}{_STEMS[pick % len(_STEMS)]}{path[3]}"
    if re.search(r"\d", value) and " " not in value:
        return re.sub(r"[1-9]", lambda found: str(int(found[0]) % 9 + 1), value)
    if value.startswith(("/", "~/")):
        return f"{value.rstrip('/').rpartition('/')[0]}/{_NAMES[pick % len(_NAMES)]}"
    if any(call.tool == "bash" for call in goal.recorded):
        return _NAMES[pick % len(_NAMES)] if re.fullmatch(r"\w+", value) else None
    names = {name for call in goal.recorded for name, held in call.args.items() if held == value}
    found = (held for other in others for call in other.recorded for name, held in call.args.items() if name in names)
    return next((held for held in found if isinstance(held, str) and held != value and held not in goal.text), None)


# --- our own tools -----------------------------------------------------------------------------------


@dataclass(kw_only=True)
class _Recorder:
    """Calls real tools and keeps what they were called with and gave."""

    product: Product
    steps: list[StepRecord] = field(default_factory=list)

    async def call(self, tool: str, **args: Any) -> Any:
        llmos = self.product.llmos
        ctx = ToolContext(workspace=llmos.settings.workspace, facts=llmos.memory)
        result = await llmos.registry.call(tool, args, ctx)
        if result.is_error:
            raise RuntimeError(f"{tool}: {result.output}")
        known = llmos.registry.get(tool)
        self.steps.append(
            StepRecord(
                index=len(self.steps),
                tool=tool,
                args=args,
                output=result.output,
                effect=known.effect,
                tool_version=known.version,
                tool_use_id=f"call_{len(self.steps)}",
            )
        )
        return result.output


async def _solved(own: OwnRun, params: Mapping[str, str], product: Product) -> tuple[Run, tuple[Call, ...]]:
    """Solve a goal with the real tools; the run and its calls."""
    recorder = _Recorder(product=product)
    answer = await own.solve(recorder.call, **params)
    run = Run(
        id=f"own-{own.name.replace(' ', '-')}",
        goal=own.goal.format(**params),
        mode=Mode.LEARNER,
        status=RunStatus.DONE,
        steps=tuple(recorder.steps),
        answer=answer,
        model="recorded",
        started_at=product.now,
    )
    return run, tuple(Call(tool=step.tool, args=step.args) for step in recorder.steps)


# --- running -----------------------------------------------------------------------------------------


def run_induction(streams: Mapping[str, Sequence[Goal]], embedder: RememberingEmbedder) -> InductionReport:
    """Induce every recorded run in a memory of its own and put the changed goals to it."""
    return asyncio.run(_all(cases(streams), embedder))


async def _all(found: Sequence[Case], embedder: RememberingEmbedder) -> InductionReport:
    report = InductionReport()
    async with booted(embedder) as product:
        for shipped in await product.llmos.traces.list():
            await product.llmos.traces.forget(shipped.id)
        for case in found:
            trace = await product.learn(case.goal, keep_run=False)
            await _put(case, trace, product, report)
        for own in OWN_RUNS:
            await _own(own, product, report)
    return report


async def _own(own: OwnRun, product: Product, report: InductionReport) -> None:
    learned, *others = own.params
    await asyncio.to_thread(lay_out, product.llmos.settings.workspace)
    async with product.llmos.admission.before() as before:
        solved = [await _solved(own, learned, product)]
        trace = await product.admit(solved[0][0], before)
    for params in others:
        await asyncio.to_thread(lay_out, product.llmos.settings.workspace)
        solved.append(await _solved(own, params, product))
    run, calls = solved[0]
    asked = tuple(Asked(goal=one.goal, calls=made) for one, made in solved)
    goal = Goal(id=own.name, text=run.goal, task_id=own.name, recorded=calls)
    await _put(Case(source=OWN, goal=goal, asked=asked), trace, product, report)


async def _put(case: Case, trace: Trace | NotATrace, product: Product, report: InductionReport) -> None:
    """Ask a program all goals of its case and count what it does."""
    tally = report.of(case.source)
    tally.runs += 1
    if isinstance(trace, NotATrace):
        tally.no_program += 1
        tally.asked += len(case.asked)
        tally.refused_rightly += sum(asked.calls is None for asked in case.asked)
        tally.refused += sum(asked.calls is not None for asked in case.asked)
        tally.reasons[f"no program: {trace.reason}"[:90]] += 1
        report.errors.append({"source": case.source, "kind": "no program", "goal": case.goal.text, "why": trace.reason})
        return
    good = [await _answered(case, asked, trace, product, report) for asked in case.asked]
    tally.whole += all(good)
    await product.llmos.traces.forget(trace.id)


async def _answered(case: Case, asked: Asked, trace: Trace, product: Product, report: InductionReport) -> bool:
    """Whether a goal got the right calls, or was rightly refused."""
    tally = report.of(case.source)
    tally.asked += 1
    await asyncio.to_thread(lay_out, product.llmos.settings.workspace)
    decision = await product.decide(asked.goal)
    made = await _calls(decision, product)
    wanted = case.wanted(asked)
    if isinstance(made, str):
        tally.refused_rightly += wanted is None
        tally.refused += wanted is not None
        if wanted is not None:
            tally.reasons[made[:90]] += 1
            report.errors.append(_told(case, asked, trace, "refused", f"{made}; {decision.reason}"))
        return wanted is None
    right = wanted is not None and _same(made, wanted)
    tally.exact += right
    tally.wrong += not right
    if not right:
        said = f"made {_shown(made)}, not {_shown(wanted or ())}"
        report.errors.append(_told(case, asked, trace, "wrong", said))
    return right


async def _calls(decision: Decision, product: Product) -> tuple[Call, ...] | str:
    """The calls of a proven program, with the real tools; what only a person could allow counts as allowed."""
    match = decision.match
    allowed = decision.choice is Choice.CONFIRM and match is not None and not match.doubt
    if match is None or not (allowed or decision.choice is Choice.FOLLOW):
        return f"not followed: {decision.choice}"
    made = await product.would_call(match)
    return f"stopped: {made}" if isinstance(made, str) else made


def _same(made: Sequence[Call], wanted: Sequence[Call]) -> bool:
    return _shown(made) == _shown(wanted)


def _shown(calls: Sequence[Call]) -> str:
    return json.dumps([[call.tool, dict(call.args)] for call in calls], sort_keys=True, ensure_ascii=False)


def _told(case: Case, asked: Asked, trace: Trace, kind: str, why: str) -> dict[str, Any]:
    return {
        "source": case.source,
        "kind": kind,
        "learned": case.goal.text,
        "goal": asked.goal,
        "template": trace.goals[0],
        "why": why,
    }
