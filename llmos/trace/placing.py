"""Whether a piece of the goal that is found inside a text is a value of its own there."""

from __future__ import annotations

import re

from llmos.trace.lex import Kind, Token
from llmos.trace.values import EnvRef, SlotRef


def stands_alone(text: str, span: tuple[int, int], ref: SlotRef | EnvRef, token: Token | None) -> bool:
    """Whether what stands at `span` is no part of a longer value; `token` is the goal's literal, if it is one."""
    start, end = span
    before, after, beyond = text[max(start - 1, 0) : start], text[end : end + 1], text[end + 1 : end + 2]
    if before.isalnum() or (after.isalnum() and not (token is None and text[end - 1] == "/")):
        return False
    if ref == EnvRef(name="cwd"):
        return True
    if token is None or token.kind is Kind.DATE:
        return _is_whole_day(text[:start], text[end:])
    transform = ref.transforms[0].name if ref.transforms else None
    if token.kind in (Kind.QUOTED, Kind.TEXT) and transform is not None:
        return True
    if transform == "stem":
        return before in {"/", "_", "-"} or (after in {".", "_", "-"} and beyond.isalnum())
    if before in {"_", "-"} or after in {"_", "-"} or (after == "." and beyond.isalnum()):
        return False
    if transform == "name":
        return before == "/" or "/" in token.value
    if token.kind is Kind.NUMBER and (before in {".", ","} or after in {".", ","}):
        return False
    return before != "/"


def _is_whole_day(before: str, after: str) -> bool:
    """Whether a day between two texts is no part of a longer date or number."""
    return re.search(r"\d[-/.:]?$", before) is None and re.match(r"[-/.:]?\d", after) is None
