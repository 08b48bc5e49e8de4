"""An MCP server for tests, with tools that fail in every way: run as `python mcp_odd_server.py FOLDER`.

It speaks the protocol by hand, so that it starts in milliseconds and is no relative of the client under test.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

FOLDER = Path(sys.argv[1])
CHANGED = (FOLDER / "changed").exists()
TEXTS = {"object": '{"a": [1]}', "array": " [1, 2]", "number": "5", "broken": "{oops", "plain": "hello"}
LONG_NAME = "a tool/with an impossible name that is much too long for anyone to read"


def text(value: str, **more: Any) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": value}], **more}


def structured(value: dict[str, Any]) -> dict[str, Any]:
    return text(json.dumps(value), structuredContent=value)


def mixed() -> dict[str, Any]:
    picture = {"type": "image", "data": "aGk=", "mimeType": "image/png"}
    return {"content": [{"type": "text", "text": "one"}, picture, {"type": "text", "text": "two"}]}


def sleep(seconds: float) -> dict[str, Any]:
    time.sleep(seconds)
    return text("late")


def die() -> dict[str, Any]:
    sys.stderr.write("going down\n")
    os._exit(3)


def where() -> dict[str, Any]:
    return structured({"cwd": str(Path.cwd()), "pid": os.getpid(), "env": dict(os.environ)})


Function = Callable[..., dict[str, Any]]
TOOLS: dict[str, tuple[Function, dict[str, str], dict[str, bool] | None]] = {
    "add": (lambda a, b: structured({"sum": a + b}), {"a": "integer", "b": "integer"}, {"readOnlyHint": True}),
    "text": (lambda kind: text(TEXTS[kind]), {"kind": "string"}, None),
    "mixed": (mixed, {}, None),
    "fail": (lambda message: text(message, isError=True), {"message": "string"}, None),
    "sleep": (sleep, {"seconds": "number"}, None),
    "die": (die, {}, None),
    "where": (where, {}, None),
    LONG_NAME: (lambda: text("cleaned"), {}, None),
}
if CHANGED:
    TOOLS["late_comer"] = (lambda **given: structured(given), {"ctx": "string", "self": "string"}, None)
else:
    TOOLS["early_bird"] = (lambda x: structured({"x": x}), {"x": "integer"}, None)


def listed(name: str) -> dict[str, Any]:
    _, parameters, annotations = TOOLS[name]
    properties = {parameter: {"type": kind} for parameter, kind in parameters.items()}
    schema = {"type": "object", "properties": properties, "required": list(parameters)}
    return {"name": name, "description": f"{name}.", "inputSchema": schema, "annotations": annotations or {}}


def answer(message: dict[str, Any]) -> dict[str, Any] | None:
    """The result of a request; None for a method that is not known."""
    parameters = message.get("params") or {}
    match message["method"]:
        case "initialize":
            return {
                "protocolVersion": parameters["protocolVersion"],
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "odd", "version": "1"},
            }
        case "tools/list":
            names = list(TOOLS)
            first, rest = names[:3], names[3:]
            if parameters.get("cursor") == "more":
                return {"tools": [listed(name) for name in rest]}
            return {"tools": [listed(name) for name in first], "nextCursor": "more"}
        case "tools/call":
            return TOOLS[parameters["name"]][0](**parameters.get("arguments", {}))
    return None


WRITING = threading.Lock()


def handle(message: dict[str, Any]) -> None:
    result = answer(message)
    unknown = {"error": {"code": -32601, "message": "Method not found"}}
    reply = {"jsonrpc": "2.0", "id": message["id"], **({"result": result} if result is not None else unknown)}
    with WRITING:
        sys.stdout.write(json.dumps(reply) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    with (FOLDER / "starts").open("a") as starts:
        starts.write(f"{os.getpid()}\n")
    for line in sys.stdin:
        request = json.loads(line)
        if "id" in request and "method" in request:
            threading.Thread(target=handle, args=(request,), daemon=True).start()
