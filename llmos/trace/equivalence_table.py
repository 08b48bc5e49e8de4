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
        *(-3.3414, 0.0, 0.0, 0.0, 0.0425, 0.7742, -0.3717, -0.2006, -0.2729),
        *(-0.0152, -0.074, 0.0384, -0.0709, 0.2802, -0.1123, -0.1942, 0.0),
    ),
    "guessed": (
        *(3.7273, -0.1885, -0.4386, -0.7954, -1.8748, -0.9396, -0.1688, -1.314, 0.1608),
        *(-1.4812, 1.9908, -0.4995, -0.4416, -0.4197, -0.1792, 1.2652, 0.2318),
    ),
}
"""Of the inputs that `llmos.trace.equivalence.INPUTS` names, in its order."""

BINS: Mapping[str, tuple[tuple[float, float], ...]] = {
    "open": (
        (-5.0849, 0.00746),
        (-4.8217, 0.0098),
        (-4.2152, 0.02941),
        (-1.7763, 0.03947),
    ),
    "reworded": (
        (-5.1574, 0.00746),
        (-2.0795, 0.01613),
    ),
    "stretched": ((-2.5552, 0.02419),),
    "guessed": (
        (0.4448, 0.45522),
        (0.6959, 0.5),
        (0.9696, 0.51961),
        (1.6501, 0.61881),
        (2.0413, 0.7549),
        (2.3352, 0.81373),
        (2.5481, 0.95098),
        (3.9272, 0.99734),
    ),
}
"""Highest score of a bin, and the doubt of the readings in it; the last one takes all above."""

RIVAL: float = 0.3
"""The doubt of an open reading where another program has the same telling words."""
