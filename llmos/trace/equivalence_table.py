"""Fitted by `python -m benchmarks.equivalence`; not written by hand."""

from __future__ import annotations

from collections.abc import Mapping

WEIGHTS: Mapping[str, tuple[float, ...]] = {
    "reworded": (
        *(-7.1755, 1.2499, 1.4617, -0.2176, 0.037, 0.7933, -0.9452, 0.0, 0.0),
        *(0.0113, -0.3052, 0.6459, 0.0, 0.0, 0.0, 0.0, 0.0),
    ),
    "stretched": (
        *(-2.6338, 0.0, 0.0, 0.0, 0.1309, -0.0927, 0.8889, -0.4544, -0.652),
        *(-0.3763, 0.3087, 0.0629, 1.1553, -1.1512, -0.2788, -0.2367, 0.0),
    ),
    "guessed": (
        *(4.2834, 0.5706, -0.2795, -1.8116, -1.9605, -0.8783, -0.0908, -2.3762, 0.6739),
        *(-1.4563, 1.9635, -0.1742, 0.124, -0.8123, -0.4476, 0.4464, -0.2375),
    ),
}
"""Of the inputs that `llmos.trace.equivalence.INPUTS` names, in its order."""

BINS: Mapping[str, tuple[tuple[float, float], ...]] = {
    "reworded": (
        (-3.897, 0.01381),
        (-0.6261, 0.05682),
    ),
    "stretched": ((0.0261, 0.11842),),
    "guessed": (
        (-0.464, 0.45082),
        (0.4782, 0.53279),
        (1.0358, 0.54918),
        (1.4885, 0.63115),
        (2.1323, 0.69672),
        (2.7705, 0.84426),
        (3.034, 0.97541),
        (4.2352, 0.99907),
    ),
}
"""Highest score of a bin, and the doubt of the readings in it; the last one takes all above."""

OPEN: float = 0.00814
"""The doubt of a proven reading with a phrase that only its shape speaks for, the second one of its slot."""

RIVAL: float = 0.07143
"""The doubt of such a reading where another program has the same telling words."""
