"""all-MiniLM-L6-v2 in numpy: the same vectors as sentence-transformers, without the seconds torch takes to import.

The architecture is written down here, not read from config.json: it belongs to the weights, which are pinned by
their hash.

Source: Devlin et al. 2019 (BERT), Reimers & Gurevych 2019 (mean pooling), Wang et al. 2020 (MiniLM).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from threadpoolctl import ThreadpoolController
    from tokenizers import Tokenizer

    Array = NDArray[np.float32]

DIM = 384
MAX_TOKENS = 256  # Source: sentence_bert_config.json; what stands further back in a text is not seen.
_LAYERS = 6
_HEADS = 12
_HEAD_DIM = DIM // _HEADS
_EPSILON = 1e-12
# What one pass takes together: enough to read the weights seldom, few enough to stay in the cache.
_PASS_TOKENS = 512


class MiniLM:
    """The model of a folder that holds model.safetensors and tokenizer.json; the weights stay on disk, mapped.

    Raises:
        OSError: the weights can't be read.
        ValueError: a file is not what its name says, or the tokenizer can't be read.
    """

    def __init__(self, folder: Path) -> None:
        self._tokenizer = _tokenizer(folder / "tokenizer.json")
        self._weights = _mapped(folder / "model.safetensors")
        self._blas = _blas()

    @property
    def dim(self) -> int:
        """Numbers in a vector."""
        return DIM

    def encode(self, texts: Sequence[str]) -> Array:
        """float32[len(texts), 384], each row of length 1; alone or among others, a text has the same vector (1e-6)."""
        import numpy as np

        vectors = np.empty((len(texts), DIM), dtype=np.float32)
        row = 0
        # For one goal a second thread gains nothing, and on busy cores the two wait for each other.
        with self._blas.limit(limits=1):
            for batch in _passes(self._ids(text) for text in texts):
                vectors[row : row + len(batch)] = self._pooled(batch)
                row += len(batch)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors

    def _ids(self, text: str) -> list[int]:
        """The text's tokens with [CLS] and [SEP], 2 to 256; half a surrogate pair counts as a question mark."""
        ids: list[int] = self._tokenizer.encode(text.encode(errors="replace").decode()).ids
        return ids

    def _pooled(self, batch: Sequence[Sequence[int]]) -> Array:
        """Each text's mean over its tokens' last hidden states, float32[len(batch), 384].

        The texts' tokens stand in one float32[tokens, 384] without padding; only the attention looks at one text
        at a time, so no mask is needed.
        """
        import numpy as np

        spans = _spans(batch)
        hidden = self._embedded(batch)
        for layer in range(_LAYERS):
            hidden = self._layer(f"encoder.layer.{layer}", hidden, spans)
        return np.stack([hidden[span].mean(axis=0) for span in spans])

    def _embedded(self, batch: Sequence[Sequence[int]]) -> Array:
        """Word, position and segment embeddings of all tokens, float32[tokens, 384]."""
        import numpy as np

        words = np.concatenate([np.asarray(ids, dtype=np.intp) for ids in batch])
        positions = np.concatenate([np.arange(len(ids)) for ids in batch])
        hidden = (
            self._weights["embeddings.word_embeddings.weight"][words]
            + self._weights["embeddings.position_embeddings.weight"][positions]
            + self._weights["embeddings.token_type_embeddings.weight"][0]
        )
        return self._normalised("embeddings.LayerNorm", hidden)

    def _layer(self, name: str, hidden: Array, spans: Sequence[slice]) -> Array:
        """One transformer layer, float32[tokens, 384] to the same."""
        seen = self._dense(f"{name}.attention.output.dense", self._attention(f"{name}.attention.self", hidden, spans))
        hidden = self._normalised(f"{name}.attention.output.LayerNorm", hidden + seen)
        inner = gelu(self._dense(f"{name}.intermediate.dense", hidden))
        return self._normalised(f"{name}.output.LayerNorm", hidden + self._dense(f"{name}.output.dense", inner))

    def _attention(self, name: str, hidden: Array, spans: Sequence[slice]) -> Array:
        """Each text's tokens looking at that text's tokens, in 12 heads; float32[tokens, 384]."""
        import numpy as np

        query, key, value = (_heads(self._dense(f"{name}.{part}", hidden)) for part in ("query", "key", "value"))
        seen = np.empty_like(query)
        for span in spans:
            scores = query[:, span] @ key[:, span].transpose(0, 2, 1) / np.float32(math.sqrt(_HEAD_DIM))
            seen[:, span] = _softmax(scores) @ value[:, span]
        return seen.transpose(1, 0, 2).reshape(-1, DIM)

    def _dense(self, name: str, x: Array) -> Array:
        """float32[tokens, inputs] to float32[tokens, outputs].

        Multiplied from the left and handed on as the transposed view, which the next layer transposes back: for
        the few tokens of a goal BLAS is a third faster this way round.
        """
        y: Array = self._weights[f"{name}.weight"] @ x.T
        y += self._weights[f"{name}.bias"][:, None]
        return y.T

    def _normalised(self, name: str, x: Array) -> Array:
        """Each row with mean 0 and variance 1, then scaled and shifted as learned (layer normalisation)."""
        import numpy as np

        x = x - x.mean(axis=1, keepdims=True)
        x /= np.sqrt(np.square(x).mean(axis=1, keepdims=True) + np.float32(_EPSILON))
        return x * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]


