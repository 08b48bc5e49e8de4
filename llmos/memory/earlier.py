"""The earlier turns of a model's session, cut into passages, and found again by words and by meaning."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PASSAGE_CHARS = 800
"""The embedding model reads 256 tokens, which are about a thousand characters."""

LEAST_COSINE = 0.4
LEAST_WORDS = 3
"""How near a passage must be to what is looked for: by its meaning, or by how many telling words they have in common.

One that names something (`report.csv`, `parse_date`, 2024-05-01) tells as much as all of them. Measured by
`python -m benchmarks.context`.
"""

_TELLING_TURNS = 0.1
_FUSION = 60
_WORD = re.compile(r"\w+")
_NAME = re.compile(r"(?=[^\s]*[\d_./-])(?=[^\s]*[^\W\d_])[\w./-]*\w")
_LEAST_NAME = 4


@dataclass(frozen=True, kw_only=True)
class Passage:
    """A part of what stood in a turn (they count from 1); `source` is the call that gave it, or the model itself."""

    turn: int
    source: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Found:
    """A passage, its cosine to what was looked for, and the telling words and names that both have."""

    passage: Passage
    cosine: float
    words: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()

    @property
    def is_near(self) -> bool:
        return self.cosine >= LEAST_COSINE or bool(self.names) or len(self.words) >= LEAST_WORDS


@dataclass(kw_only=True)
class EarlierTurns:
    """Passages of one session; `encode` gives a row of length 1 for each text. One call at a time, from any thread.

    Two rankings, BM25 over words and cosine over vectors, become one by reciprocal rank fusion. Sources: Robertson and
    Zaragoza, The Probabilistic Relevance Framework (2009); Cormack, Clarke and Büttcher, Reciprocal Rank Fusion (2009).
    """

    encode: Callable[[Sequence[str]], NDArray[np.float32]]
    by_words: bool = True
    by_meaning: bool = True
    passages: list[Passage] = field(default_factory=list)
    _vectors: Any = None
    _words: Any = None
    _held: list[frozenset[str]] = field(default_factory=list)
    _turns: dict[str, set[int]] = field(default_factory=dict)

    def add(self, passages: Sequence[Passage]) -> None:
        """Take passages in, which are found from then on."""
        if not passages:
            return
        import bm25s
        import numpy as np

        vectors = self.encode([whole(one) for one in passages])
        self._vectors = vectors if self._vectors is None else np.concatenate([self._vectors, vectors])
        self.passages += passages
        self._words = bm25s.BM25(method="lucene")
        self._words.index([_terms(whole(one)) for one in self.passages], show_progress=False)
        for one in passages:
            self._held.append(frozenset(_terms(whole(one))))
            for word in self._held[-1]:
                self._turns.setdefault(word, set()).add(one.turn)

    def search(self, query: str, limit: int = 5) -> list[Found]:
        """The passages nearest to a query, the nearest first, however far they are."""
        words = list(dict.fromkeys(_terms(query)))
        if not self.passages or not words or limit < 1:
            return []
        cosines = self._vectors @ self.encode([query])[0]
        known = [word for word in words if word in self._turns]
        scores = self._words.get_scores(known) if known else cosines * 0.0
        fused = [0.0] * len(self.passages)
        telling = [frozenset(filter(self._tells, terms)) for terms in (words_in(query), names_in(query))]
        naming = [float(len(telling[1] & held)) for held in self._held]
        for ranking in (*([cosines] if self.by_meaning else []), *([scores, naming] if self.by_words else [])):
            for rank, at in enumerate(sorted(range(len(fused)), key=lambda at: -float(ranking[at]))):
                fused[at] += 1.0 / (_FUSION + rank + 1) if ranking[at] > 0 else 0.0
        best = sorted(range(len(fused)), key=lambda at: (-fused[at], at))[:limit]
        return [
            Found(
                passage=self.passages[at],
                cosine=float(cosines[at]),
                words=telling[0] & self._held[at],
                names=telling[1] & self._held[at],
            )
            for at in best
        ]

    def _tells(self, word: str) -> bool:
        """Whether few enough turns have a word for it to tell them from the others."""
        turns = len({one.turn for one in self.passages})
        return 1 <= len(self._turns.get(word, ())) <= max(1, _TELLING_TURNS * turns)


def whole(passage: Passage) -> str:
    """A passage with what gave it."""
    return f"{passage.source}\n{passage.text}"


def words_in(text: str) -> list[str]:
    """The words of a text, in small letters."""
    return [word.lower() for word in _WORD.findall(text)]


def names_in(text: str) -> list[str]:
    """The words of a text that name something: with a digit, a dot, a slash, a dash or a low line in them."""
    return [name.lower() for name in _NAME.findall(text) if len(name) >= _LEAST_NAME]


def _terms(text: str) -> list[str]:
    """What a text is indexed by: its words, and whole what names something."""
    return [*words_in(text), *(name for name in names_in(text) if not name.isalnum())]


def cut(turn: int, source: str, text: str) -> Iterator[Passage]:
    """A text in passages, which end at the end of a line where one is near enough."""
    for part in _parts(text.splitlines(keepends=True)):
        if part.strip():
            yield Passage(turn=turn, source=source, text=part.strip())


def _parts(lines: Iterable[str]) -> Iterator[str]:
    held = ""
    for line in lines:
        if held and len(held) + len(line) > PASSAGE_CHARS:
            yield held
            held = ""
        held += line
        while len(held) > PASSAGE_CHARS:
            yield held[:PASSAGE_CHARS]
            held = held[PASSAGE_CHARS:]
    yield held
