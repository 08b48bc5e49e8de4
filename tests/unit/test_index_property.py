"""Whatever happens to an index, it answers as comparing with every vector would; small ones and large ones."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from numpy.typing import NDArray

from llmos.memory.index import Limits, VectorIndex
from llmos.memory.index_build import build

DIM = 6
LIMITS = Limits(flat=12, tail=4, at_once=64)


class Indexed(RuleBasedStateMachine):
    """An index beside a dictionary of what it should hold."""

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="llmos-index-")
        self.path = Path(self.folder.name) / "v.faiss"
        self.truth: dict[int, NDArray[np.float32]] = {}
        self.number = 0
        self.index = VectorIndex(self.path, limits=LIMITS)
        self.index.load("m", DIM)

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.folder.cleanup()

    @rule(count=st.integers(1, 9))
    def add(self, count: int) -> None:
        ids = list(range(self.number + 1, self.number + count + 1))
        self.number += count
        made = vectors(self.number, count)
        self.index.add(ids, made)
        self.truth |= dict(zip(ids, made, strict=True))

    @precondition(lambda self: self.truth)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        gone = data.draw(st.sets(st.sampled_from(sorted(self.truth)), min_size=1, max_size=5))
        self.index.remove(gone)
        for one in gone:
            del self.truth[one]

    @precondition(lambda self: not self.index.wants_building)
    @rule()
    def save(self) -> None:
        self.index.save()

    @precondition(lambda self: self.index.wants_building and self.truth)
    @rule(changes=st.integers(0, 3))
    def rebuild(self, changes: int) -> None:
        """Build the next snapshot while something else is added and removed."""
        ids = sorted(self.truth)
        order, tail_ids, tail = self.index.order(len(ids), self.number, "")
        everything = np.array(ids, dtype=np.int64), np.stack([self.truth[one] for one in ids])
        about = build(order, iter([(tail_ids, tail) if order.base else everything]))
        if changes:
            self.add(changes)
            self.index.remove([ids[0]])
            del self.truth[ids[0]]
        self.index.adopt(about, Path(order.fresh), order.gone)

    @rule()
    def open_again(self) -> None:
        """A new process: the snapshot, and what came after it from the database."""
        self.index = VectorIndex(self.path, limits=LIMITS)
        self.index.load("m", DIM)
        newer = [one for one in sorted(self.truth) if one > self.index.highest_id]
        if newer:
            self.index.add(newer, np.stack([self.truth[one] for one in newer]))
        held = {one for one, _ in self.index.search(vectors(0, 1)[0], 10_000)}
        self.index.remove(held - set(self.truth))  # as those are that the database does not know any more

    @invariant()
    def finds_all_there_is_and_nothing_else(self) -> None:
        if not hasattr(self, "index"):
            return
        query = vectors(999, 1)[0]
        found = self.index.search(query, len(self.truth) + 5)
        assert {one for one, _ in found} == set(self.truth)
        assert len(found) == len(self.truth)
        if self.index.kind == "flat":
            for one, cosine in found:
                assert abs(cosine - float(self.truth[one] @ query)) < 1e-5

    @invariant()
    def a_small_one_has_the_nearest_first(self) -> None:
        if not hasattr(self, "index") or not self.truth or self.index.kind != "flat":
            return
        query = vectors(998, 1)[0]
        best = max(float(one @ query) for one in self.truth.values())
        assert float(self.truth[self.index.search(query, 1)[0][0]] @ query) > best - 1e-5


def vectors(seed: int, count: int) -> NDArray[np.float32]:
    made = np.random.default_rng(seed).normal(size=(count, DIM))
    return np.asarray(made / np.linalg.norm(made, axis=1, keepdims=True), dtype=np.float32)


TestIndexed = Indexed.TestCase
TestIndexed.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
