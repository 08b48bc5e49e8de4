"""`python -m benchmarks.equivalence`: fit the doubt of readings that are not proven, on streams of goals.

Every reading that the gate offers for a goal it has no proof for is labelled by what a replay would call. For each kind
of reading a logistic regression over its features ranks them. The doubt of a rank is the chance that the next
reading of that rank is wrong, by what was wrong there (Jeffreys' prior) when others had fitted the ranking, made
monotone. The result is the table in `llmos/trace/equivalence_table.py`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.goals import Goal, load, mostly_new
from benchmarks.jobs import PERTURBED, WITH_VALUES, embedder
from benchmarks.logistic import binned, counted, cross_scored, expected, weights_of
from benchmarks.pairs import goals_of
from benchmarks.perturb import hard_negatives
from benchmarks.product import Product, booted
from benchmarks.scoring import verdict
from benchmarks.streams import in_order
from llmos.trace.decide import Choice, Decision, readable
from llmos.trace.equivalence import INPUTS, RIVAL, SIGNS, ReadingKind, kind_of, place_of, vector_of
from llmos.trace.induce import NotATrace
from llmos.trace.likeness import Features, likely, opened
from llmos.trace.match import Match

SETS = (
    *("homeassistant", "hwu", "snips", "text2sql", "webarena", "androidworld", "visualwebarena"),
    *("nlupp", "banking77", "clinc150"),
)
PERTURBATIONS = "perturbed"
RIVALS = "rival"
"""Open readings where another program has the same telling words, or the tools take other texts as well."""
TABLE = Path(__file__).parents[1] / "llmos" / "trace" / "equivalence_table.py"


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A reading that was offered, and whether the replay would have been right.

    `kind` is a `ReadingKind` or `RIVALS`.
    """

    source: str
    kind: str
    right: bool
    goal: str = ""
    template: str = ""
    features: Features | None = None


