"""The snapshot of the vectors on disk: a FAISS file, and a description beside it that says what it is and its hash.

FAISS itself loads a damaged file without a word. What it parses when it opens one, the head and the sizes of clusters,
is hashed at each start. The rest of a large file is hashed after the start (`is_whole`), unless its size, time or inode
are not those it was written with; then it is hashed before it is used.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
import warnings
from array import array
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmos.memory.opening import sync_folder

if TYPE_CHECKING:
    from collections.abc import Collection

    import numpy as np
    from numpy.typing import NDArray

FORMAT = 2
FLAT, CLUSTERED = "flat", "clustered"
_BLOCK = 1 << 20
_FLAT_HEAD = 256


@dataclass(frozen=True, kw_only=True)
class Description:
    """What a snapshot is. `token` is known to the database that it was made from; up to `highest_id` it has all ids.

    `trained` is how many vectors its clusters were made for (0: it has none), `probes` how many of them a search reads,
    `shrunk` how much of a cosine is left by what stands there for the numbers (0: a byte for each, as it was earlier).
    """

    kind: str
    model: str
    dim: int
    count: int
    highest_id: int
    token: str
    trained: int = 0
    probes: int = 0
    shrunk: float = 0.0
    head_bytes: int = 0
    head_sha256: str = ""
    sha256: str = ""
    identity: tuple[int, int, int] = (0, 0, 0)
    """Size, time of the last change in ns, inode."""
    format: int = FORMAT


@dataclass(frozen=True, kw_only=True, eq=False)
class Snapshot:
    """An opened snapshot; never changed. `is_checked` says that all of its bytes were hashed."""

    index: Any
    about: Description
    is_checked: bool


def read(path: Path, model: str, dim: int, tokens: Collection[str] | None, at_once: int) -> tuple[Snapshot | None, str]:
    """The snapshot, or None and why it can't be used; one of at most `at_once` bytes is hashed whole.

    `tokens` are those that the database knows; with None any is as good.
    """
    try:
        about = _described(json.loads(sidecar_of(path).read_bytes()))
        found = _identity(path)
        if about is None:
            return None, f"{sidecar_of(path)} is damaged, or has another format"
        if (about.model, about.dim) != (model, dim):
            return None, f"it holds vectors of {about.model!r}, not of {model!r}"
        if tokens is not None and about.token not in tokens:
            return None, "it was not made from this database, or from another state of it"
        as_written = found == about.identity and found[0] > at_once
        if found[0] != about.identity[0] or not (has_sound_head(path, about) if as_written else is_whole(path, about)):
            return None, f"{path} does not have the hash it was written with"
        return _opened(path, about, is_checked=not as_written)
    except (OSError, ValueError) as error:
        return None, f"{error}"


def has_sound_head(path: Path, about: Description) -> bool:
    """Whether the part that FAISS parses is as it was written."""
    return _sha256_parsed(path, about) == about.head_sha256


def is_whole(path: Path, about: Description) -> bool:
    """Whether all bytes are as they were written."""
    return _sha256(path) == about.sha256


def is_still_whole(path: Path, about: Description) -> bool:
    """Whether all bytes of an opened file are as they were written, unless it was replaced or removed since."""
    try:
        return is_whole(path, about) or _identity(path) != about.identity
    except OSError:
        return True


def sidecar_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _described(known: object) -> Description | None:
    if not isinstance(known, dict) or known.get("format") != FORMAT or known.pop("check", "") != _check(known):
        return None
    try:
        return Description(**{**known, "identity": tuple(known["identity"])})
    except (TypeError, KeyError):
        return None


def _check(described: dict[str, Any]) -> str:
    """A hash of the description itself: one wrong digit of `highest_id`, and traces would not be found."""
    return sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def _opened(path: Path, about: Description, *, is_checked: bool) -> tuple[Snapshot | None, str]:
    faiss = loaded_faiss()
    kinds = {FLAT: faiss.IndexIDMap, CLUSTERED: faiss.IndexIVFScalarQuantizer}
    kind = faiss.IndexIVFPQFastScan if about.shrunk else kinds.get(about.kind)
    try:
        index = faiss.read_index(str(path), 0 if about.shrunk else faiss.IO_FLAG_MMAP_IFC)
    except (RuntimeError, MemoryError) as error:
        return None, f"FAISS can't read it: {error}"
    if kind is None or type(index) is not kind or index.d != about.dim or index.ntotal != about.count:
        return None, "it is another kind of index"
    return Snapshot(index=index, about=about, is_checked=is_checked), ""


# --- writing -----------------------------------------------------------------------------------------


def fresh_name(path: Path) -> Path:
    """Where a new snapshot is written before it takes its place; only one process writes at a time."""
    return path.with_name(f".{path.name}.{os.getpid()}")


def remove_unfinished(path: Path) -> None:
    """Remove what killed processes had begun to write."""
    for orphan in path.parent.glob(f".{path.name}.*"):
        orphan.unlink(missing_ok=True)


def write(index: Any, fresh: Path, about: Description) -> Description:
    """Write an index durably under a preliminary name; returns the description with its hashes."""
    faiss = loaded_faiss()
    faiss.write_index(index, str(fresh))
    with fresh.open("rb+") as stream:
        os.fsync(stream.fileno())
    size = fresh.stat().st_size
    head = _end_of_head(fresh, index) if about.kind == CLUSTERED else min(size, _FLAT_HEAD)
    about = replace(about, head_bytes=head, sha256=_sha256(fresh))
    return replace(about, head_sha256=_sha256_parsed(fresh, about))


def _end_of_head(path: Path, index: Any) -> int:
    """Where the clusters begin: behind how many there are, and how they are kept."""
    lists = loaded_faiss().downcast_InvertedLists(index.invlists)
    begin = struct.pack("<4Q", lists.nlist, lists.code_size, lists.n_per_block, lists.block_size)
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(begin) + len(begin)


def place(fresh: Path, path: Path, about: Description) -> tuple[Snapshot | None, str]:
    """Give a written snapshot its name, with its description beside it, and open it."""
    fresh.replace(path)
    about = replace(about, identity=_identity(path))
    described = fresh.with_name(f"{fresh.name}.json")
    with described.open("wb") as stream:
        stream.write(json.dumps({**asdict(about), "check": _check(asdict(about))}).encode())
        stream.flush()
        os.fsync(stream.fileno())
    described.replace(sidecar_of(path))
    sync_folder(path.parent)
    return _opened(path, about, is_checked=True)


def flat_of(ids: NDArray[np.int64], vectors: NDArray[np.float32], dim: int) -> Any:
    """An index that compares with every vector."""
    faiss = loaded_faiss()
    index = faiss.IndexIDMap(faiss.IndexFlatIP(dim))
    if len(ids):
        index.add_with_ids(vectors, ids)
    return index


def content_of(index: Any) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The ids and vectors of a flat index, as copies."""
    faiss = loaded_faiss()
    flat = faiss.downcast_index(index.index)
    vectors = faiss.rev_swig_ptr(flat.get_xb(), index.ntotal * index.d) if index.ntotal else faiss.np.zeros(0, "f4")
    return faiss.vector_to_array(index.id_map).copy(), vectors.reshape(-1, index.d).copy()


