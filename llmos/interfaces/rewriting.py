"""The tool of a guided program: one bounded, metered model call that writes one value anew, or refuses to."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from llmos.errors import LearnerError
from llmos.interfaces.prompts import NO_VALUE, VALUE_TAG, rewriting
from llmos.plugins.context import ToolContext
from llmos.plugins.registry import ToolRegistry
from llmos.plugins.tool import Tool
from llmos.trace.guided import Guide
from llmos.trace.program import REWRITE, Effect, Step
from llmos.trace.values import OutputRef, Scope, UnboundError, evaluate, unparse

MAX_GIVEN_CHARS = 60_000
_MAX_TOKENS = 32_000
_ROOM_TOKENS = 1_000
_SCHEMA = {"type": "object", "properties": {"given": {"type": "object"}}, "required": ["given"]}


def rewriting_tools(tools: ToolRegistry, found: Guide, goal: str, *, model: str) -> ToolRegistry:
    """The registry with REWRITE for this one goal; nothing else may have that name."""

    async def rewrite(ctx: ToolContext, /, *, given: Mapping[str, Any]) -> dict[str, Any]:
        if ctx.think is None:
            raise LearnerError("no model can be asked here")
        prompt = asking(found, goal, given)
        said = await ctx.think(prompt, max_tokens=_allowed_tokens(found.leaf.value), model=model)
        return {"text": checked(said, found)}

    own = ToolRegistry()
    for tool in tools:
        own.register(tool)
    own.register(
        Tool(
            name=REWRITE,
            description="Write one value of a guided replay anew.",
            schema=_SCHEMA,
            function=rewrite,
            effect=Effect.READ,
            payload_params=("given",),
            outside=False,
        )
    )
    return own


def asking(found: Guide, goal: str, given: Mapping[str, Any]) -> str:
    """The prompt for the new value.

    Raises:
        LearnerError: what was read is too long to be handed on whole; a part of it would give a wrong value.
    """
    length = len(json.dumps(given, ensure_ascii=False)) + len(found.leaf.value)
    if length > MAX_GIVEN_CHARS:
        raise LearnerError(f"what the new value is made from has {length:,} characters, more than {MAX_GIVEN_CHARS:,}")
    scope = Scope(slots=found.found.bindings)
    return rewriting(
        purpose=found.leaf.purpose,
        value=found.leaf.value,
        goal=goal,
        given=given,
        steps=[_shown(step, scope) for step in found.program.calls if step.tool != REWRITE],
        same_subject=not found.changed,
    )


def _shown(step: Step, scope: Scope) -> str:
    """A call with its arguments, as far as they are known before it is made."""
    args: dict[str, Any] = {}
    for name, expr in step.args.items():
        if isinstance(expr, OutputRef) and expr.step == REWRITE:
            args[name] = "YOUR VALUE"
            continue
        try:
            args[name] = evaluate(expr, scope)
        except UnboundError:
            args[name] = unparse(expr)
    return f"- {step.tool} {json.dumps(args, ensure_ascii=False)}"


def _allowed_tokens(old: str) -> int:
    """Room for a value of twice the old length, which no text of a token per character and a half exceeds."""
    return min(_MAX_TOKENS, _ROOM_TOKENS + len(old))


def checked(said: str, found: Guide) -> str:
    """The new value in what the model said.

    Raises:
        LearnerError: there is none, it is not whole, it is the old one for another subject, or of another form.
    """
    old = found.leaf.value
    value = _between_tags(said)
    if value is None or not value.strip():
        why = "says that a new value is not enough" if said.strip().startswith(NO_VALUE) else "gave no whole value"
        raise LearnerError(f"the model {why}")
    if found.changed and value.split() == old.split():
        raise LearnerError("the model gave the old value for another subject")
    wrong = _other_form(old, value, found)
    if wrong:
        raise LearnerError(f"the model gave a value that is {wrong}")
    return value.removesuffix("\n") + "\n" * old.endswith("\n")


def _between_tags(said: str) -> str | None:
    """What stands between the tags, without the line breaks that belong to them; None unless both are there once."""
    found = re.fullmatch(rf"(?s).*?<{VALUE_TAG}>\n?(.*)</{VALUE_TAG}>\s*", said)
    if found is None or VALUE_TAG in found[1]:
        return None
    return found[1]


def _other_form(old: str, new: str, found: Guide) -> str:
    """What is wrong with the form of a new value; empty if nothing is."""
    if _json_type(old) is not None and _json_type(new) is not _json_type(old):
        return "no JSON of the old value's kind"
    names = [arg for arg in _plain_args(found) if PurePosixPath(arg).suffix == ".py"]
    if names and _is_python(old) and not _is_python(new):
        return "no Python program"
    return ""


def _plain_args(found: Guide) -> list[str]:
    """The texts beside the new value in its call."""
    scope, texts = Scope(slots=found.found.bindings), []
    for step in found.program.calls:
        if step.id != found.leaf.step.id:
            continue
        for expr in step.args.values():
            try:
                texts.append(evaluate(expr, scope))
            except UnboundError:
                continue
    return [text for text in texts if isinstance(text, str)]


def _json_type(text: str) -> type | None:
    """The kind of a JSON object or list that a text is; None for any other text."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return type(value) if isinstance(value, dict | list) else None


def _is_python(text: str) -> bool:
    try:
        ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True
