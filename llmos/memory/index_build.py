"""Building a large index, as a process of its own: it may take minutes, and whoever waits for it goes on answering.

The process is handed a line of JSON and then blocks of ids and vectors on its stdin, and answers with a line of JSON.
It ends without a trace when its stdin ends too soon, as it does when its parent was killed. Where it begins with a
snapshot (`base`), the blocks are added to that; else clusters are made for the first blocks, which must be a fair
sample. How many clusters a search has to read is measured, on some of the vectors themselves.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import subprocess
import sys
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from llmos.memory.index_file import CLUSTERED, Description, flat_of, loaded_faiss, write

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    Block = tuple[NDArray[np.int64], NDArray[np.float32]]

_PER_CLUSTER = 20  # vectors to make a cluster from; FAISS asks for 39, which takes twice as long
_ROUNDS = 6
_MOST_CLUSTERS = 8192
_ASKED = 200
_LENGTHS = 1_000
_CODES = 16  # what half a byte can stand for
_NEIGHBOURS, _WIDTH = 10, 48
_TARGET = 0.98
_MOST_READ = 64_000  # vectors of one search: 1.3 ms, in which 98.6 % of questions' nearest were found among a million


@dataclass(frozen=True, kw_only=True)
class Order:
    """What to build: where to write it, what to say of it, and what to begin with."""

    fresh: str
    about: Description
    clusters: int
    base: str = ""
    gone: list[int] = field(default_factory=list)

    @property
    def sample(self) -> int:
        """How many vectors have to come first, from all over, to make the clusters from."""
        return 0 if self.base or self.about.kind != CLUSTERED else self.clusters * _PER_CLUSTER


def clusters_for(count: int) -> int:
    """How many clusters: about 4 times the square root of the vectors, as a power of two, with 4 vectors in each."""
    exponent = round(math.log2(max(1, 16 * count)) / 2)
    return max(1, min(_MOST_CLUSTERS, 1 << exponent, count // 4))


# --- in the process that answers meanwhile -------------------------------------------------------------


class Builder:
    """The building process, from its start to its answer.

    Raises:
        OSError: it can't be started, or has ended before it was done.
    """

    def __init__(self, order: Order) -> None:
        self._fresh = order.fresh
        root = str(Path(__file__).resolve().parents[2])
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-B", "-c", _CHILD, root],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._write(json.dumps(asdict(order)).encode() + b"\n")

    def send(self, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Hand over a block."""
        self._write(len(ids).to_bytes(8, "little") + ids.tobytes() + vectors.tobytes())

    def finish(self) -> Description:
        """Say that this was all, and wait for the description of what was written."""
        self._write((0).to_bytes(8, "little"))
        said, _ = self._process.communicate()
        if self._process.returncode != 0:
            raise OSError(f"the process that builds it ended with code {self._process.returncode}")
        known = json.loads(said)
        return Description(**{**known, "identity": tuple(known["identity"])})

    def end(self) -> None:
        """End it, whatever it is doing, and remove what it wrote and nobody took; harmless when it has ended."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError, ValueError):
                    stream.close()
        Path(self._fresh).unlink(missing_ok=True)

    def _write(self, data: bytes) -> None:
        stream = self._process.stdin
        assert stream is not None
        stream.write(data)
        stream.flush()


_CHILD = """\
import runpy, sys
sys.path.insert(0, sys.argv[1])
runpy.run_module("llmos.memory.index_build", run_name="__main__")
"""

# --- in the process that builds ------------------------------------------------------------------------


def main() -> None:
    """Build what stdin asks for."""
    with contextlib.suppress(OSError):
        os.nice(19)
    given = json.loads(sys.stdin.buffer.readline())
    about = Description(**{**given.pop("about"), "identity": (0, 0, 0)})
    made = build(Order(about=about, **given), _blocks(sys.stdin.buffer, about.dim))
    sys.stdout.write(json.dumps(asdict(made)))


def _blocks(stream: IO[bytes], dim: int) -> Iterator[Block]:
    import numpy as np

    while count := int.from_bytes(_exactly(stream, 8), "little"):
        ids = np.frombuffer(_exactly(stream, 8 * count), dtype=np.int64)
        yield ids, np.frombuffer(_exactly(stream, 4 * count * dim), dtype=np.float32).reshape(-1, dim)


def _exactly(stream: IO[bytes], length: int) -> bytes:
    found = stream.read(length)
    if len(found) < length:
        raise SystemExit(1)
    return found


def build(order: Order, blocks: Iterator[Block]) -> Description:
    """Build and write an index; returns what it is."""
    about = order.about
    if about.kind != CLUSTERED:
        index = _all_of(blocks, about.dim)
    elif order.base:
        index = _folded(order, blocks)
    else:
        index, probes, shrunk = _clustered(order, blocks)
        about = replace(about, probes=probes, trained=index.ntotal, shrunk=shrunk)
    return write(index, Path(order.fresh), replace(about, count=index.ntotal))


def _all_of(blocks: Iterator[Block], dim: int) -> Any:
    index = flat_of(*_joined([], dim), dim)
    for ids, vectors in blocks:
        index.add_with_ids(vectors, ids)
    return index


def _folded(order: Order, blocks: Iterator[Block]) -> Any:
    import numpy as np

    index = loaded_faiss().read_index(order.base)
    if order.gone:
        index.remove_ids(np.array(order.gone, dtype=np.int64))
    for ids, vectors in blocks:
        index.add_with_ids(vectors, ids)
    return index


def _clustered(order: Order, blocks: Iterator[Block]) -> tuple[Any, int, float]:
    """The index, how many clusters a search has to read, and how long its vectors are."""
    first: list[Block] = []
    held = 0
    for block in blocks:
        first.append(block)
        held += len(block[0])
        if held >= order.sample:
            break
    ids, vectors = _joined(first, order.about.dim)
    index, shrunk = _trained(order.clusters, vectors)
    truth = _Truth(ids, vectors)
    index.add_with_ids(vectors, ids)
    for ids, vectors in blocks:
        index.add_with_ids(vectors, ids)
        truth.see(ids, vectors)
    return index, truth.probes_for(index), shrunk


def _trained(clusters: int, vectors: NDArray[np.float32]) -> tuple[Any, float]:
    """Clusters without anything in them; half a byte stands for two numbers, by which cosines become smaller."""
    import numpy as np

    faiss = loaded_faiss()
    dim = vectors.shape[1]
    vectors = np.resize(vectors, (max(len(vectors), _CODES), dim))  # repeated where there are too few
    index = faiss.index_factory(dim, f"IVF{clusters},PQ{dim // 2 or 1}x4fs", faiss.METRIC_INNER_PRODUCT)
    index.cp.niter = _ROUNDS
    index.cp.max_points_per_centroid = _PER_CLUSTER
    index.cp.min_points_per_centroid = index.pq.cp.min_points_per_centroid = 1
    index.train(vectors)
    some = vectors[:: max(1, len(vectors) // _LENGTHS)]
    return index, float((some * index.pq.decode(index.pq.compute_codes(some))).sum(axis=1).mean())


def _joined(blocks: list[Block], dim: int) -> Block:
    import numpy as np

    if not blocks:
        return np.zeros(0, dtype=np.int64), np.zeros((0, dim), dtype=np.float32)
    return np.concatenate([ids for ids, _ in blocks]), np.concatenate([vectors for _, vectors in blocks])


class _Truth:
    """The exact nearest of some vectors among all that come by, to hold a search against."""

    def __init__(self, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        import numpy as np

        rows = np.random.default_rng(1).choice(len(ids), min(_ASKED, len(ids)), replace=False)
        self._asked = vectors[rows].copy()
        self._ids = np.full((len(rows), _NEIGHBOURS), -1, dtype=np.int64)
        self._cosines = np.full((len(rows), _NEIGHBOURS), -2, dtype=np.float32)
        self.see(ids, vectors)

    def see(self, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        import numpy as np

        cosines = np.concatenate([self._cosines, self._asked @ vectors.T], axis=1)
        known = np.concatenate([self._ids, np.broadcast_to(ids, (len(self._asked), len(ids)))], axis=1)
        best = np.argpartition(-cosines, _NEIGHBOURS - 1, axis=1)[:, :_NEIGHBOURS]
        self._cosines, self._ids = np.take_along_axis(cosines, best, 1), np.take_along_axis(known, best, 1)

    def probes_for(self, index: Any) -> int:
        """How many clusters a search has to read for `_TARGET` of what it finds when it reads all.

        Where many are equally near, bytes can't tell the nearest of them apart, and reading more would not help.
        """
        most, probes = self._hits(index, index.nlist), 8
        bound = min(index.nlist, max(probes, _MOST_READ * index.nlist // index.ntotal))
        while probes < bound and self._hits(index, probes) < _TARGET * most:
            probes += max(4, probes // 4)
        return int(min(probes, bound))

    def _hits(self, index: Any, probes: int) -> int:
        """How many of the nearest a search finds that reads so many clusters."""
        _, found = index.search(self._asked, _WIDTH, params=loaded_faiss().SearchParametersIVF(nprobe=probes))
        pairs = zip(self._ids, found, strict=True)
        return sum(len(set(map(int, true)) & set(map(int, got))) for true, got in pairs)


if __name__ == "__main__":
    main()
