"""When one value that the model wrote has to be written anew, and everything around it can be replayed.

A trace with such a value is frozen for the gate. Beside it stands its guided program, in which the call of REWRITE
gives the value. A goal reaches that program if the gate proves it, but for words that the old value was made of and
nothing else in the program knows.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeGuard

from llmos.trace.english import DOING
from llmos.trace.evidence import leaves
from llmos.trace.leaks import constants
from llmos.trace.lex import Kind, Place, Token, is_noise, template_tokens, tokenize, without_final
from llmos.trace.match import Match, Miss, World, match
from llmos.trace.program import REWRITE, CheckKind, Effect, Loop, Step, Trace
from llmos.trace.values import Const, Expr, ListExpr, Opaque, OutputRef, Record, SlotRef, Text, leaves_of, references

_MAX_CHANGES = 2
_MAX_WORDS = 3
_MIN_STEM = 4
_MIN_HELD = 2
_LISTING = re.compile(r"\.|(\*\*/)?\*(\.\w{1,5})?")
_RUNNER = re.compile(r"(python3?|bash|sh|node) ")
_CLAUSES = frozenset({"and", "then", "or", "but", ",", ";", ":", "."})


@dataclass(frozen=True, kw_only=True)
class Leaf:
    """The one value of a trace that the model wrote itself, and the argument it is."""

    step: Step
    param: str
    value: str
    purpose: str


@dataclass(frozen=True, kw_only=True)
class Guide:
    """How a goal is reached by a trace's guided program: what it binds, and the words that differ (old, new)."""

    trace: Trace
    leaf: Leaf
    found: Match
    changed: tuple[tuple[str, str], ...] = ()

    @property
    def program(self) -> Trace:
        return self.found.trace


def leaf_of(trace: Trace) -> Leaf | None:
    """The value the model wrote, where it is a text, says what for, and is the only one."""
    found = [(step, param, leaf) for step in trace.calls for param, expr in step.args.items() for leaf in _opaque(expr)]
    if len(found) != 1:
        return None
    step, param, leaf = found[0]
    if not isinstance(leaf.value, str):
        return None
    return Leaf(step=step, param=param, value=leaf.value, purpose=leaf.purpose)


def _opaque(expr: Expr) -> Iterator[Opaque]:
    return (leaf for leaf in leaves_of(expr) if isinstance(leaf, Opaque))


def guide(goal: str, trace: Trace, world: World | None = None) -> Guide | None:
    """How a goal can be reached by writing a trace's one free value anew; None if that is not sure."""
    leaf, program = leaf_of(trace), trace.guided_program
    if program is None or leaf is None or not leaf.purpose:
        return None
    found = match(goal, program, world)
    if _is_sure(found):
        return Guide(trace=trace, leaf=leaf, found=found)
    changes = _changes(goal, program)
    if changes is None or not all(_is_subject(old, new, leaf, program) for old, new in changes):
        return None
    reworded = _reworded(program, changes) if _is_only_in_the_value(program, leaf, changes) else None
    if reworded is None:
        return None
    found = match(goal, reworded, world)
    if not _is_sure(found):
        return None
    return Guide(trace=trace, leaf=leaf, found=replace(found, trace=_answerable(program, changes)), changed=changes)


def _is_sure(found: Match | Miss) -> TypeGuard[Match]:
    """Whether the gate proves it, without a free phrase that it had to take on trust."""
    return isinstance(found, Match) and found.is_proven and not found.open


def _changes(goal: str, program: Trace) -> tuple[tuple[str, str], ...] | None:
    """The runs of words that stand for each other in the template and the goal; None if more differs than that."""
    pattern = template_tokens(program.goals[0])
    tokens = [token for token in without_final(tokenize(goal)) if not is_noise(token)]
    types = {slot.name: str(slot.type) for slot in program.slots}
    expected = [f"<{types[part.slot]}>" if isinstance(part, Place) else part.key for part in pattern]
    actual = [f"<{token.kind}>" if token.kind.is_literal else token.key for token in tokens]
    aligned = difflib.SequenceMatcher(a=expected, b=actual, autojunk=False)
    changes: list[tuple[str, str]] = []
    for operation, a1, a2, b1, b2 in aligned.get_opcodes():
        if operation == "equal":
            continue
        old, new = pattern[a1:a2], tokens[b1:b2]
        if operation != "replace" or not _are_words(old) or not _are_words(new) or _begins_a_clause(pattern, a1):
            return None
        changes.append((_joined(old), _joined(new)))
    held = sum(isinstance(part, Token) and part.kind is Kind.WORD and part.key not in DOING for part in pattern) - sum(
        len(old.split()) for old, _ in changes
    )
    return tuple(changes) if changes and len(changes) <= _MAX_CHANGES and held >= _MIN_HELD else None


def _are_words(parts: Sequence[Token | Place]) -> bool:
    """Whether these are a few words that name something."""
    words = [part for part in parts if isinstance(part, Token) and part.kind is Kind.WORD]
    return len(words) == len(parts) <= _MAX_WORDS and all(
        word.key not in DOING and not re.search(r"\d", word.key) for word in words
    )


