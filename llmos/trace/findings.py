"""What induction knows of a tool, and what explaining a step's arguments brings to light."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from llmos.trace.lookups import Place
from llmos.trace.program import Effect
from llmos.trace.values import ValuePath


@dataclass(frozen=True, kw_only=True)
class ToolFacts:
    """What induction must know of a tool: which arguments hold code, which content, which are enumerations.

    `closed_params` take only what the tool lists.
    """

    name: str
    effect: Effect = Effect.UNKNOWN
    version: str | None = None
    code_params: frozenset[str] = frozenset()
    payload_params: frozenset[str] = frozenset()
    enums: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    closed_params: frozenset[str] = frozenset()


@dataclass(kw_only=True)
class Findings:
    """What explaining the arguments of one step brought to light.

    `used` maps goal tokens (by position) to the argument that consumed them first; `banned` are tokens that may
    not vary; `frozen` are steps whose output must hash the same; `lengths` are lists inside outputs (step, path)
    that were read by position; `parents` are path tokens whose folder must stay; `shared` are consumed by
    arguments of different names; `listed` are tokens whose value an earlier look-up lists; `guessed` says that an
    argument holds data which nothing stated explains: the model may have worked it out from anything it had seen.
    """

    used: dict[int, str] = field(default_factory=dict)
    banned: set[int] = field(default_factory=set)
    frozen: set[int] = field(default_factory=set)
    lengths: set[tuple[int, ValuePath]] = field(default_factory=set)
    parents: set[int] = field(default_factory=set)
    inline: set[int] = field(default_factory=set)
    choices: dict[int, tuple[str, ...]] = field(default_factory=dict)
    shared: set[int] = field(default_factory=set)
    listed: dict[int, Place] = field(default_factory=dict)
    guessed: bool = False

    def add(self, other: Findings) -> None:
        """Take in what another step brought to light."""
        self.shared |= other.shared | {i for i in other.used if self.used.get(i, other.used[i]) != other.used[i]}
        self.used = {**other.used, **self.used}
        self.choices |= other.choices
        self.banned |= other.banned
        self.frozen |= other.frozen
        self.lengths |= other.lengths
        self.parents |= other.parents
        self.inline |= other.inline
        self.banned |= {i for i, place in other.listed.items() if self.listed.get(i, place) != place}
        self.listed = {**other.listed, **self.listed}

    def use(self, position: int, param: str) -> None:
        """Note that an argument consumes a goal token."""
        if self.used.setdefault(position, param) != param:
            self.shared.add(position)