def main(arguments: Sequence[str] | None = None) -> None:
    """Collect the samples, fit, and write table and report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.equivalence", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(__file__).with_name("data"), help="a folder of goals")
    parser.add_argument("--limit", type=int, default=1000, help="at most so many goals of a set (1000)")
    parser.add_argument("--seeds", type=int, default=2, help="how many orders of each set (2)")
    parser.add_argument("--sets", default=",".join([*SETS, PERTURBATIONS]), help="only these, with commas between")
    parser.add_argument("--samples", type=Path, help="where to write the samples, without fitting them")
    parser.add_argument("--fit", type=Path, nargs="+", help="fit samples that were written, instead of collecting")
    parser.add_argument("--json", type=Path, help="where to write the calibration")
    options = parser.parse_args(arguments)
    samples = _read(options.fit) if options.fit else _collected_all(options)
    if options.samples:
        lines = (json.dumps(asdict(sample), ensure_ascii=False) for sample in samples)
        options.samples.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return
    samples = distinct(samples)
    model = Model.of(samples)
    TABLE.write_text(model.module(), encoding="utf-8")
    if options.json:
        options.json.write_text(json.dumps(model.report(samples), indent=1) + "\n", encoding="utf-8")


# --- samples -----------------------------------------------------------------------------------------


def _collected_all(options: argparse.Namespace) -> list[Sample]:
    streams = load(options.data).streams
    samples: list[Sample] = []
    for name in options.sets.split(","):
        if name == PERTURBATIONS:
            samples += asyncio.run(_perturbed({n: goals for n, goals in streams.items() if n in PERTURBED}))
            continue
        for seed in range(options.seeds):
            goals = in_order(streams[name], seed, options.limit)
            samples += asyncio.run(_collected(name, goals, mostly_new(streams[name])))
    return samples


def _read(files: Sequence[Path]) -> list[Sample]:
    lines = [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    return [Sample(**one | {"features": _features(one["features"])}) for one in lines]


def _features(told: dict[str, Any] | None) -> Features | None:
    return None if told is None else Features(**told | {"odd": tuple(told["odd"])})


async def _collected(name: str, goals: Sequence[Goal], unlisted: frozenset[str]) -> list[Sample]:
    """The readings offered along a stream in which only proven traces are followed and the rest is learned."""
    found: list[Sample] = []
    async with booted(embedder(), vocabulary=name in WITH_VALUES, unlisted=unlisted, goals=goals) as product:
        for goal in goals:
            decision = await product.decide(goal.text)
            found += await _offered(name, goal, product, decision)
            if decision.choice is Choice.FOLLOW and decision.match is not None and not decision.match.wording:
                product.meet([goal])
            else:
                await product.learn(goal)
    return found


async def _perturbed(streams: dict[str, tuple[Goal, ...]]) -> list[Sample]:
    """The readings offered for goals that were changed a little, so that they mean something else."""
    found: list[Sample] = []
    asked = hard_negatives(streams)
    async with booted(embedder(), goals=goals_of(asked)) as product:
        for question in asked:
            trace = await product.learn(question.learned, keep_run=False)
            if isinstance(trace, NotATrace):
                continue
            if question.wanted is None:
                decision = await product.decide(question.asked.text)
                found += await _offered(PERTURBATIONS, None, product, decision, question.asked.text)
            await product.llmos.traces.forget(trace.id)
    return found


async def _offered(name: str, goal: Goal | None, product: Product, decision: Decision, text: str = "") -> list[Sample]:
    """The reading of a goal that is not proven beyond doubt; without a `goal` every reading is wrong."""
    text = goal.text if goal is not None else text
    proven = decision.match if decision.match is not None and not decision.match.wording else None
    if proven is not None:
        if not proven.open:
            return []
        features, read = opened(proven, product.llmos.deciding.world), proven
        kind = RIVALS if proven.doubt == RIVAL or features.others else "open"
    elif any(isinstance(one.outcome, Match) for one in decision.considered):
        return []  # several claim the goal: no other reading is looked for
    else:
        may_be = readable(decision.considered)
        cosines = {one.trace.id: one.cosine for one in decision.considered if one.cosine is not None}
        reading = likely(text, may_be, product.llmos.deciding.world, cosines)
        if reading is None:
            return []
        kind, features, read = str(kind_of(reading.features)), reading.features, reading.found
    right = goal is not None and await _is_right(goal, product, read)
    return [Sample(source=name, kind=kind, right=right, goal=text, template=read.template, features=features)]


async def _is_right(goal: Goal, product: Product, read: Match) -> bool:
    made = await product.would_call(read)
    return isinstance(made, tuple) and verdict(goal, made, product.listed) == "right"


def distinct(samples: Sequence[Sample]) -> list[Sample]:
    """Each goal once for each kind, with the kind as it is told apart now: another order of a stream is no new goal.

    Where a goal was read rightly in one order and wrongly in another, the wrong one stays.
    """
    kept: dict[tuple[str, str, str], Sample] = {}
    for sample in samples:
        kind = _told_apart(sample)
        key = sample.source, kind, sample.goal
        if key not in kept or kept[key].right:
            kept[key] = replace(sample, kind=kind)
    return list(kept.values())


def _told_apart(sample: Sample) -> str:
    """The kind of a reading, as it is told apart now."""
    if sample.features is None or sample.kind == RIVALS:
        return sample.kind
    if sample.kind == ReadingKind.OPEN:
        return RIVALS if sample.features.others else sample.kind
    return str(kind_of(sample.features))


# --- the model ---------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Model:
    """Weights and (upper score, doubt) of each bin, scores rising, for each kind; the doubt beside a rival."""

    weights: dict[str, tuple[float, ...]]
    bins: dict[str, list[tuple[float, float]]]
    rival: float

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> Model:
        """Fit `distinct` samples."""
        weights: dict[str, tuple[float, ...]] = {}
        bins: dict[str, list[tuple[float, float]]] = {}
        for kind in ReadingKind:
            here = [sample for sample in samples if sample.kind == kind]
            inputs = [vector_of(sample.features) for sample in here if sample.features is not None]
            wrong = [not sample.right for sample in here]
            weights[kind] = weights_of(inputs, wrong, SIGNS)
            bins[kind] = binned(cross_scored(inputs, wrong, SIGNS), wrong)
        return cls(weights=weights, bins=bins, rival=_chance([one for one in samples if one.kind == RIVALS]))

    def report(self, samples: Sequence[Sample]) -> dict[str, Any]:
        """How many readings of each bin there were, how many were wrong, and the doubt they get; the same by source."""
        told: dict[str, Any] = {"inputs": list(INPUTS), "kinds": {}}
        for kind in ReadingKind:
            here = [sample for sample in samples if sample.kind == kind]
            told["kinds"][kind] = {
                "weights": list(self.weights[kind]),
                "bins": self._bins(kind, here),
                "sources": {
                    name: counted([not one.right for one in here if one.source == name])
                    for name in sorted({one.source for one in here})
                },
            }
        told[RIVALS] = counted([not one.right for one in samples if one.kind == RIVALS]) | {"doubt": self.rival}
        return told

    def _bins(self, kind: str, samples: Sequence[Sample]) -> list[dict[str, Any]]:
        placed: list[list[bool]] = [[] for _ in self.bins[kind]]
        for sample in samples:
            assert sample.features is not None
            placed[place_of(sample.features, self.weights[kind], self.bins[kind])].append(not sample.right)
        return [
            {"to_score": score, "doubt": chance, **counted(wrong)}
            for (score, chance), wrong in zip(self.bins[kind], placed, strict=True)
        ]

    def module(self) -> str:
        """The table as Python."""
        weights = "".join(f'    "{kind}": ({_listed(values)}),\n' for kind, values in self.weights.items())
        bins = "".join(
            f'    "{kind}": (\n{"".join(f"        ({score}, {chance}),{chr(10)}" for score, chance in rows)}    ),\n'
            for kind, rows in self.bins.items()
        )
        return _MODULE.format(weights=weights, bins=bins, rival=self.rival)


def _listed(values: Sequence[float]) -> str:
    rows = [", ".join(map(str, values[start : start + 9])) for start in range(0, len(values), 9)]
    return "\n        *(" + "),\n        *(".join(rows) + "),\n    "


def _chance(samples: Sequence[Sample]) -> float:
    return round(expected(sum(not one.right for one in samples), len(samples)), 5)


_MODULE = '''"""Fitted by `python -m benchmarks.equivalence`; not written by hand."""

from __future__ import annotations

from collections.abc import Mapping

WEIGHTS: Mapping[str, tuple[float, ...]] = {{
{weights}}}
"""Of the inputs that `llmos.trace.equivalence.INPUTS` names, in its order."""

BINS: Mapping[str, tuple[tuple[float, float], ...]] = {{
{bins}}}
"""Highest score of a bin, and the doubt of the readings in it; the last one takes all above."""

RIVAL: float = {rival}
"""The doubt of an open reading where another program has the same telling words."""
'''


if __name__ == "__main__":
    main()
