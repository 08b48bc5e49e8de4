"""Which steps of a recorded run its program needs: effects, the last one, what these use, and what they depended on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import PurePosixPath

from llmos.trace.english import CONDITIONAL
from llmos.trace.evidence import leaves, token_bounded
from llmos.trace.findings import Findings
from llmos.trace.folding import Fold
from llmos.trace.lex import Token
from llmos.trace.program import Effect, Step
from llmos.trace.run import Run, StepRecord
from llmos.trace.values import OutputRef, references

_MAX_SEARCHED = 10_000


@dataclass(frozen=True, kw_only=True)
class Draft:
    """One pass of explaining: the steps it gave, those that are needed, what explaining these found."""

    steps: tuple[Step, ...]
    founds: tuple[Findings, ...]
    kept: frozenset[int] = frozenset()
    found: Findings = field(default_factory=Findings)


@dataclass(frozen=True, kw_only=True)
class Needs:
    """Looks through one way to fold a run for the steps that stay."""

    fold: Fold

    @property
    def run(self) -> Run:
        return self.fold.run

    @property
    def tokens(self) -> list[Token]:
        return self.fold.tokens

    @cached_property
    def mentioned(self) -> list[set[int]]:
        """The literals of the goal that each step's arguments hold."""
        literals = [(i, token) for i, token in enumerate(self.tokens) if token.kind.is_literal]
        found: list[set[int]] = []
        for step in self.run.steps:
            texts = [str(leaf) for _, leaf in leaves(step.args) if len(str(leaf)) < _MAX_SEARCHED]
            joined = "\n".join(texts)
            found.append(
                {i for i, token in literals if token_bounded(token.value.replace(",", ""), joined.replace(",", ""))}
            )
        return found

    def met(self, draft: Draft) -> Draft:
        """The draft with the steps that stay: effects, the last one, what they use, and what they depended on."""
        reads = {i for i, step in enumerate(draft.steps) if not step.effect.changes_world}
        effects = set(range(len(draft.steps))) - reads
        kept = (effects | {len(draft.steps) - 1}) - overwritten(self.run.steps, draft.steps)
        frozen: set[int] = set()
        while True:
            refs = self._used(kept, draft)
            asked = {place.step for i in kept | refs for place in draft.founds[i].listed.values()}
            kept |= refs | asked | self._used(asked, draft)
            frozen |= {step for i in kept for step in draft.founds[i].frozen}
            frozen |= {j for i in kept for j in self._guessed_from(i, draft, effects) if j in reads}
            used = {position for i in kept | refs | frozen for position in self.mentioned[i]}
            frozen |= {i for i in reads - kept - refs if not self.mentioned[i] <= used}
            if {token.key for token in self.tokens} & CONDITIONAL:
                frozen |= reads - refs - {len(draft.steps) - 1}
            if frozen <= kept:
                break
            kept |= frozen
        found = Findings(frozen=frozen)
        for i in sorted(kept):
            found.add(draft.founds[i])
        return replace(draft, kept=frozenset(kept), found=found)

    def _used(self, kept: set[int], draft: Draft) -> set[int]:
        """The steps whose outputs the kept ones use, directly or through others."""
        used: set[int] = set()
        while more := {j for i in kept | used for j in self.fold.needed(i, draft.steps[i])} - used:
            used |= more
        return used

    @staticmethod
    def _guessed(index: int, draft: Draft, effects: set[int]) -> bool:
        """Whether a step that matters holds data of unknown origin; looking at what was done does not matter."""
        return draft.founds[index].guessed and (index in effects or not effects or index < max(effects))

    def _guessed_from(self, index: int, draft: Draft, effects: set[int]) -> set[int]:
        """The calls that a step's data of unknown origin may come from.

        Words that stayed the same through a loop are not made of what it went through.
        """
        if not self._guessed(index, draft, effects):
            return set()
        certain = self.fold.is_certain(index, draft.steps[index])
        return set(range(index)) - (self.fold.gone_through if certain else frozenset())


def overwritten(records: Sequence[StepRecord], steps: Sequence[Step]) -> set[int]:
    """The writes of a file that a later write of the same file undoes before anything could look at it."""
    dead: set[int] = set()
    for i, record in enumerate(records):
        path = _written(record)
        used = any(ref.step == steps[i].id for step in steps for ref in _output_refs(step))
        if path is None or used:
            continue
        for later in records[i + 1 :]:
            if _written(later) == path:
                dead.add(i)
            if _written(later) == path or not _looks_away(later, path):
                break
    return dead


def _written(record: StepRecord) -> str | None:
    """The file that a call of the built-in `write` replaces as a whole."""
    whole = record.tool == "write" and record.effect is Effect.WRITE and set(record.args) == {"file_path", "content"}
    path = record.args.get("file_path")
    return str(PurePosixPath(path)) if whole and isinstance(path, str) else None


def _looks_away(record: StepRecord, path: str) -> bool:
    """Whether a call surely does not depend on a file: it computes, or reads or writes one other file by its path."""
    if record.effect is Effect.PURE:
        return True
    other = record.args.get("file_path")
    alone = record.tool in ("read", "write") and isinstance(other, str)
    return alone and str(PurePosixPath(str(other))) != path and ".." not in f"{other}{path}"


def _output_refs(step: Step) -> list[OutputRef]:
    return [ref for expr in step.args.values() for ref in references(expr) if isinstance(ref, OutputRef)]
