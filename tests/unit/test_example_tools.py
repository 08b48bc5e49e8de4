"""The example plugin does what it says, loaded as a user's file is."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from llmos.plugins.context import ToolContext
from llmos.plugins.loader import PluginLoader
from llmos.plugins.registry import ToolRegistry
from llmos.plugins.tool import ToolResult
from llmos.trace.program import Effect

PLUGINS = Path(__file__).parents[2] / "plugins"


@pytest.fixture(scope="module")
def registry() -> ToolRegistry:
    registry = ToolRegistry()
    loader = PluginLoader(registry, None, (PLUGINS,))
    loader.load()
    assert loader.failures == []
    return registry


@pytest.fixture
def call(registry: ToolRegistry, tmp_path: Path) -> Any:
    async def call(name: str, **arguments: Any) -> ToolResult:
        return await registry.call(name, arguments, ToolContext(workspace=tmp_path))

    return call


def test_they_are_annotated(registry: ToolRegistry) -> None:
    effects = {name: registry.get(name).effect for name in ("word_count", "convert_temperature", "simulate_circuit")}
    assert list(effects.values()) == [Effect.READ, Effect.PURE, Effect.PURE]


async def test_words_are_counted(call: Any, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("The cat saw the dog.\nThe dog ran.\n")
    assert (await call("word_count", path="a.txt", top=2)).output == {
        "lines": 2,
        "words": 8,
        "characters": 34,
        "top": [{"word": "the", "count": 3}, {"word": "dog", "count": 2}],
        "text": "2 lines, 8 words, 34 characters",
    }
    assert (await call("word_count", path="../a.txt")).is_error


@pytest.mark.parametrize(
    ("value", "source", "target", "result"),
    [
        (100, "C", "F", 212.0),
        (-40, "F", "C", -40.0),
        (0, "K", "C", -273.15),
        (-459.67, "F", "K", 0.0),
        (36.6, "C", "C", 36.6),
    ],
)
async def test_temperatures_are_converted(call: Any, value: float, source: str, target: str, result: float) -> None:
    assert (await call("convert_temperature", value=value, source=source, target=target)).output["value"] == result


async def test_below_absolute_zero_there_is_nothing(call: Any) -> None:
    assert "below absolute zero" in (await call("convert_temperature", value=-1, source="K", target="C")).output
    assert "is not one of" in (await call("convert_temperature", value=1, source="R", target="C")).output


@pytest.mark.parametrize(
    ("circuit", "probabilities"),
    [
        ("x 0", {"1": 1.0}),
        ("h 0", {"0": 0.5, "1": 0.5}),
        ("h 0; cx 0 1", {"00": 0.5, "11": 0.5}),
        ("h 0\ncx 0,1\ncx 1,2", {"000": 0.5, "111": 0.5}),
        ("x 0; cx 0 1", {"11": 1.0}),
        ("x 1; cx 0 1", {"01": 1.0}),
        ("x 0; swap 0 2", {"001": 1.0}),
        ("h 0; z 0; h 0", {"1": 1.0}),
        ("h 0; s 0; s 0; h 0", {"1": 1.0}),
        ("h 0; t 0; t 0; t 0; t 0; h 0", {"1": 1.0}),
        ("y 0", {"1": 1.0}),
        ("h 1; x 0; cz 0 1; h 1", {"11": 1.0}),
        (f"rx 0 {math.pi}", {"1": 1.0}),
        (f"ry 0 {math.pi / 2}", {"0": 0.5, "1": 0.5}),
        (f"h 0; rz 0 {math.pi}; h 0", {"1": 1.0}),
    ],
)
async def test_circuits_have_the_probabilities_of_the_textbook(
    call: Any, circuit: str, probabilities: dict[str, float]
) -> None:
    assert (await call("simulate_circuit", circuit_spec=circuit)).output["probabilities"] == pytest.approx(
        probabilities
    )


async def test_shots_are_drawn_with_the_seed(call: Any) -> None:
    first = (await call("simulate_circuit", circuit_spec="h 0; cx 0 1", shots=1000, seed=7)).output
    again = (await call("simulate_circuit", circuit_spec="h 0; cx 0 1", shots=1000, seed=7)).output
    other = (await call("simulate_circuit", circuit_spec="h 0; cx 0 1", shots=1000, seed=8)).output
    assert first == again != other
    assert sum(first["counts"].values()) == 1000
    assert 400 < first["counts"]["00"] < 600


@pytest.mark.parametrize(
    ("circuit", "said"),
    [
        ("", "has no gates"),
        ("foo 0", "unknown gate 'foo'"),
        ("h", "needs 1 qubit"),
        ("h 0 1", "needs 1 qubit"),
        ("cx 0", "needs 2 qubit"),
        ("cx 1 1", "names one qubit twice"),
        ("rx 0", "and an angle"),
        ("h -1", "needs 1 qubit"),
        ("h 99", "at most 12 qubits"),
    ],
)
async def test_a_circuit_that_is_none_is_one_sentence(call: Any, circuit: str, said: str) -> None:
    result = await call("simulate_circuit", circuit_spec=circuit)
    assert result.is_error
    assert said in result.output
