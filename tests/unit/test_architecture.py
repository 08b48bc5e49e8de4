"""The house keeps its shape: imports go down only, importing does nothing, and each door has one place.

Read from the source of every module, so an import inside a function counts as much as one at the top.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

import llmos

PACKAGE = Path(llmos.__file__).parent
ROOT = PACKAGE.parent

# A module may import its own part, and parts with a lower number. kernel and memory have the same: they don't meet.
LAYERS = {
    "": 0,
    "thin": 0,
    "caller": 0,
    "deferred": 0,
    "errors": 0,
    "events": 0,
    "orders": 0,
    "checked_yaml": 1,
    "redaction": 1,
    "accounts": 1,
    "settings": 2,
    "trace": 3,
    "plugins": 4,
    "shipped": 4,
    "kernel": 5,
    "memory": 5,
    "interfaces": 6,
    "home": 7,
    "following_side": 7,
    "learning_side": 7,
    "crew": 7,
    "boot": 8,
    "resident": 9,
    "testing": 9,
    "door": 10,
    "__main__": 11,
}

SIDES = ("following_side", "learning_side")

HEAVY = {
    "bm25s",
    "claude_agent_sdk",
    "croniter",
    "duckdb",
    "faiss",
    "genai_prices",
    "httpx",
    "jsonschema",
    "mcp",
    "numpy",
    "openai",
    "prompt_toolkit",
    "pydantic",
    "pydantic_ai",
    "rich",
    "sentence_transformers",
    "tokenizers",
    "torch",
    "transformers",
    "watchfiles",
    "yaml",
}

# What the trace language may import beside itself: nothing that opens a file, asks the time or throws dice.
# yaml is handed strings only.
PURE = {
    "__future__",
    "abc",
    "ast",
    "base64",
    "bisect",
    "calendar",
    "collections",
    "copy",
    "dataclasses",
    "datetime",
    "decimal",
    "difflib",
    "enum",
    "fractions",
    "functools",
    "hashlib",
    "heapq",
    "itertools",
    "json",
    "llmos",
    "math",
    "operator",
    "pathlib",
    "re",
    "statistics",
    "string",
    "textwrap",
    "types",
    "typing",
    "unicodedata",
    "urllib",
    "yaml",
}
IMPURE_NAMES = {"open", "print", "input", "Path", "now", "utcnow", "today", "read_text", "write_text", "request"}

# Not readers: they set variables that a library they load takes its orders from.
SETS_ENVIRONMENT = {"llmos.memory.embeddings"}

# They run before anything else is loaded, and pass the whole environment on or look for a home in it.
COMES_FIRST = {"llmos.thin", "llmos.door"}


@dataclass(frozen=True, kw_only=True)
class Import:
    """One import statement's module; `lazy` if it stands in a function, `typing_only` under TYPE_CHECKING."""

    module: str
    line: int
    lazy: bool
    typing_only: bool


def modules() -> dict[str, Path]:
    """Every module of the package, by dotted name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()
NAMES = sorted(MODULES)


@cache
def tree(name: str) -> ast.Module:
    return ast.parse(MODULES[name].read_text(encoding="utf-8"))


@cache
def imports(name: str) -> tuple[Import, ...]:
    return tuple(_imports(tree(name), name, lazy=False, typing_only=False))


def _imports(node: ast.AST, name: str, *, lazy: bool, typing_only: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        inside = lazy or isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        typed = typing_only or (isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"))
        for module in _named(child):
            yield Import(module=module, line=child.lineno, lazy=lazy, typing_only=typing_only)  # type: ignore[attr-defined]
        yield from _imports(child, name, lazy=inside, typing_only=typed)


def _named(node: ast.AST) -> list[str]:
    """The modules an import statement loads; `from llmos.trace import values` loads llmos.trace.values."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    assert node.level == 0, "imports are absolute"
    base = node.module or ""
    submodules = [f"{base}.{alias.name}" for alias in node.names if f"{base}.{alias.name}" in MODULES]
    return submodules if len(submodules) == len(node.names) else [base, *submodules]


def part(module: str) -> str:
    """`trace` for llmos.trace.values, "" for llmos itself."""
    return [*module.split("."), ""][1]


def where(name: str, line: int) -> str:
    return f"{MODULES[name].relative_to(ROOT)}:{line}"


# -------------------------------------------------------------------------------------------------- direction


@pytest.mark.parametrize("name", NAMES)
def test_imports_go_down_only(name: str) -> None:
    own = part(name)
    assert own in LAYERS, f"{name} has no place in the house: give it a layer"
    for found in imports(name):
        if found.module.split(".")[0] != "llmos":
            continue
        other = part(found.module)
        if own == "interfaces" and other in ("boot", "resident") and (found.lazy or found.typing_only):
            continue  # a door starts the system it leads to, when it is opened
        if own in SIDES and other in ("boot", *SIDES) and found.typing_only:
            continue  # a part of the wiring that stands in a file of its own
        assert own == other or LAYERS[other] < LAYERS[own], f"{where(name, found.line)} imports {found.module}"


