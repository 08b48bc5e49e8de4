"""The vector index by itself, on real FAISS."""

from __future__ import annotations

import itertools
import json
import os
import threading
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from llmos.memory import index_file
from llmos.memory.index import Limits, VectorIndex
from llmos.memory.index_build import Builder, build, clusters_for

DIM = 8
SMALL = Limits(flat=50, tail=20, at_once=256)
"""Limits at which everything happens that happens to a large index."""


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


def test_an_id_that_was_removed_does_not_come_back(index: VectorIndex) -> None:
    index.save()
    index.remove([20])
    index.add([20], vectors(1))

    assert {number for number, _ in index.search(vectors(1)[0], 10)} == {10, 30}


def test_a_snapshot_comes_back(index: VectorIndex) -> None:
    index.save()
    described = json.loads(index.sidecar.read_text())
    assert (described["model"], described["dim"], described["count"], described["highest_id"]) == ("m", DIM, 3, 30)

    again = VectorIndex(index.path)
    assert again.load("m", DIM)
    assert again.holds("m", DIM)
    assert again.search(vectors(2)[0], 1) == [(30, 1.0)]
    assert again.highest_id == 30  # only what came after is to be added
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
    import faiss

    index.save()
    about = json.loads(index.sidecar.read_text())
    faiss.write_index(faiss.IndexFlatL2(DIM), str(index.path))
    del about["check"]
    written = index_file.Description(**{**about, "identity": (0, 0, 0)})
    snapshot, problem = index_file.place(
        index.path, index.path, index_file.write(faiss.IndexFlatL2(DIM), index.path, written)
    )

    assert (snapshot, problem) == (None, "it is another kind of index")
    assert not VectorIndex(index.path).load("m", DIM)


def test_only_a_snapshot_that_the_database_knows_is_used(index: VectorIndex) -> None:
    index.save("3f")

    assert not VectorIndex(index.path).load("m", DIM, {"aa", "bb"})
    assert VectorIndex(index.path).load("m", DIM, {"aa", "3f"})


def test_every_single_flipped_byte_is_noticed(tmp_path: Path) -> None:
    index = VectorIndex(tmp_path / "v.faiss")
    index.load("m", DIM)
    index.add([1], vectors(0))
    index.save()
    body = index.path.read_bytes()
    for position in range(len(body)):
        index.path.write_bytes(body[:position] + bytes([body[position] ^ 1]) + body[position + 1 :])
        assert not VectorIndex(index.path).load("m", DIM)


def test_a_wrong_digit_in_the_description_is_noticed(index: VectorIndex) -> None:
    index.save()
    described = json.loads(index.sidecar.read_text())
    index.sidecar.write_text(json.dumps({**described, "highest_id": 99}))

    assert not VectorIndex(index.path).load("m", DIM)


# --- large: clusters, made by another process ------------------------------------------------------


def many(count: int, seed: int = 1) -> NDArray[np.float32]:
    made = np.random.default_rng(seed).normal(size=(count, DIM))
    return np.asarray(made / np.linalg.norm(made, axis=1, keepdims=True), dtype=np.float32)


def built(index: VectorIndex, ids: list[int], rows: NDArray[np.float32], token: str = "") -> None:
    """Build the next snapshot of these vectors, or add what is new to the one there is."""
    order, tail_ids, tail = index.order(len(ids), max(ids), token)
    about = build(order, iter([(tail_ids, tail) if order.base else (np.array(ids, dtype=np.int64), rows)]))
    index.adopt(about, Path(order.fresh), order.gone)


@pytest.fixture
def large(tmp_path: Path) -> VectorIndex:
    fresh = VectorIndex(tmp_path / "v.faiss", limits=SMALL)
    fresh.load("m", DIM)
    built(fresh, list(range(1, 201)), many(200))
    return fresh


def exact(rows: NDArray[np.float32], query: NDArray[np.float32], k: int) -> list[int]:
    return [int(row) + 1 for row in np.argsort(-(rows @ query))[:k]]


def test_a_large_index_has_clusters_and_is_mapped(large: VectorIndex) -> None:
    described = json.loads(large.sidecar.read_text())

    assert (large.kind, len(large), large.highest_id) == ("clustered", 200, 200)
    assert (described["kind"], described["count"], described["trained"]) == ("clustered", 200, 200)
    assert 8 <= described["probes"] <= clusters_for(200)
    assert sorted(file.name for file in large.path.parent.iterdir()) == ["v.faiss", "v.faiss.json"]


def test_a_large_index_finds_nearly_all_of_the_nearest(large: VectorIndex) -> None:
    rows, hits = many(200), 0
    for query in many(50, seed=2):
        found = {number for number, _ in large.search(query, 40)}
        hits += len(found.intersection(exact(rows, query, 10)))

    assert hits >= 475


def test_all_can_be_had_of_a_large_index(large: VectorIndex) -> None:
    large.remove(range(1, 100, 2))

    assert {number for number, _ in large.search(many(1, seed=3)[0], 500)} == set(range(1, 201)) - set(range(1, 100, 2))


