"""The doubt of a reading that is not proven: the chance that it is wrong, from its features.

Readings are of four kinds. A logistic score ranks those of a kind; the doubt is what was wrong among readings of about
the same score on open streams. `benchmarks/equivalence.py` fits weights and doubts.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from enum import StrEnum

from llmos.trace.equivalence_table import BINS, RIVAL, WEIGHTS
from llmos.trace.likeness import Features
from llmos.trace.phrases import Oddity

__all__ = ["INPUTS", "RIVAL", "SIGNS", "ReadingKind", "doubt", "kind_of", "open_doubt", "place_of", "vector_of"]

INPUTS = (
    *("1", "licensed", "come", "kin", "1/(1+held)", "ln(wordings)", "slots", "opens", "length/(1+held)"),
    *("cosine", "lead", "gap/5", "others", "guesses"),
)
"""What the weights are of, in this order; `guesses` counts what nothing speaks for."""
SIGNS = (0, 1, 1, 1, 1, -1, 0, 1, 1, -1, -1, -1, 1, 1)
"""Whether more of an input may only make a reading more doubtful (1), only less (-1), or either (0)."""
_MOST_LENGTH = 20
LEAST_HELD = 2
"""One telling word says too little of what is wanted to be read in other words around it."""


class ReadingKind(StrEnum):
    """What a reading rests on.

    OPEN: proven but for a phrase that only its shape speaks for. REWORDED: other wordings show its words, and every
    value is known. STRETCHED: its words are known, and a value is unlike all others. ODD: the same, but what is unlike
    is seldom so in one value and another (a longer list, a `not`, another kind of file). GUESSED: words that nothing
    speaks for, fewer than the known wording has, or hardly one that it shares.
    """

    OPEN = "open"
    REWORDED = "reworded"
    STRETCHED = "stretched"
    ODD = "odd"
    GUESSED = "guessed"

    @property
    def may_go_unasked(self) -> bool:
        """Whether it may be followed at all without asking: what people put in the place of a value, no data shows."""
        return self in (ReadingKind.OPEN, ReadingKind.REWORDED)


_MILD = (Oddity.CRITICAL, Oddity.SMALL, Oddity.NUMBER, Oddity.CASE)
"""What most values have that are unlike all before."""


def kind_of(features: Features) -> ReadingKind:
    """Which kind of reading, other than an open one, has these features."""
    if features.guessed or features.gone or features.turned or features.foreign:
        return ReadingKind.GUESSED
    if not features.opens and features.held < LEAST_HELD:
        return ReadingKind.GUESSED
    if _odd(features):
        return ReadingKind.ODD
    return ReadingKind.STRETCHED if features.opens else ReadingKind.REWORDED


def _odd(features: Features) -> int:
    """How much in the values, or beside one that is new, is as no value was."""
    return sum(one not in _MILD for one in features.odd) + bool(features.opens and features.come)


def _guesses(features: Features) -> int:
    """How much of a reading nothing speaks for."""
    return features.guessed + features.gone + features.turned + features.foreign + _odd(features)


def vector_of(features: Features) -> tuple[float, ...]:
    """The inputs of the score, as `INPUTS` names them."""
    return (
        1.0,
        features.licensed,
        float(features.come),
        float(features.kin),
        1 / (1 + features.held),
        math.log(features.wordings),
        float(features.slots),
        float(features.opens),
        min(features.length, _MOST_LENGTH) / (1 + features.held),
        features.cosine,
        features.lead,
        features.gap / 5,
        float(bool(features.opens and features.others)),
        float(_guesses(features)),
    )


def place_of(features: Features, weights: Sequence[float], bins: Sequence[tuple[float, float]]) -> int:
    """The number of the bin a reading falls into; scores above the last bin's belong to that."""
    score = sum(weight * value for weight, value in zip(weights, vector_of(features), strict=True))
    return min(bisect_left([highest for highest, _ in bins], round(score, 4)), len(bins) - 1)


def open_doubt(features: Features) -> float:
    """The chance that a proven reading with a free phrase is wrong; a third of it for each value more that was seen.

    Where the tools would take other texts as well, a phrase may be one of these, as it may be another program's.
    """
    first = RIVAL if features.others else doubt(features, ReadingKind.OPEN)
    return first / float(3 ** max(0, features.seen - 1))


def doubt(features: Features, kind: ReadingKind | None = None) -> float:
    """The chance that a reading with these features is wrong; without a kind, it is what they make it."""
    kind = kind or kind_of(features)
    return BINS[kind][place_of(features, WEIGHTS[kind], BINS[kind])][1]
