"""The marks that stand in the place of secrets: how they are written, read, and told from text that only looks so."""

from __future__ import annotations

import re

UNNAMED = "«secret»"
"""Stands for a credential that no setting names: it can't be put back."""

NAME = r"[A-Za-z_][A-Za-z0-9_]*"
"""What a variable may be called."""

MARK = re.compile(rf"«(?P<quoted>=*)secret(?::(?P<name>{NAME})(?P<form>\|[\w-]+)?(?P<part>\[\d+:\d+\])?)?»")
"""Any mark; `quoted` is not empty where text that a tool gave only looks like one."""

_LOOKS_SO = re.compile(r"«(=*)secret")


def mark(name: str, form: str = "", part: tuple[int, int] | None = None) -> str:
    """The mark of a named secret, of one of its encodings, or of a part of that."""
    written = f"|{form}" if form else ""
    return f"«secret:{name}{written}{f'[{part[0]}:{part[1]}]' if part else ''}»"


def marks_in(text: str) -> list[str]:
    """The names of the secrets that marks in a text stand for."""
    if "«" not in text:
        return []
    return [found["name"] for found in MARK.finditer(text) if found["name"] and not found["quoted"]]


def secret_of(text: str) -> str | None:
    """The name of the secret whose mark, for all of its value, a text is; else None."""
    found = MARK.fullmatch(text) if text.startswith("«secret:") else None
    return found["name"] if found is not None and not (found["form"] or found["part"]) else None


def quoted(text: str) -> str:
    """Text from outside, in which nothing is a mark: what a tool gives must not name a secret to be put in."""
    return _LOOKS_SO.sub(r"«=\1secret", text) if "«" in text else text