def test_what_comes_after_a_snapshot_is_found_and_what_goes_is_not(large: VectorIndex) -> None:
    new = many(3, seed=4)
    large.add([201, 202, 203], new)
    nearest = large.search(many(200)[6], 1)[0][0]
    large.remove([nearest, 202])

    assert [large.search(one, 1)[0][0] for one in new[[0, 2]]] == [201, 203]
    assert nearest == 7
    assert not {7, 202} & {number for number, _ in large.search(many(200)[6], 300)}
    assert len(large) == 201


def test_what_is_new_is_put_into_the_snapshot_without_new_clusters(large: VectorIndex) -> None:
    trained = json.loads(large.sidecar.read_text())["trained"]
    large.add(list(range(201, 231)), many(30, seed=5))
    large.remove([5, 210])
    assert large.wants_saving
    assert large.wants_building
    built(large, list(range(1, 231)), np.zeros((0, DIM), dtype=np.float32))

    again = VectorIndex(large.path, limits=SMALL)
    assert again.load("m", DIM)
    assert (len(again), again.highest_id, again.has_unsaved) == (228, 230, False)
    assert not {5, 210} & {number for number, _ in again.search(many(1)[0], 300)}
    assert again.search(many(30, seed=5)[29], 1)[0][0] == 230
    assert json.loads(again.sidecar.read_text())["trained"] == trained


def test_clusters_are_made_anew_for_twice_as_many(large: VectorIndex) -> None:
    rows = many(500)
    built(large, list(range(1, 501)), rows)

    assert json.loads(large.sidecar.read_text())["trained"] == 500
    assert all(row + 1 in [number for number, _ in large.search(rows[row], 10)] for row in (0, 250, 499))


def test_an_index_that_has_become_small_is_flat_again(large: VectorIndex) -> None:
    built(large, [1, 2, 3], many(3))

    assert (large.kind, len(large), large.wants_building) == ("flat", 3, False)
    large.add([201], many(1, seed=6))
    large.save()
    again = VectorIndex(large.path, limits=SMALL)
    assert again.load("m", DIM)
    assert again.search(many(1, seed=6)[0], 1)[0][0] == 201


def test_what_happens_while_another_process_builds_is_not_lost(large: VectorIndex) -> None:
    order, ids, rows = large.order(200, 200, "")
    builder = Builder(order)
    try:
        builder.send(ids, rows)
        large.add([201, 202], many(2, seed=7))
        large.remove([3, 202])
        large.adopt(builder.finish(), Path(order.fresh), order.gone)
    finally:
        builder.end()

    assert large.search(many(2, seed=7)[0], 1)[0][0] == 201
    assert not {3, 202} & {number for number, _ in large.search(many(200)[2], 300)}
    assert large.has_unsaved


def test_one_thread_asks_while_others_add_remove_and_exchange(large: VectorIndex) -> None:
    rows, wrong = many(200), list[object]()
    done = threading.Event()

    def ask() -> None:
        try:
            while not done.is_set():
                found = large.search(rows[99], 3)
                if found[0][0] != 100:
                    wrong.append(found)
        except Exception as error:
            wrong.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for turn in range(3):
            ids = list(range(1000 * (turn + 1), 1000 * (turn + 1) + 25))
            large.add(ids, many(25, seed=turn + 10))
            large.remove(ids[:5])
            built(large, list(range(1, 201)), np.zeros((0, DIM), dtype=np.float32))
    finally:
        done.set()
        asking.join()

    assert wrong == []
    assert len(large) == 260


def test_a_process_whose_parent_is_gone_writes_nothing(large: VectorIndex) -> None:
    def cut() -> Iterator[object]:
        yield np.array([201], dtype=np.int64), many(1)
        raise SystemExit(1)

    order, _, _ = large.order(200, 200, "")
    with pytest.raises(SystemExit):
        build(order, cut())  # type: ignore[arg-type]

    assert not Path(order.fresh).exists()


def test_what_a_killed_process_had_begun_is_removed(large: VectorIndex) -> None:
    orphan = large.path.with_name(f".{large.path.name}.12345")
    orphan.write_bytes(b"half")

    assert VectorIndex(large.path, limits=SMALL).load("m", DIM)
    assert not orphan.exists()


def flip(path: Path, place: int) -> None:
    with path.open("r+b") as stream:
        stream.seek(place)
        (old,) = stream.read(1)
        stream.seek(place)
        stream.write(bytes([old ^ 1]))


def keep_times(path: Path, work: Callable[[], None]) -> None:
    """Damage as a disk makes it: neither size nor time tell of it."""
    before = path.stat()
    work()
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("place", [0, 40, 150, -1])
def test_a_flipped_byte_of_a_large_snapshot_is_noticed_at_once(large: VectorIndex, place: int) -> None:
    flip(large.path, place % large.path.stat().st_size)

    assert not VectorIndex(large.path, limits=SMALL).load("m", DIM)


