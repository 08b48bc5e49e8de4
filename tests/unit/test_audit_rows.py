"""Rows of the audit log, what is recorded in them, and what must not be."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos.errors import UsageError
from llmos.interfaces.audit_commands import said
from llmos.interfaces.commands import AUDIT_KINDS
from llmos.interfaces.witnessing import changes
from llmos.memory.audit_chain import shortened
from llmos.memory.audit_check import ChainCheck
from llmos.memory.audit_entries import Head, Row, canonical, hash_of, linked, row_of, stamp
from llmos.memory.audit_notes import Kind, note, noted
from llmos.memory.redacting import REDACTED, without_secrets
from llmos.settings import effective_values, load_settings

ROW = Row(
    number=7,
    at="2026-11-27T08:00:00.000001Z",
    kind="effect",
    run_id="r1",
    principal="ada",
    body='{"tool":"write"}',
    previous="ab" * 32,
)
TEXTS = ("at", "kind", "run_id", "principal", "body", "previous")


def test_a_rows_hash_is_the_one_that_the_documentation_gives() -> None:
    """Worked out by hand, so that another program can do it too."""
    import hashlib

    text = (
        '["llmos-audit/1","7","2026-11-27T08:00:00.000001Z","effect","r1","ada","{\\"tool\\":\\"write\\"}","'
        + "ab" * 32
        + '"]'
    )
    assert hash_of(ROW) == hashlib.sha256(text.encode()).hexdigest()


@given(st.fixed_dictionaries({name: st.text(alphabet='a"\\,[]\n', max_size=4) for name in TEXTS}), st.data())
def test_no_two_rows_are_hashed_as_the_same_text(values: dict[str, str], data: Any) -> None:
    given_values: dict[str, Any] = dict(values)
    row = replace(ROW, **given_values)
    one, two = data.draw(st.sampled_from(TEXTS)), data.draw(st.sampled_from(TEXTS))
    moved = replace(row, **{one: getattr(row, one) + getattr(row, two), two: ""}) if one != two else row
    assert (hash_of(moved) == hash_of(row)) == (moved == row)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": 1, "a": [True, None, "é\n\x1f"]}, '{"a":[true,null,"é\\n\\u001f"],"b":1}'),
        ({"\U0001f600": 1, "\ufb33": 2}, '{"\U0001f600":1,"\ufb33":2}'),  # in the order of UTF-16, as the RFC wants it
        ([1.0, 2e9, 1e-7, 0.1, -0.0, 333333333.33333329], "[1,2000000000,1e-7,0.1,0,333333333.3333333]"),
        ([2**53, 1e300, float("nan"), float("-inf")], '["9007199254740992","1e+300","nan","-inf"]'),
        ("a\udc80b", '"a\ufffdb"'),
        ({1: Path("x")}, '{"1":"x"}'),
    ],
)
def test_bodies_have_one_text(value: Any, text: str) -> None:
    assert canonical(value) == text
    assert canonical(json.loads(text)) == text


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=8))
def test_any_data_has_a_canonical_text_that_reads_back_as_it(value: Any) -> None:
    text = canonical(value)
    assert canonical(json.loads(text)) == text


def test_floats_are_written_as_ecmascript_does() -> None:
    """Samples of RFC 8785, appendix B."""
    samples = {
        "0000000000000001": "5e-324",
        "3eb0c6f7a0b5ed8d": "0.000001",
        "41b3de4355555556": "333333333.3333334",
        "becbf647612f3696": "-0.0000033333333333333333",
    }
    for bits, text in samples.items():
        (value,) = struct.unpack(">d", bytes.fromhex(bits))
        assert canonical(value) == text


def test_times_are_utc_with_microseconds() -> None:
    assert stamp(datetime(2026, 11, 27, 8, tzinfo=UTC)) == "2026-11-27T08:00:00.000000Z"
    assert (
        stamp(datetime(2026, 11, 27, 8, 0, 0, 5, tzinfo=timezone(timedelta(hours=2)))) == "2026-11-27T06:00:00.000005Z"
    )


def test_exported_rows_read_back_and_others_do_not() -> None:
    (row,) = linked([ROW], Head())
    assert row_of(row.to_data()) == row
    junks: list[Any] = [None, [], {}, {**row.to_data(), "number": "7"}, {**row.to_data(), "more": 1}]
    for junk in junks:
        with pytest.raises(UsageError, match="no row of an audit log"):
            row_of(junk)


def test_a_body_made_unreadable_is_shown_as_it_is() -> None:
    broken = replace(ROW, body="{")
    assert broken.to_data()["body"] == "{"
    assert said(broken) == "{"


def test_a_check_takes_rows_whose_facts_are_of_another_form() -> None:
    for body in ("{", "[]", "{}", '{"entry":"x"}', '{"log":1,"ledger_rows_before":"x"}'):
        for kind in ("start", "charge"):
            check = ChainCheck()
            check.take(replace(ROW, number=1, kind=kind, body=body))
            assert check.fault is not None


def test_nothing_is_noted_where_no_log_is_kept() -> None:
    note(Kind.SETTING, {})
    assert noted() == []


def test_the_commands_know_the_kinds_that_there_are() -> None:
    assert set(AUDIT_KINDS) == {str(kind) for kind in Kind}


# ----------------------------------------------------------------------------------------------------------- secrets


def hiding(secret: str) -> Callable[[str], str]:
    return lambda text: text.replace(secret, REDACTED)


def test_arguments_called_like_secrets_are_left_out_whole() -> None:
    given_ = {"password": {"deep": "x"}, "api_key": "x", "token": "", "pin": 1234, "list": ["1234", {"n": 5}]}
    assert without_secrets(given_, hiding("1234")) == {
        "password": REDACTED,
        "api_key": REDACTED,
        "token": "",
        "pin": REDACTED,
        "list": [REDACTED, {"n": 5}],
    }


@pytest.mark.parametrize("place", [0, 100, 395, 7_990, 9_000])
def test_a_secret_is_not_cut_and_missed_where_a_text_is_shortened(place: int) -> None:
    secret = "correct horse battery staple"
    told = shortened("x" * place + secret + "y" * 20_000, hiding(secret))
    assert "correct" not in told and "staple" not in told
    assert told.endswith(f"… ({place + len(secret) + 20_000} characters)")


def test_a_window_full_of_secrets_leaves_nothing_of_one_at_its_end() -> None:
    secret = "s3cret" * 50
    told = shortened((secret + " ") * 100, hiding(secret))
    assert "s3cret" not in told


# ---------------------------------------------------------------------------------------------------------- settings

CONFIG = """
models: {learner: haiku}
secrets: [GITHUB_TOKEN, OTHER_TOKEN]
mcp_servers:
  git: {command: mcp-git, env: {KEY: "${GITHUB_TOKEN}"}}
  web: {url: "http://localhost:9/mcp", headers: {Authorization: "Bearer abcdefgh12345"}}
