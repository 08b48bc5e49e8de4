"""Checks of a replay: executable predicates over a step's output or the workspace's files, three-valued."""

from __future__ import annotations

import csv
import io
import json
import logging
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from llmos.errors import InputError, NotPermittedError, TraceFormatError
from llmos.trace.json_values import digest, json_type
from llmos.trace.match import Match, match
from llmos.trace.program import ABOUT_FILES, Check, CheckKind, Trace, Verdict
from llmos.trace.run import Run, step_ids
from llmos.trace.values import Scope, UnboundError, as_text, evaluate, parse, value_at

log = logging.getLogger(__name__)

MAX_FILE_BYTES = 256_000_000


@dataclass(frozen=True, kw_only=True)
class Files:
    """What checks may ask of the workspace; `resolve` turns a path of a goal into one of the file system."""

    resolve: Callable[[str], Path]

    def exists(self, path: str) -> bool:
        try:
            return self.resolve(path).exists()
        except (NotPermittedError, InputError, OSError):
            return False

    def read(self, path: str) -> bytes | None:
        """A file's content; None if there is none, or more than a check reads."""
        try:
            place = self.resolve(path)
            if not place.is_file() or place.stat().st_size > MAX_FILE_BYTES:
                return None
            return place.read_bytes()
        except (NotPermittedError, InputError, OSError):
            return None


def evaluate_check(check: Check, output: Any, scope: Scope, files: Files) -> tuple[Verdict, Any]:
    """A check's verdict on an output or a file, with what was found instead of the expected."""
    if check.kind in ABOUT_FILES:
        return _about_file(check, scope, files)
    match check.kind:
        case CheckKind.OUTPUT_TYPE:
            return _verdict(json_type(output), check.expected)
        case CheckKind.OUTPUT_SHA256:
            return _verdict(digest(output), check.expected)
        case CheckKind.EXIT_STATUS:
            return _verdict(output.get("exit_status") if isinstance(output, dict) else None, check.expected)
        case CheckKind.LENGTH:
            return _length(output, check.expected)
        case CheckKind.VALUE_TYPE:
            return _value_type(output, check.expected)
        case CheckKind.SAME_NUMBER:
            return _same_number(output, check.expected)
        case CheckKind.NOT_EMPTY:
            found = _at(output, check.expected)
            return (Verdict.PASS if found else Verdict.FAIL), found
        case _:
            return Verdict.UNKNOWN, None


def with_held_checks(trace: Trace, run: Run, env: Mapping[str, str], files: Files) -> Trace:
    """The trace with those checks of its goal that hold right after the run it was made from.

    A check that fails there was read wrongly; one that can't be decided would stop every replay.
    """
    from llmos.trace.checking import judged

    found = match(unicodedata.normalize("NFC", run.goal.strip()), trace)
    if not isinstance(found, Match):
        return judged(replace(trace, checks=()))
    records = [step for step in run.steps if not step.is_error]
    outputs = dict(zip(step_ids(records), (step.output for step in records), strict=True))
    scope = Scope(slots=found.bindings, outputs=outputs, env=env)
    kept: list[Check] = []
    for check in trace.checks:
        verdict, actual = evaluate_check(check, None, scope, files)
        if verdict is Verdict.PASS:
            kept.append(check)
        else:
            told = {"action": "check_dropped", "run_id": run.id, "check": str(check.kind), "found": str(actual)[:200]}
            log.info("a check of the goal does not hold after its own run", extra=told)
    return judged(replace(trace, checks=tuple(kept)))


def _verdict(actual: Any, expected: Any) -> tuple[Verdict, Any]:
    return (Verdict.PASS if actual == expected else Verdict.FAIL), actual


def _at(output: Any, path: Any) -> Any:
    try:
        return value_at(output, tuple(path if isinstance(path, list) else [path]))
    except UnboundError:
        return None


def _length(output: Any, expected: Any) -> tuple[Verdict, Any]:
    if not isinstance(expected, dict) or "length" not in expected:
        return Verdict.UNKNOWN, None
    listed = _at(output, expected.get("path", []))
    return _verdict(len(listed), expected["length"]) if isinstance(listed, list) else (Verdict.FAIL, listed)


def _value_type(output: Any, expected: Any) -> tuple[Verdict, Any]:
    if not isinstance(expected, dict) or "type" not in expected:
        return Verdict.UNKNOWN, None
    try:
        found = json_type(value_at(output, tuple(expected.get("path", []))))
    except UnboundError as error:
        return Verdict.FAIL, str(error)
    return _verdict(found, expected["type"])