def test_damage_that_no_time_tells_of_is_noticed_in_the_head_at_once(large: VectorIndex) -> None:
    head = json.loads(large.sidecar.read_text())["head_bytes"]
    keep_times(large.path, lambda: flip(large.path, head - 1))

    assert not VectorIndex(large.path, limits=SMALL).load("m", DIM)


def test_damage_that_no_time_tells_of_is_noticed_soon_elsewhere(large: VectorIndex) -> None:
    keep_times(large.path, lambda: flip(large.path, large.path.stat().st_size - 1))
    again = VectorIndex(large.path, limits=SMALL)
    assert again.load("m", DIM)
    for thread in threading.enumerate():
        if thread.name == "llmos-vectors":
            thread.join()

    assert not again.holds("m", DIM)
    assert not large.path.exists()


def test_a_copied_snapshot_is_hashed_whole_and_used(large: VectorIndex, tmp_path: Path) -> None:
    other = tmp_path / "other" / "v.faiss"
    other.parent.mkdir()
    for file in (large.path, large.sidecar):
        (other.parent / file.name).write_bytes(file.read_bytes())

    again = VectorIndex(other, limits=SMALL)
    assert again.load("m", DIM)
    assert again.search(many(200)[9], 1)[0][0] == 10


def test_a_damaged_size_of_a_cluster_is_noticed_at_once(large: VectorIndex) -> None:
    """FAISS would read as many bytes as it says."""
    head, size = json.loads(large.sidecar.read_text())["head_bytes"], large.path.stat().st_size
    content, places, at = large.path.read_bytes(), list[int](), head
    for width in itertools.cycle((8, 1)):
        if at == size:
            break
        places.append(at)
        at += 8 + width * int.from_bytes(content[at : at + 8], "little")

    assert len(places) == 2 * clusters_for(200)
    for place in (places[0], places[-1]):
        for byte in (0, 1, 7):
            keep_times(large.path, lambda at=place + byte: flip(large.path, at))  # type: ignore[misc]
            assert not VectorIndex(large.path, limits=SMALL).load("m", DIM)
            keep_times(large.path, lambda at=place + byte: flip(large.path, at))  # type: ignore[misc]
    assert VectorIndex(large.path, limits=SMALL).load("m", DIM)


def as_it_was(path: Path, rows: NDArray[np.float32], token: str = "", model: str = "m") -> None:
    """Write clusters as earlier versions did, with a byte for each number."""
    import faiss

    index: Any = faiss.index_factory(rows.shape[1], "IVF8,SQ8", faiss.METRIC_INNER_PRODUCT)
    index.cp.min_points_per_centroid = 1
    index.train(rows)
    index.add_with_ids(rows, np.arange(1, len(rows) + 1, dtype=np.int64))
    fresh = index_file.fresh_name(path)
    faiss.write_index(index, str(fresh))
    head = fresh.stat().st_size - len(rows) * (index.code_size + 8)
    about = index_file.Description(
        kind="clustered",
        model=model,
        dim=rows.shape[1],
        count=len(rows),
        highest_id=len(rows),
        token=token,
        trained=len(rows),
        probes=8,
        head_bytes=head,
        head_sha256=sha256(fresh.read_bytes()[:head]).hexdigest(),
        sha256=sha256(fresh.read_bytes()).hexdigest(),
    )
    index_file.place(fresh, path, about)
    described = json.loads(index_file.sidecar_of(path).read_text())
    del described["shrunk"], described["check"]
    check = sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()
    index_file.sidecar_of(path).write_text(json.dumps({**described, "check": check}))


def test_clusters_of_an_earlier_version_serve_until_they_are_made_anew(tmp_path: Path) -> None:
    rows = many(200)
    as_it_was(tmp_path / "v.faiss", rows)
    index = VectorIndex(tmp_path / "v.faiss", limits=SMALL)

    assert index.load("m", DIM)
    assert index.search(rows[6], 1)[0][0] == 7
    assert (index.kind, index.wants_saving, index.wants_building) == ("clustered", True, True)
    index.add([201], many(1, seed=8))
    index.remove([3])
    order, _, _ = index.order(201, 201, "")
    assert order.base == ""
    left = [one for one in range(1, 202) if one != 3]
    built(index, left, np.concatenate([rows, many(1, seed=8)])[[one - 1 for one in left]])
    assert not index.wants_saving
    assert 201 in [number for number, _ in index.search(many(1, seed=8)[0], 5)]
    assert 3 not in [number for number, _ in index.search(rows[2], 300)]


def test_cosines_of_clusters_can_be_compared_with_those_of_what_came_after(large: VectorIndex) -> None:
    """Else what is new would crowd out what is nearer."""
    rows = many(200)
    found = {number: cosine for query in rows[:50] for number, cosine in large.search(query, 1)}
    errors = [cosine - 1 for cosine in found.values()]

    assert abs(float(np.mean(errors))) < 0.05
