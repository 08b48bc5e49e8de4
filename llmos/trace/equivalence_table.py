"""Fitted by `python -m benchmarks.equivalence`; not written by hand."""

from __future__ import annotations

from collections.abc import Mapping

WEIGHTS: Mapping[str, tuple[float, ...]] = {
    "reworded": (
        *(-5.5748, 0.3823, -0.0118, -0.2032, -0.0985, -0.4331, 0.9048, 0.0, 0.0),
        *(0.082, 0.0757, 0.1768, 0.0, 0.0, 0.0, 0.0, 0.0),
    ),
    "stretched": (
        *(-4.0077, 0.0, 0.0, 0.0, -0.0207, -0.1568, 0.2117, -0.1563, 1.0113),
        *(-0.0618, -0.0908, 0.0538, -0.0754, -0.4789, -0.1043, 0.5545, 0.0),
    ),
    "guessed": (
        *(1.2053, -0.5621, -0.5918, -0.984, -0.596, -0.5387, -0.3998, -0.1222, 0.7722),
        *(0.4741, -2.5327, -0.5043, 0.0, -0.7083, -1.1385, 0.4038, 0.3544),
    ),
}
"""Of the inputs that `llmos.trace.equivalence.INPUTS` names, in its order."""

BINS: Mapping[str, tuple[tuple[float, float], ...]] = {
    "reworded": (
        (-5.1238, 0.00829),
        (-3.255, 0.01282),
    ),
    "stretched": ((-2.4386, 0.05357),),
    "guessed": (
        (-0.2199, 0.2541),
        (0.2476, 0.56557),
        (0.7784, 0.63115),
        (1.1919, 0.71311),
        (2.2746, 0.82143),
    ),
}
"""Highest score of a bin, and the doubt of the readings in it; the last one takes all above."""

OPEN: float = 0.00183
"""The doubt of a proven reading with a phrase that only its shape speaks for, the second one of its slot."""

RIVAL: float = 0.07143
"""The doubt of such a reading where another program has the same telling words."""
