"""Fitted by `python -m benchmarks.equivalence`; not written by hand."""

from __future__ import annotations

from collections.abc import Mapping

WEIGHTS: Mapping[str, tuple[float, ...]] = {
    "open": (
        *(-6.176, 0.0, 0.0, 0.0, 0.2081, 0.0, 0.2978, 0.0, 0.7041),
        *(0.0, 0.0, 0.0, 0.0),
    ),
    "reworded": (
        *(-5.9783, 0.0, 0.9181, 0.0, 0.1268, -0.1014, 0.8489, 0.0, 0.0),
        *(-0.0949, 0.0, 0.0, 0.0),
    ),
    "guessed": (
        *(2.8436, 0.0, 0.0, 0.0, 0.0, -1.1469, -0.4915, 0.0, 0.0),
        *(-0.1597, 0.0, -0.2792, 0.0),
    ),
}
"""Of the inputs that `llmos.trace.equivalence.INPUTS` names, in its order."""

BINS: Mapping[str, tuple[tuple[float, float], ...]] = {
    "open": (
        (-4.3623, 0.00498),
        (-1.7856, 0.06579),
    ),
    "reworded": (
        (-5.2189, 0.00746),
        (-2.273, 0.01613),
    ),
    "guessed": (
        (0.1566, 0.40066),
        (0.6977, 0.5099),
        (0.9891, 0.61765),
        (1.1565, 0.67647),
        (1.8404, 0.79084),
        (2.0336, 0.88206),
        (2.3883, 0.89216),
        (2.434, 0.9702),
        (2.8201, 0.99231),
    ),
}
"""Highest score of a bin, and the doubt of the readings in it; the last one takes all above."""

RIVAL: float = 0.3
"""The doubt of an open reading where another program has the same telling words."""
