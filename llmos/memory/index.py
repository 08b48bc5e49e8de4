"""Nearest vectors by cosine, in memory, through FAISS; a snapshot on disk spares the next process the rebuild."""

from __future__ import annotations

import json
import logging
import os
import threading
import warnings
from collections.abc import Iterable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmos.memory.database import sync_folder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

_FORMAT = 1


class VectorIndex:
    """Vectors of one model under int64 ids; derived, so it may always be thrown away.

    `path` is the snapshot; `<path>.json` beside it holds its hash, the model and the highest id. FAISS itself
    loads a damaged file without a word.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sidecar = path.with_name(f"{path.name}.json")
        self._lock = threading.Lock()
        self._index: Any = None
        self._ids: set[int] = set()
        self._model = ""
        self._unsaved = 0

    def __len__(self) -> int:
        return len(self._ids)

    def holds(self, model: str, dim: int) -> bool:
        """Whether vectors of this model are loaded."""
        return self._index is not None and self._model == model and self._index.d == dim

    def load(self, model: str, dim: int) -> bool:
        """Read the snapshot of this model; False when there is none to trust, and the index is empty."""
        with self._lock:
            snapshot, problem = self._read_snapshot(model, dim)
            if problem and self.path.exists():
                log.warning("the vector snapshot is rebuilt: %s", problem, extra={"action": "rebuild"})
            self._index = _empty(dim) if snapshot is None else snapshot
            self._ids = set() if snapshot is None else set(_ids_of(snapshot))
            self._model = model
            self._unsaved = 0
            return snapshot is not None

    def problem(self, model: str, dim: int) -> str:
        """Why the snapshot can't be used for a model; empty if it can."""
        return self._read_snapshot(model, dim)[1]

    def remove_files(self) -> None:
        """Throw the snapshot away."""
        self.path.unlink(missing_ok=True)
        self.sidecar.unlink(missing_ok=True)

    def reconcile(self, ids: Iterable[int]) -> list[int]:
        """Drop what is not among `ids`, the truth; returns those of `ids` that are still to be added."""
        truth = set(ids)
        self.remove(self._ids - truth)
        return sorted(truth - self._ids)

    def add(self, ids: Sequence[int], vectors: NDArray[np.float32]) -> None:
        """Add float32[len(ids), dim]; ids that are here already are left as they are."""
        import numpy as np

        with self._lock:
            if self._index is None:
                return
            fresh = [row for row, number in enumerate(ids) if number not in self._ids]
            if not fresh:
                return
            numbers = np.array([ids[row] for row in fresh], dtype=np.int64)
            self._index.add_with_ids(np.ascontiguousarray(vectors[fresh], dtype=np.float32), numbers)
            self._ids.update(int(number) for number in numbers)
            self._unsaved += len(fresh)

    def remove(self, ids: Iterable[int]) -> None:
        """Remove ids; those that are not here are ignored."""
        with self._lock:
            gone = self._ids.intersection(ids)
            if self._index is None or not gone:
                return
            import numpy as np

            self._index.remove_ids(np.array(sorted(gone), dtype=np.int64))
            self._ids -= gone
            self._unsaved += len(gone)

    def search(self, vector: NDArray[np.float32], k: int) -> list[tuple[int, float]]:
        """The `k` nearest as (id, cosine), nearest first."""
        with self._lock:
            count = min(k, len(self._ids))
            if self._index is None or count <= 0:
                return []
            cosines, numbers = self._index.search(vector.reshape(1, -1), count)
            return [(int(n), float(c)) for n, c in zip(numbers[0], cosines[0], strict=True) if n >= 0]

    @property
    def wants_saving(self) -> bool:
        """Whether enough has changed that losing it in a crash would be felt."""
        return self._unsaved >= max(64, len(self._ids) // 10)

    def save(self) -> None:
        """Write the snapshot if anything changed; a failure is logged, for nothing is lost by it."""
        with self._lock:
            if self._index is None or not self._unsaved:
                return
            import faiss

            body = faiss.serialize_index(self._index).tobytes()
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                _write(self.path, body)
                _write(self.sidecar, json.dumps(self._description(body)).encode())
                self._unsaved = 0
            except OSError as error:
                log.warning("the vector snapshot was not saved: %s", error, extra={"action": "save"})

    def _description(self, body: bytes) -> dict[str, Any]:
        return {
            "format": _FORMAT,
            "sha256": sha256(body).hexdigest(),
            "model": self._model,
            "dim": self._index.d,
            "count": len(self._ids),
            "highest_id": max(self._ids, default=0),
        }

    def _read_snapshot(self, model: str, dim: int) -> tuple[Any, str]:
        """The snapshot, or None and why it can't be used."""
        try:
            body, described = self.path.read_bytes(), json.loads(self.sidecar.read_bytes())
        except (OSError, ValueError) as error:
            return None, f"{error}"
        if not isinstance(described, dict) or described.get("format") != _FORMAT:
            return None, f"{self.sidecar} has another format"
        if described.get("model") != model or described.get("dim") != dim:
            return None, f"it holds vectors of {described.get('model')!r}, not of {model!r}"
        if described.get("sha256") != sha256(body).hexdigest():
            return None, f"{self.path} does not have the hash it was written with"
        return _deserialized(body, dim, described.get("count"))


def _deserialized(body: bytes, dim: int, count: object) -> tuple[Any, str]:
    faiss = _faiss()
    import numpy as np

    try:
        index = faiss.deserialize_index(np.frombuffer(body, dtype=np.uint8))
    except RuntimeError as error:
        return None, f"FAISS can't read it: {error}"
    if not isinstance(index, faiss.IndexIDMap2) or index.d != dim or index.ntotal != count:
        return None, "it is another kind of index"
    return index, ""


def _empty(dim: int) -> Any:
    faiss = _faiss()
    return faiss.IndexIDMap2(faiss.IndexFlatIP(dim))


def _faiss() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SWIG's own, at import
        import faiss
    faiss.omp_set_num_threads(1)  # single queries: a second thread only costs
    return faiss


def _ids_of(index: Any) -> list[int]:
    import faiss

    return [int(number) for number in faiss.vector_to_array(index.id_map)]


def _write(path: Path, body: bytes) -> None:
    """Replace a file whole: another name, fsync, rename."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with fresh.open("wb") as stream:
            stream.write(body)
            stream.flush()
            os.fsync(stream.fileno())
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
    sync_folder(path.parent)
