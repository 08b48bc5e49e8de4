"""Plugins: what is loaded, what is reported, and what a running session notices."""

from __future__ import annotations

import asyncio
import importlib
import itertools
import os
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from llmos.errors import TraceFormatError
from llmos.kernel.bus import Event, EventBus, PluginFailed, PluginLoaded
from llmos.plugins.context import ToolContext
from llmos.plugins.loader import PluginLoader
from llmos.plugins.modules import forget_helpers
from llmos.plugins.registry import ToolRegistry

TOOL = """
from plugins import llm_tool

@llm_tool("{name}", "Says {value}", {{}})
async def {name}():
    return {value!r}
"""


@dataclass
class Session:
    """A plugin folder and a loader that watches it."""

    folder: Path
    registry: ToolRegistry = field(default_factory=ToolRegistry)
    heard: list[Event] = field(default_factory=list)
    clock: int = 1_000_000_000

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)
        bus = EventBus()
        bus.subscribe(Event, self.heard.append)
        self.loader = PluginLoader(self.registry, bus, (self.folder,))

    def drop(self, name: str, text: str) -> Path:
        """Write a file, as if some time had passed since the last one."""
        path = self.folder / name
        path.write_text(text)
        self.clock += 1_000_000_000
        os.utime(path, ns=(self.clock, self.clock))
        return path

    def tool(self, name: str, value: object = "hi", file: str | None = None) -> Path:
        return self.drop(file or f"{name}.py", TOOL.format(name=name, value=value))

    def names(self) -> list[str]:
        return [tool.name for tool in self.registry if tool.source != "builtin"]

    def call(self, name: str, **arguments: Any) -> Any:
        result = asyncio.run(self.registry.call(name, arguments, ToolContext(workspace=self.folder)))
        assert not result.is_error, result.output
        return result.output

    def messages(self) -> list[str]:
        return [failure.message.replace(str(self.folder), "plugins") for failure in self.loader.failures]


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    before = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "plugins"}
    yield Session(tmp_path / "plugins")
    for name in [
        name for name in sys.modules if name.partition(".")[0] == "plugins" or name.startswith("llmos_plugin_")
    ]:
        del sys.modules[name]
    sys.modules.update(before)


# ------------------------------------------------------------------------------------------------------- load


def test_builtins_come_first_and_files_by_name(session: Session) -> None:
    session.tool("zebra")
    session.tool("ant")
    session.loader.load()
    assert session.names() == ["ant", "zebra"]
    assert "read" in session.registry
    assert session.call("zebra") == "hi"
    assert session.loader.failures == []
    loaded = [event.path for event in session.heard if isinstance(event, PluginLoaded)]
    assert loaded == ["builtin", str(session.folder / "ant.py"), str(session.folder / "zebra.py")]


def test_hidden_private_and_other_files_are_no_plugins(session: Session) -> None:
    for name in ("_helper.py", ".hidden.py", "notes.txt", "__init__.py"):
        session.drop(name, "raise RuntimeError('not me')")
    (session.folder / "folder.py").mkdir()
    session.loader.load()
    assert (session.names(), session.messages()) == ([], [])


def test_a_tool_knows_its_file_and_line(session: Session) -> None:
    path = session.tool("ant")
    session.loader.load()
    tool = session.registry.get("ant")
    assert (tool.source, tool.line) == (str(path), 4)


def test_dataclasses_and_annotations_work_in_a_plugin(session: Session) -> None:
    session.drop(
        "shapes.py",
        "from __future__ import annotations\n"
        "import pickle\n"
        "from dataclasses import dataclass, field\n"
        "from typing import get_type_hints\n"
        "from plugins import ToolContext, llm_tool\n"
        "@dataclass\n"
        "class Point:\n"
        "    x: int\n"
        "    tags: list[str] = field(default_factory=list)\n"
        "@llm_tool('point', 'A point', {'x': int})\n"
        "def point(x: int, ctx: ToolContext) -> dict:\n"
        "    get_type_hints(Point)\n"
        "    return pickle.loads(pickle.dumps(Point(x))).__dict__\n",
    )
    session.loader.load()
    assert session.call("point", x=3) == {"x": 3, "tags": []}


