"""What a confined child sees, laid out: decided from paths alone, tested as such."""

from __future__ import annotations

import signal
import struct
import sys
from pathlib import Path

import pytest

from llmos.errors import SettingsError
from llmos.kernel.sandbox import bubblewrap, seccomp
from llmos.kernel.sandbox.explain import Explanation
from llmos.kernel.sandbox.plan import Access, Plan, View
from llmos.plugins.confined import Child
from llmos.plugins.programs import program, seen_by
from llmos.settings import SandboxLimits, load_settings


def access(plan: Plan, path: Path) -> Access | None:
    """How a path stands: as the nearest place above it does."""
    places = {place.path: place.access for place in plan.places}
    return next((places[str(one)] for one in (path, *path.parents) if str(one) in places), None)


def test_of_two_places_the_deeper_one_counts(tmp_path: Path) -> None:
    work = tmp_path / "user" / "work"
    memory = work / "home" / "memory"
    memory.mkdir(parents=True)
    plan = View(write=(work,), hidden=(memory,), home=tmp_path / "user").plan()
    assert access(plan, work / "a.txt") is Access.WRITE
    assert access(plan, memory / "llmos.duckdb") is Access.HIDDEN
    assert access(plan, tmp_path / "user" / ".bashrc") is Access.TEMPORARY
    assert access(plan, Path("/usr/bin/env")) is Access.READ
    assert plan.holes() == [str(memory)]
    depths = [place.path.count("/") for place in plan.places]
    assert depths == sorted(depths)


def test_folders_on_the_way_to_a_closed_place_can_not_be_renamed(tmp_path: Path) -> None:
    memory = tmp_path / "a" / "b" / "memory"
    memory.mkdir(parents=True)
    plan = View(write=(tmp_path,), hidden=(memory,)).plan()
    assert {str(tmp_path / "a"), str(tmp_path / "a" / "b")} <= set(plan.of(Access.WRITE))


def test_a_folder_that_is_opened_and_not_there_is_left_out(tmp_path: Path) -> None:
    gone, long = tmp_path / "gone", tmp_path / ("x" * 300)
    plan = View(write=(tmp_path, gone, long), read=(gone, long)).plan()
    assert plan.of(Access.WRITE) == [str(tmp_path)]


