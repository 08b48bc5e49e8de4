"""Computation as a step: `python`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from llmos.errors import ToolError
from llmos.plugins.builtin import python_child
from llmos.plugins.builtin.processes import Completed, clean_environment, confined, run
from llmos.plugins.builtin.shell import tail
from llmos.plugins.confined import Child
from llmos.plugins.context import ToolContext
from llmos.plugins.marking import llm_tool
from llmos.trace.program import Effect

TIMEOUT_S = 60.0
MAX_OUTPUT_BYTES = 10_000_000

# -P -s -S with an environment of our own isolate like -I does, which would also ignore PYTHONHASHSEED:
# without a fixed seed the order of a set, and with it a replay's output, differs from run to run.
FLAGS = ("-P", "-s", "-S", "-B", "-X", "utf8")


def _may_read(ctx: ToolContext, arguments: Mapping[str, Any]) -> bool:
    from llmos.plugins.builtin.python_reads import may_read

    return may_read(str(arguments.get("code", "")))


@llm_tool(
    "python",
    "Run Python code (standard library only) that computes something: it finds its data in the dict `inputs` and "
    "leaves its value in the variable `result` (else the printed text is the result). It may read files of the "
    "workspace but changes nothing: no writing, no network, no processes. Pass data through inputs instead of "
    "pasting it into the code.",
    {"code": str, "inputs": dict},
    defaults={"inputs": {}},
    effect=Effect.READ,
    open_world=False,
    code=("code",),
    outside=_may_read,
    version=f"1 on Python {sys.version_info.major}.{sys.version_info.minor}, {sys.platform}",
)
async def python(ctx: ToolContext, code: str, inputs: dict[str, Any]) -> dict[str, Any]:
    """Run code in a child process that changes nothing.

    The guard in the child is an audit hook with limits on processor time, memory, file size and processes, in a clean
    environment with the workspace as the current folder: it says clearly what is not allowed. What keeps hostile code
    in is the sandbox around it, in which the workspace can only be read.
    """
    workspace = ctx.workspace.resolve()
    request = {
        "code": code,
        "inputs": inputs,
        "workspace": str(workspace),
        "closed": [str(folder) for folder in ctx.denied],
        "patterns": ctx.gate.closed("python") if ctx.gate is not None else (),
        "cpu_s": int(TIMEOUT_S),
    }
    env = {name: value for name, value in clean_environment(ctx).items() if name in ("TZ", "PATH")}
    env |= {"LANG": "C.UTF-8", "PYTHONHASHSEED": "0"}
    argv = [sys.executable, *FLAGS, python_child.__file__]
    child = Child(tool="python", argv=argv, cwd=workspace, env=env, read=(workspace,), network=False)
    async with confined(ctx, child) as walls:
        done = await run(
            walls.argv,
            cwd=workspace,
            env=env,
            stdin=json.dumps(request).encode(),
            timeout_s=TIMEOUT_S,
            max_bytes=MAX_OUTPUT_BYTES,
            keeps=walls.keeps,
        )
    return _outcome(done)


def _outcome(done: Completed) -> dict[str, Any]:
    if done.timed_out:
        raise ToolError(f"the Python code was stopped after {TIMEOUT_S:.0f} s.")
    if done.truncated:
        raise ToolError(f"the Python code's result is larger than {MAX_OUTPUT_BYTES // 1_000_000} MB.")
    try:
        outcome = json.loads(done.stdout)
    except json.JSONDecodeError:
        said = tail(done.stderr, 500)
        raise ToolError(f"the Python code was ended by the system (status {done.status}). {said}".rstrip()) from None
    if "error" in outcome:
        printed = f"\nIt had printed:\n{tail(outcome['printed'])}" if outcome["printed"] else ""
        raise ToolError(f"the Python code failed: {outcome['error']}{printed}")
    result = outcome["result"]
    text = result if isinstance(result, str) else json.dumps(result, ensure_ascii=False)
    return {"result": result, "printed": outcome["printed"], "text": text}
