"""Shell commands: `bash`."""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from llmos.errors import ToolError
from llmos.plugins.builtin.processes import Completed, clean_environment, confined, run
from llmos.plugins.confined import Child
from llmos.plugins.context import ToolContext
from llmos.plugins.marking import llm_tool
from llmos.plugins.touching import Touch
from llmos.trace.program import Effect

MAX_TIMEOUT_MS = 600_000
MAX_OUTPUT_BYTES = 1_000_000
TAIL_CHARS = 4000


def _classify(ctx: ToolContext, arguments: Mapping[str, Any]) -> Effect:
    from llmos.plugins.builtin.bash_effect import classify

    return classify(ctx, arguments)


def _paths(ctx: ToolContext, arguments: Mapping[str, Any]) -> Iterable[Touch]:
    from llmos.plugins.builtin.bash_effect import paths

    return paths(ctx, arguments)


@llm_tool(
    "bash",
    "Run a shell command in the workspace. Gives stdout, stderr and exit_status; a status other than 0 is an error. "
    "timeout is in milliseconds. Background processes end with the command.",
    {"command": str, "timeout": {"type": "integer", "minimum": 1, "maximum": MAX_TIMEOUT_MS}},
    defaults={"timeout": 120_000},
    effect=Effect.UNKNOWN,
    code=("command",),
    classify=_classify,
    paths=_paths,
    version=f"1 on {sys.platform}",
)
async def bash(ctx: ToolContext, command: str, timeout: int) -> dict[str, Any]:  # noqa: ASYNC109 - the tool's argument
    if not command.strip():
        raise ToolError("the command is empty.")
    shell = shutil.which("bash") or "/bin/sh"
    env = clean_environment(ctx)
    root = ctx.workspace.resolve()
    child = Child(tool="bash", argv=[shell, "-c", command], cwd=ctx.resolve("."), env=env, write=(root,))
    async with confined(ctx, child) as walls:
        timeout_s = min(timeout / 1000, walls.wall_s or math.inf)
        done = await run(
            walls.argv,
            cwd=child.cwd,
            env=env,
            timeout_s=timeout_s,
            max_bytes=MAX_OUTPUT_BYTES,
            keeps=walls.keeps,
        )
    if done.timed_out:
        raise ToolError(f"the command was stopped after {timeout_s:g} s{_tails(done)}")
    if done.status != 0:
        how = f"ended with exit status {done.status}" if done.status > 0 else f"was ended by signal {-done.status}"
        denied = walls.explain(done.status, done.stderr)
        raise ToolError(f"the command {how}{_tails(done)}" + (f"\nSandbox: {denied}" if denied else ""))
    return {
        "stdout": done.stdout,
        "stderr": done.stderr,
        "exit_status": done.status,
        "truncated": done.truncated,
    }


def _tails(done: Completed) -> str:
    """What the command said last, for the one who has to find out what went wrong."""
    pieces = [
        f"\n{name}:\n{tail(text)}" for name, text in (("stderr", done.stderr), ("stdout", done.stdout)) if text.strip()
    ]
    return ":" + "".join(pieces) if pieces else " and said nothing."


def tail(text: str, limit: int = TAIL_CHARS) -> str:
    """The end of a text."""
    text = text.rstrip()
    return text if len(text) <= limit else "…" + text[-limit:]