def test_what_does_not_exist_yet_is_closed_only_where_it_could_be_made(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    inside, outside = tmp_path / "work" / "llmos.yaml", tmp_path / "other" / "llmos.yaml"
    plan = View(write=(tmp_path / "work",), hidden=(inside, outside), sealed=(tmp_path / "work" / "plugins",)).plan()
    assert [(place.path, place.is_folder) for place in plan.missing] == [
        (str(inside), False),
        (str(tmp_path / "work" / "plugins"), True),
    ] or {place.path for place in plan.missing} == {str(inside), str(tmp_path / "work" / "plugins")}
    reading = View(read=(tmp_path / "work",), hidden=(inside,)).plan()
    assert reading.missing == ()


def test_a_home_that_is_the_workspace_is_no_empty_folder(tmp_path: Path) -> None:
    plan = View(write=(tmp_path,), home=tmp_path).plan()
    assert access(plan, tmp_path) is Access.WRITE
    below = View(write=(tmp_path,), home=tmp_path / "user").plan()
    assert access(below, tmp_path / "user") is Access.WRITE


@pytest.mark.parametrize("home", [Path("/"), Path("/usr"), Path("relative")])
def test_a_home_above_the_system_hides_nothing_of_it(home: Path) -> None:
    assert access(View(home=home).plan(), Path("/usr/bin/env")) is Access.READ


def test_a_link_by_which_a_place_is_called_is_there_too(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    plan = View(read=(tmp_path / "real",), names=(tmp_path / "link" / "x",)).plan()
    assert plan.links[str(tmp_path / "link")] == "real"


def test_bubblewrap_as_root_is_told_what_it_does_for_others(tmp_path: Path) -> None:
    plan = View(write=(tmp_path,)).plan()
    argv = bubblewrap.arguments("bwrap", plan, ["x"], cwd="/w", network=False, tmp_bytes=7, version=(0, 8, 0))
    text = " ".join(argv)
    assert "--cap-drop ALL" in text
    assert {"--unshare-user", "--unshare-net", "--unshare-pid", "--new-session", "--die-with-parent"} <= set(argv)
    assert text.endswith("--remount-ro / --chdir /w -- x")
    assert "--size 7 --tmpfs /tmp" in text
    older = bubblewrap.arguments("bwrap", plan, ["x"], cwd="/w", network=True, tmp_bytes=7, version=(0, 6, 1))
    assert not {"--size", "--unshare-net"} & set(older)


def test_the_filter_never_jumps_beyond_its_end() -> None:
    for families in ((), (1, 2, 10, 16)):
        code = seccomp.program(families, metadata=not families)
        instructions = [struct.unpack("HBBI", code[at : at + 8]) for at in range(0, len(code), 8)]
        assert len(code) % 8 == 0
        assert len(instructions) < 4096
        for at, (_, yes, no, _) in enumerate(instructions):
            assert at + 1 + max(yes, no) < len(instructions) or at == len(instructions) - 1
        assert instructions[-1][3] == 0x7FFF0000


CHILD = Child(tool="bash", argv=(), cwd=Path("/"), env={})
SERVER = Child(tool="fetch", argv=(), cwd=Path("/"), env={}, lasting=True)


@pytest.mark.parametrize(
    ("child", "network", "status", "stderr", "said"),
    [
        (CHILD, False, 6, "curl: (6) Could not resolve host: x", "the network is closed to bash"),
        (SERVER, False, 1, "getaddrinfo ENOTFOUND x", "`network: true` under mcp_servers.fetch"),
        (CHILD, True, 6, "curl: (6) Could not resolve host: x", ""),
        (CHILD, False, 1, "touch: cannot touch '/usr/x': Read-only file system", "`sandbox_writable`"),
        (SERVER, False, 1, "OSError: [Errno 30] Read-only file system: '/x'", "`writable` under mcp_servers.fetch"),
        (CHILD, False, 128 + signal.SIGXFSZ, "", "sandbox_limits.file_bytes"),
        (CHILD, False, 128 + signal.SIGXCPU, "", "sandbox_limits.cpu_s"),
        (SERVER, False, 128 + signal.SIGXCPU, "", ""),
        (CHILD, False, 1, "bash: fork: retry: Resource temporarily unavailable", "sandbox_limits.max_processes"),
        (CHILD, False, 1, "MemoryError", "sandbox_limits.memory_bytes"),
        (CHILD, False, 1, "head: error writing: No space left on device", "sandbox_limits.tmp_bytes"),
        (CHILD, False, 1, "cat: /home/ann/notes.txt: No such file or directory", "`sandbox_readable`"),
        (CHILD, False, 1, "cat: notes.txt: No such file or directory", ""),
        (CHILD, False, 2, "ls: cannot access 'src/home/x': No such file or directory", ""),
        (CHILD, False, 1, "", ""),
    ],
)
def test_a_denial_is_told_where_its_cause_can_be_told(
    child: Child, network: bool, status: int, stderr: str, said: str
) -> None:
    told = Explanation(child=child, network=network, limits=SandboxLimits()).of(status, stderr)
    assert said in told
    assert bool(told) == bool(said)


def test_a_server_sees_the_environment_it_is_installed_in(tmp_path: Path) -> None:
    venv, base = tmp_path / "venv", tmp_path / "python"
    (venv / "bin").mkdir(parents=True)
    (base / "bin").mkdir(parents=True)
    (venv / "pyvenv.cfg").write_text(f"home = {base}/bin\nversion = 3.11\n")
    tool = venv / "bin" / "server"
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    script = tmp_path / "script.py"
    script.write_text("")
    command = program("server", {"PATH": str(venv / "bin")})
    assert command == str(tool)
    seen = seen_by([command, str(script), "--flag", "x" * 5000, str(tmp_path)], tmp_path)
    assert set(seen) == {tool, venv, base, script}
    assert program("no-such-thing", {"PATH": str(tmp_path)}) == "no-such-thing"


def test_a_program_alone_shows_nothing_around_it(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    tool = tmp_path / "bin" / "uvx"
    tool.write_text("#!/bin/sh\n")
    assert seen_by([str(tool)], tmp_path) == (tool,)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("sandbox: sometimes", "sandbox must be one of auto, bubblewrap, landlock, none"),
        ("sandbox_network: [python]", "must be one of bash"),
        ("sandbox_readable: [relative]", "must be an absolute path, or one that begins with ~/"),
        ("sandbox_limits: {memory_mb: 5}", "there is no key sandbox_limits.memory_mb"),
        ("sandbox_limits: {max_processes: 0}", "a whole number, 1 or more"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, text: str, wrong: str) -> None:
    (tmp_path / "llmos.yaml").write_text(text)
    with pytest.raises(SettingsError, match=wrong):
        load_settings(home=tmp_path, workspace=tmp_path, environ={}, checkout=tmp_path)


def test_the_settings_say_what_is_open(tmp_path: Path) -> None:
    text = (
        "sandbox: landlock\nsandbox_limits: {wall_s: 1.5}\nsandbox_network: [bash]\nsandbox_readable: [~/x]\n"
        "mcp_servers: {a: {command: b, network: true, writable: [/w], sandboxed: false}}\n"
    )
    (tmp_path / "llmos.yaml").write_text(text)
    settings = load_settings(home=tmp_path, workspace=tmp_path, environ={}, checkout=tmp_path)
    assert (settings.sandbox.kind, settings.sandbox.network) == ("landlock", ("bash",))
    assert settings.sandbox.limits == SandboxLimits(wall_s=1.5)
    assert settings.sandbox.readable == (Path.home() / "x",)
    server = settings.mcp_servers["a"]
    assert (server.network, server.writable, server.sandboxed) == (True, (Path("/w"),), False)


def test_the_own_interpreter_is_always_seen() -> None:
    assert access(View().plan(), Path(sys.base_prefix).resolve() / "bin") is Access.READ
