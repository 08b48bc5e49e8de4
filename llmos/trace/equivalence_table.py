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
    "guessed": (
        *(2.8888, 0.0, 0.0, 0.5734, 0.0, -1.1864, -0.5223, 0.0, 0.0),
        *(-0.2787, 0.0, -0.2016, 0.0),
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
    "guessed": (
        (-0.521, 0.37129),
        (-0.114, 0.40196),
        (0.1977, 0.42157),
        (0.5314, 0.46078),
        (0.8058, 0.55882),
        (1.2021, 0.68812),
        (1.8707, 0.80677),
        (2.1602, 0.86545),
        (2.4099, 0.95545),
        (2.7467, 0.98973),
    ),
}
"""Highest score of a bin, and the doubt of the readings in it; the last one takes all above."""

RIVAL: float = 0.3
"""The doubt of an open reading where another program has the same telling words."""
