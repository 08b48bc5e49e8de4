"""The tree of errors: what a command ends with, and what an error carries."""

from __future__ import annotations

import inspect

import pytest

from llmos import errors

CODES = {
    "LLMOSError": 1,
    "UsageError": 2,
    "GoalError": 2,
    "SettingsError": 2,
    "TraceFormatError": 2,
    "NotFoundError": 2,
    "LowBatteryError": 3,
    "NotPermittedError": 4,
    "CallRefusedError": 4,
    "LearnerError": 1,
    "NoLearnerError": 5,
    "NothingToFollowError": 6,
    "StorageError": 7,
    "TamperedError": 7,
    "DatabaseLockedError": 7,
    "ToolError": 1,
    "ToolNotFoundError": 1,
    "InputError": 1,
    "UndoError": 1,
    "PluginError": 1,
    "DuplicateToolError": 1,
    "DivergenceError": 1,
    "StaleTraceError": 1,
    "OtherKindError": 1,
    "UnknownValueError": 1,
    "WorseEffectError": 1,
    "WrongKindError": 1,
    "WatchdogError": 1,
}


def defined() -> dict[str, type[Exception]]:
    return {
        name: kind
        for name, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, Exception) and kind.__module__ == errors.__name__
    }


def test_every_error_is_in_the_tree_with_its_exit_code() -> None:
    assert {name: getattr(kind, "exit_code", None) for name, kind in defined().items()} == CODES
    assert all(issubclass(kind, errors.LLMOSError) for kind in defined().values())


def test_every_error_is_public_and_drawn_at_the_top() -> None:
    assert set(errors.__all__) == set(defined())
    assert errors.__doc__ is not None
    assert all(name in errors.__doc__ for name in defined())


def test_the_drawing_shows_each_error_below_its_parent() -> None:
    assert errors.__doc__ is not None
    path: list[str] = []
    for line in errors.__doc__.splitlines():
        words = line.replace("│", " ").replace("├──", "   ").replace("└──", "   ").split()
        if words and words[0] in defined():
            depth = line.index(words[0]) // 4
            path = [*path[:depth], words[0]]
            if depth:
                assert defined()[words[0]].__base__.__name__ == path[-2]  # type: ignore[union-attr]


def test_every_error_says_what_it_means() -> None:
    assert all(kind.__doc__ for kind in defined().values())


@pytest.mark.parametrize(
    ("error", "carried"),
    [
        (errors.LowBatteryError("m", needed_usd=2.0, available_usd=1.0), {"needed_usd": 2.0, "available_usd": 1.0}),
        (errors.LearnerError("m", cost_usd=0.5), {"cost_usd": 0.5}),
        (errors.NoLearnerError("m"), {"cost_usd": 0.0}),
        (errors.DatabaseLockedError("m", pid=5), {"pid": 5}),
        (errors.PluginError("m", path="p.py", line=3), {"path": "p.py", "line": 3}),
        (errors.DuplicateToolError("m"), {"path": "", "line": None}),
        (
            errors.DivergenceError("m", step_id="s1", expected=1, actual=2, effects_done=1),
            {"step_id": "s1", "expected": 1, "actual": 2, "effects_done": 1},
        ),
    ],
)
def test_the_message_is_the_sentence_and_the_rest_is_data(error: errors.LLMOSError, carried: dict[str, object]) -> None:
    assert str(error) == "m"
    assert {name: getattr(error, name) for name in carried} == carried
