"""The vector index by itself, on real FAISS."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from llmos.memory.index import VectorIndex

DIM = 8


def vectors(*axes: int) -> NDArray[np.float32]:
    return np.eye(DIM, dtype=np.float32)[list(axes)]


@pytest.fixture
def index(tmp_path: Path) -> VectorIndex:
    fresh = VectorIndex(tmp_path / "v.faiss")
    assert not fresh.load("m", DIM)
    fresh.add([10, 20, 30], vectors(0, 1, 2))
    return fresh


def test_the_nearest_comes_first(index: VectorIndex) -> None:
    query = np.array([0.1, 0.9, 0.2, 0, 0, 0, 0, 0], dtype=np.float32)

    assert [number for number, _ in index.search(query, 2)] == [20, 30]
    assert index.search(query, 1)[0][1] == pytest.approx(0.9)


def test_asking_for_more_than_there_is_gives_all(index: VectorIndex) -> None:
    assert len(index.search(vectors(0)[0], 100)) == 3


def test_an_index_that_is_not_loaded_finds_and_takes_nothing(tmp_path: Path) -> None:
    index = VectorIndex(tmp_path / "v.faiss")
    index.add([1], vectors(0))
    index.remove([1])
    index.save()

    assert index.search(vectors(0)[0], 1) == []
    assert list(tmp_path.iterdir()) == []


def test_an_id_is_held_once(index: VectorIndex) -> None:
    index.add([10, 40], vectors(5, 6))

    assert len(index) == 4
    assert index.search(vectors(5)[0], 1)[0][1] == 0.0


def test_what_is_removed_is_not_found(index: VectorIndex) -> None:
    index.remove([20, 99])

    assert {number for number, _ in index.search(vectors(1)[0], 10)} == {10, 30}


def test_reconciling_drops_what_is_gone_and_names_what_is_missing(index: VectorIndex) -> None:
    assert index.reconcile([10, 30, 50, 40]) == [40, 50]
    assert len(index) == 2


def test_a_snapshot_comes_back(index: VectorIndex) -> None:
    index.save()
    described = json.loads(index.sidecar.read_text())
    assert (described["model"], described["dim"], described["count"], described["highest_id"]) == ("m", DIM, 3, 30)

    again = VectorIndex(index.path)
    assert again.load("m", DIM)
    assert again.holds("m", DIM)
    assert again.search(vectors(2)[0], 1) == [(30, 1.0)]
    assert again.reconcile([10, 20, 30, 31]) == [31]  # only what came after is added
    assert sorted(file.name for file in index.path.parent.iterdir()) == ["v.faiss", "v.faiss.json"]


def test_nothing_changed_writes_nothing(index: VectorIndex) -> None:
    index.save()
    index.path.unlink()
    index.save()

    assert not index.path.exists()


@pytest.mark.parametrize(("model", "dim"), [("other", DIM), ("m", DIM + 1)])
def test_a_snapshot_of_another_model_is_not_used(index: VectorIndex, model: str, dim: int) -> None:
    index.save()
    again = VectorIndex(index.path)

    assert not again.load(model, dim)
    assert len(again) == 0


def test_a_snapshot_of_another_kind_of_index_is_not_used(index: VectorIndex) -> None:
    import hashlib

    import faiss

    index.save()
    body = faiss.serialize_index(faiss.IndexFlatL2(DIM)).tobytes()
    index.path.write_bytes(body)
    described = json.loads(index.sidecar.read_text())
    index.sidecar.write_text(json.dumps({**described, "sha256": hashlib.sha256(body).hexdigest()}))

    assert not VectorIndex(index.path).load("m", DIM)


def test_every_single_flipped_byte_is_noticed(tmp_path: Path) -> None:
    index = VectorIndex(tmp_path / "v.faiss")
    index.load("m", DIM)
    index.add([1], vectors(0))
    index.save()
    body = index.path.read_bytes()
    for position in range(len(body)):
        index.path.write_bytes(body[:position] + bytes([body[position] ^ 1]) + body[position + 1 :])
        assert not VectorIndex(index.path).load("m", DIM)
