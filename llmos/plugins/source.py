"""The version of a tool that states none: a hash of the code its behaviour depends on."""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

SOURCE = "__llmos_source__"
"""Name of the module variable in which the plugin loader leaves the text it executed."""

HELPERS = "__llmos_helpers__"
"""Name of the module variable with a hash of the folder's helper files (`_*.py`), which a tool may import."""


def fingerprint(function: Callable[..., Any], schema: dict[str, Any]) -> str:
    """Twelve hex digits that change when the function, anything of its module it uses, or its schema changes.

    Comments and layout don't count. Other definitions of the same file don't count either, so that editing one
    tool leaves its neighbours' traces valid.
    """
    inner = inspect.unwrap(function)
    variables = getattr(inner, "__globals__", {})
    parts = [_code(inner, variables), str(variables.get(HELPERS, "")), json.dumps(schema, sort_keys=True, default=str)]
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:12]


def _code(function: Callable[..., Any], variables: dict[str, Any]) -> str:
    text = variables.get(SOURCE) or _file_text(function)
    if text is None:
        return getattr(function, "__qualname__", repr(function))
    try:
        tree = _parsed(text)
    except (SyntaxError, ValueError, RecursionError):
        return str(text)
    wanted = _used(tree, function.__code__.co_firstlineno) if hasattr(function, "__code__") else None
    return "\n".join(ast.unparse(node) for node in tree.body if wanted is None or node in wanted)


@lru_cache(maxsize=8)
def _parsed(text: str) -> ast.Module:
    """The tree of a file, which each of its tools asks for."""
    return ast.parse(text)


def _file_text(function: Callable[..., Any]) -> str | None:
    try:
        path = inspect.getsourcefile(function)
        return Path(path).read_text(encoding="utf-8") if path else None
    except (OSError, TypeError, ValueError):
        return None


def _used(tree: ast.Module, line: int) -> set[ast.stmt] | None:
    """The top-level statements that the function at `line` reaches by name; None (all) for a nested function."""
    definers: dict[str, list[ast.stmt]] = {}
    for statement in tree.body:
        for name in _defined(statement):
            definers.setdefault(name, []).append(statement)
    start = [statement for statement in tree.body if _first_line(statement) == line]
    if not start:
        return None
    reached: set[ast.stmt] = set()
    waiting: list[ast.stmt] = start
    while waiting:
        statement = waiting.pop()
        if statement not in reached:
            reached.add(statement)
            for name in _names(statement):
                waiting.extend(definers.get(name, ()))
    return reached


def _first_line(statement: ast.stmt) -> int:
    decorators: list[ast.expr] = getattr(statement, "decorator_list", [])
    return min([statement.lineno, *(decorator.lineno for decorator in decorators)])


def _defined(statement: ast.stmt) -> Iterator[str]:
    """Every name a top-level statement may bind or change."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield statement.name
        return
    for node in ast.walk(statement):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.alias):
            yield (node.asname or node.name).split(".")[0]
        elif isinstance(node, ast.Name):
            yield node.id


def _names(statement: ast.stmt) -> Iterator[str]:
    for node in ast.walk(statement):
        if isinstance(node, ast.Name):
            yield node.id