def _begins_a_clause(pattern: Sequence[Token | Place], at: int) -> bool:
    """Whether the verb may stand here: what is done is never another subject."""
    before = pattern[at - 1] if at else None
    return before is None or (isinstance(before, Token) and before.key in _CLAUSES)


def _joined(parts: Sequence[Token | Place]) -> str:
    return " ".join(part.text for part in parts if isinstance(part, Token))


def _is_subject(old: str, new: str, leaf: Leaf, program: Trace) -> bool:
    """Whether the old words are what the value is about, and nothing that is replayed knows them."""
    stems = [stem for word in old.split() for stem in _stems(word)]
    written = any(_speaks_of(stem, leaf.value) for stem in stems)
    return written and not any(_speaks_of(stem, text) for stem in stems for text in _fixed(program))


def _stems(word: str) -> set[str]:
    """A word without its plural; short words only as they are."""
    word = word.casefold()
    cut = {word.removesuffix("s"), re.sub("(ies|y)$", "", word), word.removesuffix("es")}
    return {word} | {stem for stem in cut if len(stem) >= _MIN_STEM}


def _speaks_of(stem: str, text: str) -> bool:
    return re.search(rf"(?<![^\W_]){re.escape(stem)}", text.casefold()) is not None


def _is_only_in_the_value(program: Trace, leaf: Leaf, changes: Sequence[tuple[str, str]]) -> bool:
    """Whether another subject can make no difference to anything but the value.

    A constant that the goal does not say (`#ff0000` for red, the number of a person) may have been chosen for the old
    subject, and so may an output that something was picked from, or a call that has nothing to do with the value.
    """
    gone = {word.casefold() for old, _ in changes for word in old.split()}
    said = {part.key for part in template_tokens(program.goals[0]) if isinstance(part, Token)} - gone
    own = {ref for step in program.calls if step.id == leaf.step.id for ref in _sources(step)}
    for node in program.nodes:
        if isinstance(node, Loop) or any(check.kind is CheckKind.OUTPUT_SHA256 for check in node.checks):
            return False
        if node.tool == REWRITE:
            continue
        if not all(_is_said(text, said, node) for expr in node.exprs for text in _literals(expr)):
            return False
        if node.effect.changes_world and not own & (_sources(node) | {node.id}):
            return False
    return True


def _sources(step: Step) -> set[str]:
    """The slots a call takes its arguments from and the steps whose outputs it takes, and itself."""
    refs = [ref for expr in step.exprs for ref in references(expr)]
    names = {ref.name for ref in refs if isinstance(ref, SlotRef)} | {
        ref.step for ref in refs if isinstance(ref, OutputRef) and ref.step != REWRITE
    }
    return names | {step.id}


def _is_said(text: object, said: set[str], step: Step) -> bool:
    """Whether a constant stands in what is left of the goal, lists all files of a kind, or runs a file."""
    if text is None or text == "":
        return True
    if not step.effect.changes_world and isinstance(text, str) and _LISTING.fullmatch(text):
        return True
    if step.effect is Effect.UNKNOWN and isinstance(text, str) and _RUNNER.fullmatch(text):
        return True
    return isinstance(text, str) and (text in said or text.casefold() in said)


def _literals(expr: Expr) -> Iterator[object]:
    """Every constant in an expression, keys of objects included."""
    match expr:
        case Const(value=value):
            yield from (leaf for _, leaf in leaves(value))
            yield from (part for path, _ in leaves(value) for part in path if isinstance(part, str))
        case Text(parts=parts):
            yield from (part for part in parts if isinstance(part, str))
        case ListExpr(items=items):
            for item in items:
                yield from _literals(item)
        case Record(fields=fields):
            for key, item in fields:
                yield key
                yield from _literals(item)


def _fixed(program: Trace) -> Iterator[str]:
    """Every text that a program holds fixed: of arguments, keys, lists gone through, guards and checks."""
    for node in program.nodes:
        yield from (node.tool,) if isinstance(node, Step) else ()
        for expr in node.exprs:
            yield from constants(expr)
        for check in node.checks if isinstance(node, Step) else ():
            if check.kind is not CheckKind.OUTPUT_SHA256:
                yield str(check.expected)
    yield from (str(check.expected) for check in program.checks)


def _reworded(program: Trace, changes: Sequence[tuple[str, str]]) -> Trace | None:
    """The program with the new words in its template; None if an old one stands there twice."""
    template = program.goals[0]
    for old, new in changes:
        spaced = r"\s+".join(re.escape(word) for word in old.split())
        places = list(re.finditer(rf"(?<![\w{{]){spaced}(?![\w}}])", template))
        if len(places) != 1:
            return None
        template = template[: places[0].start()] + new + template[places[0].end() :]
    return replace(program, goals=(template,))


def _answerable(program: Trace, changes: Sequence[tuple[str, str]]) -> Trace:
    """The program, without an answer that speaks of the old subject."""
    expr = program.answer.expr
    texts = constants(expr) if expr is not None else []
    stems = [stem for old, _ in changes for word in old.split() for stem in _stems(word)]
    if any(_speaks_of(stem, text) for stem in stems for text in texts):
        return replace(program, answer=replace(program.answer, expr=None, checks=()))
    return program
