"""Agents: profiles that goals are reached under. A profile tells a model more, and takes permissions away."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

from llmos.accounts import to_microusd, to_usd
from llmos.errors import UsageError
from llmos.kernel.process import Kind, current
from llmos.settings import RuleSettings

MAX_PATTERNS = 200
"""How many tools or patterns of tools a profile may list."""


@dataclass(frozen=True, kw_only=True)
class Agent:
    """Who a process works as.

    What is '' or None is as without a profile: `kind` is the class, `tools` the names or patterns (with `*`) of the
    only tools it has. `rules` ask or deny. `memory` holds facts that its model is told, by name.
    """

    name: str
    description: str = ""
    kind: str = ""
    model: str = ""
    instructions: str = ""
    priority: int | None = None
    budget_usd: float | None = None
    tools: tuple[str, ...] | None = None
    rules: tuple[RuleSettings, ...] = ()
    memory: Mapping[str, Any] = field(default_factory=dict)

    def has(self, tool: str) -> bool:
        """Whether it has a tool; what may be done with that, rules say."""
        return self.tools is None or any(fnmatchcase(tool, one) for one in self.tools)

    @property
    def key(self) -> str:
        """What stands for all that may make a run another one: what its model is told, what it may not; '' for none.

        What can't be done without a tool, or was done in another way, is nothing that others should follow.
        """
        if not (self.instructions or self.memory or self.rules or self.tools is not None):
            return ""
        rules = sorted(json.dumps(asdict(replace(rule, source="")), sort_keys=True) for rule in self.rules)
        may = None if self.tools is None else sorted(self.tools), rules
        steers = json.dumps([self.name, self.instructions, dict(self.memory), *may], sort_keys=True)
        return hashlib.sha256(steers.encode()).hexdigest()[:16]

    @property
    def persona(self) -> str:
        """What its model is told beside the goal; '' where that is nothing."""
        if not self.instructions and not self.memory:
            return ""
        said = [f"You work as the agent {self.name}."]
        if self.instructions:
            said.append(f"The user has given this agent instructions, which hold beside the goal:\n{self.instructions}")
        if self.memory:
            facts = "\n".join(f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in self.memory.items())
            said.append(f"This agent knows these facts; they are data, and you can't change them:\n{facts}")
        return "\n\n".join(said)

    def to_data(self) -> dict[str, Any]:
        """The agent as plain data."""
        return asdict(self)

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Agent:
        """The agent of plain data; one that can't be read has no tool at all."""
        try:
            rules = tuple(
                RuleSettings(**{**one, "effects": tuple(one.get("effects", ()))}) for one in data.get("rules") or ()
            )
            tools = data.get("tools")
            return cls(**{**data, "rules": rules, "tools": None if tools is None else tuple(tools)})
        except (TypeError, ValueError, AttributeError):
            return cls(name="unknown", tools=())


def acting() -> Agent | None:
    """The agent that the current process works as."""
    process = current()
    return None if process is None else process.agent


def steering() -> str:
    """The key of what makes a run of the current process's agent another one ('': nothing)."""
    agent = acting()
    return "" if agent is None else agent.key


def begun_as(
    agent: Agent, kind: Kind | None, priority: int | None, budget_usd: float | None
) -> tuple[Kind | None, int | None, float | None]:
    """The class, priority and budget of a process that begins as an agent; what is asked for comes before the profile.

    A budget only makes the profile's smaller.

    Raises:
        UsageError: a process that works as another agent begins it.
    """
    above = acting()
    if above is not None and above != agent:
        raise UsageError(f"what the agent {above.name} begins works as it does, and not as {agent.name}.")
    budgets = [usd for usd in (agent.budget_usd, budget_usd) if usd is not None]
    return (
        kind or (Kind(agent.kind) if agent.kind else None),
        agent.priority if priority is None else priority,
        min(budgets) if budgets else None,
    )


# --- merging and splitting ---------------------------------------------------------------------------


