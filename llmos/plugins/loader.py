"""Finds tools: built-ins, entry points of other packages, and the `.py` files of the plugin folders.

A plugin that can't be used is reported in one sentence with its file and line; everything else loads.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING, Any

from llmos.errors import LLMOSError, PluginError
from llmos.events import Event, PluginFailed, PluginLoaded, Publisher
from llmos.plugins.marking import tool_of
from llmos.plugins.modules import execute, forget_helpers, module_name
from llmos.plugins.tool import Tool

if TYPE_CHECKING:
    import pluggy

    from llmos.plugins.registry import ToolRegistry

log = logging.getLogger(__name__)

LearnerFactory = Callable[..., Any]
Stamp = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class PluginFailure:
    """A plugin that was not loaded: `message` is the whole sentence, file and line included."""

    path: str
    line: int | None
    message: str


@dataclass(kw_only=True)
class _Plugin:
    """What one plugin brought; `path` is None for the built-ins and for entry points."""

    name: str
    path: Path | None = None
    module: Any = None
    tools: list[Tool] = field(default_factory=list)
    learners: dict[str, LearnerFactory] = field(default_factory=dict)
    traces: list[Path] = field(default_factory=list)


class PluginLoader:
    """Fills a registry from plugins and keeps it in step with the plugin folders."""

    def __init__(self, registry: ToolRegistry, bus: Publisher | None = None, dirs: tuple[Path, ...] = ()) -> None:
        self._registry = registry
        self._bus = bus
        self._dirs = tuple(dict.fromkeys(folder.resolve() for folder in dirs))
        self._plugins: list[_Plugin] = []
        self._failures: dict[str, PluginFailure] = {}
        self._stamps: dict[Path, Stamp] = {}
        self._helpers: dict[Path, Stamp] = {}
        self._manager: pluggy.PluginManager | None = None

    @property
    def failures(self) -> list[PluginFailure]:
        """Every plugin that is not loaded now, and why."""
        return list(self._failures.values())

    @property
    def learners(self) -> dict[str, LearnerFactory]:
        """Learner factories by name."""
        return {name: factory for plugin in self._plugins for name, factory in plugin.learners.items()}

    @property
    def trace_dirs(self) -> tuple[Path, ...]:
        """Trace files and folders of them that plugins ship."""
        return tuple(path for plugin in self._plugins for path in plugin.traces)

    def load(self) -> None:
        """Load the built-ins, then the entry points, then the files of each folder by name."""
        from llmos.plugins import builtin

        self._attempt(_Plugin(name="builtin"), lambda plugin: self._take_module(plugin, builtin))
        self._load_entry_points()
        self.rescan()

    def rescan(self) -> bool:
        """Pick up new, changed and deleted files; True if there were any. Costs a stat for each file."""
        files = {path: stamp for folder in self._dirs for path, stamp in _stamps(folder).items()}
        helpers = {path: stamp for path, stamp in files.items() if path.name.startswith("_")}
        stamps = {path: stamp for path, stamp in files.items() if path not in helpers}
        restarted = {path.parent for path, _ in self._helpers.items() ^ helpers.items()}
        changed = {path for path in stamps if self._stamps.get(path) != stamps[path] or path.parent in restarted}
        gone = self._stamps.keys() - stamps.keys()
        self._stamps, self._helpers = stamps, helpers
        if not changed and not gone:
            return False
        for path in changed | gone:
            self._unload(path)
        for folder in restarted:
            forget_helpers(folder)
        for path in stamps:
            # a file that failed may load now: the name it collided with could be free, its import present
            if path in changed or str(path) in self._failures:
                plugin = _Plugin(name=module_name(path), path=path)
                self._attempt(plugin, self._take_file)
        return True

    def report(self, where: str, error: BaseException) -> None:
        """Note what is wrong with a plugin, or with a file it offers, and tell."""
        failure = _failure(where, error)
        log.info("a plugin failed to load", exc_info=error, extra={"action": "plugin_failed", "path": where})
        self._failures[where] = failure
        self._tell(PluginFailed(path=where, message=failure.message))

    # --- one plugin ----------------------------------------------------------------------------------

    def _attempt(self, plugin: _Plugin, take: Callable[[_Plugin], None], *, origin: str | None = None) -> None:
        """Load one plugin whole or not at all; this is the border its exceptions stop at."""
        where = str(plugin.path) if plugin.path else origin or plugin.name
        self._failures.pop(where, None)
        try:
            take(plugin)
        except KeyboardInterrupt:
            self._discard(plugin)
            raise
        except BaseException as error:
            self._discard(plugin)
            self.report(where, error)
        else:
            self._plugins.append(plugin)
            self._tell(PluginLoaded(path=where, tools=tuple(tool.name for tool in plugin.tools)))

    def _take_file(self, plugin: _Plugin) -> None:
        assert plugin.path is not None
        plugin.module, tools = execute(plugin.path, self._dirs)
        for tool in tools:
            self._add_tool(plugin, tool)
        self._take_module(plugin, plugin.module)

    def _take_module(self, plugin: _Plugin, module: Any) -> None:
        """Register a module's hooks and take what they give."""
        manager = self._hooks()
        plugin.module = module
        manager.register(module, name=plugin.name)
        manager.check_pending()
        others = [other for other in manager.get_plugins() if other is not module]
        for item in _given(manager, "llmos_tools", others):
            tool = tool_of(item)
            if tool not in plugin.tools:
                self._add_tool(plugin, tool)
        for name, factory in _given(manager, "llmos_learners", others):
            if name in self.learners or name in plugin.learners:
                raise PluginError(f"a learner {name!r} exists already; rename this one")
            plugin.learners[name] = factory
        for path in _given(manager, "llmos_traces", others):
            plugin.traces.append(Path(path))

    def _add_tool(self, plugin: _Plugin, tool: Tool) -> None:
        self._registry.register(tool)
        plugin.tools.append(tool)

    def _discard(self, plugin: _Plugin) -> None:
        for tool in plugin.tools:
            self._registry.unregister(tool.name)
        manager = self._hooks()
        if plugin.module is not None and manager.is_registered(plugin.module):
            manager.unregister(plugin.module)
        if plugin.path is not None:
            sys.modules.pop(plugin.name, None)

    def _unload(self, path: Path) -> None:
        self._failures.pop(str(path), None)
        for plugin in [plugin for plugin in self._plugins if plugin.path == path]:
            self._plugins.remove(plugin)
            self._discard(plugin)

    def _load_entry_points(self) -> None:
        from importlib.metadata import distributions, entry_points

        from llmos.plugins.hookspecs import GROUP

        # Most have none, and to read those of every package properly takes five times as long as to see that.
        if not any(f"[{GROUP}]" in (one.read_text("entry_points.txt") or "") for one in distributions()):
            return
        for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
            origin = f"entry point {entry.name} = {entry.value}"
            plugin = _Plugin(name=f"{entry.name} ({entry.value})")

            def take(plugin: _Plugin, load: Callable[[], Any] = entry.load) -> None:
                self._take_module(plugin, load())
                if not self._hooks().get_hookcallers(plugin.module):
                    raise PluginError("it implements none of llmos_tools, llmos_learners and llmos_traces")

            self._attempt(plugin, take, origin=origin)

    def _hooks(self) -> pluggy.PluginManager:
        if self._manager is None:
            import pluggy

            from llmos.plugins import hookspecs

            self._manager = pluggy.PluginManager(hookspecs.GROUP)
            self._manager.add_hookspecs(hookspecs)
        return self._manager

    def _tell(self, event: Event) -> None:
        if self._bus is not None:
            self._bus.publish(event)


