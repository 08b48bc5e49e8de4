"""`python -m benchmarks.equivalence`: fit the doubt of readings that are not proven, on streams of goals.

Every reading that the gate offers for a goal it has no proof for is labelled by what a replay would call. A logistic
regression over the reading's features ranks them; the doubt of a rank is the chance that the next reading of that rank
is wrong, by what was wrong there (Jeffreys' prior), made monotone. The result is the table in
`llmos/trace/equivalence_table.py`; the calibration also tells the upper end of the 95 % interval.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.encoder import RememberingEmbedder
from benchmarks.goals import Goal, load
from benchmarks.product import Product, booted
from benchmarks.scoring import verdict
from benchmarks.streams import in_order
from llmos.memory.embeddings import DEFAULT_MODEL, SentenceTransformerEmbedder
from llmos.trace.decide import Choice, Considered
from llmos.trace.equivalence import place_of, vector_of
from llmos.trace.likeness import Features, likely
from llmos.trace.match import Miss
from llmos.trace.program import Status

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SETS = (
    *("homeassistant", "hwu", "snips", "text2sql", "webarena", "androidworld", "visualwebarena"),
    *("nlupp", "banking77", "clinc150"),
)
TABLE = Path(__file__).parents[1] / "llmos" / "trace" / "equivalence_table.py"
MIN_BIN = 60
"""Sixty without an error are what it takes to hold the next one wrong with less than 1 %."""
MOST_HELD = 4
_RIDGE = 1.0


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A reading that was offered, and whether the replay would have been right."""

    source: str
    features: Features
    right: bool


def main(arguments: Sequence[str] | None = None) -> None:
    """Collect the samples, fit, and write table and report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.equivalence", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(__file__).with_name("data"), help="a folder of goals")
    parser.add_argument("--limit", type=int, default=2500, help="at most so many goals of a set")
    parser.add_argument("--sets", default=",".join(SETS), help="only these, with commas between")
    parser.add_argument("--samples", type=Path, help="where to write the samples, without fitting them")
    parser.add_argument("--fit", type=Path, nargs="+", help="fit samples that were written, instead of collecting")
    parser.add_argument("--json", type=Path, help="where to write the calibration")
    options = parser.parse_args(arguments)
    samples = _read(options.fit) if options.fit else _collected_all(options)
    if options.samples:
        options.samples.write_text(json.dumps([asdict(sample) for sample in samples]), encoding="utf-8")
        return
    unchanged, rewritten, strange = classes(samples)
    weights, bins = fitted(rewritten)
    chances = [_chance(unchanged), *(_chance(some) for some in strange)]
    TABLE.write_text(_module(weights, bins, chances), encoding="utf-8")
    if options.json:
        told = calibration(rewritten, weights, bins)
        told["unchanged"] = _counted(unchanged) | {"doubt": chances[0]}
        told["strange"] = [
            _counted(some) | {"held": held, "doubt": chance}
            for held, (some, chance) in enumerate(zip(strange, chances[1:], strict=True))
        ]
        options.json.write_text(json.dumps(told, indent=1), encoding="utf-8")


def classes(samples: Sequence[Sample]) -> tuple[list[Sample], list[Sample], list[list[Sample]]]:
    """Readings without a rewrite, those with some, and those with strange values by the words that stand."""
    strange = [[s for s in samples if s.features.strange and min(s.features.held, MOST_HELD) == n] for n in range(5)]
    worded = [sample for sample in samples if not sample.features.strange]
    unchanged = [sample for sample in worded if not sample.features.rewrites]
    return unchanged, [sample for sample in worded if sample.features.rewrites], strange


def _chance(samples: Sequence[Sample]) -> float:
    return round(expected(sum(not one.right for one in samples), len(samples)), 5)


def _collected_all(options: argparse.Namespace) -> list[Sample]:
    streams = load(options.data).streams
    embedder = RememberingEmbedder(inner=SentenceTransformerEmbedder(DEFAULT_MODEL))
    samples: list[Sample] = []
    for name in options.sets.split(","):
        samples += asyncio.run(_collected(name, in_order(streams[name], 0, options.limit), embedder))
    return samples


def _read(files: Sequence[Path]) -> list[Sample]:
    lines = [line for file in files for line in json.loads(file.read_text(encoding="utf-8"))]
    return [Sample(source=one["source"], features=Features(**one["features"]), right=one["right"]) for one in lines]


def calibration(
    samples: Sequence[Sample], weights: Sequence[float], bins: Sequence[tuple[float, float]]
) -> dict[str, Any]:
    """How many readings of each bin there were, how many were wrong, and the doubt they get; the same by source."""
    placed: list[list[Sample]] = [[] for _ in bins]
    for sample in samples:
        placed[place_of(sample.features, weights, bins)].append(sample)
    told = [
        {"to_score": score, "doubt": chance, **_counted(here)}
        for (score, chance), here in zip(bins, placed, strict=True)
    ]
    names = sorted({sample.source for sample in samples})
    sources = {name: _counted([one for one in samples if one.source == name]) for name in names}
    return {"weights": list(weights), "bins": told, "sources": sources}


def _counted(samples: Sequence[Sample]) -> dict[str, Any]:
    wrong = sum(not sample.right for sample in samples)
    return {"readings": len(samples), "wrong": wrong, "upper95": round(upper_bound(wrong, max(1, len(samples))), 5)}


async def _collected(name: str, goals: Sequence[Goal], embedder: RememberingEmbedder) -> list[Sample]:
    """The readings offered along a stream in which only proven traces are followed and the rest is learned."""
    found: list[Sample] = []
    async with booted(embedder, vocabulary=True) as product:
        for goal in goals:
            decision = await product.decide(goal.text)
            proven = decision.choice is Choice.FOLLOW and decision.match is not None and not decision.match.wording
            if not proven:
                found += await _offered(name, goal, product, decision.considered)
                await product.learn(goal)
            else:
                product.meet([goal])
    return found


async def _offered(name: str, goal: Goal, product: Product, considered: Sequence[Considered]) -> list[Sample]:
    may_be = [one.trace for one in considered if isinstance(one.outcome, Miss) and one.trace.status is Status.TRUSTED]
    reading = likely(goal.text, may_be, product.llmos.deciding.world)
    if reading is None:
        return []
    made = await product.would_call(reading.found)
    right = isinstance(made, tuple) and verdict(goal, made) == "right"
    return [Sample(source=name, features=reading.features, right=right)]


# --- the model ---------------------------------------------------------------------------------------


def fitted(samples: Sequence[Sample]) -> tuple[list[float], list[tuple[float, float]]]:
    """Weights of the logistic regression, and (upper score, doubt) of each bin, scores rising."""
    import numpy as np

    inputs = np.array([vector_of(sample.features) for sample in samples])
    wrong = np.array([not sample.right for sample in samples], dtype=float)
    weights = _logistic(inputs, wrong)
    scores = inputs @ weights
    order = np.argsort(scores, kind="stable")
    bins: list[tuple[float, float]] = []
    start = 0
    while start < len(order):
        end = min(len(order), start + MIN_BIN)
        while end < len(order) and scores[order[end]] == scores[order[end - 1]]:
            end += 1
        if len(order) - end < MIN_BIN // 2:
            end = len(order)
        here = order[start:end]
        bins.append((float(scores[here[-1]]), expected(int(wrong[here].sum()), len(here))))
        start = end
    return [round(float(weight), 4) for weight in weights], _monotone(bins)


def _logistic(inputs: NDArray[np.float64], wrong: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights by Newton's method with a ridge penalty (not on the first input, which is 1)."""
    import numpy as np

    weights = np.zeros(inputs.shape[1])
    penalty = np.full(inputs.shape[1], _RIDGE)
    penalty[0] = 0.0
    for _ in range(50):
        chance = 1 / (1 + np.exp(-(inputs @ weights)))
        slope = inputs.T @ (chance - wrong) + penalty * weights
        curve = (inputs * (chance * (1 - chance))[:, None]).T @ inputs + np.diag(penalty + 1e-9)
        step = np.linalg.solve(curve, slope)
        weights -= step
        if float(np.abs(step).max()) < 1e-8:
            break
    return weights


