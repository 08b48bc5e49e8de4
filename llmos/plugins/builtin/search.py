"""Finding files and text: `glob`, `grep`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmos.errors import ToolError
from llmos.plugins.builtin import grep_worker
from llmos.plugins.builtin.paths import count_text, existing_folder, listing, matching
from llmos.plugins.builtin.processes import run
from llmos.plugins.context import ToolContext
from llmos.plugins.marking import llm_tool
from llmos.plugins.resources import in_thread
from llmos.plugins.tool import FileRead
from llmos.trace.program import Effect

MAX_MATCHES = 2000
GREP_TIMEOUT_S = 30.0


def _globbed(ctx: ToolContext, arguments: Mapping[str, Any]) -> list[FileRead]:
    path = arguments.get("path", ".")
    return [FileRead(path=existing_folder(ctx, path), value=_glob(ctx, arguments["pattern"], path))]


@llm_tool(
    "glob",
    "Find files by a shell pattern such as '**/*.py' or 'data/*.{csv,json}', counted from path (the workspace by "
    "default). Gives sorted relative paths.",
    {"pattern": str, "path": str},
    defaults={"path": "."},
    effect=Effect.READ,
    paths=("path",),
    idempotent=True,
    open_world=False,
    code=("pattern",),
    reads=_globbed,
    outside=False,
    version="1",
)
async def glob(ctx: ToolContext, pattern: str, path: str) -> dict[str, Any]:
    files = await in_thread(_glob, ctx, pattern, path)
    return {"files": files, "count": len(files), "text": listing(files, empty=f"No file matches {pattern}.")}


def _glob(ctx: ToolContext, pattern: str, path: str) -> list[str]:
    if pattern.startswith("/") or ".." in pattern.split("/"):
        raise ToolError(f"the pattern {pattern!r} must be relative and without '..'; give the folder as path.")
    root = existing_folder(ctx, path)
    pattern = pattern.removeprefix("./")
    return [ctx.relative(file) for file in matching(ctx, root, pattern, recursive="/" in pattern)]


GREP_SCHEMA = {
    "type": "object",
    "properties": {
        "pattern": {"type": "string", "description": "a regular expression (Python syntax)"},
        "path": {"type": "string", "description": "file or folder to search; the workspace by default"},
        "glob": {"type": "string", "description": "only files that match, e.g. '*.py'"},
        "-i": {"type": "boolean", "description": "ignore case"},
        "output_mode": {
            "enum": ["content", "files_with_matches", "count"],
            "description": "what comes back; files_with_matches by default",
        },
    },
    "required": ["pattern"],
    "additionalProperties": False,
}


def _searched(ctx: ToolContext, arguments: Mapping[str, Any]) -> list[FileRead]:
    path = arguments.get("path", ".")
    files = _files_to_search(ctx, path, arguments.get("glob"))
    names = [ctx.relative(file) for file in files]
    return [FileRead(path=ctx.resolve(path), value=names), *(FileRead(path=file) for file in files)]


@llm_tool(
    "grep",
    "Search text files for a regular expression. Gives the files with the number of matching lines in each, and with "
    "output_mode 'content' the lines themselves.",
    schema=GREP_SCHEMA,
    effect=Effect.READ,
    paths=("path",),
    idempotent=True,
    open_world=False,
    code=("pattern", "glob"),
    reads=_searched,
    version="1",
)
async def grep(ctx: ToolContext, args: dict[str, Any]) -> dict[str, Any]:
    pattern, path, mode = args["pattern"], args.get("path", "."), args.get("output_mode", "files_with_matches")
    paths = await in_thread(_files_to_search, ctx, path, args.get("glob"))
    request = {
        "pattern": pattern,
        "ignore_case": args.get("-i", False),
        "paths": [str(file) for file in paths],
        "lines": mode == "content",
        "limit": MAX_MATCHES,
    }
    found = await _search(ctx, request)
    if "error" in found:
        raise ToolError(f"the pattern {pattern!r} is no regular expression: {found['error']}.")
    return _grep_output(ctx, pattern, mode, found)


def _files_to_search(ctx: ToolContext, path: str, pattern: str | None) -> list[Path]:
    resolved = ctx.resolve(path)
    if resolved.is_file():
        return [resolved]
    root = existing_folder(ctx, path)
    return matching(ctx, root, (pattern or "*").removeprefix("./"))


async def _search(ctx: ToolContext, request: dict[str, Any]) -> dict[str, Any]:
    """Search in a thread when the pattern can't run away, else in a process that can be killed."""
    if not set(request["pattern"]) & set("*+{?"):
        return await in_thread(grep_worker.search, request)
    done = await run(
        [sys.executable, "-I", "-S", "-B", grep_worker.__file__],
        cwd=ctx.workspace,
        env={"PYTHONUTF8": "1"},
        stdin=os.fsencode(json.dumps(request, ensure_ascii=True)),
        timeout_s=GREP_TIMEOUT_S,
        max_bytes=20_000_000,
    )
    if done.timed_out:
        raise ToolError(f"searching for {request['pattern']!r} took more than {GREP_TIMEOUT_S:.0f} s; simplify it.")
    if done.status != 0:
        raise ToolError(f"searching for {request['pattern']!r} failed: {done.stderr.strip()[-300:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _grep_output(ctx: ToolContext, pattern: str, mode: str, found: dict[str, Any]) -> dict[str, Any]:
    files = [{"path": ctx.relative(Path(path)), "count": count} for path, count in found["files"]]
    matches = [{"path": ctx.relative(Path(p)), "line": line, "text": text} for p, line, text in found["matches"]]
    match mode:
        case "content":
            shown = [f"{match['path']}:{match['line']}:{match['text']}" for match in matches]
        case "count":
            shown = [f"{file['path']}:{file['count']}" for file in files]
        case _:
            shown = [str(file["path"]) for file in files]
    count = sum(count for _, count in found["files"])
    if found["truncated"]:
        raise ToolError(
            f"{pattern!r} matches more than {count_text(MAX_MATCHES, 'line')}; narrow it or use another mode."
        )
    text = listing(shown, empty=f"No line matches {pattern}.", limit=MAX_MATCHES)
    return {"files": files, "matches": matches, "count": count, "text": text}
