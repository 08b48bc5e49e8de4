"""Rewrites between wordings: what a trace's own wordings show to mean the same, and what parts it from others.

Two wordings of one trace that differ in one place license putting one piece for the other. Two wordings of different
traces that differ in just that place forbid it. So every rewrite that is trusted can name its evidence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TypeAlias

from llmos.trace.lex import Kind, Place, Token, template_tokens
from llmos.trace.phrases import CRITICAL

Words: TypeAlias = tuple[str, ...]
"""A wording as its telling words; a slot is `<name>`, a question begins with `?`."""

FREE = frozenset(
    {"a", "an", "the", "please", "kindly", "my", "our", "is", "are", "be", "do", "does", "will", "would", "can"}
    | {"could", "you", "i", "me", "us", "it", "there", "s"}
)
"""Words that may come and go without changing what is asked, as long as a question stays one."""
PREPOSITIONS = frozenset({"in", "at", "of", "for"})
"""These too, where a trace has no two slots that they could tell apart."""
_ASKING = frozenset(
    {"what", "which", "who", "whom", "whose", "where", "when", "why", "how", "is", "are", "was", "were"}
    | {"do", "does", "did", "has", "have", "had", "will", "shall", "am"}
)
_MARKS = frozenset(",.;:!?")
MAX_PIECE = 4
UNLICENSED = 3.0
"""The price of a word that is exchanged without a licence: such a reading is only good for a question."""
_MANY = 3
_MAX_WORDINGS = 60


def telling_words(words: Sequence[str], *, prepositions: bool) -> Words:
    """A wording without the words that may come and go; `prepositions` says whether those tell slots apart."""
    first = words[0].partition("'")[0].partition("’")[0] if words else ""
    free = FREE if prepositions else FREE | PREPOSITIONS
    return (*(("?",) if first in _ASKING else ()), *(word for word in words if word not in free))


def plain_words(parts: Sequence[Token | Place]) -> list[str]:
    """The words and signs of a template or goal, slots as `<name>`; courtesies and the marks of sentences left out."""
    words: list[str] = []
    for part in parts:
        if isinstance(part, Place):
            words.append(f"<{part.slot}>")
        elif part.text not in _MARKS and not part.noise:
            words.append(part.key if part.kind is Kind.WORD else f"{part.kind}:{part.key}")
    return words


@lru_cache(maxsize=4096)
def wordings(goals: tuple[str, ...], prepositions: bool) -> tuple[Words, ...]:
    """The telling words of each of a trace's templates."""
    return tuple(telling_words(plain_words(template_tokens(goal)), prepositions=prepositions) for goal in goals)


def difference(one: Words, other: Words) -> tuple[Words, Words]:
    """The one place where two wordings differ: what stands there in each, between what they share on both sides."""
    start = 0
    while start < min(len(one), len(other)) and one[start] == other[start]:
        start += 1
    end = 0
    while end < min(len(one), len(other)) - start and one[-1 - end] == other[-1 - end]:
        end += 1
    return one[start : len(one) - end], other[start : len(other) - end]


@lru_cache(maxsize=4096)
def licences(goals: tuple[str, ...], prepositions: bool) -> Mapping[tuple[Words, Words], int]:
    """The rewrites that the wordings of one trace license, each with how many pairs show it."""
    found: dict[tuple[Words, Words], int] = {}
    known = sorted(set(wordings(goals, prepositions)))[:_MAX_WORDINGS]
    for position, one in enumerate(known):
        for other in known[position + 1 :]:
            here, there = difference(one, other)
            if max(len(here), len(there)) <= MAX_PIECE and len(one) > len(here) and len(other) > len(there):
                found[here, there] = found.get((here, there), 0) + 1
                found[there, here] = found[here, there]
    return found


