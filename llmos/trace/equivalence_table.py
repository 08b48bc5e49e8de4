"""Fitted by `python -m benchmarks.equivalence`; not written by hand."""

from __future__ import annotations

from collections.abc import Mapping

WEIGHTS: Mapping[str, tuple[float, ...]] = {
    "open": (
        *(-6.0026, 0.0, 0.0, 0.0, 0.2093, 0.5463, 0.3865, -0.4196, 0.7182),
        *(0.0, 0.0, -0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
    ),
    "reworded": (
        *(-5.9244, -0.2624, 0.9083, -0.2434, 0.1276, -0.1102, 0.8408, 0.0, 0.0),
        *(-0.0983, 0.0312, 0.1371, 0.0, 0.0, 0.0, 0.0, 0.0),
    ),
    "stretched": (
        *(-22.2554, 0.0, 0.0, 0.0, -0.0, -0.0, -0.0, -0.0, -0.0),
        *(-0.0, -0.0, -0.0, -0.0, -0.0, -0.0, -0.0, 0.0),
    ),
    "guessed": (
        *(3.752, -0.196, -0.4426, -0.7984, -1.9178, -0.9331, -0.1751, -1.2946, 0.1467),
        *(-1.501, 1.9923, -0.4934, -0.5177, -0.4569, -0.1509, 1.2912, 0.2284),
    ),
}
"""Of the inputs that `llmos.trace.equivalence.INPUTS` names, in its order."""

BINS: Mapping[str, tuple[tuple[float, float], ...]] = {
    "open": (
        (-5.0819, 0.00746),
        (-4.8181, 0.0098),
        (-4.2152, 0.02941),
        (-1.7778, 0.03947),
    ),
    "reworded": (
        (-5.1574, 0.00746),
        (-2.0795, 0.01613),
    ),
    "stretched": ((-22.1456, 0.00862),),
    "guessed": (
        (0.6879, 0.44821),
        (1.5765, 0.60596),
        (2.2883, 0.78713),
        (2.4889, 0.93137),
        (3.9293, 0.99735),
    ),
}
"""Highest score of a bin, and the doubt of the readings in it; the last one takes all above."""

RIVAL: float = 0.3
"""The doubt of an open reading where another program has the same telling words."""
