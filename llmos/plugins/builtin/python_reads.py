"""Whether Python code can only compute on what it was given, or may read files as well."""

from __future__ import annotations

import ast
import sys

_COMPUTING = frozenset(
    {"math", "cmath", "statistics", "json", "re", "datetime", "decimal", "fractions", "collections", "itertools"}
    | {"functools", "random", "textwrap", "heapq", "bisect", "calendar", "unicodedata", "base64", "difflib"}
    | {"numbers", "time", "hashlib", "binascii"}
)
_REACHING = frozenset(
    {"open", "eval", "exec", "compile", "getattr", "setattr", "delattr", "globals", "locals", "vars", "input"}
    | {"breakpoint", "help", "dir", "memoryview"}
)


def may_read(code: str) -> bool:
    """Whether code may read a file: it imports, names or reaches for anything beyond plain computing."""
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return True
    return not all(map(_only_computes, ast.walk(tree)))


def _only_computes(node: ast.AST) -> bool:
    match node:
        case ast.Import(names=names):
            return all(name.name in _COMPUTING | {"collections.abc"} for name in names)
        case ast.ImportFrom(module=module, names=names, level=level):
            return level == 0 and module in _COMPUTING and all(_is_plain(name.name) for name in names)
        case ast.Name(id=name):
            return name not in _REACHING and not name.startswith("__")
        case ast.Attribute(attr=attr):
            return _is_plain(attr)
        case ast.MatchClass(kwd_attrs=names):
            return not names
        case _:
            return True


def _is_plain(name: str) -> bool:
    """Whether an attribute can't be another module, or a way to one."""
    if name.startswith("_") or name in _REACHING or name == "*":
        return False
    return name not in sys.stdlib_module_names or name in _COMPUTING
