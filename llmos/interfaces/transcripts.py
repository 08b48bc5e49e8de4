"""A session of the Claude CLI, as the lines it writes: which calls have no answer, and how they get one.

The CLI writes a line for each block of an answer and one for each result, each naming the line before it. A session
that was broken off ends with calls whose results are missing; the CLI would tell the model that nobody knows what came
of them. Here the real results are put there.

The lines of a provider's conversation (`llmos.interfaces.provider_lines`) are read as if the CLI had written them.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

Line: TypeAlias = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Use:
    """A call that the model asked for."""

    id: str
    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a call came to, as the model is told it, and what it is told beside it."""

    text: str
    is_error: bool = False
    said: tuple[str, ...] = ()


def last_calls(lines: Sequence[Line]) -> list[Use]:
    """The calls of the model's last answer, if that asked for any, whether they have results or not."""
    at = _last_answer(lines)
    if at is None:
        return []
    message_id = _message(lines[at]).get("id")
    found = []
    for line in lines[: at + 1]:
        if line.get("type") == "assistant" and _message(line).get("id") == message_id:
            found += [_use(block) for block in _blocks(line) if block.get("type") == "tool_use"]
    return found


def uses(lines: Sequence[Line]) -> list[Use]:
    """Every call that the model asked for."""
    answers = (line for line in lines if line.get("type") == "assistant")
    return [_use(block) for line in answers for block in _blocks(line) if block.get("type") == "tool_use"]


def results_of(lines: Sequence[Line]) -> dict[str, Told]:
    """The results of calls that stand in a session, by the call's id."""
    found: dict[str, Told] = {}
    for line in lines:
        if line.get("type") == "user":
            for block in _blocks(line):
                if block.get("type") == "tool_result":
                    found[str(block.get("tool_use_id"))] = _told(block)
    return found


def answered(lines: Sequence[Line], results: Mapping[str, Told], now: datetime) -> list[Line]:
    """The session up to the model's last answer, and after it the results of its calls, one line each.

    What the CLI wrote after the answer, of an interruption, is left out.
    """
    at = _last_answer(lines)
    if at is None:
        return [*lines]
    kept, previous = [*lines[: at + 1]], lines[at]
    for call in last_calls(lines):
        line = _result_line(previous, call, results[call.id], now)
        kept.append(line)
        previous = line
    return kept


def turns_of(lines: Sequence[Line]) -> tuple[list[Line], list[list[Line]]]:
    """What stands before the model's first answer, and then each turn: an answer, and all up to the next one."""
    head: list[Line] = []
    turns: list[list[Line]] = []
    of_turn = None
    for line in lines:
        answer = _message(line).get("id") if _is_answer(line) else None
        if answer is not None and answer != of_turn:
            of_turn = answer
            turns.append([])
        (turns[-1] if turns else head).append(line)
    return head, turns


def words_of(lines: Sequence[Line]) -> str:
    """What the model itself said in these lines."""
    answers = (line for line in lines if _is_answer(line))
    texts = (str(block.get("text", "")) for line in answers for block in _blocks(line) if block.get("type") == "text")
    return "\n".join(text for text in texts if text.strip())


def size_of(lines: Sequence[Line]) -> int:
    """Characters that these lines take up in a request, about."""
    said = (_message(line).get("whole") or _message(line).get("content", "") for line in lines)
    return sum(len(json.dumps(one, ensure_ascii=False)) for one in said)


def replaced(head: Sequence[Line], kept: Sequence[Line], text: str) -> list[Line]:
    """A session of the `kept` turns behind what stands before the first answer, with a text at the end of that."""
    opening = [*head]
    at = max((at for at, line in enumerate(opening) if line.get("type") == "user"), default=None)
    if at is None or not kept:
        return [*head, *kept]
    opening[at] = _with_text(opening[at], text)
    above = next((line["uuid"] for line in reversed(opening) if line.get("uuid")), None)
    return [*opening, {**kept[0], "parentUuid": above}, *kept[1:]]


def without(lines: Sequence[Line], heading: str) -> list[Line]:
    """These lines without the texts that begin with a heading; the first of a line, which is the goal, stays."""
    return [_without(line, heading) for line in lines]


