"""Line search with nothing but the standard library: called in a thread, or run as a process that can be killed."""

from __future__ import annotations

import json
import re
import sys
from typing import Any

MAX_LINE_CHARS = 20_000


def search(request: dict[str, Any]) -> dict[str, Any]:
    """Every file's number of matching lines, and the lines; binary and unreadable files are passed over."""
    try:
        regex = re.compile(request["pattern"], re.IGNORECASE if request["ignore_case"] else 0)
    except (re.error, OverflowError, RecursionError) as error:
        return {"error": str(error)}
    files: list[tuple[str, int]] = []
    matches: list[tuple[str, int, str]] = []
    for path in request["paths"]:
        count = 0
        for number, line in _lines(path):
            if regex.search(line[:MAX_LINE_CHARS]):
                count += 1
                if request["lines"]:
                    matches.append((path, number, line[:1000]))
        if count:
            files.append((path, count))
        if len(matches) > request["limit"]:
            break
    return {"files": files, "matches": matches, "truncated": len(matches) > request["limit"]}


def _lines(path: str) -> Any:
    try:
        with open(path, "rb") as stream:  # noqa: PTH123 - pathlib would double the start of the process
            if b"\0" in stream.read(8192):
                return
            stream.seek(0)
            for number, line in enumerate(stream, 1):
                yield number, line.decode("utf-8", errors="replace").rstrip("\r\n")
    except OSError:
        return


if __name__ == "__main__":
    sys.stdout.write(json.dumps(search(json.loads(sys.stdin.read()))))
