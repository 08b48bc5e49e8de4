"""The data of the benchmark: streams of goals and pairs of goals, recognised by what a line holds."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

SHELL = "bash"
"""The tool of the sources that takes a whole command."""


class DataError(Exception):
    """A line that can't be used; the message names file, line and what is wrong."""


PROCEDURE = "procedure"
"""The argument that says which procedure a tool of several has to carry out: always the same in a trace."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """One tool call with its arguments; `procedure` is what it does apart from them, where its tool does several."""

    tool: str
    args: Mapping[str, Any]
    procedure: str = ""

    @classmethod
    def made(cls, tool: str, sent: Mapping[str, Any]) -> Call:
        """A call as the product made it."""
        args = dict(sent)
        return cls(tool=tool, procedure=args.pop(PROCEDURE, ""), args=args)

    @property
    def sent(self) -> dict[str, Any]:
        """All that the tool gets."""
        return {**self.args, **({PROCEDURE: self.procedure} if self.procedure else {})}


@dataclass(frozen=True, kw_only=True)
class Goal:
    """A goal, the task it is an instance of, and the calls that solve it.

    `proc` names the slots whose value changes the procedure; the others are arguments. `recorded` are the
    ground-truth calls where the source has them.
    """

    id: str
    text: str
    task_id: str
    slots: Mapping[str, Any] = field(default_factory=dict)
    proc: frozenset[str] = frozenset()
    recorded: tuple[Call, ...] = ()
    family: str = ""

    @cached_property
    def procedure(self) -> str:
        """What has to be done, apart from the arguments: the task and the values of its `proc` slots, hashed.

        A hash, so that no word of it can help to match a goal.
        """
        return _hashed(self.task_id, sorted((name, str(self.slots[name])) for name in self.proc if name in self.slots))

    @property
    def arguments(self) -> dict[str, Any]:
        """The slots that are arguments of the calls."""
        return {name: value for name, value in self.slots.items() if name not in self.proc}

    @cached_property
    def calls(self) -> tuple[Call, ...]:
        """The calls that solve it: those of the source, else one with the slots as arguments.

        One call goes to the source's own tool, or to one for the goal's family, which gets the procedure as an
        argument. The calls of several, and commands, go to tools that no other procedure has.
        """
        recorded = self.recorded or (Call(tool=self.family or self.task_id, args=self.arguments),)
        if len(recorded) == 1 and recorded[0].tool != SHELL:
            tool = f"t{_hashed(recorded[0].tool)}"
            return (Call(tool=tool, args=self._varying(recorded[0]), procedure=self.procedure),)
        return tuple(
            Call(tool=f"t{self.procedure}_{number}", args=self._varying(call)) for number, call in enumerate(recorded)
        )

    def _varying(self, call: Call) -> dict[str, Any]:
        return {name: value for name, value in call.args.items() if name not in self.proc}


def _hashed(*parts: Any) -> str:
    """A name of twelve letters that says nothing, not even a number."""
    digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]
    return digest.translate(_LETTERS)


_LETTERS = str.maketrans("0123456789abcdef", "bcdfghjkmnpqrtvz")


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two goals and whether they are the same task (a label of the source)."""

    id: str
    source: str
    a: Goal
    b: Goal
    same: bool


@dataclass(frozen=True, kw_only=True)
class Data:
    """All sets of a folder by name; `problems` are the files that could not be used, a sentence each."""

    streams: Mapping[str, tuple[Goal, ...]]
    pairs: Mapping[str, tuple[Pair, ...]]
    problems: Mapping[str, str] = field(default_factory=dict)


def mostly_new(goals: Iterable[Goal]) -> frozenset[str]:
    """The parameters that no tool could list the values of: most of them (2 of 3) are new each time, as titles are.

    The share of values met once estimates the chance that the next one is new. Source: Good 1953.
    """
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for goal in goals:
        for call in goal.calls:
            for name, value in call.args.items():
                if isinstance(value, str):
                    counts[name][value.casefold()] += 1
    return frozenset(
        name for name, seen in counts.items() if 3 * sum(count == 1 for count in seen.values()) > 2 * seen.total()
    )


