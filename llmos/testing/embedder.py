"""An embedder that loads no model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class HashEmbedder:
    """Embeds a text as the bag of its words, hashed: equal words give equal vectors, in any process.

    Similar in the number of shared words only; a paraphrase is far away.
    """

    model_name = "hash-384"
    dim = 384

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of the texts: float32[n, dim], each of length 1."""
        import numpy as np

        vectors = np.zeros((len(texts), self.dim), dtype=np.float32)
        for row, text in enumerate(texts):
            for word in re.findall(r"\w+", text.lower()) or [text]:
                vectors[row, self._bucket(word)] += 1.0
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors

    def _bucket(self, word: str) -> int:
        return int.from_bytes(blake2b(word.encode(), digest_size=8).digest()) % self.dim