def _given(manager: pluggy.PluginManager, hook: str, others: Iterable[object]) -> Iterable[Any]:
    """What the one plugin not among `others` gives for a hook."""
    for given in manager.subset_hook_caller(hook, others)():
        yield from given


def _stamps(folder: Path) -> dict[Path, Stamp]:
    """Each Python file of a folder, by name, with what changes when the file does."""
    found: dict[Path, Stamp] = {}
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for name in sorted(entry.name for entry in entries if entry.name.endswith(".py")):
            with contextlib.suppress(OSError):
                path = folder / name
                stat = path.stat()
                if S_ISREG(stat.st_mode) and not name.startswith("."):
                    found[path] = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
    return found


def _failure(where: str, error: BaseException) -> PluginFailure:
    line = _line_in(where, error)
    at = f"{where}, line {line}" if line else where
    match error:
        case LLMOSError():
            what = str(error)
        case SystemExit():
            what = "it called exit() while being loaded; a plugin must only define things"
        case SyntaxError():
            other = f" ({error.filename}, line {error.lineno})" if error.filename != where else ""
            what = f"{error.msg}{other}; correct it and the plugin loads at the next goal"
        case _:
            what = f"{type(error).__name__}: {error}"
    return PluginFailure(path=where, line=line, message=f"plugin {at}: {' '.join(what.split()).rstrip('.')}.")


def _line_in(where: str, error: BaseException) -> int | None:
    """The line of the plugin's own file that an error came from."""
    if isinstance(error, PluginError) and error.line is not None:
        return error.line
    if isinstance(error, SyntaxError) and error.filename == where:
        return error.lineno
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == where]
    return lines[-1] if lines else None
