"""Fitted by `python -m benchmarks.equivalence`; not written by hand."""

from __future__ import annotations

from collections.abc import Mapping

WEIGHTS: Mapping[str, tuple[float, ...]] = {
    "open": (0.0,) * 17,
    "reworded": (
        *(-5.9663, -0.2641, 0.9062, -0.2396, 0.1264, -0.1032, 0.8481, 0.0, 0.0),
        *(-0.0983, 0.0296, 0.1362, 0.0, 0.0, 0.0, 0.0, 0.0),
    ),
    "stretched": (
        *(-3.2647, 0.0, 0.0, 0.0, 0.0331, 0.8266, -0.3934, -0.2246, -0.2281),
        *(-0.0123, -0.0728, 0.012, -0.0787, 0.3172, -0.1203, -0.2341, 0.0),
    ),
    "guessed": (
        *(3.7862, -0.2132, -0.3882, -0.7975, -2.0946, -0.8903, -0.1786, -1.297, 0.3197),
        *(-1.6838, 2.0738, -0.5197, -0.2225, -0.1717, -0.2595, 0.6632, 0.3037),
    ),
}
"""Of the inputs that `llmos.trace.equivalence.INPUTS` names, in its order."""

BINS: Mapping[str, tuple[tuple[float, float], ...]] = {
    "open": ((0.0, 0.009),),
    "reworded": (
        (-5.2705, 0.00829),
        (-2.0124, 0.00893),
    ),
    "stretched": ((-2.8865, 0.02632),),
    "guessed": (
        (0.2748, 0.44475),
        (0.8848, 0.50826),
        (1.631, 0.64876),
        (2.0505, 0.71311),
        (2.3641, 0.89344),
        (2.5568, 0.94262),
        (2.7862, 0.97934),
        (3.9848, 0.99881),
    ),
}
"""Highest score of a bin, and the doubt of the readings in it; the last one takes all above."""

RIVAL: float = 0.34375
"""The doubt of such a reading where another program has the same telling words."""
