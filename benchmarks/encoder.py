"""The product's encoder with a memory, so that all systems are compared on the same vectors."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llmos.memory.embeddings import Embedder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(kw_only=True)
class RememberingEmbedder:
    """An embedder that encodes each text once; `owed_s` is the time that remembered texts would have taken."""

    inner: Embedder
    owed_s: float = 0.0
    _known: dict[str, tuple[NDArray[np.float32], float]] = field(default_factory=dict)

    @property
    def model_name(self) -> str:
        return self.inner.model_name

    @property
    def dim(self) -> int:
        return self.inner.dim

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """float32[len(texts), dim]."""
        import numpy as np

        self.owed_s += sum(self._known[text][1] for text in texts if text in self._known)
        fresh = list(dict.fromkeys(text for text in texts if text not in self._known))
        if fresh:
            started = time.perf_counter()
            vectors = self.inner.encode(fresh)
            taken = (time.perf_counter() - started) / len(fresh)
            self._known.update((text, (vector, taken)) for text, vector in zip(fresh, vectors, strict=True))
        return np.stack([self._known[text][0] for text in texts])