def test_kernel_and_memory_do_not_know_each_other() -> None:
    known = {(part(name), part(found.module)) for name in NAMES for found in imports(name)}
    assert not {("kernel", "memory"), ("memory", "kernel")} & known


def test_nothing_but_tests_imports_the_doubles() -> None:
    others = [name for name in NAMES if part(name) != "testing"]
    assert not [name for name in others for found in imports(name) if part(found.module) == "testing"]


def test_the_check_itself_sees_imports_wherever_they_stand() -> None:
    source = "import a\nif TYPE_CHECKING:\n    import b\ndef f():\n    from c.d import e\n"
    found = list(_imports(ast.parse(source), "x", lazy=False, typing_only=False))
    assert [(i.module, i.lazy, i.typing_only) for i in found] == [
        ("a", False, False),
        ("b", False, True),
        ("c.d", True, False),
    ]


# ---------------------------------------------------------------------------------------------- what import costs


@pytest.mark.parametrize("name", NAMES)
def test_heavy_libraries_are_imported_where_they_are_used(name: str) -> None:
    eager = [
        f"{where(name, found.line)} imports {found.module}"
        for found in imports(name)
        if found.module.split(".")[0] in HEAVY and not found.lazy and not found.typing_only
    ]
    assert not eager


PROBE = """
import importlib, os, sys

SAFE = (".py", ".pyc", ".so", ".pyi", ".pth")
seen = []


def hook(event, args):
    if event == "open":
        path, _, flags = args
        name = os.fsdecode(path) if isinstance(path, (str, bytes, os.PathLike)) else str(path)
        changes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        if changes or not name.endswith(SAFE):
            seen.append(f"open {name}")
    elif event.startswith(("socket.", "subprocess.", "os.system", "os.mkdir", "os.remove", "os.rename", "os.putenv",
                           "sqlite3.", "tempfile.", "shutil.", "os.posix_spawn", "os.fork")):
        seen.append(f"{event} {args!r}"[:200])


HEAVY = set(sys.argv[1].split(","))
threads = sys.modules["threading"].active_count() if "threading" in sys.modules else 1
sys.addaudithook(hook)
for name in sys.argv[2:]:
    importlib.import_module(name)
import threading
assert threading.active_count() == threads, "a thread was started"
assert not HEAVY & set(sys.modules), f"loaded: {sorted(HEAVY & set(sys.modules))}"
assert not seen, seen
"""


def test_importing_everything_reads_writes_and_says_nothing(tmp_path: Path) -> None:
    names = [name for name in NAMES if part(name) != "__main__"]
    done = subprocess.run(
        [sys.executable, "-B", "-W", "error", "-c", PROBE, ",".join(sorted(HEAVY)), *names],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------------- one place each


@pytest.mark.parametrize("name", [name for name in NAMES if part(name) == "trace"])
def test_the_trace_language_is_pure(name: str) -> None:
    for found in imports(name):
        assert found.module.split(".")[0] in PURE, f"{where(name, found.line)} imports {found.module}"
    for node in ast.walk(tree(name)):
        called = node.func if isinstance(node, ast.Call) else None
        said = called.id if isinstance(called, ast.Name) else called.attr if isinstance(called, ast.Attribute) else ""
        assert said not in IMPURE_NAMES, f"{where(name, getattr(node, 'lineno', 0))} calls {said}"


def _reads_environment(node: ast.AST) -> bool:
    if isinstance(node, ast.Attribute):
        return node.attr in ("environ", "environb", "getenv", "putenv") and ast.unparse(node.value) == "os"
    return isinstance(node, ast.ImportFrom) and node.module == "os" and any("env" in a.name for a in node.names)


@pytest.mark.parametrize(
    "name", [name for name in NAMES if name not in {"llmos.settings.environment", *SETS_ENVIRONMENT, *COMES_FIRST}]
)
def test_only_one_module_reads_the_environment(name: str) -> None:
    found = [where(name, node.lineno) for node in ast.walk(tree(name)) if _reads_environment(node)]  # type: ignore[attr-defined]
    assert not found


def _is_program(name: str) -> bool:
    """Whether the module is run as a process of its own, which answers on its stdout."""
    return any(ast.unparse(node).startswith("if __name__ == '__main__'") for node in tree(name).body)


@pytest.mark.parametrize("name", [name for name in NAMES if part(name) != "interfaces" and not _is_program(name)])
def test_only_the_interfaces_print(name: str) -> None:
    found = [
        where(name, node.lineno)
        for node in ast.walk(tree(name))
        if (isinstance(node, ast.Name) and node.id == "print")
        or (isinstance(node, ast.Attribute) and ast.unparse(node) in ("sys.stdout", "sys.__stdout__"))
    ]
    assert not found
