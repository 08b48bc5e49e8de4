"""An MCP server for tests whose tools have the schemas of a JSON file: run as `python mcp_schema_server.py FILE`.

It speaks the protocol by hand, since no server library would send such schemas. A call gives back its arguments.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

SCHEMAS: list[Any] = json.loads(Path(sys.argv[1]).read_text())


def answer(message: dict[str, Any]) -> dict[str, Any]:
    parameters = message.get("params") or {}
    match message["method"]:
        case "initialize":
            info = {"name": "schemas", "version": "1"}
            return {"protocolVersion": parameters["protocolVersion"], "capabilities": {"tools": {}}, "serverInfo": info}
        case "tools/list":
            hints = {"readOnlyHint": True, "openWorldHint": False}
            named = enumerate(SCHEMAS)
            return {"tools": [{"name": f"t{n}", "inputSchema": one, "annotations": hints} for n, one in named]}
    return {"content": [{"type": "text", "text": json.dumps(parameters.get("arguments"))}]}


if __name__ == "__main__":
    for line in sys.stdin:
        request = json.loads(line)
        if "id" in request and "method" in request:
            sys.stdout.write(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": answer(request)}) + "\n")
            sys.stdout.flush()
