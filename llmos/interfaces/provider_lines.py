"""The conversation with a provider's model as lines of a session (`llmos.memory.sessions`), and back.

A line has the form of the CLI's, so that what asks for calls and their results (`llmos.interfaces.transcripts`) reads
both; its message is kept `whole`, as pydantic-ai writes it, for what one provider says beside the text.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from llmos.errors import LearnerError

if TYPE_CHECKING:
    from pydantic_ai.messages import ModelMessage, ModelResponse


def as_line(message: ModelMessage) -> dict[str, Any]:
    """A message as a line; the instructions, which each request has, are left out of it."""
    whole = dumped([message])[0]
    kind = "assistant" if whole["kind"] == "response" else "user"
    number = str(uuid.uuid4())
    return {"type": kind, "uuid": number, "message": {"id": number, "whole": whole}}


def dumped(messages: Sequence[ModelMessage]) -> list[dict[str, Any]]:
    """Messages as data."""
    from pydantic_ai.messages import ModelMessagesTypeAdapter, ModelRequest

    bare = [replace(one, instructions=None) if isinstance(one, ModelRequest) else one for one in messages]
    found: list[dict[str, Any]] = ModelMessagesTypeAdapter.dump_python(bare, mode="json")
    return found


def messages_of(lines: Sequence[Mapping[str, Any]], system: str) -> list[ModelMessage]:
    """The conversation that lines keep, with the instructions that its requests have.

    Raises:
        LearnerError: it can't be read: nobody can go on with it.
    """
    from pydantic_ai.messages import ModelMessagesTypeAdapter, ModelRequest

    try:
        read = ModelMessagesTypeAdapter.validate_python([line["message"]["whole"] for line in lines])
        if not read:
            raise ValueError("it is empty")
    except (ValueError, KeyError, TypeError) as error:
        said = str(error).partition("\n")[0]
        raise LearnerError(
            f"the conversation with the model was not kept in a form that can be read: {said}."
        ) from error
    return [replace(one, instructions=system) if isinstance(one, ModelRequest) else one for one in read]


def with_own_ids(response: ModelResponse, before: Sequence[ModelMessage]) -> ModelResponse:
    """An answer whose calls have ids of their own: some servers count from 0 in each answer, and results go by ids."""
    from pydantic_ai.messages import ModelResponse, ToolCallPart

    answers = [one for one in before if isinstance(one, ModelResponse)]
    seen = {call.tool_call_id for answer in answers for call in answer.tool_calls}
    parts = []
    for part in response.parts:
        if isinstance(part, ToolCallPart):
            if part.tool_call_id in seen:
                part = replace(part, tool_call_id=f"{part.tool_call_id}-{uuid.uuid4().hex[:12]}")
            seen.add(part.tool_call_id)
        parts.append(part)
    return replace(response, parts=parts)
