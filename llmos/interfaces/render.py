"""What the user reads: records as text. Pure functions; nothing here writes anywhere."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmos.accounts import LedgerEntry
    from llmos.interfaces.results import Explanation, Result
    from llmos.plugins.tool import Tool
    from llmos.trace.run import Handover, Run, StepRecord

ANSWER_WIDTH = 60
VALUE_WIDTH = 100

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


# ------------------------------------------------------------------------------------------------ small things


def plain(text: str) -> str:
    """Text that can't steer a terminal: control and direction characters become `�`; tabs and newlines stay."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n"))


def one_line(value: Any, width: int = VALUE_WIDTH) -> str:
    """A value on one line, cut with `…` after `width` characters; what is not text as JSON."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    flat = " ".join(plain(text[: 8 * width + 8]).split())
    return flat if len(flat) <= width else flat[: width - 1].rstrip() + "…"


def money(amount_usd: float) -> str:
    """Dollars with four digits, the sign in front: `$0.4312`, `-$0.0100`."""
    return f"{'-' if amount_usd < 0 else ''}${abs(amount_usd):,.4f}"


def size(count: int) -> str:
    """Bytes: `812 B`, `4.2 kB`, `31 MB`."""
    amount, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while amount >= 1000 and len(units) > 1:
        amount /= 1000
        units.pop(0)
    return f"{count} B" if units[0] == "B" else f"{amount:.3g} {units[0]}"


def duration(seconds: float) -> str:
    """`3 ms`, `4.2 s`, `2 min 5 s`."""
    if not math.isfinite(seconds) or seconds < 0:
        return "?"
    if seconds < 0.9995:
        return f"{max(1, round(seconds * 1000))} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def moment(at: datetime | None) -> str:
    """A time in the user's own zone, to the second; empty for None."""
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S") if at is not None else ""


def arguments(args: Mapping[str, Any], width: int = VALUE_WIDTH) -> str:
    """A call's arguments: `path=a.csv limit=5`."""
    return one_line(" ".join(f"{name}={one_line(value, width)}" for name, value in args.items()), width)


def data(value: Any) -> Any:
    """Records as plain JSON data: dataclasses by field, enums by value, times in ISO form, paths as text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        shown = [field.name for field in dataclasses.fields(value) if not field.name.startswith("_")]
        return {name: data(getattr(value, name)) for name in shown}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): data(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [data(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, str | int | float | bool) else _text(value)


def _text(value: Any) -> str:
    return value.as_posix() if isinstance(value, Path) else str(value)


# ------------------------------------------------------------------------------------------------------- tables


def table(
    columns: Sequence[str], rows: Iterable[Sequence[Any]], *, width: int | None = None, color: bool = False
) -> str:
    """Rows under their column names, numbers to the right, what matters most first.

    On a terminal of `width` columns what does not fit is cut or left out; None (no terminal) shows all.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    cells = [[_cell(value) for value in row] for row in rows]
    if width is not None:
        columns, cells = _fitted(columns, cells, width)
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for index, name in enumerate(columns):
        right = bool(cells) and all(_NUMBER.fullmatch(line[index]) for line in cells)
        grid.add_column(Text(name), justify="right" if right else "left", no_wrap=True, overflow="ellipsis")
    for line in cells:
        grid.add_row(*(Text(cell) for cell in line))
    drawn = io.StringIO()
    console = Console(
        file=drawn,
        width=width or 10_000,
        color_system="standard" if color else None,
        force_terminal=color,
        legacy_windows=False,
    )
    console.print(grid)
    return "\n".join(line.rstrip() for line in drawn.getvalue().rstrip("\n").split("\n"))


