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
    "odd": (
        *(1.273, 0.0, 0.7943, 0.0, 0.0, 0.0, -0.3644, 0.0, 0.0),
        *(0.0, -1.4753, -0.5396, 0.3397),
    ),
    "guessed": (
        *(3.2863, 0.0, 0.0, 0.52, 0.0, -1.5342, -0.3697, 0.0, 0.0),
        *(-0.2695, 0.0, 0.0, 0.0348),
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
    "odd": (
        (0.3571, 0.55882),
        (1.743, 0.6125),
    ),
    "guessed": (
        (0.6366, 0.3607),
        (1.1032, 0.44118),
        (1.6756, 0.7549),
        (1.9588, 0.77451),
        (2.2974, 0.81373),
        (2.9483, 0.97132),
        (3.3086, 0.98542),
    ),
}
"""Highest score of a bin, and the doubt of the readings in it; the last one takes all above."""

RIVAL: float = 0.3
"""The doubt of an open reading where another program has the same telling words."""
