"""An MCP server that hangs: with `start` it never answers at all, with `call` it lists a tool that never returns.

It speaks the protocol by hand, so that it starts at once; each call of its tool adds a line to the file that is named.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

_TOOL = {
    "name": "wait",
    "description": "Wait for somebody who never comes.",
    "inputSchema": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
    "annotations": {"readOnlyHint": True, "openWorldHint": False},
}


def main(mode: str, calls: Path) -> None:
    """Answer what this mode answers; of the rest nothing ever comes."""
    if mode == "start":
        time.sleep(3600)
    for line in sys.stdin:
        message = json.loads(line)
        if message.get("method") == "initialize":
            _answer(
                message,
                protocolVersion=message["params"]["protocolVersion"],
                capabilities={"tools": {}},
                serverInfo={"name": "stuck", "version": "1"},
            )
        elif message.get("method") == "tools/list":
            _answer(message, tools=[_TOOL])
        elif message.get("method") == "tools/call":
            with calls.open("a") as stream:
                stream.write(f"{message['params']['arguments']['name']}\n")
        elif "id" in message:
            _send({"id": message["id"], "error": {"code": -32601, "message": "Method not found"}})


def _answer(message: dict[str, Any], **result: Any) -> None:
    _send({"id": message["id"], "result": result})


def _send(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
