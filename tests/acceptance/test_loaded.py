"""What is loaded for what: nothing that this command does not need, seen from the processes themselves."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping

import pytest

from llmos.testing import ScriptedServer, call, say
from tests.door import BOOT, Door

# The libraries and the parts of our own that take time to load, and who needs them.
MODELS = {"torch", "transformers", "sentence_transformers"}
ENCODER = {"numpy", "faiss", "tokenizers"}
LEARNER = {"claude_agent_sdk", "mcp", "pydantic", "llmos.interfaces.learning", "llmos.interfaces.claude_learner"}
INDUCTION = {"llmos.trace.induce", "llmos.interfaces.admission", "llmos.kernel.proof", "llmos.interfaces.merging"}
AFTERWARDS = {"llmos.trace.checking", "llmos.trace.guided", "llmos.interfaces.undoing", "llmos.memory.frozen"}
UNPROVEN = {"llmos.trace.equivalence", "llmos.trace.likeness"}
ENGINE = {"duckdb", "asyncio", "llmos.boot", "llmos.home", "llmos.interfaces.dispatcher"}
SCREEN = {"rich", "prompt_toolkit"}
WATCHED = (
    MODELS
    | ENCODER
    | LEARNER
    | INDUCTION
    | AFTERWARDS
    | UNPROVEN
    | ENGINE
    | SCREEN
    | {"yaml", "click", "socket", "pathlib", "re"}
)


def loaded(door: Door, *args: str, env: Mapping[str, str] | None = None) -> set[str]:
    """The watched modules that a command loads in its own process."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", str(BOOT), *args],
        cwd=door.workspace,
        env={**door.env, **(env or {})},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    names = set(re.findall(r"^import time:.*\|\s+([\w.]+)$", done.stderr, re.MULTILINE))
    return WATCHED & (names | {name.partition(".")[0] for name in names})


def test_help_loads_click_and_no_engine(door: Door) -> None:
    assert loaded(door, "--help") & (WATCHED - {"click", "pathlib", "re"}) == set()


def test_a_thin_client_loads_next_to_nothing(door: Door) -> None:
    door.env["LLMOS_DAEMON"] = "1"
    door("Calculate 2 + 3")
    try:
        assert loaded(door, "Calculate 2 + 3") == set()
    finally:
        door("down", "--now")


@pytest.mark.parametrize("goal", ["Calculate 2 + 3", "Calculate 2 + 4"], ids=["exact", "skeleton"])
def test_a_hit_by_hash_loads_no_encoder_and_nothing_that_only_learners_need(door: Door, goal: str) -> None:
    door("Calculate 2 + 3")
    found = loaded(door, goal)
    assert found >= {"duckdb", "click", "llmos.boot"}
    assert found & (MODELS | ENCODER | LEARNER | INDUCTION | AFTERWARDS | UNPROVEN | SCREEN) == set()


def test_a_look_up_by_meaning_loads_the_encoder_and_no_model_library(door: Door) -> None:
    door("Calculate 2 + 3")
    found = loaded(door, "explain", "Brew a pot of coffee for everybody")
    assert found >= ENCODER
    assert found & MODELS == set()


def test_a_learner_loads_its_client_and_induction_and_no_model_library(door: Door) -> None:
    script = [call("write", file_path="poem.txt", content="roses\n"), call("finish", answer="written"), say("done")]
    with ScriptedServer(script) as server:
        found = loaded(door, "Write roses into poem.txt", env=server.env(door.user))
    assert found >= {"claude_agent_sdk", "llmos.trace.induce", "llmos.interfaces.learning"}
    assert found & MODELS == set()