def _fitted(columns: Sequence[str], cells: list[list[str]], width: int) -> tuple[Sequence[str], list[list[str]]]:
    """The table for a terminal: without empty columns, long texts cut, and without the last columns if need be."""
    kept = [index for index in range(len(columns)) if any(line[index] for line in cells)]
    columns, cells = [columns[index] for index in kept], [[line[index] for index in kept] for line in cells]
    widths = [max(len(name), *(len(line[index]) for line in cells)) for index, name in enumerate(columns)]
    long = sorted((index for index in range(len(columns)) if widths[index] > _LONG), key=lambda index: widths[index])
    room = width - 2 * (len(columns) - 1) - sum(widths[index] for index in range(len(columns)) if index not in long)
    if room < _LONG * len(long) and len(columns) > _FEWEST:
        return _fitted(columns[:-1], [line[:-1] for line in cells], width)
    for left, index in zip(range(len(long), 0, -1), long, strict=True):
        widths[index] = min(widths[index], max(_LONG, room // left))
        room -= widths[index]
    return columns, [[one_line(cell, limit) for cell, limit in zip(line, widths, strict=True)] for line in cells]


_LONG = 20
_FEWEST = 3
_NUMBER = re.compile(r"[-+]?\$?[\d,]*\.?\d*%?( ms| s)?|-?")


def _cell(value: Any) -> str:
    return "" if value is None else one_line(value, 400)


# --------------------------------------------------------------------------------------------------- one goal


def closing_line(result: Result) -> str:
    """The line a run ends with: mode, answer, cost, savings, time, trace (or the run, if it failed)."""
    failed = result.status != "done"
    who = "refused" if result.mode == "none" and result.status == "failed" else f"{result.mode} {result.status}"
    return " · ".join(
        [
            who.removeprefix("none ") if failed else result.mode,
            *([] if failed else [f'"{one_line(result.answer, ANSWER_WIDTH)}"']),
            money(result.cost_usd),
            *([f"learning ≈ {money(result.estimate_usd)}"] if result.estimate_usd else []),
            f"saved {money(result.saved_usd)}",
            duration(result.duration_s),
            result.trace_id or ("no trace" if not failed else f"run {result.run_id}"),
        ]
    )


def unchanged(result: Result) -> str:
    """What is said before the answer of an earlier run."""
    return f"{result.reason[:1].upper()}{result.reason[1:]}. Its answer:"


def ago(seconds: float) -> str:
    """How long ago something was: `a moment ago`, `3 minutes ago`, `2 days ago`."""
    for unit, length in (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1)):
        count = int(seconds // length)
        if count >= 1 and (unit != "second" or count >= 5):
            return f"{count} {unit}{'s' * (count > 1)} ago"
    return "a moment ago"


def explanation(told: Explanation) -> str:
    """What would happen to a goal, why, with which calls, at what cost; then the candidates and what spoke against."""
    lines = [f"{told.decision}{f' {told.trace_id}' if told.trace_id else ''}: {plain(told.reason)}", *_standing(told)]
    if told.bindings:
        lines += ["", "with", *(f"  {name} = {one_line(value)}" for name, value in told.bindings.items())]
    if told.steps:
        lines += ["", "steps"]
        for number, step in enumerate(told.steps, 1):
            lines += planned(str(number), step)
    lines += _permitted(told)
    calls = f"{told.model_calls} model call{'s' * (told.model_calls > 1)}, ≈ " if told.model_calls else ""
    lines += ["", f"cost {calls}{money(told.cost_usd)} · saves {money(told.saved_usd)}"]
    return "\n".join(lines)


def _permitted(told: Explanation) -> list[str]:
    """The calls that are not simply allowed by default, and why."""
    telling = [one for one in told.permissions if one["verdict"] != "allow" or not one["why"].startswith("by default")]
    if not telling:
        return []
    rows = [f"  {one['step']}: {one['verdict']} ({one_line(one['why'], 200)})" for one in telling]
    return ["", "permissions", *rows]


def _standing(told: Explanation) -> list[str]:
    """Why the trace that would be followed has the status it has."""
    found = [one for one in told.candidates if told.trace_id and one.get("trace_id") == told.trace_id]
    return [f"{one['status']}: {one_line(one['standing'], 300)}" for one in found[:1] if one.get("standing")]


def planned(number: str, step: Mapping[str, Any]) -> list[str]:
    """A step to come, or a loop with its steps below it, with the conditions it depends on."""
    pad = "  " + "  " * number.count(".")
    asked = [f"if {_pair(one)}, " for one in step.get("when") or ()]
    if "for_each" not in step:
        return [f"{pad}{number} {''.join(asked)}{step['tool']} {arguments(step.get('args') or {})}".rstrip()]
    where = [f" where {_pair(one)}" for one in step.get("where") or ()]
    lines = [f"{pad}{number} {''.join(asked)}for each of {one_line(step['for_each'])}{' and'.join(where)}"]
    for inner, one in enumerate(step["steps"], 1):
        lines += planned(f"{number}.{inner}", one)
    return lines


def _pair(condition: Mapping[str, Any]) -> str:
    from llmos.trace.codec import condition_from
    from llmos.trace.conditions import phrase

    return one_line(phrase(condition_from(condition)))


CANDIDATE_COLUMNS = ("trace", "found by", "goal template", "refused by", "words", "cosine", "message")


def candidate_row(candidate: Mapping[str, Any]) -> list[Any]:
    """A row under CANDIDATE_COLUMNS."""
    from llmos.trace.aligning import readable

    cosine, words = candidate.get("cosine"), candidate.get("words")
    return [
        candidate.get("trace_id"),
        candidate.get("how"),
        readable(str(candidate.get("template") or "")),
        candidate.get("rule") or "",
        ", ".join(map(str, words)) if isinstance(words, list | tuple) else words or "",
        f"{cosine:.3f}" if isinstance(cosine, float | int) else "",
        candidate.get("message") or "",
    ]


# --------------------------------------------------------------------------------------------------------- runs


def run(shown: Run) -> str:
    """A run for reading: what was asked, what was done, what came out and what it cost."""
    label = f"{shown.trace_id}@{shown.trace_version}" if shown.trace_id else "no trace"
    lines = [
        f"run {shown.id} · {shown.mode} {shown.status} · {money(shown.cost_usd)} · saved {money(shown.saved_usd)}"
        f" · {duration(shown.duration_s)} · {label}",
        f"goal: {one_line(shown.goal, 1000)}",
    ]
    lines += [f"started: {moment(shown.started_at)}"] if shown.started_at else []
    lines += [f"model: {shown.model}"] if shown.model else []
    lines += [f"reason: {one_line(shown.reason, 1000)}"] if shown.reason else []
    lines += [f"{name} = {one_line(value)}" for name, value in shown.bindings.items()]
    lines += [f"tainted by: {_taint(shown)}"] if shown.taint else []
    if shown.steps:
        lines += ["", "steps"]
    before: StepRecord | None = None
    for step in shown.steps:
        lines += _turn(shown.handover, before, step) if shown.handover is not None else []
        mark = "failed: " if step.is_error else "not done again, it gave: " if step.origin == "recorded" else ""
        lines.append(
            f"  {step.index + 1} {step.tool} {arguments(step.args)}".rstrip() + f" · {duration(step.duration_s)}"
        )
        lines.append(f"      {mark}{one_line(step.output, 200)}")
        before = step
    if shown.handover is not None and before is not None and before.origin == "replayed":
        lines += _diverged(shown.handover)
    if shown.answer is not None:
        lines += ["", "answer", *(f"  {line}" for line in plain(shown.answer).split("\n"))]
    return "\n".join(lines)


def _taint(shown: Run) -> str:
    """What a run read that somebody else may have written, each with its step."""
    told = (f"{one.shown}{f' in step {one.step + 1}' if one.step is not None else ''}" for one in shown.taint)
    return one_line("; ".join(told), 1000)


def _turn(told: Handover, before: StepRecord | None, step: StepRecord) -> list[str]:
    """The line above a step with which somebody else begins: who, and after a replay where it diverged."""
    was, now = _maker(before), _maker(step)
    if now == was:
        return []
    if now == "replayed":
        return [f"  replayed from {told.trace}"]
    stopped = _diverged(told) if was == "replayed" else []
    return [*stopped, f"  replayed from [{told.rejoined}] on" if now == "rejoined" else "  the learner went on"]


def _maker(step: StepRecord | None) -> str | None:
    """Who asked for a call: for one that was answered from a record, whoever had the model's id for it or not."""
    if step is None or step.origin is None:
        return None
    return str(step.origin) if step.origin != "recorded" else "learner" if step.tool_use_id else "rejoined"


def _diverged(told: Handover) -> list[str]:
    expected, found = one_line(told.expected), one_line(told.actual)
    return [f"  diverged at [{told.step_id}]: expected {expected}, found {found}"]


# ---------------------------------------------------------------------------------------------- ledger and tools


def ledger_entry(entry: LedgerEntry) -> dict[str, Any]:
    """A ledger row as JSON data, in dollars."""
    from llmos.accounts import to_usd

    return {
        "id": entry.id,
        "at": entry.at.isoformat(),
        "kind": str(entry.kind),
        "amount_usd": to_usd(entry.amount_microusd),
        "balance_usd": to_usd(entry.balance_microusd),
        "saved_usd": to_usd(entry.saved_microusd),
        "run_id": entry.run_id,
        "operation": entry.operation,
    }


def tool(shown: Tool) -> dict[str, Any]:
    """A tool as JSON data."""
    return {
        "name": shown.name,
        "description": shown.description,
        "effect": str(shown.effect),
        "source": shown.source,
        "version": shown.version,
        "idempotent": shown.idempotent,
        "schema": shown.schema,
    }


def signature(schema: Mapping[str, Any]) -> str:
    """A tool's arguments: `path: string, limit?: integer`."""
    required = set(schema.get("required", ()))
    return ", ".join(
        f"{name}{'' if name in required else '?'}: {_type(part)}" for name, part in schema.get("properties", {}).items()
    )


def _type(schema: Any) -> str:
    if not isinstance(schema, Mapping):
        return "any"
    if "enum" in schema:
        return "|".join(map(str, schema["enum"]))
    kind = schema.get("type", "any")
    return "|".join(map(str, kind)) if isinstance(kind, list) else str(kind)