"""
ENVIRON = {
    "GITHUB_TOKEN": "hunter2-is-long",
    "ANTHROPIC_API_KEY": "sk-ant-0123456789abcdef",
    "OPENAI_API_KEY": "openai-0123456789",
    "PATH": "/bin",
    "XDG_SESSION_ID": "7",
}


def test_effective_settings_name_everything_and_tell_no_secret(tmp_path: Path) -> None:
    (tmp_path / "llmos.yaml").write_text(CONFIG)
    settings = load_settings(home=tmp_path, workspace=tmp_path, environ=ENVIRON, checkout=tmp_path)
    values = effective_values(settings)
    assert values["models.learner"] == ["haiku"]
    assert values["matching.max_wrong.write"] == 0.001
    assert values["workspace"] == str(tmp_path)
    assert values["secrets.GITHUB_TOKEN"] == "set" and values["secrets.OTHER_TOKEN"] == "unset"
    assert values["environment.ANTHROPIC_API_KEY"] == "set"
    assert values["mcp_servers.git.env.KEY"] == values["mcp_servers.web.headers.Authorization"] == "set"
    assert not any("XDG" in name or name.endswith("PATH") for name in values)
    text = json.dumps(values)
    secrets = {ENVIRON[name] for name in ENVIRON if "KEY" in name or "TOKEN" in name} | {"abcdefgh12345"}
    assert not any(secret in text for secret in secrets)


def test_what_changed_in_the_settings_is_named_with_both_values() -> None:
    assert changes({"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 5, "d": 4}) == {"b": [2, 5], "c": [3, None], "d": [None, 4]}
    assert changes(None, {"a": 1}) == {}
