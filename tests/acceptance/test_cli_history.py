"""`traces versions` and `traces diff` as a user has them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.door import Door, assert_sentence

TRACE = """\
format: 1
id: reckon
goals: ["Reckon {sum} up"]
slots: {sum: expression}
steps:
- {id: calculate, tool: calculate, args: {expression: '${{ sum }}'}, effect: pure}
"""


@pytest.fixture
def door(tmp_path: Path) -> Door:
    door = Door(tmp_path)
    for text in (TRACE, TRACE.replace("]\n", ', "What does {sum} come to"]\n', 1)):
        (door.workspace / "reckon.yaml").write_text(text, encoding="utf-8")
        assert door("traces", "import", "reckon.yaml").returncode == 0
    return door


def test_versions_and_what_changed_between_them(door: Door) -> None:
    told = door.json("traces", "versions", "reckon")
    assert told["trace"] == "reckon"
    assert [(one["version"], one["goals"], one["changes"]) for one in told["versions"]] == [
        (1, 1, ""),
        (2, 2, "+1 goal"),
    ]
    assert "reckon@2" in door("traces", "versions", "reckon").stdout

    shown = door("traces", "diff", "reckon").stdout.splitlines()
    assert shown == ["reckon@1 → reckon@2", "+ goal: What does {sum} come to"]
    told = door.json("traces", "diff", "reckon@2", "1")
    assert (told["from"], told["to"]) == ("reckon@2", "reckon@1")
    assert told["changes"] == [{"part": "goal", "name": "", "before": "What does {sum} come to", "after": None}]
    assert door("traces", "diff", "reckon@1", "reckon@1").stdout == "reckon@1 and reckon@1 do the same\n"
    assert door.json("traces", "diff", "reckon", "calculate")["to"] == "calculate@1"


def test_what_can_not_be_compared_is_said_in_one_sentence(door: Door) -> None:
    assert_sentence(door("traces", "diff", "calculate"), 2, "calculate has one version only", "name a second trace")
    assert_sentence(door("traces", "diff", "reckon", "7"), 2, "reckon@7")
    assert_sentence(door("traces", "diff", "nothing"), 2, "nothing")
    assert_sentence(door("traces", "versions", "nothing"), 2, "nothing")
