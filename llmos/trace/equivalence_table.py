"""Fitted by `python -m benchmarks.equivalence`; not written by hand."""

from __future__ import annotations

from collections.abc import Mapping

WEIGHTS: Mapping[str, tuple[float, ...]] = {
    "open": (
        *(-6.176, 0.0, 0.0, 0.0, 0.2081, 0.0, 0.2978, 0.0, 0.7041),
        *(0.0, 0.0, 0.0, 0.0),
    ),
    "reworded": (
        *(-5.4988, 0.0, 0.9011, 0.0, 0.1276, -0.1884, 0.8065, 0.0, 0.0),
        *(-0.1163, 0.0, 0.0, 0.0),
    ),
    "stretched": (
        *(-3.6037, 0.0, 0.0, 0.0, 1.2815, 0.0, 0.7212, 0.0, 0.3649),
        *(-0.6051, -0.9431, 0.0, 0.0),
    ),
    "guessed": (
        *(2.9726, 0.0, 0.0, 0.5716, 0.0, -1.4094, -0.5084, 0.0, 0.0),
        *(-0.2822, 0.0, 0.0, 0.1319),
    ),
}
"""Of the inputs that `llmos.trace.equivalence.INPUTS` names, in its order."""

BINS: Mapping[str, tuple[tuple[float, float], ...]] = {
    "open": (
        (-4.3623, 0.00498),
        (-1.7856, 0.06579),
    ),
    "reworded": (
        (-5.0994, 0.00993),
        (-1.8523, 0.01351),
    ),
    "stretched": (
        (-1.7446, 0.04902),
        (0.5657, 0.33929),
    ),
    "guessed": (
        (-0.5472, 0.36139),
        (-0.053, 0.38235),
        (0.4187, 0.40196),
        (0.8814, 0.46078),
        (1.2615, 0.67647),
        (1.7892, 0.76733),
        (1.9199, 0.83663),
        (2.2821, 0.85644),
        (2.723, 0.9485),
        (2.9205, 0.97682),
        (3.1935, 0.99367),
    ),
}
"""Highest score of a bin, and the doubt of the readings in it; the last one takes all above."""

RIVAL: float = 0.3
"""The doubt of an open reading where another program has the same telling words."""
