"""What traces that may be one program are looked up by, and how many wordings one may have."""

from __future__ import annotations

import hashlib

from llmos.trace.program import Trace

MAX_WORDINGS = 50
"""How many goal templates a trace may come to have; a file may bring more."""


def shape(trace: Trace) -> str:
    """A hash of the tools that change something, in the order of their first call, and of the last one called.

    So a loop has the shape of its iterations, and a read that only one of two recordings needed makes no difference.
    """
    calls = trace.calls
    tools = dict.fromkeys(step.tool for step in calls if step.effect.changes_world or step is calls[-1])
    return hashlib.sha256("\n".join(tools).encode("utf-8", "surrogatepass")).hexdigest()
