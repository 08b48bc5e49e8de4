"""`audit tail`, `verify`, `export` and `reseal` as a user has them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.door import Door, assert_sentence


@pytest.fixture
def used(door: Door) -> Door:
    """A home in which goals were reached."""
    (door.workspace / "a.csv").write_text("a,b\n1,2\n")
    assert door("Calculate 2 + 3").returncode == 0
    assert door("Convert a.csv to a.json", "--yes").returncode == 0
    return door


def database(door: Door) -> Path:
    return door.home / "memory" / "llmos.duckdb"


def tampered(door: Door, statement: str) -> None:
    with duckdb.connect(str(database(door))) as connection:
        connection.execute(statement)


def test_what_was_done_is_on_record_and_verifies(used: Door) -> None:
    done = used("audit", "verify")
    assert done.returncode == 0, done.stderr
    assert "rows, each as it was written" in done.stdout

    rows = used.json("audit", "tail", "-n", "1000")["rows"]
    assert [row["number"] for row in rows] == list(range(1, len(rows) + 1))
    assert {"start", "setting", "charge", "trace", "decision", "effect", "run_end"} == {row["kind"] for row in rows}
    assert all(row["principal"] == rows[0]["principal"] != "" for row in rows)

    (run,) = [row["run"] for row in rows if row["kind"] == "run_end" and "Convert" in row["body"]["goal"]]
    of_run = used.json("audit", "tail", "--run", run[:6])["rows"]
    assert [row["kind"] for row in of_run] == ["decision", "effect", "effect", "charge", "run_end"]
    assert used.json("audit", "tail", "--run", "last")["rows"] == of_run

    shown = used("audit", "tail", "--kind", "effect", "-n", "2").stdout.splitlines()
    assert shown[0].split() == ["row", "time", "kind", "what", "run", "by"]
    assert 'begun convert_data arguments={"source": "a.csv", "target": "a.json"} effect=write' in shown[1]
    assert used("audit").stdout == used("audit", "tail").stdout


def test_a_changed_row_is_named_and_the_command_fails(used: Door) -> None:
    tampered(used, "UPDATE audit_log SET body = replace(body, 'a.csv', 'b.csv') WHERE kind = 'effect'")
    done = used("audit", "verify")
    assert_sentence(done, 7, "the audit log is not as it was written: row ", " was changed")
    told = json.loads(used("audit", "verify", "--json").stdout)
    assert (told["whole"], told["exit_code"], told["findings"][0]["wrong"]) == (False, 7, "changed")


def test_a_cut_tail_is_found_even_after_more_was_done(used: Door) -> None:
    tampered(used, "DELETE FROM audit_log WHERE number > 10")
    done = used("Calculate 1 + 1")
    assert done.returncode == 0
    assert "`audit verify` says more" in done.stderr
    told = json.loads(used("audit", "verify", "--json").stdout)
    assert "tail cut or rewritten" in [finding["wrong"] for finding in told["findings"]]


def test_an_older_copy_put_back_is_found_and_can_be_accepted(used: Door) -> None:
    shutil.copy(database(used), used.folder / "backup")
    used("Calculate 1 + 1")
    shutil.copy(used.folder / "backup", database(used))
    done = used("audit", "verify")
    assert done.returncode == 7 and "older copy of the database" in done.stderr
    assert used("audit", "reseal", "restored the backup").returncode == 0
    assert used("audit", "verify").returncode == 0
    assert used.json("audit", "tail", "--kind", "reseal")["rows"][0]["body"]["reason"] == "restored the backup"
    assert_sentence(used("audit", "reseal", "once more"), 2, "nothing to seal anew")


def test_an_export_proves_that_the_log_was_only_appended_to(used: Door) -> None:
    assert used("audit", "export", "log.jsonl").returncode == 0
    lines = (used.workspace / "log.jsonl").read_text().splitlines()
    assert used("audit", "export").stdout.splitlines() == lines
    assert [json.loads(line)["number"] for line in lines] == list(range(1, len(lines) + 1))
    assert_sentence(used("audit", "export", "log.jsonl"), 2, "log.jsonl exists already")

    assert used("Calculate 4 + 4").returncode == 0
    done = used("audit", "verify", "--against", "log.jsonl")
    assert done.returncode == 0 and f"the log extends the {len(lines)} exported" in done.stdout
    last = used.json("audit", "export", "new.jsonl", "--since", str(len(lines) + 1))
    assert (last["rows"], used.json("audit", "verify")["head"]) == (3, last["head"])
    assert used("audit", "verify", "--against", "new.jsonl").returncode == 0
    assert used("audit", "export", "--since", "2999-01-01").stdout == ""

    shutil.rmtree(used.home)
    used("Calculate 4 + 4")
    assert_sentence(used("audit", "verify", "--against", "new.jsonl"), 7, "new.jsonl")
    (used.workspace / "new.jsonl").write_text("{}\n")
    assert_sentence(used("audit", "verify", "--against", "new.jsonl"), 2, "new.jsonl, line 1")
    assert_sentence(used("audit", "verify", "--against", "none.jsonl"), 2, "none.jsonl can't be read")
    assert_sentence(used("audit", "export", "--since", "yesterday"), 2, "--since must be")


def test_killing_it_while_it_works_leaves_a_log_that_verifies(door: Door) -> None:
    door("Calculate 1 + 1")
    for goals in (1, 4, 9):
        process = door.start("interactive", stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write("".join(f"Calculate {n} + {goals}\n" for n in range(200)))
        process.stdin.flush()
        for _ in range(goals):
            assert process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)
        process.wait(60)
        process.stdout.close()
        process.stdin.close()
        done = door("audit", "verify")
        assert done.returncode == 0, done.stderr


def test_no_secret_of_the_settings_is_exported(door: Door) -> None:
    door.home.mkdir()
    (door.home / "llmos.yaml").write_text("secrets: [MY_TOKEN]\n")
    env: dict[str, Any] = {"MY_TOKEN": "12345.678", "ANTHROPIC_API_KEY": "sk-ant-0123456789abcdefghij"}
    assert door("Calculate 12345.678 + 0", "--mode", "follow", env=env).returncode == 6  # the goal holds a mark for it
    text = door("audit", "export", env=env).stdout
    assert "12345.678" not in text.replace("2026", "") and "0123456789abcdefghij" not in text
    assert '"secrets.MY_TOKEN":"set"' in text and '"environment.ANTHROPIC_API_KEY":"set"' in text