@dataclass(frozen=True, kw_only=True)
class Book:
    """The rewrites that may be used on a trace: its own, those that several others show, less what parts traces.

    `own` are the telling words of the trace's templates, `others` the templates of the other traces considered.
    """

    goals: tuple[str, ...]
    others: tuple[tuple[str, ...], ...]
    prepositions: bool

    @cached_property
    def own(self) -> tuple[Words, ...]:
        return wordings(self.goals, self.prepositions)

    @cached_property
    def _licensed(self) -> Mapping[tuple[Words, Words], int]:
        return licences(self.goals, self.prepositions)

    @cached_property
    def _foreign(self) -> Mapping[tuple[Words, Words], int]:
        """Rewrites without slots that at least two other traces show."""
        counted: dict[tuple[Words, Words], int] = {}
        for goals in self.others:
            for here, there in licences(goals, self.prepositions):
                if not any(word.startswith("<") for word in here + there):
                    counted[here, there] = counted.get((here, there), 0) + 1
        return {pair: count for pair, count in counted.items() if count > 1}

    @cached_property
    def _elsewhere(self) -> frozenset[Words]:
        return frozenset(words for goals in self.others for words in wordings(goals, self.prepositions))

    def cost(self, here: Words, there: Words) -> float | None:
        """What putting `there` for `here` costs: 1 on the trace's own evidence, 1.5 on others'; None: not licensed.

        Where a word on which the meaning turns comes or goes, one pair of wordings is not enough.
        """
        own, foreign = self._licensed.get((here, there), 0), self._foreign.get((here, there), 0)
        if max(own, foreign) < (_MANY if turns(here, there) else 1) or self._parts(here, there):
            return None
        return 1.0 if own else 1.5

    def _parts(self, here: Words, there: Words) -> bool:
        """Whether the rewrite turns a wording of this trace into one of another."""
        for words in self.own:
            for start in range(len(words) - len(here) + 1):
                put = (*words[:start], *there, *words[start + len(here) :])
                if words[start : start + len(here)] == here and put in self._elsewhere:
                    return True
        return False

    def distance(self, words: Words, most: float, *, guessing: bool = False) -> tuple[float, Words] | None:
        """The fewest licensed rewrites from one of the wordings to `words`, and that wording; None above `most`.

        When `guessing`, content words may be exchanged without a licence, at a high price.
        """
        best: tuple[float, Words] | None = None
        for own in self.own:
            if abs(len(own) - len(words)) > MAX_PIECE or 2 * len(set(own) & set(words)) < len(own):
                continue
            price = self._distance(own, words, most, guessing=guessing)
            if price <= most and (best is None or price < best[0]):
                best = price, own
        return best

    def _distance(self, own: Words, words: Words, most: float, *, guessing: bool) -> float:
        """The cheapest way through both at once (an edit distance whose edits are the licensed rewrites)."""
        far = most + 1
        table = [[far] * (len(words) + 1) for _ in range(len(own) + 1)]
        table[0][0] = 0.0
        for i in range(len(own) + 1):
            for j in range(len(words) + 1):
                here = table[i][j]
                if here > most:
                    continue
                if i < len(own) and j < len(words) and own[i] == words[j]:
                    table[i + 1][j + 1] = min(table[i + 1][j + 1], here)
                for p in range(min(MAX_PIECE, len(own) - i) + 1):
                    for q in range(min(MAX_PIECE, len(words) - j) + 1):
                        if p + q and table[i + p][j + q] > here + 1:
                            price = self.cost(own[i : i + p], words[j : j + q])
                            if price is None and guessing:
                                price = _guessed(own[i : i + p], words[j : j + q])
                            if price is not None:
                                table[i + p][j + q] = min(table[i + p][j + q], here + price)
        return table[-1][-1]


def _guessed(here: Words, there: Words) -> float | None:
    """What exchanging words without a licence costs; words on which the meaning turns, slots and numbers stay."""
    if any(word in CRITICAL or not word.replace("-", "").isalpha() for word in here + there):
        return None
    return UNLICENSED * max(len(here), len(there))


def turns(one: Words, other: Words) -> bool:
    """Whether two wordings differ in words on which the meaning turns."""
    return sorted(word for word in one if word in CRITICAL) != sorted(word for word in other if word in CRITICAL)
