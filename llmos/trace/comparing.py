"""Two solutions of one goal compared: what a replay answered and called, and what the learner did on its own."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from enum import StrEnum

from llmos.trace.lex import Kind, tokenize
from llmos.trace.run import StepRecord

_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:,\d{3})*(?:\.\d+)?(?!\w)")
_WORD = re.compile(r"[^\W\d_]+")
_LITERAL = (Kind.PATH, Kind.URL, Kind.EMAIL, Kind.DATE, Kind.QUOTED)


class Audit(StrEnum):
    """How a replay compares with the learner's own work; only the first two say anything of the trace."""

    AGREED = "agreed"
    DISAGREED = "disagreed"
    UNDECIDED = "undecided"
    FAILED = "failed"


def compared(
    goal: str, replayed: str, calls: Sequence[StepRecord], learned: str, learned_calls: Sequence[StepRecord]
) -> Audit:
    """Whether the learner's answer states anything that the replay's does not.

    What counts are the facts the goal did not bring along: numbers, names of files, addresses, dates, quoted text. An
    answer without any is compared by its words and, where those differ, by the calls behind it.
    """
    if _flat(replayed) == _flat(learned):
        return Audit.AGREED
    stated = facts(learned) - facts(goal)
    if stated:
        return Audit.AGREED if stated <= facts(replayed) else Audit.DISAGREED
    if words(learned) - words(goal) <= words(replayed) or _made(calls) == _made(learned_calls):
        return Audit.AGREED
    return Audit.UNDECIDED


def facts(text: str) -> set[str]:
    """The numbers (without their format) and literals a text states."""
    found = {f"{float(number.replace(',', '')):.10g}" for number in _NUMBER.findall(text)}
    return found | {token.value.casefold() for token in tokenize(text) if token.kind in _LITERAL}


def words(text: str) -> set[str]:
    """The words of a text."""
    return {word.casefold() for word in _WORD.findall(text)}


def _flat(text: str) -> str:
    return " ".join(text.split()).casefold().rstrip(".! ")


def _made(calls: Sequence[StepRecord]) -> list[str]:
    """The calls that went well, in any order."""
    return sorted(f"{call.tool} {json.dumps(call.args, sort_keys=True)}" for call in calls if not call.is_error)
