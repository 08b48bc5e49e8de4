"""Fitted by `python -m benchmarks.equivalence`; not written by hand."""

from __future__ import annotations

from collections.abc import Mapping

WEIGHTS: Mapping[str, tuple[float, ...]] = {
    "reworded": (0.0,) * 17,
    "stretched": (0.0,) * 17,
    "guessed": (0.0,) * 17,
}
"""Of the inputs that `llmos.trace.equivalence.INPUTS` names, in its order."""

BINS: Mapping[str, tuple[tuple[float, float], ...]] = {
    "reworded": ((0.0, 0.5),),
    "stretched": ((0.0, 0.5),),
    "guessed": ((0.0, 0.5),),
}
"""Highest score of a bin, and the doubt of the readings in it; the last one takes all above."""

OPEN: float = 0.009
"""The doubt of a proven reading with a phrase that only its shape speaks for, the second one of its slot."""

RIVAL: float = 0.3
"""The doubt of such a reading where another program has the same telling words."""