def load(folder: Path) -> Data:
    """Read every `.jsonl` and `.jsonl.gz` of a folder; a file with a broken line is left out and told.

    Raises:
        DataError: the folder holds no such file.
    """
    files = sorted({*folder.glob("*.jsonl"), *folder.glob("*.jsonl.gz")})
    if not files:
        raise DataError(f"{folder} holds no .jsonl or .jsonl.gz file; name a folder that does with --data")
    streams: dict[str, tuple[Goal, ...]] = {}
    pairs: dict[str, tuple[Pair, ...]] = {}
    problems: dict[str, str] = {}
    for file in files:
        name = file.name.removesuffix(".gz").removesuffix(".jsonl")
        try:
            items = list(read(file))
        except DataError as error:
            problems[name] = str(error)
            continue
        goals = tuple(item for item in items if isinstance(item, Goal))
        found = tuple(item for item in items if isinstance(item, Pair))
        if goals:
            streams[name] = goals
        if found:
            pairs[name] = found
    return Data(streams=streams, pairs=pairs, problems=problems)


def read(file: Path) -> Iterator[Goal | Pair]:
    """The goals or pairs of one file, in order; a blank line is none.

    Raises:
        DataError: a line that is neither; names the file and the line.
    """
    opener = gzip.open if file.suffix == ".gz" else open
    number = 0
    try:
        with opener(file, "rt", encoding="utf-8") as stream:
            for number, line in enumerate(stream, 1):
                if line.strip():
                    yield _item(json.loads(line), f"{file.stem}-{number}")
    except (ValueError, TypeError, KeyError, AttributeError, OSError, EOFError) as error:
        raise DataError(f"{file}, line {number or 1}: {_said(error)}") from error


def _said(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON ({error.msg})"
    if isinstance(error, KeyError):
        return f"{error.args[0]!r} is missing"
    return str(error) or type(error).__name__


def _item(record: Any, number: str) -> Goal | Pair:
    if not isinstance(record, dict):
        raise TypeError(f"an object is needed, not {type(record).__name__}")
    if "a" in record and "b" in record:
        return Pair(
            id=str(record.get("id", number)),
            source=str(record.get("src", "")),
            a=_side(record, "a", number),
            b=_side(record, "b", number),
            same=_same(record["same"]),
        )
    return _goal(record, number)


def _goal(record: Mapping[str, Any], number: str) -> Goal:
    slots = _mapping(record.get("slots"), "slots")
    calls = record.get("calls") or []
    return Goal(
        id=str(record.get("id", number)),
        text=_text(record["goal"], "goal"),
        task_id=_text(record["task_id"], "task_id"),
        slots=slots,
        proc=frozenset(map(str, record.get("proc") or ())),
        recorded=tuple(Call(tool=str(one["tool"]), args=_mapping(one.get("args"), "args")) for one in calls),
        family=str(record.get("fam") or ""),
    )


def _side(record: Mapping[str, Any], side: str, number: str) -> Goal:
    same = _same(record["same"])
    task = record.get(f"{side}_task") or (f"{number}-a" if same else f"{number}-{side}")
    return Goal(
        id=f"{record.get('id', number)}-{side}",
        text=_text(record[side], side),
        task_id=str(task),
        slots=_mapping(record.get(f"{side}_slots"), f"{side}_slots"),
    )


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise TypeError(f"{name} must be text, not {value!r}")
    return value


def _mapping(value: Any, name: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise TypeError(f"{name} must be an object, not {type(value).__name__}")
    return value


def _same(value: Any) -> bool:
    if value not in (0, 1):
        raise TypeError(f"same must be 0 or 1, not {value!r}")
    return bool(value)
