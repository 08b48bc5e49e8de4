"""The doubt of a reading that is not proven: the chance that it is wrong, from its features.

Readings that differ in nothing but words that may come and go are one class, those with values unlike the known ones
are told apart by the words that stand, and a logistic score ranks those that need rewrites. What was wrong among
readings of the same class on open streams is the doubt. `benchmarks/equivalence.py` fits all three.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence

from llmos.trace.equivalence_table import BINS, STRANGE, UNCHANGED, WEIGHTS
from llmos.trace.likeness import Features


def vector_of(features: Features) -> tuple[float, ...]:
    """The inputs of the score: 1, rewrites, 1 / (1 + held), slots, ln(wordings)."""
    return (
        1.0,
        features.rewrites,
        1 / (1 + features.held),
        float(features.slots),
        math.log(features.wordings),
    )


def place_of(features: Features, weights: Sequence[float], bins: Sequence[tuple[float, float]]) -> int:
    """The number of the bin a reading falls into; scores above the last bin's belong to that."""
    score = sum(weight * value for weight, value in zip(weights, vector_of(features), strict=True))
    return min(bisect_left([highest for highest, _ in bins], round(score, 4)), len(bins) - 1)


def doubt(features: Features) -> float:
    """The chance that a reading with these features is wrong."""
    if features.strange:
        return STRANGE[min(features.held, len(STRANGE) - 1)]
    return BINS[place_of(features, WEIGHTS, BINS)][1] if features.rewrites else UNCHANGED
