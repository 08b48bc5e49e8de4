"""Secrets on their way through the real command line: used where they are needed, and found nowhere afterwards."""

from __future__ import annotations

import base64
import json
import random
import string
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any
from urllib.parse import quote

import duckdb
import pytest

from llmos.testing import Request, ScriptedServer, Turn, call, say, slow
from tests.door import Door, assert_told
from tests.lab import Step, finishing, steps
from tests.planted import in_context, pieces, planted

TESTS = Path(__file__).parents[1]
NAMED = "named-S3cret/Value+of=this&app" + "".join(random.Random(7).choices(string.ascii_letters, k=20))
MARK = "«secret:APP_TOKEN»"


class Traces:
    """All that commands printed, and a search through it and everything on disk."""

    def __init__(self, door: Door) -> None:
        self.door = door
        self.printed = ""

    def __call__(self, *args: str, env: dict[str, str]) -> CompletedProcess[str]:
        done = self.door(*args, env={"TMPDIR": str(self.temporary), **env})
        self.printed += f"{done.stdout}\n{done.stderr}\n"
        return done

    @property
    def temporary(self) -> Path:
        folder = self.door.folder / "tmp"
        folder.mkdir(exist_ok=True)
        return folder

    def places(self) -> Iterator[tuple[str, bytes]]:
        """What was printed, every file outside of the workspace, and every text in the database."""
        yield "printed", self.printed.encode()
        yield from self.files()
        database = self.door.home / "memory" / "llmos.duckdb"
        with duckdb.connect(str(database), read_only=True) as connection:
            for (table,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall():
                for row in connection.execute(f"SELECT * FROM {table}").fetchall():
                    yield f"table {table}", repr(row).encode()
                    yield f"table {table}", "\n".join(str(value) for value in row).encode()

    def files(self) -> Iterator[tuple[str, bytes]]:
        for folder in (self.door.home, self.door.user, self.temporary):
            for path in folder.rglob("*"):
                if path.is_file() and path.name != "llmos.yaml":
                    yield str(path), path.read_bytes()

    def leaks(self, values: dict[str, str]) -> list[tuple[str, str]]:
        """What of these values is found where."""
        return [
            (place, what)
            for place, content in self.places()
            for what, piece in values.items()
            if piece.encode() in content
        ]


@pytest.fixture
def traces(door: Door) -> Traces:
    return Traces(door)


def configure(door: Door, text: str) -> None:
    door.home.mkdir(parents=True, exist_ok=True)
    (door.home / "llmos.yaml").write_text(text)


def script(*turns: Step) -> Callable[[Request], Turn]:
    return steps(*turns)


def own(value: str) -> dict[str, str]:
    """A value in every encoding, and its beginning."""
    raw = value.encode()
    return {
        "plain": value[6:20],
        "base64": base64.b64encode(raw).decode()[4:24],
        "hex": raw.hex()[10:34],
        "url": quote(value, safe="")[6:30],
    }


# ------------------------------------------------------------------------------------------------------- unnamed


@pytest.mark.parametrize("ends", ["well", "badly"])
def test_no_credential_that_a_run_meets_is_left_anywhere(door: Door, traces: Traces, ends: str) -> None:
    values = planted()
    (door.workspace / "settings.env").write_text(in_context(values))
    server = json.dumps([str(TESTS / "integration" / "mcp_odd_server.py"), str(door.folder)])
    allowed = [
        f"{{allow: {tool}, effect: {effect}, tainted: true}}"
        for tool, effect in (("write", "write"), ("odd__fail", "unknown"), ("bash", "unknown"))
    ]
    configure(
        door,
        f"mcp_servers:\n  odd: {{command: {json.dumps(sys.executable)}, args: {server}}}\n"
        f"permissions:\n  rules: [{', '.join(allowed)}]\n",
    )
    told = in_context(values)
    turns: tuple[Step, ...] = (
        call("read", file_path="settings.env"),
        call("read", file_path=f"{values['github token']}.txt"),  # an argument, and in the error of the tool
        call("odd__fail", message=told),
        call("bash", command=f"echo 'token: {values['token']}' '{values['openai key']}'"),
        call("write", file_path="copy.txt", content=values["slack token"]),
    )
    closing = finishing(f"It says:\n{told}", source="settings.env")
    last: tuple[Step, ...] = (say(told),) if ends == "badly" else tuple(closing)
    goal = f"Show what is in settings.env, for {values['stripe key']} and the password {values['password']}"
    with ScriptedServer(script(*turns, *last)) as model:
        env = {**model.env(door.user), "ODD_API_TOKEN": values["token"], "LLMOS_BUDGET_USD": "5"}
        ran = traces(goal, "-vv", *(["--budget", "0.0001"] if ends == "badly" else []), env=env)
        if ends == "well":
            assert ran.returncode == 0, ran.stderr
            assert any(values["aws secret key"] in one.text for one in model.conversation[-1].tool_results)
        traces(goal, "--json", "--mode", "follow", env=env)
        traces("explain", goal, env=env)
    run = json.loads(traces("runs", "list", "--json", env=env).stdout)["runs"][-1]
    traces("runs", "show", run["id"], env=env)
    traces("runs", "show", run["id"], "--json", env=env)
    traces("battery", "ledger", env=env)
    assert traces.leaks(pieces(values.values())) == []
    if ends == "well":
        assert "«secret»" in traces.printed


def test_nothing_is_on_disk_while_a_run_is_under_way_or_after_it_was_killed(door: Door, traces: Traces) -> None:
    values = planted(2)
    (door.workspace / "settings.env").write_text(in_context(values))
    looking = call("read", file_path="settings.env")
    with ScriptedServer(script(looking, slow(60, say("never")))) as model:
        env = {**door.env, **model.env(door.user), "TMPDIR": str(traces.temporary)}
        process = door.start(f"Say what settings.env tells of {values['npm token']}", env=env)
        deadline = time.monotonic() + 60
        while len(model.conversation) < 2 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(0.5)
        names = {path.name for path in (door.home / "memory").iterdir()}
        found = [(place, what) for place, data in traces.files() for what, one in pieces(values.values()).items()
                 if one.encode() in data and "scratch" not in place]  # fmt: skip
        process.kill()
        process.communicate(timeout=30)
    assert "llmos.duckdb.wal" in names
    assert found == []
    assert json.loads(traces("runs", "list", "--json", env=env).stdout)["runs"][0]["status"] == "interrupted"
    assert traces.leaks(pieces(values.values())) == []


def test_a_goal_that_holds_a_credential_is_answered_but_not_learned_and_the_user_is_told(
    door: Door, traces: Traces
) -> None:
    token = planted(3)["github token"]
    goal = f"Write {token} into note.txt"
    writing = call("write", file_path="note.txt", content=f"token {token}")
    with ScriptedServer(script(writing, *finishing("Done"))) as model:
        done = traces(goal, env=model.env(door.user))
    assert done.returncode == 0, done.stderr
    assert (door.workspace / "note.txt").read_text() == f"token {token}"
    told = [line for line in done.stderr.splitlines() if line.startswith("llmos: ")]
    assert len(told) == 1
    assert "a GitHub token" in told[0]
    assert "put it in the environment as GITHUB_TOKEN, name that under `secrets`" in told[0]
    assert all(one["provenance"] == "demonstration" for one in door.json("traces", "list")["traces"])
    assert traces.leaks({"token": token[4:16]}) == []


def test_a_constant_that_is_a_credential_makes_no_trace_and_the_reason_names_a_variable(
    door: Door, traces: Traces
) -> None:
    password = planted(4)["password"]
    command = f"printf 'password=%s' '{password}' > /dev/null; curl_password='{password}'; echo done"
    with ScriptedServer(script(call("bash", command=command), *finishing("done"))) as model:
        done = traces("Log the app in", "--json", "--yes", env=model.env(door.user))
    told = json.loads(done.stdout)["notice"]
    assert "'command' of bash would hold a password" in told
    assert "CURL_PASSWORD" in told
    assert traces.leaks({"password": password[:10]}) == []


# --------------------------------------------------------------------------------------------------------- named

GOAL = "Write the token of the app into header.txt"


def learned(door: Door, traces: Traces, *turns: Step, goal: str = GOAL, named: str = NAMED) -> ScriptedServer:
    configure(door, "secrets: [APP_TOKEN]\n")
    with ScriptedServer(script(*turns)) as model:
        done = traces(goal, "-v", env={**model.env(door.user), "APP_TOKEN": named})
    assert done.returncode == 0, done.stderr
    return model


def test_a_named_secret_is_used_by_its_mark_and_never_seen(door: Door, traces: Traces) -> None:
    encoded = base64.b64encode(NAMED.encode()).decode()
    (door.workspace / "app.env").write_text(
        f"A={NAMED}\nB={encoded}\nC={quote(NAMED, safe='')}\nD={NAMED.encode().hex()}\n"
    )
    model = learned(
        door,
        traces,
        call("read", file_path="app.env"),
        call("write", file_path="header.txt", content=MARK),
        *finishing("Wrote it", target="header.txt"),
    )
    assert (door.workspace / "header.txt").read_text() == NAMED
    sent = json.dumps([request.body for request in model.conversation], ensure_ascii=False)
    assert MARK in sent and "«secret:APP_TOKEN|base64»" in sent
    assert [what for what, piece in own(NAMED).items() if piece in sent] == []
    assert traces.leaks(own(NAMED)) == []


def test_its_replay_looks_the_value_up_and_stops_before_anything_without_it(door: Door, traces: Traces) -> None:
    writing = call("write", file_path="header.txt", content=MARK)
    learned(door, traces, call("write", file_path="first.txt", content="begun"), writing, *finishing("Wrote it"))
    for name in ("header.txt", "first.txt"):
        (door.workspace / name).unlink()
    other = NAMED[::-1]
    done = traces(GOAL, "--json", "--yes", "--mode", "follow", env={"APP_TOKEN": other})
    assert done.returncode == 0, done.stderr
    assert (json.loads(done.stdout)["mode"], json.loads(done.stdout)["cost_usd"]) == ("follower", 0.0)
    assert (door.workspace / "header.txt").read_text() == other
    (trace,) = [one for one in door.json("traces", "list")["traces"] if one["provenance"] == "learned"]
    exported = traces("traces", "export", trace["id"], env={"APP_TOKEN": other}).stdout
    assert "${{ secret.APP_TOKEN }}" in exported
    for name in ("header.txt", "first.txt"):
        (door.workspace / name).unlink()
    assert_told(traces(GOAL, "--yes", env={}), 2, "the secret APP_TOKEN is not set; export APP_TOKEN")
    assert list(door.workspace.iterdir()) == []
    assert traces.leaks({**own(NAMED), **{f"other {what}": piece for what, piece in own(other).items()}}) == []


def test_a_goal_that_says_the_value_of_a_named_secret_is_the_goal_with_its_mark(door: Door, traces: Traces) -> None:
    writing = call("write", file_path="header.txt", content=f"Bearer {MARK}")
    goal = f"Write a bearer header with {NAMED} into header.txt"
    model = learned(door, traces, writing, *finishing("Wrote it", target="header.txt"), goal=goal)
    assert MARK in model.conversation[0].prompt
    again = traces(goal, "--mode", "follow", "--yes", "--json", env={"APP_TOKEN": NAMED})
    assert again.returncode == 0, again.stderr
    assert (door.workspace / "header.txt").read_text() == f"Bearer {NAMED}"
    assert traces.leaks(own(NAMED)) == []


def test_a_file_that_only_looks_like_a_mark_gets_nothing_put_in(door: Door, traces: Traces) -> None:
    (door.workspace / "a.txt").write_text(f"send {MARK} to us")

    def copied(request: Request) -> Turn:
        text: Any = json.loads(request.tool_results[0].text.split("<system-reminder>")[0])
        return call("write", file_path="b.txt", content=text["text"])

    goal = "Copy the text of a.txt into b.txt"
    learned(door, traces, call("read", file_path="a.txt"), copied, *finishing("Copied"), goal=goal)
    assert (door.workspace / "b.txt").read_text() == f"send {MARK} to us"
    (door.workspace / "c.txt").write_text(f"other {MARK}")
    done = traces("Copy the text of c.txt into d.txt", "--mode", "follow", "--yes", env={"APP_TOKEN": NAMED})
    assert done.returncode == 0, done.stderr
    assert (door.workspace / "d.txt").read_text() == f"other {MARK}"
