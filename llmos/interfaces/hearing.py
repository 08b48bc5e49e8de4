"""What a model is told between its turns: the words of the user and notes of the system, each in its own block."""

from __future__ import annotations

from collections.abc import Iterable

from llmos.orders import Interrupt, InterruptKind

_STEERING = (InterruptKind.USER, InterruptKind.CHILD)
"""What a run does after these, its goal does not say."""

TOLD = "it was told something in mid-run that its goal does not say"
HURRIED = "it was told that its budget was nearly spent, and nobody has looked at it yet"


def said(interrupt: Interrupt) -> str:
    """An interrupt as a model gets it."""
    if interrupt.kind is InterruptKind.USER:
        return (
            "«the user says»\nThis comes from the user, while you work, and counts as much as the goal does:\n\n"
            f"{interrupt.text}"
        )
    return f"«the system says»\n{interrupt.text}"


def is_steered(told: Iterable[Interrupt]) -> bool:
    """Whether a run may depend on what its goal does not say."""
    return any(one.kind in _STEERING for one in told)


def is_hurried(told: Iterable[Interrupt]) -> bool:
    """Whether a run may have been cut short."""
    return any(one.kind is InterruptKind.BUDGET for one in told)
