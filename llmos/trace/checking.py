"""The checks of a learned trace: of each output as it was recorded, and of the goal once every step is done.

The goal's checks come from the files that write steps name, and from what the learner said in `finish`, read by a
small grammar. Nothing here looks at files: who admits the trace keeps only the checks that hold after the recording.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from llmos.trace.evidence import file_forms, leaves
from llmos.trace.findings import ToolFacts
from llmos.trace.json_values import digest, json_type
from llmos.trace.lex import Kind, Token, tokenize
from llmos.trace.program import ABOUT_FILES, Check, CheckKind, Effect, Loop, Node, Status, Step, Trace
from llmos.trace.run import StepRecord
from llmos.trace.values import Const, Expr, OutputRef, ValuePath, references, unparse, value_at

PARSED = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".yaml": "yaml",
    ".yml": "yaml",
    ".md": "md",
}
_COUNTED = frozenset({".csv", ".tsv", ".jsonl"})
_ROWS = ("rows", "row_count")
_CONSERVED = (("rows_in", "rows_out"), ("rows_read", "rows_written"), ("input_rows", "output_rows"))
_CHANGES = "it changes files, and no check shows that its goal was reached"


# --- of one output -----------------------------------------------------------------------------------------


def output_checks(output: Any, *, frozen: bool, lengths: Iterable[ValuePath]) -> tuple[Check, ...]:
    """What must hold of a step's output again: type and status, and the hash or lengths that were relied on."""
    checks = [Check(kind=CheckKind.OUTPUT_TYPE, expected=json_type(output))]
    if isinstance(output, dict):
        status = output.get("exit_status")
        if isinstance(status, int) and not isinstance(status, bool):
            checks.append(Check(kind=CheckKind.EXIT_STATUS, expected=status))
        for before, after in _CONSERVED:
            if before in output and output.get(after) == output[before]:
                checks.append(Check(kind=CheckKind.SAME_NUMBER, expected=[[before], [after]]))
    if frozen:
        checks.append(Check(kind=CheckKind.OUTPUT_SHA256, expected=digest(output)))
    for path in sorted(lengths, key=str):
        length = len(value_at(output, path))
        checks.append(Check(kind=CheckKind.LENGTH, expected={"path": list(path), "length": length}))
    return tuple(checks)


def with_types(steps: Sequence[Step], outputs: Mapping[str, Any]) -> tuple[Step, ...]:
    """The steps with a check of the type of each value inside their outputs that a later step uses."""
    used: dict[str, dict[ValuePath, None]] = {}
    for step in steps:
        for ref in (ref for expr in step.args.values() for ref in references(expr)):
            if isinstance(ref, OutputRef) and ref.path:
                used.setdefault(ref.step, {})[ref.path] = None
    return tuple(replace(step, checks=(*_typed(step, used, outputs), *step.checks)) for step in steps)


def _typed(step: Step, used: Mapping[str, Mapping[ValuePath, None]], outputs: Mapping[str, Any]) -> Iterator[Check]:
    for path in used.get(step.id, ()):
        found = json_type(value_at(outputs[step.id], path))
        yield Check(kind=CheckKind.VALUE_TYPE, expected={"path": list(path), "type": found})


# --- of the goal -------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """What goal checks are made from: each kept step's recorded arguments and output, and the tools' facts."""

    records: Mapping[str, StepRecord]
    bindings: Mapping[str, str]
    tools: Mapping[str, ToolFacts]


def with_goal_checks(trace: Trace, recorded: Recorded, proposed: Sequence[str] = ()) -> Trace:
    """The trace with checks of its goal, derived and proposed, and the status that follows from having some."""
    checks: dict[str, Check] = {}
    notes: list[str] = []
    for check in _derived(trace, recorded):
        checks.setdefault(repr(check), check)
    for statement in proposed:
        read = _proposed(statement, trace, recorded)
        for check in read or ():
            checks.setdefault(repr(check), check)
        if read is None:
            notes.append(statement)
    in_loops = tuple(_with_loop_checks(node, recorded.tools) for node in trace.steps)
    return judged(replace(trace, steps=in_loops, checks=tuple(checks.values())), notes)


def judged(trace: Trace, unread: Sequence[str] = ()) -> Trace:
    """The trace as a candidate if it changes files and nothing checks that its goal was reached."""
    if trace.effect is not Effect.WRITE or trace.status is not Status.TRUSTED or has_goal_check(trace):
        return trace
    said = f" (could not use {', '.join(repr(one[:80]) for one in unread[:3])})" if unread else ""
    return replace(trace, status=Status.CANDIDATE, reason=f"{_CHANGES}{said}")


