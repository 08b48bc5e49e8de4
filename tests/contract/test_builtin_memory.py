"""remember, recall and think over the services a run gives them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.contract.toolbox import toolbox


class Facts:
    """A dict with the interface of the semantic memory."""

    def __init__(self) -> None:
        self.stored: dict[str, Any] = {}

    async def remember(self, key: str, value: Any) -> None:
        self.stored[key] = value

    async def recall(self, query: str, *, limit: int = 5) -> list[dict[str, Any]]:
        hits = [key for key in self.stored if query in key]
        return [{"key": key, "value": self.stored[key], "score": 1.0} for key in hits[:limit]]


async def test_a_value_is_stored_and_found(tmp_path: Path) -> None:
    box = toolbox(tmp_path, facts=Facts())
    stored = await box.call("remember", key=" calculation_result ", value=5)
    assert stored == {"key": "calculation_result", "value": 5, "text": "calculation_result = 5"}
    await box.call("remember", key="calculation_list", value=[1, "a"])
    found = await box.call("recall", query="calculation")
    assert (found["count"], found["key"], found["value"]) == (2, "calculation_result", 5)
    assert found["text"] == 'calculation_result = 5\ncalculation_list = [1, "a"]'
    assert (await box.call("recall", query="calculation", limit=1))["count"] == 1


async def test_what_is_not_there_is_no_error(tmp_path: Path) -> None:
    found = await toolbox(tmp_path, facts=Facts()).call("recall", query="x")
    assert found == {"results": [], "count": 0, "key": None, "value": None, "text": "Nothing is stored about 'x'."}


@pytest.mark.parametrize(("tool", "args"), [("remember", {"key": "a", "value": 1}), ("recall", {"query": "a"})])
async def test_without_a_memory_there_is_a_sentence(tmp_path: Path, tool: str, args: dict[str, Any]) -> None:
    assert "this session has no memory" in await toolbox(tmp_path).error(tool, args)


async def test_an_empty_key_is_refused(tmp_path: Path) -> None:
    assert "the key is empty" in await toolbox(tmp_path, facts=Facts()).error("remember", key=" ", value=1)


async def test_think_asks_the_model_of_the_run(tmp_path: Path) -> None:
    asked = []

    async def thinker(prompt: str, *, max_tokens: int, model: str | None) -> str:
        asked.append((prompt, max_tokens, model))
        return "a haiku"

    box = toolbox(tmp_path, think=thinker)
    assert await box.call("think", prompt="write", max_tokens=50) == {"text": "a haiku"}
    assert asked == [("write", 50, None)]
    assert "the prompt is empty" in await box.error("think", prompt=" ")


async def test_think_without_a_model_says_so(tmp_path: Path) -> None:
    assert "think needs a model" in await toolbox(tmp_path).error("think", prompt="write")
