"""Fitted by `python -m benchmarks.equivalence`; not written by hand."""

from __future__ import annotations

from collections.abc import Mapping

WEIGHTS: Mapping[str, tuple[float, ...]] = {
    "reworded": (
        *(-5.5748, 0.3823, -0.0118, -0.2032, -0.0985, -0.4331, 0.9048, 0.0, 0.0),
        *(0.082, 0.0757, 0.1768, 0.0, 0.0, 0.0, 0.0),
    ),
    "stretched": (
        *(-21.745, 0.0, 0.0, 0.0, -0.0, -0.0, -0.0, -0.0, -0.0),
        *(-0.0, -0.0, -0.0, -0.0, -0.0, -0.0, 0.0),
    ),
    "guessed": (
        *(1.6289, -0.4993, -0.4806, -1.0223, -0.8687, -0.6472, -0.4211, -0.6285, 0.7959),
        *(0.2646, -2.3981, -0.4776, -0.8695, -1.0536, -1.0619, 0.3768),
    ),
}
"""Of the inputs that `llmos.trace.equivalence.INPUTS` names, in its order."""

BINS: Mapping[str, tuple[tuple[float, float], ...]] = {
    "reworded": (
        (-5.1238, 0.00829),
        (-3.255, 0.01282),
    ),
    "stretched": ((-21.6214, 0.01429),),
    "guessed": (
        (-0.456, 0.2377),
        (0.1269, 0.40164),
        (0.644, 0.58197),
        (1.5971, 0.79752),
        (2.6663, 0.87778),
    ),
}
"""Highest score of a bin, and the doubt of the readings in it; the last one takes all above."""

OPEN: float = 0.00767
"""The doubt of a proven reading with a phrase that only its shape speaks for, the second one of its slot."""

RIVAL: float = 0.0625
"""The doubt of such a reading where another program has the same telling words."""