def merged(
    a: Agent, b: Agent, name: str, *, prefer: str = "", usual_priority: int, usual_usd: float | None = None
) -> Agent:
    """Both as one: what either is told and knows, and only what both may; it says how urgent and dear the lesser is.

    The `usual` ones hold for an agent that names none. Where facts or models differ, those of `prefer` count.

    Raises:
        UsageError: the two differ in what only one of them can say, and none is preferred.
    """
    if (a.kind or "user") != (b.kind or "user"):
        raise UsageError(
            f"{a.name} is of the class {a.kind or 'user'} and {b.name} of {b.kind or 'user'}, and classes have rules "
            "of their own: give both the same class first."
        )
    first, second = (b, a) if prefer and prefer == b.name else (a, b)
    differing = [f"the fact {one!r}" for one in a.memory if one in b.memory and not _same(a.memory[one], b.memory[one])]
    if a.model and b.model and a.model != b.model:
        differing.append("the model")
    if differing and not prefer:
        raise UsageError(
            f"{a.name} and {b.name} differ in {' and '.join(differing)}: say whose counts, with --prefer {a.name} or "
            f"--prefer {b.name}."
        )
    return Agent(
        name=name,
        description=_joined(a.description, b.description, "; "),
        kind=a.kind or b.kind,
        model=first.model or second.model,
        instructions=_joined(a.instructions, b.instructions, "\n\n"),
        priority=_less_urgent(a.priority, b.priority, usual_priority),
        budget_usd=_smaller(a.budget_usd, b.budget_usd, usual_usd),
        tools=common_tools(a.tools, b.tools),
        rules=_distinct((*a.rules, *b.rules)),
        memory={**second.memory, **first.memory},
    )


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and one == other


def _joined(one: str, other: str, between: str) -> str:
    return between.join(dict.fromkeys(text for text in (one, other) if text))


def _less_urgent(one: int | None, other: int | None, usual: int) -> int | None:
    if one is None and other is None:
        return None
    return max(usual if one is None else one, usual if other is None else other)


def _smaller(one: float | None, other: float | None, usual: float | None) -> float | None:
    if one is None and other is None:
        return None
    return min(usd for usd in (usual if one is None else one, usual if other is None else other) if usd is not None)


def _distinct(rules: Iterable[RuleSettings]) -> tuple[RuleSettings, ...]:
    """Each rule once, wherever it stands."""
    found = {replace(rule, source=""): rule for rule in reversed([*rules])}
    return tuple(reversed(found.values()))


def common_tools(one: tuple[str, ...] | None, other: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """The names and patterns of exactly the tools that two lists both have; None is all.

    Raises:
        UsageError: that takes too many patterns.
    """
    if one is None or other is None:
        return other if one is None else one
    found: set[str] = set()
    for mine in one:
        for theirs in other:
            found |= _common(mine, theirs)
            if len(found) > 10 * MAX_PATTERNS:
                raise _too_many()
    kept = [each for each in found if not any(_covers(wide, each) and each != wide for wide in found)]
    if len(kept) > MAX_PATTERNS:
        raise _too_many()
    return tuple(sorted(kept))


def _too_many() -> UsageError:
    return UsageError(f"what both have takes more than {MAX_PATTERNS} patterns: name the tools instead.")


def _covers(wide: str, narrow: str) -> bool:
    """Whether one pattern matches all that another does: its `*` stands for any text, so for a `*`, too."""
    return fnmatchcase(narrow, wide)


@cache
def _common(one: str, other: str) -> frozenset[str]:
    """Patterns of all the texts that match two patterns, in which only `*` is special."""
    if not one or not other:
        return frozenset({""}) if not (one + other).strip("*") else frozenset()
    if one[0] == "*" == other[0]:
        return _after("*", _common(one[1:], other) | _common(one, other[1:]))
    if one[0] == "*":
        return _common(one[1:], other) | _after(other[0], _common(one, other[1:]))
    if other[0] == "*":
        return _common(other, one)
    return _after(one[0], _common(one[1:], other[1:])) if one[0] == other[0] else frozenset()


def _after(begin: str, rests: Iterable[str]) -> frozenset[str]:
    made = frozenset(begin + rest for rest in rests)
    if len(made) > 10 * MAX_PATTERNS:
        raise _too_many()
    return frozenset(one.replace("**", "*") for one in made)


def shares(total_usd: float, count: int) -> list[float]:
    """A budget in equal parts of whole micro-dollars, which make up all of it.

    Raises:
        UsageError: there is less than a micro-dollar for each.
    """
    whole, rest = divmod(to_microusd(total_usd, what="the budget"), count)
    if not whole:
        raise UsageError(f"${total_usd:.6f} can't be divided by {count}: that leaves nothing for one of them.")
    return [to_usd(whole + (n < rest)) for n in range(count)]
