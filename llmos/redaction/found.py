"""A credential that was found in a text."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Found:
    """A credential at `text[start:end]`: what it seems to be, and what a variable for it may be called."""

    start: int
    end: int
    kind: str
    variable: str