def expected(wrong: int, total: int) -> float:
    """The chance that the next one is wrong (the mean of the posterior with Jeffreys' prior)."""
    return (wrong + 0.5) / (total + 1)


def upper_bound(wrong: int, total: int, confidence: float = 0.95) -> float:
    """The share of wrong ones that is exceeded with a chance of 1 - confidence at most (Clopper and Pearson, 1934)."""
    from math import comb

    low, high = wrong / total, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        fewer = sum(comb(total, k) * middle**k * (1 - middle) ** (total - k) for k in range(wrong + 1))
        low, high = (middle, high) if fewer > 1 - confidence else (low, middle)
    return high


def _monotone(bins: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Doubts that never fall as scores rise."""
    made: list[tuple[float, float]] = []
    for score, chance in bins:
        made.append((round(score, 4), round(max(chance, made[-1][1] if made else 0.0), 5)))
    return made


def _module(weights: Sequence[float], bins: Sequence[tuple[float, float]], chances: Sequence[float]) -> str:
    rows = "".join(f"    ({score}, {chance}),\n" for score, chance in bins)
    listed = ", ".join(map(str, weights))
    return (
        '"""Fitted by `python -m benchmarks.equivalence`; not written by hand."""\n\n'
        "from __future__ import annotations\n\n"
        f"WEIGHTS: tuple[float, ...] = ({listed})\n"
        '"""Of the inputs that `llmos.trace.equivalence.vector_of` names, in its order."""\n\n'
        f"BINS: tuple[tuple[float, float], ...] = (\n{rows})\n"
        '"""Highest score of a bin, and the doubt of the readings in it; the last one takes all above."""\n\n'
        f"UNCHANGED: float = {chances[0]}\n"
        '"""The doubt of a reading in which only words differ that may come and go."""\n\n'
        f"STRANGE: tuple[float, ...] = ({', '.join(map(str, chances[1:]))})\n"
        '"""The doubt of a reading with a value unlike the known ones, by the telling words that stand."""\n'
    )


if __name__ == "__main__":
    main()
