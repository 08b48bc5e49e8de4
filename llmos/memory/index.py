"""Nearest vectors by cosine: a snapshot that is mapped from disk, what came after it in memory, and what is gone.

A small memory has a flat snapshot, made anew in this process. A large one has clusters, with half a byte for two
numbers, made by a process of its own (`llmos.memory.index_build`): it finds nearly all of the nearest, with cosines
that are nearly right. So cosines of a snapshot choose, and whoever asks computes those of the chosen anew.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmos.memory import index_file as files
from llmos.memory.index_build import Order, clusters_for

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """When an index changes its kind, as measured by `benchmarks.scale`.

    Above `flat` vectors comparing with every one takes longer than clusters do; that many are also as many as are held
    in memory besides a snapshot. From `tail` changes on they are put into the snapshot. Clusters are made anew when
    there are `growth` times as many vectors. A snapshot up to `at_once` bytes is hashed whole before it is used.
    """

    flat: int = 10_000
    tail: int = 2_000
    growth: int = 2
    at_once: int = 4 << 20


class VectorIndex:
    """Vectors of one model under int64 ids that only ever rise; derived, so it may always be thrown away.

    `path` is the snapshot, with its description beside it (`llmos.memory.index_file`).
    """

    def __init__(self, path: Path, *, limits: Limits | None = None) -> None:
        self.path = path
        self.sidecar = files.sidecar_of(path)
        self.limits = limits or Limits()
        self._lock = threading.Lock()
        self._saving = threading.Lock()
        self._base: files.Snapshot | None = None
        self._tail: Any = None
        self._tail_ids: set[int] = set()
        self._gone: set[int] = set()  # of the snapshot
        self._left: set[int] = set()  # of what came after it: a snapshot that is being made may have them
        self._highest = 0
        self._model = ""
        self._dim = 0
        self._unsaved = 0

    def __len__(self) -> int:
        base = self._base
        return (base.about.count if base else 0) - len(self._gone) + len(self._tail_ids)

    @property
    def highest_id(self) -> int:
        """Up to this id all vectors are here that there are."""
        return self._highest

    @property
    def kind(self) -> str:
        """`flat` or `clustered`."""
        return self._base.about.kind if self._base else files.FLAT

    def holds(self, model: str, dim: int) -> bool:
        """Whether vectors of this model are loaded."""
        return self._tail is not None and (self._model, self._dim) == (model, dim)

    def load(self, model: str, dim: int, tokens: Collection[str] | None = None) -> bool:
        """Map the snapshot of this model; False when there is none to trust, and the index is empty.

        `tokens` are those that the database knows the snapshots by that were made from it; with None any is as good.
        """
        files.remove_unfinished(self.path)
        snapshot, problem = files.read(self.path, model, dim, tokens, self.limits.at_once)
        if problem and self.path.exists():
            log.warning("the vector snapshot is rebuilt: %s", problem, extra={"action": "rebuild"})
        with self._lock:
            self._base, self._model, self._dim = snapshot, model, dim
            self._tail, self._tail_ids = _in_memory(dim), set()
            self._gone, self._left, self._unsaved = set(), set(), 0
            self._highest = snapshot.about.highest_id if snapshot else 0
        if snapshot is not None and not snapshot.is_checked:
            threading.Thread(target=self._check, args=(snapshot,), name="llmos-vectors", daemon=True).start()
        return snapshot is not None

    def problem(self, model: str, dim: int) -> str:
        """Why the snapshot can't be used for a model; empty if it can. All of it is hashed."""
        snapshot, problem = files.read(self.path, model, dim, None, self.limits.at_once)
        if snapshot is not None and not snapshot.is_checked and not files.is_whole(self.path, snapshot.about):
            return f"{self.path} does not have the hash it was written with"
        return problem

    def remove_files(self) -> None:
        """Throw the snapshot away."""
        self.path.unlink(missing_ok=True)
        self.sidecar.unlink(missing_ok=True)

    def add(self, ids: Sequence[int], vectors: NDArray[np.float32]) -> None:
        """Add float32[len(ids), dim]; ids that are here already, or were, are left as they are."""
        import numpy as np

        with self._lock:
            if self._tail is None:
                return
            covered = self._base.about.highest_id if self._base else 0
            fresh = [row for row, one in enumerate(ids) if one > covered and one not in self._tail_ids]
            if not fresh:
                return
            numbers = np.array([ids[row] for row in fresh], dtype=np.int64)
            self._tail.add_with_ids(np.ascontiguousarray(vectors[fresh], dtype=np.float32), numbers)
            self._tail_ids.update(map(int, numbers))
            self._highest = max(self._highest, int(numbers.max()))
            self._unsaved += len(fresh)

    def remove(self, ids: Iterable[int]) -> None:
        """Remove ids; those that are not here are ignored."""
        import numpy as np

        with self._lock:
            if self._tail is None:
                return
            wanted = set(ids)
            fresh = wanted & self._tail_ids
            if fresh:
                self._tail.remove_ids(np.array(sorted(fresh), dtype=np.int64))
                self._tail_ids -= fresh
            covered = self._base.about.highest_id if self._base else 0
            gone = {one for one in wanted - fresh - self._gone if 0 < one <= covered}
            self._gone |= gone
            self._left |= {one for one in wanted if one > covered}
            self._unsaved += len(fresh) + len(gone)

    def search(self, vector: NDArray[np.float32], k: int) -> list[tuple[int, float]]:
        """The `k` nearest as (id, cosine), nearest first."""
        query = vector.reshape(1, -1)
        with self._lock:
            if self._tail is None or k <= 0:
                return []
            base, gone = self._base, self._gone.copy()
            files.loaded_faiss()
            found = _pairs(self._tail, query, k)
        if base is not None:
            found += _of_base(base, query, k, gone)
        return sorted(found, key=lambda one: -one[1])[:k]

    # --- writing -----------------------------------------------------------------------------------

    @property
    def has_unsaved(self) -> bool:
        """Whether anything has changed since the snapshot."""
        return self._unsaved > 0

    @property
    def wants_saving(self) -> bool:
        """Whether enough has changed that losing it in a crash would be felt, or another kind is due."""
        if self.kind != files.FLAT:
            return self._unsaved >= self.limits.tail or self._is_old
        return self._unsaved >= max(64, len(self) // 10) or len(self) > self.limits.flat

    @property
    def _is_old(self) -> bool:
        """Whether the snapshot has clusters as earlier versions made them: it serves until there is another one."""
        return self._base is not None and self._base.about.kind != files.FLAT and not self._base.about.shrunk

    @property
    def wants_building(self) -> bool:
        """Whether another process has to make the next snapshot: it is large, or was."""
        return self.kind != files.FLAT or len(self) > self.limits.flat

    def save(self, token: str = "") -> None:
        """Write a small snapshot if anything changed; a failure is logged, for nothing is lost by it."""
        with self._saving:
            content = self._content()
            if content is None:
                return
            ids, vectors, gone, highest = content
            about = files.Description(
                kind=files.FLAT, model=self._model, dim=self._dim, count=len(ids), highest_id=highest, token=token
            )
            fresh = files.fresh_name(self.path)
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self.adopt(files.write(files.flat_of(ids, vectors, self._dim), fresh, about), fresh, gone)
            except (OSError, RuntimeError) as error:  # FAISS has no other for a file that it can't write
                log.warning("the vector snapshot was not saved: %s", error, extra={"action": "save"})
            finally:
                fresh.unlink(missing_ok=True)

    def _content(self) -> tuple[NDArray[np.int64], NDArray[np.float32], set[int], int] | None:
        """All ids and vectors, what was gone by then, and the highest id; None: nothing to write, or not here."""
        import numpy as np

        with self._lock:
            if self._tail is None or not self._unsaved or self.kind != files.FLAT:
                return None
            base, gone, highest = self._base, self._gone | self._left, self._highest
            parts = [files.content_of(self._tail)]
        if base is not None:
            ids, vectors = files.content_of(base.index)
            kept = ~np.isin(ids, list(gone))
            parts.insert(0, (ids[kept], vectors[kept]))
        return np.concatenate([ids for ids, _ in parts]), np.concatenate([some for _, some in parts]), gone, highest

    def order(
        self, count: int, highest_id: int, token: str, *, is_whole: bool = True
    ) -> tuple[Order, NDArray[np.int64], NDArray[np.float32]]:
        """What another process has to build for `count` vectors, and what of it is here.

        Where the order has no `base`, all up to `highest_id` must be handed over instead; so it is where the index is
        not `is_whole`, because too much came after the snapshot to be read.
        """
        with self._lock:
            base, gone, highest = self._base, sorted(self._gone | self._left), self._highest
            ids, vectors = files.content_of(self._tail)
        is_large = count > self.limits.flat
        is_kept = is_whole and is_large and not self._is_old
        kept = base if base and is_kept and count <= self.limits.growth * base.about.trained else None
        about = files.Description(
            kind=files.CLUSTERED if is_large else files.FLAT,
            model=self._model,
            dim=self._dim,
            count=count,
            highest_id=highest if kept else highest_id,
            token=token,
            trained=kept.about.trained if kept else 0,
            probes=kept.about.probes if kept else 0,
            shrunk=kept.about.shrunk if kept else 0.0,
        )
        fresh, clusters = str(files.fresh_name(self.path)), clusters_for(count)
        path = str(self.path) if kept else ""
        return Order(fresh=fresh, about=about, clusters=clusters, base=path, gone=gone), ids, vectors

    def adopt(self, about: files.Description, fresh: Path, gone: Collection[int]) -> None:
        """Put a written snapshot in the place of the one there is; `gone` was gone when it was begun.

        Raises:
            OSError: it can't be given its name, or opened.
        """
        snapshot, problem = files.place(fresh, self.path, about)
        if snapshot is None:
            raise OSError(problem)
        with self._lock:
            if (about.model, about.dim) != (self._model, self._dim):
                return
            ids, vectors = files.content_of(self._tail)
            kept = ids > about.highest_id
            self._tail, self._tail_ids = _in_memory(self._dim), set(map(int, ids[kept]))
            if self._tail_ids:
                self._tail.add_with_ids(vectors[kept], ids[kept])
            since = (self._gone | self._left).difference(gone)
            self._base, self._gone = snapshot, {one for one in since if one <= about.highest_id}
            self._left = since - self._gone
            self._highest = max(self._highest, about.highest_id)
            self._unsaved = len(self._tail_ids) + len(self._gone)

    def _check(self, snapshot: files.Snapshot) -> None:
        """Hash a mapped snapshot while it is used already; a wrong one is dropped, and nothing is loaded any more."""
        with contextlib.suppress(OSError, AttributeError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
        if files.is_still_whole(self.path, snapshot.about):
            return
        with self._lock:
            if self._base is not snapshot:
                return
            self._base = self._tail = None
            self._tail_ids, self._gone, self._left = set(), set(), set()
        log.warning("the vector snapshot %s is damaged", self.path, extra={"action": "rebuild"})
        self.remove_files()


def _in_memory(dim: int) -> Any:
    faiss = files.loaded_faiss()
    return faiss.IndexIDMap(faiss.IndexFlatIP(dim))


def _pairs(index: Any, query: NDArray[np.float32], k: int, parameters: Any = None) -> list[tuple[int, float]]:
    count = min(k, index.ntotal)
    if count <= 0:
        return []
    cosines, numbers = index.search(query, count, params=parameters)
    return [(int(n), float(c)) for n, c in zip(numbers[0], cosines[0], strict=True) if n >= 0]


def _of_base(base: files.Snapshot, query: NDArray[np.float32], k: int, gone: set[int]) -> list[tuple[int, float]]:
    """The nearest of a snapshot that are not gone: as many as asked for, as long as there are any."""
    faiss = files.loaded_faiss()
    wanted, probes = k, base.about.probes
    length = base.about.shrunk or 1.0
    while True:
        parameters = faiss.SearchParametersIVF(nprobe=probes) if probes else None
        found = [(one, cosine / length) for one, cosine in _pairs(base.index, query, wanted, parameters)]
        live = [one for one in found if one[0] not in gone]
        if len(live) >= k:
            return live[:k]
        if len(found) < min(wanted, base.index.ntotal) and probes < base.index.nlist:
            probes = min(4 * probes, base.index.nlist)
        elif wanted < base.index.ntotal:
            wanted *= 4
        else:
            return live