def _with_text(line: Line, text: str) -> Line:
    message = _message(line)
    whole, content = message.get("whole"), message.get("content")
    if whole is not None:
        parts = [*whole["parts"], {"part_kind": "user-prompt", "content": text}]
        return {**line, "message": {**message, "whole": {**whole, "parts": parts}}}
    blocks = content if isinstance(content, list) else [{"type": "text", "text": str(content)}]
    return {**line, "message": {**message, "content": [*blocks, {"type": "text", "text": text}]}}


def _without(line: Line, heading: str) -> Line:
    message = _message(line)
    whole, content = message.get("whole"), message.get("content")
    if whole is not None:
        parts = whole["parts"]
        parts = [*parts[:1], *(one for one in parts[1:] if not str(one.get("content", "")).startswith(heading))]
        return {**line, "message": {**message, "whole": {**whole, "parts": parts}}}
    if not isinstance(content, list) or not content:
        return line
    blocks = [content[0], *(one for one in content[1:] if not str(one.get("text", "")).startswith(heading))]
    return {**line, "message": {**message, "content": blocks}}


def _is_answer(line: Line) -> bool:
    return line.get("type") == "assistant" and not line.get("isApiErrorMessage") and not _is_synthetic(line)


def _last_answer(lines: Sequence[Line]) -> int | None:
    """The place of the last line of the model's own; what the CLI says in its place is none."""
    for at in range(len(lines) - 1, -1, -1):
        if _is_answer(lines[at]):
            return at
    return None


def _is_synthetic(line: Line) -> bool:
    return _message(line).get("model") == "<synthetic>"


def _result_line(previous: Line, call: Use, told: Told, now: datetime) -> Line:
    block: dict[str, Any] = {
        "tool_use_id": call.id,
        "type": "tool_result",
        "content": [{"type": "text", "text": text} for text in (told.text, *told.said)],
    }
    if told.is_error:
        block["is_error"] = True
    same = ("isSidechain", "userType", "entrypoint", "cwd", "sessionId", "version", "gitBranch")
    return {
        "parentUuid": previous.get("uuid"),
        **{name: previous[name] for name in same if name in previous},
        "type": "user",
        "message": {"role": "user", "content": [block]},
        "uuid": str(uuid.uuid4()),
        "timestamp": now.isoformat().replace("+00:00", "Z"),
    }


def _message(line: Line) -> dict[str, Any]:
    message = line.get("message")
    return message if isinstance(message, dict) else {}


def _blocks(line: Line) -> list[dict[str, Any]]:
    whole = _message(line).get("whole")
    content = _message(line).get("content") if whole is None else _provider_blocks(whole)
    return [block for block in content if isinstance(block, dict)] if isinstance(content, list) else []


def _provider_blocks(whole: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The calls or results of a provider's message; what was said beside results is told with the last of them."""
    blocks: list[dict[str, Any]] = []
    for part in whole.get("parts") or ():
        kind, text = part.get("part_kind"), str(part.get("content"))
        if kind == "text":
            blocks.append({"type": "text", "text": text})
        elif kind == "tool-call":
            blocks.append({"type": "tool_use", "id": part.get("tool_call_id"), "name": part.get("tool_name")})
            blocks[-1]["input"] = _arguments(part.get("args"))
        elif kind == "tool-return":
            content = [{"type": "text", "text": text}]
            is_error = part.get("outcome") == "failed"
            id_ = part.get("tool_call_id")
            blocks.append({"type": "tool_result", "tool_use_id": id_, "content": content, "is_error": is_error})
        elif kind == "user-prompt" and blocks:
            blocks[-1]["content"].append({"type": "text", "text": text})
    return blocks


def _arguments(given: Any) -> Any:
    """Arguments as an object, which some servers write as its text."""
    try:
        return json.loads(given) if isinstance(given, str) else given
    except ValueError:
        return {}


def _use(block: Mapping[str, Any]) -> Use:
    given = block.get("input")
    return Use(id=str(block.get("id")), name=str(block.get("name")), arguments=given if isinstance(given, dict) else {})


def _told(block: Mapping[str, Any]) -> Told:
    content = block.get("content")
    if isinstance(content, str):
        return Told(text=content, is_error=bool(block.get("is_error")))
    parts = [part.get("text", "") for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    return Told(text="\n".join(parts), is_error=bool(block.get("is_error")))