def gelu(x: Array) -> Array:
    """x·Φ(x) with the exact normal distribution Φ, as BERT has it, not the tanh approximation; within 5e-7.

    x·Φ(x) = max(x, 0) - |x|·Q(|x|), and Q(z) = erfc(z/√2)/2 is a polynomial in t times exp(-z²/2): so the small
    tail is computed itself, not as 1 less something near 1.

    Source: Abramowitz & Stegun 1964, 7.1.26 (erf within 1.5e-7); Hendrycks & Gimpel 2016.
    """
    import numpy as np

    size = np.abs(x)
    t = np.reciprocal(1 + np.float32(0.3275911 / math.sqrt(2)) * size)
    tail = np.full_like(x, 1.061405429 / 2)
    for coefficient in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        tail *= t
        tail += np.float32(coefficient / 2)
    tail *= t
    tail *= np.exp(np.float32(-0.5) * np.square(x))
    tail *= size
    return np.maximum(x, 0) - tail


def _heads(x: Array) -> Array:
    """float32[tokens, 384] as float32[12, tokens, 32]."""
    return x.reshape(-1, _HEADS, _HEAD_DIM).transpose(1, 0, 2)


def _softmax(scores: Array) -> Array:
    import numpy as np

    scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
    scores /= scores.sum(axis=-1, keepdims=True)
    return scores


def _passes(texts: Iterator[list[int]]) -> Iterator[list[list[int]]]:
    """Successive texts in batches of at most `_PASS_TOKENS` tokens."""
    batch: list[list[int]] = []
    for ids in texts:
        if batch and sum(map(len, batch)) + len(ids) > _PASS_TOKENS:
            yield batch
            batch = []
        batch.append(ids)
    if batch:
        yield batch


def _spans(batch: Sequence[Sequence[int]]) -> list[slice]:
    """Where each text's tokens stand among all tokens of the batch."""
    spans, start = [], 0
    for ids in batch:
        spans.append(slice(start, start + len(ids)))
        start += len(ids)
    return spans


def _tokenizer(file: Path) -> Tokenizer:
    """The tokenizer of a file, which itself asks for 128 tokens, padded: made before the model was."""
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:
        # The library raises nothing narrower, whatever is wrong with the file.
        raise ValueError(f"{file.name}: {error}") from error
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)
    return tokenizer


def _blas() -> ThreadpoolController:
    """What numpy multiplies matrices with, to say with how many threads."""
    import numpy  # noqa: F401  (before its libraries are looked for)
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")


def _mapped(file: Path) -> Mapping[str, Array]:
    """The file's float32 tensors by name, each a read-only view of the mapped file.

    Source: the safetensors format: length of the header (u64, little endian), header (JSON), tensors. Its own
    library copies each tensor it hands to numpy.
    """
    import numpy as np

    with file.open("rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(size))
        data = np.memmap(stream, dtype=np.uint8, mode="r", offset=8 + size)
    tensors: dict[str, Array] = {}
    for name, entry in header.items():
        if entry.get("dtype") == "F32":
            start, end = entry["data_offsets"]
            # As a plain array: numpy.memmap would run Python code at every slice and every result.
            tensors[name] = np.asarray(data)[start:end].view(np.float32).reshape(entry["shape"])
    return tensors
