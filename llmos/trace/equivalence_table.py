"""Fitted by `python -m benchmarks.equivalence`; not written by hand."""

from __future__ import annotations

WEIGHTS: tuple[float, ...] = (-2.0208, 0.3421, 1.6244, 0.349, -0.5687, -0.6212)
"""Of the inputs that `llmos.trace.equivalence.vector_of` names, in its order."""

BINS: tuple[tuple[float, float], ...] = (
    (-3.2021, 0.0082),
    (-1.7798, 0.02459),
    (-0.7952, 0.28689),
    (-0.1343, 0.51639),
    (0.5059, 0.51639),
    (1.831, 0.71333),
)
"""Highest score of a bin, and the doubt of the readings in it; the last one takes all above."""

STRANGE: float = 0.44721
"""The doubt of a reading with a value unlike the known ones."""
