"""Fitted by `python -m benchmarks.equivalence`; not written by hand."""

from __future__ import annotations

from collections.abc import Mapping

WEIGHTS: Mapping[str, tuple[float, ...]] = {
    "reworded": (
        *(-6.056, -0.2847, 0.8808, -0.2511, 0.112, -0.1102, 0.999, 0.0, 0.0),
        *(-0.0973, 0.0377, 0.1358, 0.0, 0.0, 0.0, 0.0, 0.0),
    ),
    "stretched": (
        *(-21.8806, 0.0, 0.0, 0.0, -0.0, -0.0, -0.0, -0.0, -0.0),
        *(-0.0, -0.0, -0.0, -0.0, -0.0, -0.0, 0.0, 0.0),
    ),
    "guessed": (
        *(3.7994, -0.2378, -0.4152, -1.0777, -2.8388, -0.9984, -0.1825, -1.3649, 0.079),
        *(-1.5718, 1.7513, -0.3413, 0.0327, 0.2398, -1.0835, 0.0, 0.3968),
    ),
}
"""Of the inputs that `llmos.trace.equivalence.INPUTS` names, in its order."""

BINS: Mapping[str, tuple[tuple[float, float], ...]] = {
    "reworded": ((-3.7901, 0.0062),),
    "stretched": ((-21.7737, 0.0125),),
    "guessed": (
        (0.089, 0.3895),
        (0.4668, 0.5),
        (0.8144, 0.58197),
        (1.4778, 0.6157),
        (2.0498, 0.68033),
        (2.6405, 0.92975),
        (2.8455, 0.9876),
        (4.2195, 0.99884),
    ),
}
"""Highest score of a bin, and the doubt of the readings in it; the last one takes all above."""

OPEN: float = 0.00749
"""The doubt of a proven reading with a phrase that only its shape speaks for, the second one of its slot."""

RIVAL: float = 0.0625
"""The doubt of such a reading where another program has the same telling words."""