def test_two_files_of_one_name_in_two_folders_do_not_mix(tmp_path: Path, session: Session) -> None:
    other = Session(tmp_path / "other", registry=session.registry)
    session.tool("ant", file="same.py")
    other.tool("bee", file="same.py")
    loader = PluginLoader(session.registry, None, (session.folder, other.folder, session.folder))
    loader.load()
    assert (session.names(), loader.failures) == (["ant", "bee"], [])


def test_nothing_is_written_beside_a_plugin(session: Session) -> None:
    session.drop("_shared.py", "VALUE = 1\n")
    session.drop("ant.py", "from plugins._shared import VALUE\n" + TOOL.format(name="ant", value=1))
    session.loader.load()
    assert session.messages() == []
    assert sorted(path.name for path in session.folder.iterdir()) == ["_shared.py", "ant.py"]


def test_what_a_plugin_prints_stays_off_stdout(session: Session, capsys: pytest.CaptureFixture[str]) -> None:
    session.drop("loud.py", "print('hello')")
    session.loader.load()
    assert capsys.readouterr() == ("", "hello\n")


# ------------------------------------------------------------------------------------------------ broken plugins

DECORATED = "from plugins import llm_tool\n@llm_tool({arguments})\ndef f({parameters}):\n    return 1\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "def f(:\n",
            "plugin plugins/bad.py, line 1: invalid syntax; correct it and the plugin loads at the next goal.",
        ),
        ("x = 1\n  y = 2\n", "plugin plugins/bad.py, line 2: unexpected indent; correct it and"),
        ("x = 1\nimport nonesuch\n", "plugin plugins/bad.py, line 2: ModuleNotFoundError: No module named 'nonesuch'."),
        ("from plugins import nonesuch\n", "plugin plugins/bad.py, line 1: ImportError: cannot import name 'nonesuch'"),
        ("\n\n1 / 0\n", "plugin plugins/bad.py, line 3: ZeroDivisionError: division by zero."),
        ("def f():\n    raise ValueError('a\\nb')\nf()\n", "plugin plugins/bad.py, line 2: ValueError: a b."),
        ("import sys\nsys.exit(3)\n", "plugin plugins/bad.py, line 2: it called exit() while being loaded;"),
        ("raise SystemExit\n", "plugin plugins/bad.py, line 1: it called exit() while being loaded;"),
        ("x = '\\udc00'.encode()\n", "plugin plugins/bad.py, line 1: UnicodeEncodeError"),
        (
            DECORATED.format(arguments="'t', 'T', {'x': int}", parameters="y"),
            "plugin plugins/bad.py, line 2: tool 't': the function's signature does not fit: it does not take 'x';",
        ),
        (
            DECORATED.format(arguments="'a b', 'T'", parameters=""),
            "plugin plugins/bad.py, line 2: tool name 'a b' must be",
        ),
        (DECORATED.format(arguments="'t', ''", parameters=""), "line 2: tool 't' has no description"),
        (DECORATED.format(arguments="'t'", parameters=""), "plugin plugins/bad.py, line 2: TypeError"),
        (
            DECORATED.format(arguments="'read', 'T'", parameters=""),
            "plugin plugins/bad.py, line 2: a tool 'read' exists already (from builtin); rename this one.",
        ),
    ],
)
def test_a_broken_plugin_is_one_sentence_and_all_others_load(session: Session, text: str, said: str) -> None:
    session.tool("ant")
    path = session.drop("bad.py", text)
    session.tool("cat")
    session.loader.load()
    assert session.names() == ["ant", "cat"]
    (message,) = session.messages()
    assert said in message
    assert "\n" not in message
    failed = [event for event in session.heard if isinstance(event, PluginFailed)]
    assert [(event.path, event.message) for event in failed] == [(str(path), session.loader.failures[0].message)]