def has_goal_check(trace: Trace) -> bool:
    """Whether some check looks at a file that the trace writes."""
    inside = [check for node in trace.steps if isinstance(node, Loop) for step in _calls(node) for check in step.checks]
    return bool(trace.checks) or any(check.kind in ABOUT_FILES for check in inside)


def _calls(node: Node) -> Iterator[Step]:
    if isinstance(node, Step):
        yield node
    else:
        for inner in node.steps:
            yield from _calls(inner)


def _derived(trace: Trace, recorded: Recorded) -> Iterator[Check]:
    """Files that write steps name must be there, parse as their suffix says, and have the rows the tool told of."""
    for step in trace.steps:
        record = recorded.records.get(step.id)
        if not isinstance(step, Step) or step.when or step.effect is not Effect.WRITE or record is None:
            continue
        files = _written(step, recorded.tools)
        for name, expr in files:
            value = record.args.get(name)
            if not isinstance(value, str) or not _is_file(value):
                continue
            text = unparse(expr)
            yield Check(kind=CheckKind.FILE_EXISTS, expected=text)
            suffix = PurePosixPath(value).suffix.lower()
            if suffix in PARSED:
                yield Check(kind=CheckKind.FILE_PARSES, expected={"file": text, "as": PARSED[suffix]})
            if suffix in _COUNTED and (rows := _rows(step, record, value)) is not None:
                yield Check(kind=CheckKind.FILE_LENGTH, expected={"file": text, "rows": rows})


def _written(step: Step, tools: Mapping[str, ToolFacts]) -> list[tuple[str, Expr]]:
    """The arguments of a step that may name a file: neither code nor content."""
    facts = tools.get(step.tool)
    other = facts.code_params | facts.payload_params if facts else frozenset()
    return [(name, expr) for name, expr in step.args.items() if name not in other]


def _is_file(value: str) -> bool:
    return bool(file_forms(value)) and "@" not in value and "://" not in value


def _rows(step: Step, record: StepRecord, value: str) -> str | None:
    """A reference to the number of rows that a tool reports with the file it wrote."""
    output = record.output if isinstance(record.output, dict) else {}
    if value not in (output.get("target"), output.get("path")):
        return None
    named = [name for name in _ROWS if isinstance(output.get(name), int) and not isinstance(output[name], bool)]
    return str(unparse(OutputRef(step=step.id, path=(named[0],)))) if len(named) == 1 else None


def _with_loop_checks(node: Node, tools: Mapping[str, ToolFacts]) -> Node:
    """A loop whose write steps check in each iteration that the file they name is there."""
    if isinstance(node, Step):
        return node
    steps: list[Node] = []
    for inner in node.steps:
        if isinstance(inner, Step) and inner.effect is Effect.WRITE and not inner.when:
            texts = [unparse(expr) for name, expr in _written(inner, tools) if _names_file(name, expr)]
            more = tuple(Check(kind=CheckKind.FILE_EXISTS, expected=text) for text in texts)
            inner = replace(inner, checks=(*inner.checks, *(one for one in more if one not in inner.checks)))
        steps.append(_with_loop_checks(inner, tools))
    return replace(node, steps=tuple(steps))


def _names_file(name: str, expr: Expr) -> bool:
    """Whether an argument of a loop's step is surely a path: it is called one and is made of the entry."""
    called = re.search(r"(^|_)(path|file|target|destination|dest|output)(_|$)", name) is not None
    return called and not isinstance(expr, Const) and isinstance(unparse(expr), str)


# --- what the learner proposes -----------------------------------------------------------------------------

_FORMATS = "|".join(dict.fromkeys((*PARSED.values(), "markdown")))
_IS = r"(?:is|was|has been|are)"
_THERE = re.compile(rf"^\W*(?:exists?|{_IS} (?:present|there|created|written|saved)|(?:now )?exists)\W*$")
_GONE = re.compile(
    rf"^\W*(?:does not exist|doesn't exist|no longer exists?|{_IS} (?:gone|absent|removed|deleted|missing))\W*$"
)
_FULL = re.compile(rf"^\W*(?:{_IS} (?:not empty|non-?empty)|has content|is larger than 0 bytes)\W*$")
_SAID = (
    (_THERE, CheckKind.FILE_EXISTS),
    (_GONE, CheckKind.FILE_MISSING),
    (_FULL, CheckKind.FILE_NOT_EMPTY),
)
_BEFORE = frozenset(
    {"", "the", "file", "the file", "a file", "output", "the output", "the output file", "the new file"}
)
_PARSES = re.compile(rf"^\W*(?:{_IS} (?:a )?(?:valid|well-formed)|parses as|can be read as) ({_FORMATS})(?: file)?\W*$")
_LENGTH = re.compile(
    r"^\W*(?:has|contains|holds|with) (?:exactly )?(\d[\d,]*) (?:data |csv )?(rows?|lines?|records?)\W*$"
)
_HOLDS = re.compile(r"^\W*(?:contains|holds|includes|mentions) (?:the (?:text|word|line) )?[\"'“`](.+)[\"'”`]\W*$")
_STATUS = re.compile(
    r"^\W*(?:the )?(?:command'?s? )?(?:exit|return) (?:status|code)(?: (?:is|was|of))?[ :=]*(\d{1,3})\W*$"
)


