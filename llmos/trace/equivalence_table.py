"""Fitted by `python -m benchmarks.equivalence`; not written by hand."""

from __future__ import annotations

from collections.abc import Mapping

WEIGHTS: Mapping[str, tuple[float, ...]] = {
    "reworded": (
        *(-7.4918, 1.32, 1.4876, -0.2189, 0.0353, 0.798, -0.9845, 0.0, 0.0),
        *(0.0222, -0.2968, 0.6566, 0.0, 0.0, 0.0, 0.0, 0.0),
    ),
    "stretched": (
        *(-4.5148, 0.0, 0.0, 0.0, 0.1321, -0.0491, 0.3526, -0.1744, 0.1209),
        *(-0.0584, -0.0306, 0.0238, -0.1486, 0.1819, -0.1054, -0.1045, 0.0),
    ),
    "guessed": (
        *(1.9559, 0.0325, -0.8721, -1.4131, -0.8035, -0.6581, -0.474, -1.0515, 1.1556),
        *(0.0512, -2.3209, -0.5201, -0.8196, -0.3622, -0.8096, 0.3762, 0.3007),
    ),
}
"""Of the inputs that `llmos.trace.equivalence.INPUTS` names, in its order."""

BINS: Mapping[str, tuple[tuple[float, float], ...]] = {
    "reworded": (
        (-4.2832, 0.00207),
        (-1.3219, 0.075),
    ),
    "stretched": ((-3.1524, 0.02632),),
    "guessed": (
        (-0.7146, 0.22131),
        (0.3432, 0.41736),
        (0.6574, 0.64754),
        (1.3834, 0.7562),
        (2.5923, 0.87931),
    ),
}
"""Highest score of a bin, and the doubt of the readings in it; the last one takes all above."""

OPEN: float = 0.00317
"""The doubt of a proven reading with a phrase that only its shape speaks for, the second one of its slot."""

RIVAL: float = 0.05556
"""The doubt of such a reading where another program has the same telling words."""