def test_binary_junk_is_reported(session: Session) -> None:
    (session.folder / "junk.py").write_bytes(b"\x00\xff\xfe junk")
    session.loader.load()
    assert len(session.messages()) == 1


def test_a_file_with_one_bad_tool_gives_none(session: Session) -> None:
    session.drop("mixed.py", TOOL.format(name="good", value=1) + TOOL.format(name="read", value=2))
    session.loader.load()
    assert session.names() == []
    assert "line 10: a tool 'read' exists already" in session.messages()[0]


def test_of_two_files_with_one_tool_the_first_stays(session: Session) -> None:
    session.tool("same", "first", file="a.py")
    session.tool("same", "second", file="b.py")
    session.loader.load()
    assert session.call("same") == "first"
    assert session.messages() == [
        "plugin plugins/b.py, line 4: a tool 'same' exists already (from plugins/a.py); rename this one."
    ]


def test_a_syntax_error_in_a_helper_names_both_files(session: Session) -> None:
    session.drop("_shared.py", "\ndef f(:\n")
    session.drop("ant.py", "\nfrom plugins import _shared\n")
    session.loader.load()
    assert session.messages()[0].startswith(
        "plugin plugins/ant.py, line 2: invalid syntax (plugins/_shared.py, line 2);"
    )


def test_others_may_report_too(session: Session) -> None:
    session.loader.report("traces/x.yaml", TraceFormatError("no goals"))
    assert session.messages() == ["plugin traces/x.yaml: no goals."]


# ----------------------------------------------------------------------------------------------------- rescan


def test_a_new_file_is_noticed(session: Session) -> None:
    session.loader.load()
    session.tool("ant")
    assert session.loader.rescan() is True
    assert session.names() == ["ant"]
    assert session.loader.rescan() is False


def test_a_changed_file_replaces_its_tools_and_their_versions(session: Session) -> None:
    session.tool("ant", "old")
    session.tool("bee")
    session.loader.load()
    ant, bee = session.registry.get("ant"), session.registry.get("bee")
    session.drop("ant.py", TOOL.format(name="ant", value="new") + TOOL.format(name="ant2", value=2))
    session.loader.rescan()
    assert (session.names(), session.call("ant")) == (["ant", "ant2", "bee"], "new")
    assert session.registry.get("ant").version != ant.version
    assert session.registry.get("bee") is bee


def test_a_change_within_the_same_second_and_size_is_noticed(session: Session) -> None:
    session.tool("ant", "aaa")
    session.loader.load()
    session.tool("ant", "bbb")
    session.loader.rescan()
    assert session.call("ant") == "bbb"


def test_a_deleted_file_takes_its_tools_along(session: Session) -> None:
    path = session.tool("ant")
    session.loader.load()
    path.unlink()
    assert session.loader.rescan() is True
    assert session.names() == []
    assert not [name for name in sys.modules if name.startswith("llmos_plugin_ant_")]


def test_a_changed_file_that_is_broken_keeps_nothing_of_the_old(session: Session) -> None:
    session.tool("ant")
    session.loader.load()
    session.drop("ant.py", "def f(:\n")
    session.loader.rescan()
    assert session.names() == []
    assert len(session.messages()) == 1
    session.tool("ant", "repaired")
    session.loader.rescan()
    assert (session.call("ant"), session.messages()) == ("repaired", [])


def test_a_name_that_becomes_free_is_given_to_the_file_that_waited(session: Session) -> None:
    first = session.tool("same", "first", file="a.py")
    session.tool("same", "second", file="b.py")
    session.loader.load()
    first.unlink()
    session.loader.rescan()
    assert (session.call("same"), session.messages()) == ("second", [])


