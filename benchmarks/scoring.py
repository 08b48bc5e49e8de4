"""What counts as a right replay, and the numbers that come of many."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.goals import Call, Goal

_Z95 = 1.959963984540054


def verdict(goal: Goal, made: Sequence[Call], listed: Callable[[str, str], Collection[str]] = lambda *_: ()) -> str:
    """`right`, or what is wrong with the calls made for a goal: `task`, `calls` or `value`.

    Right means the same procedure (task and `proc` values), and every argument with the right value. A tool that has
    `listed` the values of a parameter wants them in its own spelling: there, too, case is forgiven.
    """
    wanted = goal.calls
    if {procedure_of(call) for call in made} != {procedure_of(call) for call in wanted}:
        return "task"
    if [call.tool for call in made] != [call.tool for call in wanted]:
        return "calls"
    for one, other in zip(made, wanted, strict=True):
        if set(one.args) != set(other.args):
            return "value"
        for name, wanted_value in other.args.items():
            got = one.args[name]
            text = "" if isinstance(got, str) and got in listed(one.tool, name) else goal.text
            if not same_value(wanted_value, got, text):
                return "value"
    return "right"


def procedure_of(call: Call) -> str:
    """The procedure that a call belongs to: said by an argument, or by the tool, where that has no other."""
    return call.procedure or call.tool.partition("_")[0].removeprefix("t")


def same_value(wanted: Any, got: Any, text: str) -> bool:
    """Whether an argument has the right value: equal as JSON.

    Case and runs of blanks are only forgiven where the source itself writes the value otherwise than its goal
    does ("First Floor" of "turn on first floor light").
    """
    if json.dumps(wanted, sort_keys=True) == json.dumps(got, sort_keys=True):
        return True
    if isinstance(wanted, str) and isinstance(got, str) and wanted not in text:
        return _plain(wanted) == _plain(got)
    return _number(wanted) is not None and _number(wanted) == _number(got)


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def wilson(count: float, total: float) -> tuple[float, float]:
    """The 95 % interval of a share, in percent; (0, 100) when nothing was counted.

    Source: Wilson 1927, the score interval.
    """
    if total <= 0:
        return 0.0, 100.0
    share, square = count / total, _Z95**2
    centre = (share + square / (2 * total)) / (1 + square / total)
    half = _Z95 / (1 + square / total) * math.sqrt(share * (1 - share) / total + square / (4 * total**2))
    return 100 * max(0.0, centre - half), 100 * min(1.0, centre + half)


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of the values lie (nearest rank); 0 of none."""
    if not values:
        return 0.0
    return sorted(values)[min(len(values) - 1, max(0, math.ceil(share * len(values)) - 1))]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one goal of a stream.

    `verdict` is None for a goal that was learned, and `rule` then says why; `asked` counts the questions put to
    the person; `seen` says that the same had come before (task and `proc` values), `seen_task` only the task.
    """

    verdict: str | None
    rule: str = ""
    asked: int = 0
    seen: bool = False
    seen_task: bool = False
    latency_s: float = 0.0


@dataclass(kw_only=True)
class Tally:
    """The outcomes of one system on one set, over all seeds; `distinct` goals are in the set."""

    distinct: int = 0
    seeds: int = 0
    goals: int = 0
    repeats: int = 0
    repeats_task: int = 0
    hits: int = 0
    wrong: int = 0
    unseen_right: int = 0
    asked: int = 0
    wrong_kinds: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    latencies_s: list[float] = field(default_factory=list)

    def count(self, outcome: Outcome) -> None:
        """Add one goal."""
        self.goals += 1
        self.repeats += outcome.seen
        self.repeats_task += outcome.seen_task
        self.asked += outcome.asked
        self.latencies_s.append(outcome.latency_s)
        if outcome.verdict == "right":
            self.hits += outcome.seen
            self.unseen_right += not outcome.seen
        elif outcome.verdict is not None:
            self.wrong += 1
            self.wrong_kinds[outcome.verdict] += 1
        elif outcome.seen:
            self.refusals[outcome.rule] += 1

    def add(self, other: Tally) -> None:
        """Take in what another seed counted."""
        for name in ("seeds", "goals", "repeats", "repeats_task", "hits", "wrong", "unseen_right", "asked"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.distinct = max(self.distinct, other.distinct)
        self.wrong_kinds.update(other.wrong_kinds)
        self.refusals.update(other.refusals)
        self.latencies_s += other.latencies_s

    def summary(self) -> Mapping[str, Any]:
        """The numbers as they stand in the JSON.

        The seeds are orders of the same goals, no new ones: the interval counts each goal once.
        """
        low, high = wilson(self.wrong / max(1, self.seeds), self.goals / max(1, self.seeds))
        return {
            "hit_pct": share(self.hits, self.repeats),
            "wrong_pct": share(self.wrong, self.goals),
            "wrong_ci95": [round(low, 3), round(high, 3)],
            "hit_of_task_pct": share(self.hits, self.repeats_task),
            "goals": self.goals,
            "repeats": self.repeats,
            "repeats_of_task": self.repeats_task,
            "hits": self.hits,
            "wrong": self.wrong,
            "right_but_unseen": self.unseen_right,
            "questions": self.asked,
            "wrong_kinds": dict(self.wrong_kinds.most_common()),
            "refusals": dict(self.refusals.most_common()),
            "latency_ms": {
                "p50": round(1000 * percentile(self.latencies_s, 0.5), 2),
                "p95": round(1000 * percentile(self.latencies_s, 0.95), 2),
            },
        }


def share(count: int, total: int) -> float:
    """A share in percent, two digits; 0 of nothing."""
    return round(100 * count / total, 2) if total else 0.0
