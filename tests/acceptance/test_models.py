"""Models and sentences over the command line: which does what, another one for a process, and system calls in words."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import pytest

from llmos.testing import Request, ScriptedServer, Turn, call, calls, say, slow
from tests.acceptance.test_processes import NAP, TRACE, processes, spawned, until
from tests.door import Door, assert_sentence, assert_told

HAIKU, SONNET = "claude-haiku-4-5", "claude-sonnet-4-5"
MEANT = {
    "suspend the napper": {"call": "suspend", "arguments": {"pids": ["napper"]}},
    "kill the napper": {"call": "kill", "arguments": {"pids": ["napper"]}},
    "how much money is left": {"call": "battery show"},
}


def model(request: Request) -> Turn:
    """Says what sentences mean, and works on goals slowly."""
    if "SENTENCE: " in request.prompt:
        sentence = json.loads(request.prompt.split("SENTENCE: ")[1].split("\n\nReply")[0])
        return say(json.dumps(MEANT.get(sentence, {"call": None})))
    done = len(request.tool_results)
    if done < 2:
        return slow(1.5, calls(call("write", file_path=f"{done}.txt", content="x")))
    return call("finish", answer="Written.") if done == 2 else say("Written.")


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(model) as server:
        yield server


@pytest.fixture
def home(door: Door, server: ScriptedServer) -> Iterator[Door]:
    """A door whose commands go through a resident kernel, with a model that answers, and a trace of naps."""
    door.env |= server.env(door.user) | {"LLMOS_DAEMON": "1"}
    (door.home / "plugins").mkdir(parents=True)
    (door.home / "plugins" / "nap.py").write_text(NAP)
    (door.workspace / "nap.yaml").write_text(TRACE.replace(".text", ""))
    assert door("traces", "import", "nap.yaml", "--trust").returncode == 0
    yield door
    door("down", "--now")


def test_the_table_says_who_does_what_at_what_price(home: Door) -> None:
    (home.home / "llmos.yaml").write_text(
        "servers: {local: {base_url: 'http://127.0.0.1:9/v1'}}\nprices: {opus: {input_usd_per_mtok: 5, "
        f"output_usd_per_mtok: 25}}}}\nmodels: {{learner: [{SONNET}, 'local:m'], judge: off, "
        "classes: {specialist: {learner: opus}}}\n"
    )
    told = home.json("models")["models"]
    found = {(one["task"], one["class"], one["model"]): one for one in told}
    assert found["learner", None, "local:m"]["input_usd_per_mtok"] == 0.0
    assert found["learner", "specialist", "opus"]["output_usd_per_mtok"] == 25
    assert found["summary", None, SONNET]["input_usd_per_mtok"] > 0
    assert found["judge", None, "off"]["state"] == "off"
    assert {one["state"] for one in told if one["model"] != "off"} == {"ok"}
    assert "unknown" in home("models", "--model", "sonnet").stdout


def test_another_model_goes_on_with_a_process(home: Door, server: ScriptedServer) -> None:
    pid = spawned(home, "Write x into two files", "--model", SONNET)
    until(lambda: server.conversation)
    told = home("model", str(pid), HAIKU)
    assert told.stdout == f"process {pid} goes on with {HAIKU} at the end of its turn\n"
    assert home("wait", str(pid)).returncode == 0
    asked = [request.model for request in server.conversation]
    assert asked[0] == SONNET
    assert set(asked[1:]) == {HAIKU}
    assert_sentence(home("model", str(pid), HAIKU), 2, f"process {pid} has ended")
    nap = spawned(home, "Nap 0.3 s again and again")
    until(lambda: processes(home)[nap]["steps"])
    assert_sentence(home("model", str(nap), HAIKU), 2, f"no model works on process {nap} (it is a follower)")


def test_what_can_be_no_model_is_refused_and_what_may_be_new_is_said_to_be_unsure(
    home: Door, server: ScriptedServer
) -> None:
    pid = str(spawned(home, "Write x into two files", "--model", SONNET))
    until(lambda: server.conversation)
    assert_sentence(home("model", pid, "gibberish"), 2, "there is no model 'gibberish'", "sonnet, opus or haiku")
    for name in ("haiku", "opus[1m]", HAIKU, SONNET):
        known = home("model", pid, name)
        assert (known.returncode, known.stderr) == (0, ""), name
    unsure = home("model", pid, "claude-opus-99")
    assert "goes on with claude-opus-99" in unsure.stdout
    assert_told(unsure, 0, "whether there is a model claude-opus-99 shows at its next request")
    assert home("model", pid, HAIKU).returncode == 0
    assert home("wait", pid).returncode == 0
    assert {request.model for request in server.conversation[1:]} <= {SONNET, HAIKU}


def test_what_the_settings_name_is_a_model(home: Door, server: ScriptedServer) -> None:
    (home.home / "llmos.yaml").write_text("models: {classes: {meta: {learner: gateways-own}}}\n")
    pid = str(spawned(home, "Write x into two files"))
    until(lambda: server.conversation)
    known = home("model", pid, "gateways-own")
    assert (known.returncode, known.stderr) == (0, "")
    assert home("wait", pid).returncode == 0
    assert server.conversation[-1].model == "gateways-own"


def test_a_model_that_anthropic_can_not_have_is_refused_before_it_is_asked(door: Door) -> None:
    door.env["ANTHROPIC_API_KEY"] = "dummy"
    assert_told(door("Frobnicate the gadget", "--model", "gibberish"), 5, "Anthropic has no model 'gibberish'")


def test_words_that_fit_no_verb_are_a_goal(home: Door) -> None:
    for words in (("model", "of", "the", "house"), ("model", "3", "cars", "in", "clay"), ("models", "of", "cars")):
        assert "no trace is proven for this goal" in home(*words, "--mode", "follow").stderr


# --------------------------------------------------------------------------------------------------- system calls


def test_a_sentence_suspends_a_process_and_the_next_one_costs_nothing(home: Door, server: ScriptedServer) -> None:
    pid = spawned(home, "Nap 0.05 s again and again")
    until(lambda: processes(home)[pid]["steps"])
    done = home("sys", "suspend the napper")
    assert done.returncode == 0, done.stderr
    assert f"-> suspend {pid} (Nap 0.05 s again and again) · model · $" in done.stderr
    assert done.stdout == f"process {pid} stops at the end of its turn\n"
    until(lambda: processes(home)[pid]["state"] == "suspended")
    home("resume", str(pid))
    again = home.json("sys", "please", "suspend", "the", "napper")
    assert (again["call"], again["parsed_by"], again["parse_cost_usd"]) == (f"suspend {pid}", "replayed", 0.0)
    assert len(server.conversation) == 1
    assert "system call" in json.dumps(home.json("battery", "ledger"))
    unknown = home("sys", "resume the napper")
    assert_sentence_after(unknown, 2, "no system call does what 'resume the napper' says")
    until(lambda: processes(home)[pid]["state"] == "suspended")


def assert_sentence_after(done: subprocess.CompletedProcess[str], exit_code: int, *parts: str) -> None:
    assert_told(done, exit_code, *parts)


def test_an_exact_call_needs_no_model(home: Door, server: ScriptedServer) -> None:
    pid = spawned(home, "Nap 0.2 s again and again")
    assert home("sys", f"suspend {pid}").returncode == 0
    assert home.json("sys", "ps --all")["parsed_by"] == "exact"
    assert home.json("sys", "runs", "list")["verb"] == "runs list"
    assert_told(home("sys", "suspend 99"), 2, "no process 99")
    assert server.requests == []


def test_a_dry_run_only_shows_the_call(home: Door) -> None:
    pid = spawned(home, "Nap 0.2 s again and again")
    shown = home("sys", "--dry-run", "suspend the napper")
    assert (shown.returncode, shown.stdout) == (0, "")
    assert f"-> suspend {pid}" in shown.stderr
    assert processes(home)[pid]["state"] == "running"


def test_what_can_not_be_taken_back_is_asked_about(home: Door) -> None:
    pid = spawned(home, "Nap 0.2 s again and again")
    refused = home("sys", "kill the napper")
    assert_told(refused, 4, f"kill {pid} (Nap 0.2 s again and again) needs a yes that nobody could give")
    assert_told(home("sys", f"kill {pid}"), 4, "needs a yes")
    assert processes(home)[pid]["state"] == "running"
    assert home("sys", "--yes", "kill the napper").returncode == 0
    until(lambda: pid not in processes(home))


def test_rules_are_about_system_calls_too(home: Door) -> None:
    (home.home / "llmos.yaml").write_text(
        "permissions: {rules: [{deny: 'system_call:suspend'}, {allow: 'system_call:kill', effect: external}]}\n"
    )
    pid = spawned(home, "Nap 0.2 s again and again")
    assert_told(home("sys", f"suspend {pid}"), 4, f"suspend {pid}", "is not permitted")
    assert_told(home("sys", "--yes", f"suspend {pid}"), 4, "is not permitted")
    assert home("sys", f"kill {pid}").returncode == 0


def test_a_sentence_without_a_model_says_what_is_missing(door: Door) -> None:
    assert_told(
        door("sys", "suspend the napper"), 5, "is no exact call and no wording that was learned", "no Claude key"
    )
    assert door("sys", "ps").returncode == 0


def test_the_shell_takes_sentences_as_they_are(home: Door, server: ScriptedServer) -> None:
    lines = b"sys how much money is left\nsys how much money is left?\nsys ps\nsys don't suspend the napper\nexit\n"
    done = home("interactive", stdin=lines)
    assert done.stderr.count("-> battery show") == 2
    assert "-> ps" in done.stderr
    assert "no system call does what" in done.stderr
    assert len(server.conversation) == 2