def _proposed(statement: str, trace: Trace, recorded: Recorded) -> list[Check] | None:
    """The checks that a statement of the learner says; None if it can't be read or holds a value of this run only."""
    text = " ".join(statement.split())
    if status := _STATUS.match(text.lower()):
        told = [r.output.get("exit_status") for r in recorded.records.values() if isinstance(r.output, dict)]
        return [] if int(status[1]) in told else None  # each such step checks it already
    subject = _subject(text, trace, recorded)
    if subject is None:
        return None
    file, rest = subject
    lowered = rest.lower()
    for pattern, kind in _SAID:
        if pattern.match(lowered):
            return [Check(kind=kind, expected=file)]
    if parses := _PARSES.match(lowered):
        named = "md" if parses[1] == "markdown" else parses[1]
        return [Check(kind=CheckKind.FILE_PARSES, expected={"file": file, "as": named})]
    if length := _LENGTH.match(lowered):
        return _length(file, int(length[1].replace(",", "")), length[2], recorded)
    if holds := _HOLDS.match(rest):
        named = [name for name, value in recorded.bindings.items() if value == holds[1]]
        held = {"file": file, "text": f"${{{{ {named[0]} }}}}"} if len(named) == 1 else None
        return [Check(kind=CheckKind.FILE_CONTAINS, expected=held)] if held else None
    return None


def _subject(text: str, trace: Trace, recorded: Recorded) -> tuple[str, str] | None:
    """The file a statement is about, as an expression, and what it says of it."""
    paths = [token for token in tokenize(text) if token.kind is Kind.PATH]
    if len(paths) > 1:
        return None
    if not paths:
        written = {file: None for step in trace.calls for file in _files_of(step, recorded)}
        nameless = re.match(r"(?:the (?:output |target |new )?file|it)\b", text, re.IGNORECASE)
        return (next(iter(written)), text[nameless.end() :]) if nameless and len(written) == 1 else None
    file = _expression(paths[0], trace, recorded)
    before, rest = text[: paths[0].start].strip().lower(), text[paths[0].end :].strip()
    counted = re.fullmatch(r"(?:there are )?(?:exactly )?(\d[\d,]*) (rows?|lines?|records?) in(?: the file)?", before)
    if file is None or (counted is None and before not in _BEFORE):
        return None
    return file, f"has {counted[1]} {counted[2]}" if counted else rest


def _files_of(step: Step, recorded: Recorded) -> list[str]:
    record = recorded.records.get(step.id)
    if record is None or step.effect is not Effect.WRITE:
        return []
    found = [(record.args.get(name), expr) for name, expr in _written(step, recorded.tools)]
    return [str(unparse(expr)) for value, expr in found if isinstance(value, str) and _is_file(value)]


def _expression(token: Token, trace: Trace, recorded: Recorded) -> str | None:
    """A path as the steps or the goal make it; None for a fixed one that may belong to this run's values."""
    for step in (node for node in trace.steps if isinstance(node, Step) and not node.when):
        record = recorded.records.get(step.id)
        for name, expr in step.args.items() if record else ():
            if record and record.args.get(name) == token.value:
                return str(unparse(expr))
    for name, value in recorded.bindings.items():
        if value == token.value:
            return f"${{{{ {name} }}}}"
    parts = {part for value in recorded.bindings.values() for part in (str(value), PurePosixPath(str(value)).stem)}
    return None if any(part in token.value for part in parts) else str(unparse(Const(value=token.value)))


def _length(file: str, count: int, unit: str, recorded: Recorded) -> list[Check] | None:
    """A number of rows that an output or the goal says; any other number only says that there are some."""
    named = [
        str(unparse(OutputRef(step=step, path=path)))
        for step, record in recorded.records.items()
        for path, leaf in leaves(record.output)
        if leaf == count and not isinstance(leaf, bool) and not any(isinstance(part, int) for part in path)
    ]
    named += [f"${{{{ {name} | number }}}}" for name, value in recorded.bindings.items() if str(value) == str(count)]
    if len(named) == 1:
        key = "lines" if unit.startswith("line") else "rows"
        return [Check(kind=CheckKind.FILE_LENGTH, expected={"file": file, key: named[0]})]
    return [Check(kind=CheckKind.FILE_NOT_EMPTY, expected=file)] if count else None
