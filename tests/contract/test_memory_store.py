"""The semantic memory: facts by name, then by meaning."""

from __future__ import annotations

import pytest

from llmos.errors import NotFoundError, UsageError
from llmos.memory.database import Database
from llmos.memory.store import SemanticMemory
from tests.contract.memory_lab import CountingEmbedder


@pytest.fixture
def embedder() -> CountingEmbedder:
    return CountingEmbedder()


@pytest.fixture
def memory(db: Database, embedder: CountingEmbedder) -> SemanticMemory:
    return SemanticMemory(db, embedder)


async def test_a_name_is_found_without_the_model(memory: SemanticMemory, embedder: CountingEmbedder) -> None:
    await memory.remember("calculation_result", {"value": 5})

    for name in ("calculation_result", "Calculation Result", " calculation-result "):
        assert await memory.recall(name) == [{"key": "calculation_result", "value": {"value": 5}, "score": 1.0}]
    assert embedder.asked == []


async def test_an_empty_memory_finds_nothing_without_the_model(
    memory: SemanticMemory, embedder: CountingEmbedder
) -> None:
    assert await memory.recall("anything") == []
    assert await memory.recall("") == []
    assert embedder.asked == []


async def test_a_question_finds_the_nearest_facts(memory: SemanticMemory) -> None:
    await memory.remember("home town", "Graz")
    await memory.remember("favourite colour of the cat", "green")
    await memory.remember("colour of the door", "red")

    found = await memory.recall("which colour has the cat", limit=5)
    assert [fact["key"] for fact in found] == ["favourite colour of the cat", "colour of the door"]
    assert found[0]["score"] > found[1]["score"]


async def test_a_question_about_something_else_finds_nothing(memory: SemanticMemory) -> None:
    await memory.remember("wifi", "correct horse")
    assert await memory.recall("quantum physics") == []


async def test_a_changed_value_is_found_by_its_new_words(memory: SemanticMemory) -> None:
    await memory.remember("pet", "a green parrot")
    assert (await memory.recall("green parrot"))[0]["score"] > 0.5
    await memory.remember("Pet", "one brown dog")

    assert await memory.facts() == [{"key": "Pet", "value": "one brown dog"}]
    assert (await memory.recall("brown dog"))[0]["score"] > 0.5


async def test_each_fact_is_embedded_once_for_each_model(
    db: Database, memory: SemanticMemory, embedder: CountingEmbedder
) -> None:
    await memory.remember("a", "apple")
    await memory.recall("fruit")
    await memory.recall("fruit")
    assert embedder.asked.count("a: apple") == 1

    other = CountingEmbedder("another-model")
    assert await SemanticMemory(db, other).recall("apple")
    assert other.asked == ["a: apple", "apple"]


async def test_forgetting(memory: SemanticMemory, db: Database) -> None:
    await memory.remember("a", 1)
    await memory.recall("what")
    await memory.forget("A")

    assert await memory.facts() == []
    assert await db.run(lambda c: c.execute("FROM embeddings").fetchall()) == []
    with pytest.raises(NotFoundError, match="nothing is remembered under 'a'"):
        await memory.forget("a")


@pytest.mark.parametrize(
    ("key", "value", "message"), [("  ", 1, "needs a name"), ("a", {1}, "'a' can't be remembered")]
)
async def test_what_cannot_be_remembered_says_why(
    memory: SemanticMemory, key: str, value: object, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        await memory.remember(key, value)
    assert await memory.facts() == []
