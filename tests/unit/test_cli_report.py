"""How a command ends: sentences, exit codes, files written whole, and what is missing."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest

from llmos import errors
from llmos.interfaces.actions import NO_RUN
from llmos.interfaces.install import how_to_install, is_ours_to_install
from llmos.interfaces.reading import text_of
from llmos.interfaces.session import READER_LEFT, ReaderLeftError, Screen, failure, report
from llmos.interfaces.trace_files import write_whole


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (errors.LearnerError("x"), 1),
        (errors.GoalError("x"), 2),
        (errors.LowBatteryError("x"), 3),
        (errors.NotPermittedError("x"), 4),
        (errors.NoLearnerError("x"), 5),
        (errors.NothingToFollowError("x"), 6),
        (errors.StorageError("x"), 7),
        (click.UsageError("x"), 2),
        (asyncio.CancelledError(), 130),
        (KeyboardInterrupt(), 130),
        (ModuleNotFoundError("No module named 'duckdb'", name="duckdb"), 2),
        (ModuleNotFoundError("No module named 'llmos.nowhere'", name="llmos.nowhere"), 1),
        (RuntimeError("x"), 1),
    ],
)
def test_each_error_has_its_exit_code(error: BaseException, exit_code: int) -> None:
    assert failure(error)[1] == exit_code


def test_an_error_is_one_line_whatever_its_message_holds(capsys: pytest.CaptureFixture[str]) -> None:
    report(errors.ToolError("first\nsecond \x1b[31mred"), Screen())
    assert capsys.readouterr().err == "llmos: first second \N{REPLACEMENT CHARACTER}[31mred\n"


def test_an_unexpected_error_shows_its_traceback_with_v_only(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        raise RuntimeError("boom")
    except RuntimeError as error:
        report(error, Screen())
        assert "Traceback" not in capsys.readouterr().err
        report(error, Screen(), verbose=1)
    assert "Traceback" in capsys.readouterr().err


def test_a_failed_run_ends_with_its_line_and_its_json(capsys: pytest.CaptureFixture[str]) -> None:
    error = errors.LearnerError("the model gave up")
    error.result = SimpleNamespace(  # type: ignore[attr-defined]
        mode="learner",
        status="failed",
        cost_usd=0.02,
        saved_usd=0.0,
        estimate_usd=0.0,
        duration_s=1.0,
        trace_id=None,
        run_id="r1",
        to_json=lambda: {"run_id": "r1", "mode": "learner", "cost_usd": 0.02},
    )
    screen = Screen(as_json=True)
    screen.expect(NO_RUN)
    assert report(error, screen) == 1
    out, err = capsys.readouterr()
    assert json.loads(out) == {
        **NO_RUN,
        **{"run_id": "r1", "mode": "learner", "cost_usd": 0.02},
        **{"status": "failed", "error": "the model gave up", "exit_code": 1},
    }
    assert err.split("\n")[:2] == [
        "llmos: the model gave up",
        "learner failed · $0.0200 · saved $0.0000 · 1.0 s · run r1",
    ]


def test_json_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen(as_json=True)
    screen.data({"a": 1})
    report(errors.StorageError("later"), screen)
    assert json.loads(capsys.readouterr().out) == {"a": 1}


def test_a_reader_that_left_is_nothing_to_talk_about(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(ReaderLeftError(), Screen()) == READER_LEFT
    assert capsys.readouterr() == ("", "")


def test_what_is_missing_comes_with_the_command_that_gets_it() -> None:
    missing = ModuleNotFoundError("No module named 'yaml'", name="yaml.nodes")
    assert is_ours_to_install(missing)
    sentence = how_to_install(missing)
    assert sentence.startswith("the package pyyaml is not installed; run: ")
    command = shlex.split(sentence.partition("run: ")[2])
    assert command[1:4] == ["-m", "pip", "install"]
    assert Path(command[-1], "pyproject.toml").is_file()


# ------------------------------------------------------------------------------------------------------- files


def test_a_file_is_written_with_ordinary_permissions(tmp_path: Path) -> None:
    target = tmp_path / "trace.yaml"
    write_whole(target, "id: ä\n", force=False)
    assert target.read_text(encoding="utf-8") == "id: ä\n"
    mask = os.umask(0)
    os.umask(mask)
    assert target.stat().st_mode & 0o777 == 0o666 & ~mask
    assert [path.name for path in tmp_path.iterdir()] == ["trace.yaml"]


def test_a_file_that_exists_is_replaced_by_force_only(tmp_path: Path) -> None:
    target = tmp_path / "trace.yaml"
    target.write_text("mine")
    with pytest.raises(errors.UsageError, match="exists already"):
        write_whole(target, "other", force=False)
    assert target.read_text() == "mine"
    write_whole(target, "other", force=True)
    assert target.read_text() == "other"


def test_a_folder_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(errors.UsageError, match="can't be written"):
        write_whole(tmp_path / "nowhere" / "trace.yaml", "x", force=False)


@pytest.mark.parametrize(
    ("raw", "part"),
    [(b"\x00\xff\xfe", "not UTF-8"), (b"x" * 2_000_001, "larger than 2 MB")],
)
def test_a_file_that_is_no_text_is_refused(tmp_path: Path, raw: bytes, part: str) -> None:
    file = tmp_path / "trace.yaml"
    file.write_bytes(raw)
    with pytest.raises(errors.UsageError, match=part):
        asyncio.run(text_of(file, most=2_000_000))


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(errors.UsageError, match="No such file"):
        asyncio.run(text_of(tmp_path / "none.yaml", most=2_000_000))
    with pytest.raises(errors.UsageError, match="can't be read"):
        asyncio.run(text_of(tmp_path, most=2_000_000))


def test_colours_are_off_where_the_user_wants_none(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    Screen().note("a line", dim=True)
    assert capsys.readouterr().err == "a line\n"
