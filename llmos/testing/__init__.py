"""Doubles for tests: a scripted model server, a hash embedder and a frozen clock.

The server answers real clients over loopback HTTP, so a learner is tested without patching and without a key:

    with ScriptedServer([call("write", path="a.txt", content="hi"), say("done")]) as server:
        result = await learn("write hi to a.txt", env=server.env(tmp_path))
    assert server.unused == 0 and not server.overrun

Both `POST /v1/messages` (Anthropic) and `POST /v1/chat/completions` (OpenAI-compatible) draw from the same script.
"""

from llmos.testing.clock import FrozenClock
from llmos.testing.embedder import HashEmbedder
from llmos.testing.request import Request, ToolResult, is_side_request
from llmos.testing.server import Script, ScriptedServer
from llmos.testing.turns import (
    Reply,
    ToolCall,
    Turn,
    Usage,
    call,
    calls,
    cut,
    error,
    garbage,
    say,
    slow,
    tampered,
    usage,
)

__all__ = [
    "FrozenClock",
    "HashEmbedder",
    "Reply",
    "Request",
    "Script",
    "ScriptedServer",
    "ToolCall",
    "ToolResult",
    "Turn",
    "Usage",
    "call",
    "calls",
    "cut",
    "error",
    "garbage",
    "is_side_request",
    "say",
    "slow",
    "tampered",
    "usage",
]
