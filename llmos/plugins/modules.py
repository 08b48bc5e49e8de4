"""Executes a plugin file as a module of its own: registered before it runs, nothing written beside it."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType

from llmos.errors import PluginError
from llmos.plugins.context import ToolContext
from llmos.plugins.marking import collecting, llm_tool
from llmos.plugins.source import HELPERS, SOURCE
from llmos.plugins.tool import FileRead, FileWrite, Tool

ALIAS = "plugins"


def module_name(path: Path) -> str:
    """The unique name under which a plugin file stands in `sys.modules`."""
    return f"llmos_plugin_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"


def execute(path: Path, dirs: Sequence[Path]) -> tuple[ModuleType, list[Tool]]:
    """Run a plugin file; gives its module and the tools it marked, in order.

    Helper files beside it (`_name.py`) are importable as `plugins._name`. The module stays in `sys.modules`
    when it ran to its end (dataclasses and pickling look there).

    Raises:
        PluginError: the file can't be read. Whatever the file itself raises passes through.
    """
    name = module_name(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise PluginError(f"it can't be read: {error.strerror}", path=str(path)) from None
    code = compile(content, str(path), "exec", dont_inherit=True)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None:
        raise PluginError("it is no Python file", path=str(path))
    module = importlib.util.module_from_spec(spec)
    vars(module)[SOURCE] = importlib.util.decode_source(content)
    vars(module)[HELPERS] = _helpers_hash(path.parent)
    sys.modules[name] = module
    try:
        _claim_helpers(path.parent)
        with (
            _alias((path.parent, *dirs)),
            _no_bytecode(),
            contextlib.redirect_stdout(sys.stderr),
            collecting() as tools,
        ):
            exec(code, vars(module))
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module, tools


def forget_helpers(folder: Path) -> None:
    """Drop the imported helper modules of a folder, so that their next import reads the files again."""
    package = vars(sys.modules[ALIAS]) if ALIAS in sys.modules else {}
    known = [*sys.modules]  # another thread may import meanwhile
    loaded = {name.partition(".")[2] for name in known if name.startswith(f"{ALIAS}._")}
    for stem in loaded | {name for name in package if name.startswith("_")}:
        _drop_helper(stem, lambda file: file.parent == folder)
    importlib.invalidate_caches()


def _claim_helpers(folder: Path) -> None:
    """Drop what another folder's helper of the same name left: a plugin gets the one beside it."""
    for helper in folder.glob("_*.py"):
        _drop_helper(helper.stem, lambda file: file.parent != folder)


def _drop_helper(stem: str, unwanted: Callable[[Path], bool]) -> None:
    """Remove `plugins.stem` and the package's attribute, which `from plugins import stem` would still find."""
    package = sys.modules.get(ALIAS)
    for module in (sys.modules.get(f"{ALIAS}.{stem}"), getattr(package, stem, None)):
        file = getattr(module, "__file__", None)
        if isinstance(module, ModuleType) and file is not None and unwanted(Path(file)):
            sys.modules.pop(f"{ALIAS}.{stem}", None)
            if package is not None:
                vars(package).pop(stem, None)


def _helpers_hash(folder: Path) -> str:
    digest = hashlib.sha256()
    for helper in sorted(folder.glob("_*.py")):
        if helper.name != "__init__.py":
            with contextlib.suppress(OSError):
                digest.update(helper.name.encode() + b"\0" + helper.read_bytes())
    return digest.hexdigest()


@contextlib.contextmanager
def _no_bytecode() -> Iterator[None]:
    before = sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before


@contextlib.contextmanager
def _alias(dirs: Sequence[Path]) -> Iterator[None]:
    """Make `from plugins import llm_tool` work whatever else is called `plugins` here.

    Our own package (the checkout's, or one inside a plugin folder) is used as it is; where nothing is called
    so, a stand-in stays; a foreign package of that name is only covered while the file runs.
    """
    present = sys.modules.get(ALIAS)
    if present is not None and hasattr(present, "llm_tool"):
        with _searching(present, dirs):
            yield
        return
    stand_in = _stand_in(dirs)
    foreign = present is not None or _importable()
    sys.modules[ALIAS] = stand_in
    try:
        yield
    finally:
        if present is not None:
            sys.modules[ALIAS] = present
        elif foreign:
            sys.modules.pop(ALIAS, None)


@contextlib.contextmanager
def _searching(package: ModuleType, dirs: Sequence[Path]) -> Iterator[None]:
    """Let `plugins._name` be found in every plugin folder while a file runs."""
    before = list(getattr(package, "__path__", ()))
    package.__path__ = [*(str(folder) for folder in dirs), *before]
    try:
        yield
    finally:
        package.__path__ = before


def _importable() -> bool:
    try:
        return importlib.util.find_spec(ALIAS) is not None
    except (ImportError, ValueError):
        return False


def _stand_in(dirs: Sequence[Path]) -> ModuleType:
    module = ModuleType(ALIAS, "Stands in for the plugin folder: what a dropped-in file imports.")
    module.__path__ = [str(folder) for folder in dirs]
    given: dict[str, object] = {"FileRead": FileRead, "FileWrite": FileWrite}
    given |= {"ToolContext": ToolContext, "llm_tool": llm_tool}
    vars(module).update(given, __all__=sorted(given))
    return module