def _same_number(output: Any, expected: Any) -> tuple[Verdict, Any]:
    if not isinstance(expected, list) or len(expected) != 2:
        return Verdict.UNKNOWN, None
    pair = [_at(output, path) for path in expected]
    if any(isinstance(one, bool) or not isinstance(one, int | float) for one in pair):
        return Verdict.FAIL, pair
    return (Verdict.PASS if pair[0] == pair[1] else Verdict.FAIL), pair


# --- files -------------------------------------------------------------------------------------------------


def _about_file(check: Check, scope: Scope, files: Files) -> tuple[Verdict, Any]:
    """The verdict on a file; what can't be computed or read is UNKNOWN."""
    given = check.expected if isinstance(check.expected, dict) else {"file": check.expected}
    try:
        known = {key: evaluate(parse(text), scope) for key, text in given.items()}
        path = known["file"]
    except (UnboundError, TraceFormatError, KeyError) as error:
        return Verdict.UNKNOWN, str(error)
    if not isinstance(path, str):
        return Verdict.UNKNOWN, path
    if check.kind in (CheckKind.FILE_EXISTS, CheckKind.FILE_MISSING):
        there = files.exists(path)
        return (Verdict.PASS if there is (check.kind is CheckKind.FILE_EXISTS) else Verdict.FAIL), path
    if not files.exists(path):
        return Verdict.FAIL, f"{path} does not exist"
    content = files.read(path)
    return (Verdict.UNKNOWN, f"{path} can't be read") if content is None else _content(check, known, content)


def _content(check: Check, known: dict[str, Any], content: bytes) -> tuple[Verdict, Any]:
    match check.kind:
        case CheckKind.FILE_NOT_EMPTY:
            return (Verdict.PASS if content.strip() else Verdict.FAIL), f"{len(content)} bytes"
        case CheckKind.FILE_PARSES:
            return _parses(content, known.get("as"))
        case CheckKind.FILE_LENGTH:
            return _file_length(content, str(known["file"]), known)
        case CheckKind.FILE_CONTAINS if "text" in known:
            found = as_text(known["text"]).encode() in content
            return (Verdict.PASS if found else Verdict.FAIL), f"{len(content)} bytes without it"
        case _:
            return Verdict.UNKNOWN, None


def _parses(content: bytes, kind: Any) -> tuple[Verdict, Any]:
    """Whether a file's content can be read as what its suffix says."""
    import yaml

    try:
        text = content.decode("utf-8-sig")
        if kind == "json":
            json.loads(text)
        elif kind == "jsonl":
            _lines_of_json(text)
        elif kind == "yaml":
            for _ in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
                pass
        elif kind in ("csv", "tsv"):
            widths = {len(row) for row in _rows(text, kind)}
            return (Verdict.PASS if len(widths) == 1 else Verdict.FAIL), f"rows of {sorted(widths)} cells"
        elif kind == "md":
            return (Verdict.PASS if text.strip() else Verdict.FAIL), "nothing in it"
        else:
            return Verdict.UNKNOWN, kind
    except (ValueError, RecursionError, csv.Error, yaml.YAMLError) as error:
        return Verdict.FAIL, str(error)
    return Verdict.PASS, kind


def _lines_of_json(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def _rows(text: str, kind: str) -> list[list[str]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter="\t" if kind == "tsv" else ",", strict=True)
    return [row for row in reader if row]


def _file_length(content: bytes, path: str, known: dict[str, Any]) -> tuple[Verdict, Any]:
    """How many lines a file has, or rows: of a table without its header, of a list its entries."""
    suffix = Path(path).suffix.lower()
    try:
        text = content.decode("utf-8-sig")
        if "lines" in known:
            return _verdict(len(text.splitlines()), known["lines"])
        if "rows" not in known:
            return Verdict.UNKNOWN, None
        if suffix in (".csv", ".tsv"):
            return _verdict(max(len(_rows(text, suffix[1:])) - 1, 0), known["rows"])
        listed = _lines_of_json(text) if suffix == ".jsonl" else json.loads(text) if suffix == ".json" else None
    except (ValueError, RecursionError, csv.Error) as error:
        return Verdict.FAIL, str(error)
    return _verdict(len(listed), known["rows"]) if isinstance(listed, list) else (Verdict.UNKNOWN, suffix)