def loaded_faiss() -> Any:
    """FAISS with one thread: for a single query a second one only costs. The setting is that of the calling thread."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SWIG's own, at import
        import faiss
    faiss.omp_set_num_threads(1)
    return faiss


def _identity(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ino


def _sha256_parsed(path: Path, about: Description) -> str:
    """The hash of what FAISS parses: the head, and how much each cluster has; the rest it takes as it is."""
    if not about.shrunk:
        return _sha256(path, about.head_bytes)
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        rest = len(content) - about.head_bytes
        with memoryview(content)[about.head_bytes : about.head_bytes + rest // 8 * 8] as cut, cut.cast("Q") as numbers:
            sizes, end = _sizes(numbers)
        parsed = content[: about.head_bytes] + sizes.tobytes()
        return sha256(parsed).hexdigest() if 8 * end == rest else ""


def _sizes(numbers: memoryview) -> tuple[array[int], int]:
    """How many ids each cluster has, and how many bytes for them; and where the last of them ends."""
    sizes, at = array("Q"), 0
    while at < len(numbers):
        ids = numbers[at]
        stored = numbers[at + 1 + ids] if at + 1 + ids < len(numbers) else 0
        sizes.extend((ids, stored))
        at += 2 + ids + -(-stored // 8)
    return sizes, at


def _sha256(path: Path, length: int | None = None) -> str:
    """The hash of a file, or of its first `length` bytes."""
    made = sha256()
    left = path.stat().st_size if length is None else length
    with path.open("rb") as stream:
        while left > 0 and (block := stream.read(min(_BLOCK, left))):
            made.update(block)
            left -= len(block)
    return made.hexdigest()
