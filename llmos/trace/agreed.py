"""The checks of two traces that are one program: what both runs bear out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from llmos.errors import TraceFormatError
from llmos.trace.joining import Joining
from llmos.trace.json_values import digest, json_type
from llmos.trace.program import ABOUT_FILES, Check, CheckKind, Trace
from llmos.trace.recorded import Recorded
from llmos.trace.sources import ApartError
from llmos.trace.values import SlotRef, UnboundError, parse, references, unparse, value_at


def agreed_outputs(
    joining: Joining, merged: Trace, other: Trace, runs: Sequence[Recorded]
) -> tuple[dict[str, tuple[Check, ...]], set[str]]:
    """For each step the checks that hold in every run; and the steps whose output was not the frozen one.

    Raises:
        ApartError: a step gave another kind of output.
    """
    found: dict[str, tuple[Check, ...]] = {}
    lifted: set[str] = set()
    for step, theirs in zip(merged.calls, other.calls, strict=True):
        outputs = [record.output for one in runs for record in one.records.get(step.id, ())]
        files = list(agreed(joining, _files(step.checks), _files(theirs.checks), step.id))
        checks: list[Check] = []
        for check in (*step.checks, *theirs.checks):
            if check in checks or check.kind in ABOUT_FILES:
                continue
            if all(_holds(check, output) for output in outputs):
                checks.append(check)
            elif check.kind is CheckKind.OUTPUT_SHA256:
                lifted.add(step.id)
            else:
                raise ApartError(f"{step.id} gave another kind of output")
        checks += files
        found[step.id] = tuple(checks)
    return found, lifted


def agreed(joining: Joining, ours: Sequence[Check], theirs: Sequence[Check], at: str) -> tuple[Check, ...]:
    """The checks of files that both traces have, with what differs explained as in the steps up to `at`."""
    left = list(theirs)
    kept: list[Check] = []
    for check in ours:
        for other in left:
            joined = _joined(joining, check, other, at) if check.kind is other.kind else None
            if joined is not None:
                kept.append(joined)
                left.remove(other)
                break
    return tuple(kept)


def _joined(joining: Joining, ours: Check, theirs: Check, at: str) -> Check | None:
    known = len(joining.joints)
    try:
        expected = joining.expr(parse(ours.expected), parse(theirs.expected), str(ours.kind), at)
    except (ApartError, TraceFormatError, UnboundError):
        return None
    finally:
        del joining.joints[known:]  # what only a check speaks of is no slot
    check = replace(ours, expected=unparse(expected))
    names = {joint.name for joint in joining.joints}
    used = {ref.name for ref in references(expected) if isinstance(ref, SlotRef)}
    return check if used <= names else None


def _files(checks: Sequence[Check]) -> list[Check]:
    return [check for check in checks if check.kind in ABOUT_FILES]


def _holds(check: Check, output: Any) -> bool:
    """Whether a check is met by a recorded output; of what can't be told, only what both say counts."""
    expected = check.expected
    match check.kind:
        case CheckKind.OUTPUT_SHA256:
            return digest(output) == str(expected)
        case CheckKind.OUTPUT_TYPE:
            return bool(json_type(output) == expected)
        case CheckKind.EXIT_STATUS:
            return isinstance(output, dict) and bool(output.get("exit_status") == expected)
        case CheckKind.LENGTH:
            return bool(_size(output, expected["path"]) == expected["length"])
        case CheckKind.VALUE_TYPE:
            return bool(json_type(_at(output, expected["path"])) == expected["type"])
        case CheckKind.SAME_NUMBER:
            return bool(_at(output, expected[0]) == _at(output, expected[1]))
        case CheckKind.NOT_EMPTY:
            return bool(_at(output, expected if isinstance(expected, list) else [expected]))
        case _:
            return False


def _at(output: Any, path: Sequence[Any]) -> Any:
    try:
        return value_at(output, tuple(path))
    except UnboundError:
        return None


def _size(output: Any, path: Sequence[Any]) -> int | None:
    found = _at(output, path)
    return len(found) if isinstance(found, list) else None
