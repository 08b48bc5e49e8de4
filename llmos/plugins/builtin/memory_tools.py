"""What outlives a run, and a model's word: `remember`, `recall`, `think`."""

from __future__ import annotations

from typing import Any

from llmos.errors import ToolError
from llmos.plugins.builtin.tables import cell_text
from llmos.plugins.context import FactStore, ToolContext
from llmos.plugins.marking import llm_tool
from llmos.trace.program import Effect


@llm_tool(
    "remember",
    "Store a value under a key for later goals; a value stored under the same key before is replaced.",
    {"key": str, "value": {"description": "any JSON value"}},
    effect=Effect.WRITE,
    idempotent=True,
    open_world=False,
    payload=("value",),
    writes=lambda ctx, arguments: (),
    version="1",
)
async def remember(ctx: ToolContext, key: str, value: Any) -> dict[str, Any]:
    key = key.strip()
    if not key:
        raise ToolError("the key is empty; name what is stored.")
    await _facts(ctx).remember(key, value)
    return {"key": key, "value": value, "text": f"{key} = {cell_text(value)}"}


@llm_tool(
    "recall",
    "Look up what was stored with remember: by its key, else by meaning. value is the best match (null if none).",
    {"query": str, "limit": {"type": "integer", "minimum": 1, "maximum": 100}},
    defaults={"limit": 5},
    effect=Effect.READ,
    idempotent=True,
    open_world=False,
    outside=False,
    version="1",
)
async def recall(ctx: ToolContext, query: str, limit: int) -> dict[str, Any]:
    results = await _facts(ctx).recall(query, limit=limit)
    lines = [f"{fact['key']} = {cell_text(fact['value'])}" for fact in results]
    return {
        "results": results,
        "count": len(results),
        "key": results[0]["key"] if results else None,
        "value": results[0]["value"] if results else None,
        "text": "\n".join(lines) or f"Nothing is stored about {query!r}.",
    }


def _facts(ctx: ToolContext) -> FactStore:
    if ctx.facts is None:
        raise ToolError("this session has no memory to store to or recall from.")
    return ctx.facts


@llm_tool(
    "think",
    "Ask a language model to write or judge something that can't be computed. It costs money on every replay: "
    "prefer python, query_data and the other tools.",
    {"prompt": str, "max_tokens": {"type": "integer", "minimum": 1, "maximum": 32_000}},
    defaults={"max_tokens": 1024},
    effect=Effect.READ,
    open_world=True,
    payload=("prompt",),
    outside=False,
    version="1",
)
async def think(ctx: ToolContext, prompt: str, max_tokens: int) -> dict[str, Any]:
    if ctx.think is None:
        raise ToolError("think needs a model, and this run has none: no key, no login, or models are switched off.")
    if not prompt.strip():
        raise ToolError("the prompt is empty.")
    return {"text": await ctx.think(prompt, max_tokens=max_tokens, model=None)}
