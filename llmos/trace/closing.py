"""Which values of a goal the look-ups of a recording really close, told from the steps that explaining it gave."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from llmos.trace.evidence import leaves
from llmos.trace.findings import Findings
from llmos.trace.lex import Kind, Token
from llmos.trace.program import Step
from llmos.trace.run import StepRecord
from llmos.trace.values import ItemRef, OutputRef, Ref, SlotRef, references


def not_closed(
    steps: Sequence[Step], kept: Collection[int], found: Findings, names: Mapping[int, str]
) -> frozenset[int]:
    """Values that a look-up can't close: it depends on them, or its text went into the work for its own sake."""
    refs = {(i, ref) for i in kept for expr in steps[i].exprs for ref in references(expr)}
    outputs = {ref.step for _, ref in refs if isinstance(ref, OutputRef)}
    return frozenset(
        position
        for position, place in found.listed.items()
        if (place.lines and steps[place.step].id in outputs)
        or any(i <= place.step and _reads(ref, names[position]) for i, ref in refs)
    )


def held_by_entries(steps: Sequence[Step], kept: Collection[int], found: Findings) -> set[int]:
    """Values whose look-up also gave something that may belong to the one entry, so that they can't vary."""
    picking = {
        ref.step
        for i in kept
        for expr in steps[i].args.values()
        for ref in references(expr)
        if isinstance(ref, OutputRef) and any(isinstance(part, int) for part in ref.path)
    }
    picked = found.frozen | {i for i in kept if steps[i].id in picking}
    return {position for position, place in found.listed.items() if place.step in picked}


def names_only(tokens: Sequence[Token], steps: Sequence[StepRecord]) -> set[int]:
    """The phrases that no call got: at most they name an entry of which a call got something else."""
    got = {leaf for step in steps for _, leaf in leaves(step.args) if isinstance(leaf, str)}
    return {i for i, token in enumerate(tokens) if token.kind is Kind.TEXT and token.value not in got}


def _reads(ref: Ref, name: str) -> bool:
    """Whether a reference reads a slot, or the entry that it names."""
    return (isinstance(ref, SlotRef) and ref.name == name) or (isinstance(ref, ItemRef) and ref.loop == name)


__all__ = ["held_by_entries", "names_only", "not_closed"]
