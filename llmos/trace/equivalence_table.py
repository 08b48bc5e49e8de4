"""Fitted by `python -m benchmarks.equivalence`; not written by hand."""

from __future__ import annotations

WEIGHTS: tuple[float, ...] = (-0.222, 0.3074, 0.3113, -0.5821, -0.6176)
"""Of the inputs that `llmos.trace.equivalence.vector_of` names, in its order."""

BINS: tuple[tuple[float, float], ...] = (
    (-1.5233, 0.02459),
    (-0.5323, 0.33607),
    (0.0817, 0.54918),
    (0.6638, 0.54918),
    (1.7778, 0.75),
)
"""Highest score of a bin, and the doubt of the readings in it; the last one takes all above."""

UNCHANGED: float = 0.00714
"""The doubt of a reading in which only words differ that may come and go."""

STRANGE: tuple[float, ...] = (0.5625, 0.84737, 0.6194, 0.27419, 0.13542)
"""The doubt of a reading with a value unlike the known ones, by the telling words that stand."""
