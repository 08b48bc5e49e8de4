"""What differs between two traces, part by part, in the words of the trace format."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmos.trace.codec import to_data
from llmos.trace.program import Trace

_HISTORY = frozenset(
    {"format", "id", "version", "goals", "slots", "steps", "answer"}
    | {"provenance", "status", "reason", "run_id", "model", "cost_usd", "created_at"}
)


@dataclass(frozen=True, kw_only=True)
class Change:
    """One part that was added (`before` None), removed (`after` None) or changed, as the format writes it.

    `part` is goal, slot, step, order, answer or another key of the format; `name` says which one.
    """

    part: str
    name: str = ""
    before: Any = None
    after: Any = None

    @property
    def title(self) -> str:
        return f"{self.part} {self.name}".rstrip()


def diff(old: Trace, new: Trace) -> list[Change]:
    """What `new` does otherwise than `old`; what is known of their history and standing is not compared."""
    before, after = to_data(old), to_data(new)
    changes = list(_goals(before["goals"], after["goals"]))
    changes += _by_name("slot", before.get("slots", {}), after.get("slots", {}))
    first, second = _flat(before["steps"]), _flat(after["steps"])
    for name in [*first, *(name for name in second if name not in first)]:
        changes += _step(name, first.get(name), second.get(name))
    kept = [name for name in first if name in second], [name for name in second if name in first]
    if kept[0] != kept[1]:
        changes.append(Change(part="order", name="of steps", before=kept[0], after=kept[1]))
    rest = sorted((before.keys() | after.keys()) - _HISTORY)
    for key in ["answer", *rest]:
        if before.get(key) != after.get(key):
            changes.append(Change(part=key, before=before.get(key), after=after.get(key)))
    return changes


def summary(changes: Sequence[Change]) -> str:
    """Which parts changed, in a few words: `+1 goal, ~2 step`."""
    signs = Counter((_sign(change), change.part) for change in changes)
    return ", ".join(f"{sign}{count} {part}" for (sign, part), count in signs.items())


def _sign(change: Change) -> str:
    return "+" if change.before is None else "-" if change.after is None else "~"


def _goals(before: Sequence[str], after: Sequence[str]) -> Iterator[Change]:
    yield from (Change(part="goal", before=goal) for goal in before if goal not in after)
    yield from (Change(part="goal", after=goal) for goal in after if goal not in before)


def _by_name(part: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Change]:
    for name in [*before, *(name for name in after if name not in before)]:
        if before.get(name) != after.get(name):
            yield Change(part=part, name=name, before=before.get(name), after=after.get(name))


def _flat(steps: Sequence[Mapping[str, Any]], inside: str = "") -> dict[str, dict[str, Any]]:
    """Steps by id, those of loops as `LOOP/STEP`, each without the steps inside it."""
    found: dict[str, dict[str, Any]] = {}
    for step in steps:
        name = inside + step["id"]
        found[name] = {key: value for key, value in step.items() if key not in ("id", "steps")}
        found |= _flat(step.get("steps", ()), f"{name}/")
    return found


def _step(name: str, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> Iterator[Change]:
    """A step that came or went as a whole, else its arguments, checks and other keys one by one."""
    if before is None or after is None:
        yield Change(part="step", name=name, before=before, after=after)
        return
    yield from _by_name("step", _keyed(name, before), _keyed(name, after))


def _keyed(name: str, step: Mapping[str, Any]) -> dict[str, Any]:
    keyed = {f"{name}: {key}": value for key, value in step.items() if key not in ("args", "checks")}
    keyed |= {f"{name}: {key}": value for key, value in step.get("args", {}).items()}
    for check in step.get("checks", ()):
        for kind, expected in check.items():
            number = sum(1 for key in keyed if key.startswith(f"{name}: check {kind}"))
            keyed[f"{name}: check {kind}" + (f" {number + 1}" if number else "")] = expected
    return keyed