def test_two_files_may_swap_their_names(session: Session) -> None:
    session.tool("one", 1, file="a.py")
    session.tool("two", 2, file="b.py")
    session.loader.load()
    session.tool("two", 3, file="a.py")
    session.tool("one", 4, file="b.py")
    session.loader.rescan()
    assert (session.call("one"), session.call("two"), session.messages()) == (4, 3, [])


def test_a_changed_helper_reloads_what_may_use_it(session: Session) -> None:
    session.drop("_shared.py", "VALUE = 1\n")
    session.drop(
        "ant.py",
        "from plugins import _shared, llm_tool\n@llm_tool('ant', 'A', {})\ndef ant():\n    return _shared.VALUE\n",
    )
    session.loader.load()
    version = session.registry.get("ant").version
    assert session.call("ant") == 1
    session.drop("_shared.py", "VALUE = 2\n")
    assert session.loader.rescan() is True
    assert session.call("ant") == 2
    assert session.registry.get("ant").version != version


def test_each_folder_has_its_own_helpers(tmp_path: Path, session: Session) -> None:
    other = Session(tmp_path / "other", registry=session.registry)
    text = "from plugins import _shared, llm_tool\n@llm_tool('{n}', 'A', {{}})\ndef f():\n    return _shared.VALUE\n"
    for one, names in ((session, "ac"), (other, "bd")):
        one.drop("_shared.py", f"VALUE = '{names}'\nWHO = []\n")
        for name in names:
            one.drop(f"{name}.py", text.format(n=name))
    loader = PluginLoader(session.registry, None, (session.folder, other.folder))
    loader.load()
    assert loader.failures == []
    assert [session.call(name) for name in "abcd"] == ["ac", "bd", "ac", "bd"]


def test_a_folder_that_disappears_is_an_empty_one(session: Session) -> None:
    path = session.tool("ant")
    session.loader.load()
    path.unlink()
    session.folder.rmdir()
    session.loader.rescan()
    assert session.names() == []


# ------------------------------------------------------------------------------------- who else is called plugins


def forget_plugins() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "plugins"]:
        del sys.modules[name]


