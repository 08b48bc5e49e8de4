"""A near trace as a plan for a learner: its steps in readable form, what is known, and what it does not explain."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmos.trace.conditions import phrase
from llmos.trace.lex import Kind, Place, Token, is_noise, template_tokens, tokenize, without_final
from llmos.trace.program import Loop, Node, Trace
from llmos.trace.values import unparse

_STOP = frozenset(
    {"a", "an", "of", "in", "on", "at", "to", "into", "from", "for", "with", "and", "or", "by", "as", "is", "are"}
    | {"it", "its", "this", "that", "my", "me", "i", "you", "your", "be", "do", "then", "them", "all", "some"}
)
_MIN_SHARE = 0.5
_MIN_SHARED = 2
_MAX_VALUE = 2_000
MAX_OUTPUT = 1_000
_MAX_PLAN = 12_000


@dataclass(frozen=True, kw_only=True)
class Stopped:
    """Where a replay of the trace stopped before it changed anything."""

    step_id: str
    expected: Any
    actual: Any


def nearness(goal: str, trace: Trace) -> float:
    """The share of the goal's content that one of the trace's wordings has; 0 if it is too small for a plan.

    Content are its words and the kinds of its literals; at least one word must be shared.
    """
    kinds = {slot.name: str(slot.type) for slot in trace.slots}
    content = _content(tokenize(goal), {})
    shared = [content & _content(template_tokens(template), kinds) for template in trace.goals]
    best = max((len(one) for one in shared if any(not part.startswith("<") for part in one)), default=0)
    return best / len(content) if best >= _MIN_SHARED and best >= _MIN_SHARE * len(content) else 0.0


def _content(parts: Sequence[Token | Place], kinds: Mapping[str, str]) -> set[str]:
    words = {part.key for part in parts if isinstance(part, Token) and part.kind is Kind.WORD and not is_noise(part)}
    literals = {f"<{part.kind}>" for part in parts if isinstance(part, Token) and part.kind.is_literal}
    return (words - _STOP) | literals | {f"<{kinds[part.slot]}>" for part in parts if isinstance(part, Place)}


def plan_of(goal: str, trace: Trace, stopped: Stopped | None = None) -> str:
    """The plan as a learner reads it, at most _MAX_PLAN characters."""
    said = {token.key for token in tokenize(goal)}
    template = max(
        trace.goals, key=lambda one: sum(isinstance(t, Token) and t.key in said for t in template_tokens(one))
    )
    lines = [f"It reached: {template}"]
    if stopped is None:
        known, unexplained = compared(goal, template, trace)
        lines += [f"For this goal, {{{name}}} seems to be: {value}" for name, value in known.items()]
        lines += [f"Not explained by it: {one}" for one in unexplained]
    lines += [
        "",
        "Steps:",
        *(line for number, node in enumerate(trace.steps, 1) for line in node_lines(str(number), node)),
    ]
    if trace.answer.expr is not None:
        lines += ["", f"Answer: {shown(unparse(trace.answer.expr))}"]
    if stopped is not None:
        lines += ["", *_stopped(stopped)]
    text = "\n".join(lines)
    return text if len(text) <= _MAX_PLAN else text[:_MAX_PLAN] + "\n… (the rest of the plan is left out)"


def compared(goal: str, template: str, trace: Trace) -> tuple[dict[str, str], list[str]]:
    """What a goal that does not fit gives to the slots of a template nevertheless, and where the two differ."""
    pattern = template_tokens(template)
    tokens = [token for token in without_final(tokenize(goal)) if not is_noise(token)]
    types = {slot.name: str(slot.type) for slot in trace.slots}
    expected = [f"<{types[part.slot]}>" if isinstance(part, Place) else part.key for part in pattern]
    kinds = {token: f"<{token.kind}>" for token in tokens if token.kind.is_literal}
    actual = [kinds[token] if kinds.get(token) in expected else token.key for token in tokens]
    known: dict[str, str] = {}
    unexplained: list[str] = []
    for operation, a1, a2, b1, b2 in difflib.SequenceMatcher(a=expected, b=actual, autojunk=False).get_opcodes():
        if operation == "equal":
            pairs = zip(pattern[a1:a2], tokens[b1:b2], strict=True)
            known |= {part.slot: token.text for part, token in pairs if isinstance(part, Place)}
            continue
        old, new = _said(pattern[a1:a2]), " ".join(token.text for token in tokens[b1:b2])
        unexplained.append(f"the goal says {new!r} where it says {old!r}" if old and new else _one_sided(old, new))
    return known, unexplained


def _one_sided(old: str, new: str) -> str:
    return f"the goal also says {new!r}" if new else f"the goal does not say {old!r}"


def _said(parts: Sequence[Token | Place]) -> str:
    return " ".join(f"{{{part.slot}}}" if isinstance(part, Place) else part.text for part in parts)


def node_lines(number: str, node: Node) -> Iterator[str]:
    """A step, or a loop with its steps below it, in readable form."""
    asked = "".join(f"if {phrase(condition)}: " for condition in node.when)
    if isinstance(node, Loop):
        where = "".join(f" where {phrase(condition)}" for condition in node.where)
        yield f"{number}. {asked}for each of {shown(unparse(node.over))}{where}:"
        for inner, one in enumerate(node.steps, 1):
            yield from node_lines(f"{number}.{inner}", one)
        return
    args: Mapping[str, Any] = {name: unparse(expr) for name, expr in node.args.items()}
    yield f"{number}. [{node.id}] {asked}{node.tool}"
    for name, value in args.items():
        written = isinstance(value, dict) and "$opaque" in value
        told = "   (written for that goal; write it anew)" if written else ""
        yield f"     {name} = {shown(value['$opaque'] if written else value)}{told}"


def shown(value: Any) -> str:
    """A value as a learner reads it, cut where it is long."""
    return cut(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), _MAX_VALUE)


def _stopped(stopped: Stopped) -> Iterator[str]:
    yield f"It was replayed for this goal and stopped at [{stopped.step_id}], before anything was changed."
    yield f"Expected there: {shown(stopped.expected)}"
    yield f"Found: {shown(stopped.actual)}"
    yield "Reach the goal from here: what is left of the plan is right as far as this does not change it."


def cut(text: str, most: int) -> str:
    """The beginning of a text that is too long, and how much more there is."""
    return text if len(text) <= most else f"{text[:most]}… ({len(text) - most:,} more characters)"
