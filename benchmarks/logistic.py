"""Logistic regression and calibration in bins, small enough to read: what `benchmarks.equivalence` fits with."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MIN_BIN = 50
"""Fifty without an error are what it takes to hold the next one wrong with less than 1 %."""
_RIDGE = 1.0
_FOLDS = 10


def weights_of(
    inputs: Sequence[Sequence[float]], wrong: Sequence[bool], signs: Sequence[int] | None = None
) -> tuple[float, ...]:
    """Weights by Newton's method with a ridge penalty (not on the first input, which is 1), four digits.

    `signs` says which weights may not be negative (1) or positive (-1): one that would be is 0, and the others are
    fitted again.
    """
    import numpy as np

    if not inputs:
        raise ValueError("there are no readings to fit")
    table, labels = np.array(inputs), np.array(wrong, dtype=float)
    free = list(range(table.shape[1]))
    while True:
        fitted = dict(zip(free, _logistic(table[:, free], labels), strict=True))
        against = [place for place in free if signs is not None and signs[place] * fitted[place] < 0]
        if not against:
            return tuple(round(float(fitted.get(place, 0.0)), 4) for place in range(table.shape[1]))
        free = [place for place in free if place not in against]


def _logistic(inputs: NDArray[np.float64], wrong: NDArray[np.float64]) -> NDArray[np.float64]:
    import numpy as np

    weights = np.zeros(inputs.shape[1])
    penalty = np.full(inputs.shape[1], _RIDGE)
    penalty[0] = 0.0
    for _ in range(100):
        chance = 1 / (1 + np.exp(-np.clip(inputs @ weights, -30, 30)))
        slope = inputs.T @ (chance - wrong) + penalty * weights
        curve = (inputs * (chance * (1 - chance))[:, None]).T @ inputs + np.diag(penalty + 1e-6)
        step = np.linalg.solve(curve, slope)
        weights -= step
        if float(np.abs(step).max()) < 1e-8:
            break
    return weights


def cross_scored(
    inputs: Sequence[Sequence[float]], wrong: Sequence[bool], signs: Sequence[int] | None = None
) -> list[float]:
    """The score of each reading by weights that were fitted without it (ten folds, seeded)."""
    import numpy as np

    order = list(range(len(inputs)))
    random.Random(0).shuffle(order)
    scores = [0.0] * len(inputs)
    for fold in range(_FOLDS):
        held = set(order[fold::_FOLDS])
        rest = [place for place in order if place not in held]
        weights = np.array(weights_of([inputs[i] for i in rest], [wrong[i] for i in rest], signs))
        for place in held:
            scores[place] = float(np.array(inputs[place]) @ weights)
    return scores


def binned(scores: Sequence[float], wrong: Sequence[bool]) -> list[tuple[float, float]]:
    """(upper score, chance of the next one to be wrong) of bins of `MIN_BIN` readings or more, both rising.

    Neighbours whose chances fall are pooled. Source: Ayer et al. 1955 (pool adjacent violators).
    """
    order = sorted(range(len(scores)), key=lambda place: scores[place])
    bins: list[tuple[float, int, int]] = []
    for start in range(0, len(order), MIN_BIN):
        here = order[start : start + MIN_BIN]
        if len(here) < MIN_BIN // 2 and bins:
            _, missed, total = bins.pop()
            bins.append((scores[here[-1]], missed + sum(wrong[i] for i in here), total + len(here)))
        else:
            bins.append((scores[here[-1]], sum(wrong[i] for i in here), len(here)))
    pooled: list[tuple[float, int, int]] = []
    for one in bins:
        pooled.append(one)
        while len(pooled) > 1 and expected(*pooled[-2][1:]) >= expected(*pooled[-1][1:]):
            last, before = pooled.pop(), pooled.pop()
            pooled.append((last[0], before[1] + last[1], before[2] + last[2]))
    return [(round(score, 4), round(expected(missed, total), 5)) for score, missed, total in pooled]


def expected(wrong: int, total: int) -> float:
    """The chance that the next one is wrong (the mean of the posterior with Jeffreys' prior)."""
    return (wrong + 0.5) / (total + 1)


def counted(wrong: Sequence[bool]) -> dict[str, Any]:
    """How many there are, how many of them wrong, and the upper end of the 95 % interval of that share."""
    missed = sum(wrong)
    return {"readings": len(wrong), "wrong": missed, "upper95": round(upper_bound(missed, max(1, len(wrong))), 5)}


def upper_bound(wrong: int, total: int, confidence: float = 0.95) -> float:
    """The share of wrong ones that is exceeded with a chance of 1 - confidence at most (Clopper and Pearson, 1934)."""
    from math import comb

    low, high = wrong / total, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        fewer = sum(comb(total, k) * middle**k * (1 - middle) ** (total - k) for k in range(wrong + 1))
        low, high = (middle, high) if fewer > 1 - confidence else (low, middle)
    return high