def test_plugins_is_importable_where_nothing_is_called_so(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    forget_plugins()
    monkeypatch.setattr(sys, "path", [path for path in sys.path if not (Path(path or ".") / "plugins").exists()])
    monkeypatch.chdir(session.folder)
    importlib.invalidate_caches()
    session.drop(
        "ant.py", TOOL.format(name="ant", value=1).replace("return", "from plugins import llm_tool\n    return")
    )
    session.loader.load()
    assert (session.call("ant"), session.messages()) == (1, [])


def test_a_foreign_package_of_that_name_is_left_alone(
    tmp_path: Path, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign = tmp_path / "site" / "plugins"
    foreign.mkdir(parents=True)
    (foreign / "__init__.py").write_text("WHOSE = 'theirs'\n")
    (foreign / "sub.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path / "site")
    for is_imported in (False, True):
        forget_plugins()
        if is_imported:
            importlib.import_module("plugins.sub")
        one = Session(tmp_path / f"own{is_imported}")
        one.tool("ant")
        one.loader.load()
        assert (one.names(), one.messages()) == (["ant"], [])
        assert importlib.import_module("plugins").WHOSE == "theirs"


# ------------------------------------------------------------------------------------------ hooks and entry points

HOOKS = """
from llmos.plugins.hookspecs import hookimpl
from llmos.plugins.marking import llm_tool

@llm_tool("packaged", "From a package", {{}})
def packaged():
    return "package"

@hookimpl
def llmos_tools():
    return [packaged]

@hookimpl
def llmos_learners():
    return [("{learner}", dict)]

@hookimpl
def llmos_traces():
    return ["/traces"]
"""


def test_a_dropped_file_may_implement_hooks(session: Session) -> None:
    path = session.drop("hooks.py", HOOKS.format(learner="mine"))
    session.loader.load()
    assert session.messages() == []
    assert (session.names(), session.call("packaged")) == (["packaged"], "package")
    assert (session.loader.learners, session.loader.trace_dirs) == ({"mine": dict}, (Path("/traces"),))
    path.unlink()
    session.loader.rescan()
    assert (session.names(), session.loader.learners, session.loader.trace_dirs) == ([], {}, ())


@pytest.mark.parametrize(
    ("hook", "said"),
    [
        ("def llmos_toolz(): return []", "unknown hook 'llmos_toolz'"),
        ("def llmos_tools(nope): return []", "Argument(s) {'nope'} are declared"),
        ("def llmos_tools(): return [print]", "is no tool"),
        ("def llmos_tools(): return 1 / 0", "line 4: ZeroDivisionError"),
        ("def llmos_learners(): return ['x']", "ValueError"),
        ("def llmos_traces(): return [7]", "TypeError"),
    ],
)
def test_a_wrong_hook_is_reported_and_harms_nobody(session: Session, hook: str, said: str) -> None:
    session.drop("ant.py", f"from llmos.plugins.hookspecs import hookimpl\n\n@hookimpl\n{hook}\n")
    session.drop("bee.py", HOOKS.format(learner="mine"))
    session.loader.load()
    assert said in session.messages()[0]
    assert len(session.messages()) == 1
    assert session.names() == ["packaged"]


def test_two_learners_of_one_name_are_refused(session: Session) -> None:
    text = HOOKS.format(learner="mine")
    session.drop("a.py", text)
    session.drop("b.py", text.replace('"packaged"', '"other"'))
    session.loader.load()
    assert session.names() == ["packaged"]
    assert "a learner 'mine' exists already" in session.messages()[0]


def package(site: Path, name: str, text: str, module: str = "") -> None:
    """Lay out an installed package with an entry point, as pip would."""
    (site / f"{name}_pkg.py").write_text(text)
    info = site / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[llmos]\n{name} = {module or name + '_pkg'}\n")


def test_installed_packages_are_found_by_their_entry_point(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    site.mkdir()
    package(site, "good", HOOKS.format(learner="packaged"))
    package(site, "broken", "1 / 0\n")
    package(site, "absent", "", module="nonesuch")
    package(site, "silent", "X = 1\n")
    monkeypatch.syspath_prepend(site)
    session.loader.load()
    assert session.names() == ["packaged"]
    assert list(session.loader.learners) == ["packaged"]
    assert session.messages() == [
        "plugin entry point absent = nonesuch: ModuleNotFoundError: No module named 'nonesuch'.",
        "plugin entry point broken = broken_pkg: ZeroDivisionError: division by zero.",
        "plugin entry point silent = silent_pkg: it implements none of llmos_tools, llmos_learners and llmos_traces.",
    ]
    for name in ("good", "broken", "silent"):
        sys.modules.pop(f"{name}_pkg", None)


def test_plugins_are_looked_at_while_another_thread_imports(tmp_path: Path) -> None:
    over = threading.Event()

    def importing() -> None:
        for number in itertools.cycle(range(5_000)):
            sys.modules[f"llmos_test_{number}"] = ModuleType("llmos_test")
            sys.modules.pop(f"llmos_test_{(number - 2_500) % 5_000}", None)
            if over.is_set():
                return

    before = sys.getswitchinterval()
    thread = threading.Thread(target=importing)
    sys.setswitchinterval(1e-5)
    thread.start()
    try:
        for _ in range(1_000):
            forget_helpers(tmp_path)
    finally:
        over.set()
        thread.join()
        sys.setswitchinterval(before)
        for name in [one for one in [*sys.modules] if one.startswith("llmos_test_")]:
            del sys.modules[name]


def test_every_hook_is_documented_and_named_for_us() -> None:
    from llmos.plugins import hookspecs

    hooks = {name: value for name, value in vars(hookspecs).items() if hasattr(value, "llmos_spec")}
    assert set(hooks) == {"llmos_tools", "llmos_learners", "llmos_traces"}
    assert all(hook.__doc__ for hook in hooks.values())
