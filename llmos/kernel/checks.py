"""Checks of a replay: executable predicates over a step's output, three-valued."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llmos.errors import TraceFormatError
from llmos.trace.induce import digest, json_type
from llmos.trace.program import Check, CheckKind, Verdict
from llmos.trace.values import Scope, UnboundError, evaluate, parse, value_at


def evaluate_check(check: Check, output: Any, scope: Scope, exists: Callable[[str], bool]) -> tuple[Verdict, Any]:
    """A check's verdict on an output, with what was found instead of the expected."""
    match check.kind:
        case CheckKind.OUTPUT_TYPE:
            return _verdict(json_type(output), check.expected)
        case CheckKind.OUTPUT_SHA256:
            return _verdict(digest(output), check.expected)
        case CheckKind.EXIT_STATUS:
            return _verdict(output.get("exit_status") if isinstance(output, dict) else None, check.expected)
        case CheckKind.LENGTH:
            return _length(output, check.expected)
        case CheckKind.NOT_EMPTY:
            found = _at(output, check.expected)
            return (Verdict.PASS if found else Verdict.FAIL), found
        case CheckKind.FILE_EXISTS:
            return _file(check.expected, scope, exists)


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


def _file(expected: Any, scope: Scope, exists: Callable[[str], bool]) -> tuple[Verdict, Any]:
    try:
        path = str(evaluate(parse(expected), scope))
    except (UnboundError, TraceFormatError) as error:
        return Verdict.UNKNOWN, str(error)
    return (Verdict.PASS if exists(path) else Verdict.FAIL), path
