"""Which process the words of a sentence name: by its number, by the words of its goal, or by their meaning."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field

from llmos.errors import NotFoundError
from llmos.interfaces.render import one_line
from llmos.kernel.process import Process
from llmos.trace.english import ARTICLES, CONDITIONAL, DAYS, DEICTIC, DIRECTION, FUNCTION, NEGATION, QUANTIFIER, TIMES
from llmos.trace.lex import Kind, Token, tokenize

LEAST_LIKE, LEAST_AHEAD = 0.35, 0.15
"""How near in meaning a process's goal must be to a word, and how much nearer than any other's."""

_MOST_TOKENS = 10
_NO_NAME = ARTICLES | frozenset(
    (
        "that",
        "which",
        "who",
        "is",
        "are",
        "one",
        "process",
        "goal",
        "task",
        "job",
        "of",
        "for",
        "with",
        "in",
        "my",
        "our",
    )
)
_NO_OBJECT = NEGATION | (QUANTIFIER - DIRECTION) | CONDITIONAL | DAYS | TIMES | DEICTIC
_ENDINGS = frozenset(("", "s", "es", "r", "er", "ers", "or", "ors", "d", "ed", "ing", "ion", "ions", "ure", "ator"))

Likeness = Callable[[str, Sequence[str]], Awaitable[list[float]]]


@dataclass(frozen=True, kw_only=True)
class Objects:
    """The processes that may be meant, and how near their goals are to words (`Recall.likeness`)."""

    processes: Sequence[Process]
    likeness: Likeness
    _like: dict[str, int] = field(default_factory=dict)

    def named(self, words: str) -> list[Process]:
        """The processes that words name: its number, or words that its goal has in the same order, and nothing else."""
        tokens = tokenize(words)
        telling = [
            token for token in tokens if token.key not in _NO_NAME and token.text.isascii() | token.text.isalnum()
        ]
        numbers = [token for token in telling if token.kind is Kind.NUMBER]
        if len(telling) == 1 and numbers:
            return [one for one in self.processes if str(one.pid) == telling[0].value]
        if all(token.key in FUNCTION for token in telling) or not all(_is_telling(token) for token in telling):
            return []
        return [one for one in self.processes if _holds(tokenize(one.goal), telling)]

    def values(self, sentence: str) -> frozenset[str]:
        """The parts of a sentence that name one process: a slot that takes a process takes nothing else."""
        return frozenset(span for span in spans(sentence) if len(self.named(span)) == 1 or span.lower() in self._like)

    async def learn_meanings(self, sentence: str) -> None:
        """Find the single words of a sentence that name a process by what they mean."""
        for word in _words(sentence):
            if not self.named(word) and (found := await self._meant(word)) is not None:
                self._like[word.lower()] = found.pid

    async def resolve(self, words: str) -> Process:
        """The process that words name.

        Raises:
            NotFoundError: none is clearly meant; the nearest is named.
        """
        found = self.named(words)
        if len(found) == 1:
            return found[0]
        if len(found) > 1:
            told = " or ".join(_told(one) for one in found[:3])
            raise NotFoundError(f"{words!r} may be process {told}: say its number.")
        if len(_words(words)) == 1 and not words.strip().isdigit():
            meant = await self._meant(_words(words)[0])
            if meant is not None:
                return meant
        raise NotFoundError(f"no process is clearly meant by {words!r}{await self._nearest(words)}.")

    async def _meant(self, word: str) -> Process | None:
        ranked = await self._ranked(word)
        if not ranked or ranked[0][0] < LEAST_LIKE:
            return None
        is_ahead = len(ranked) == 1 or ranked[0][0] - ranked[1][0] >= LEAST_AHEAD
        return ranked[0][1] if is_ahead else None

    async def _nearest(self, words: str) -> str:
        if words.strip().isdigit() or not self.processes:
            return "; `ps` lists those there are"
        return f"; the nearest is {_told((await self._ranked(words))[0][1])}"

    async def _ranked(self, words: str) -> list[tuple[float, Process]]:
        if not self.processes:
            return []
        near = await self.likeness(words, [one.goal for one in self.processes])
        return sorted(zip(near, self.processes, strict=True), key=lambda pair: -pair[0])


def _told(process: Process) -> str:
    return f"{process.pid} ({one_line(process.goal, 60)})"


def spans(sentence: str) -> Iterable[str]:
    """Every part of a sentence, of whole words and not too long; an article belongs to what is around it."""
    tokens = tokenize(sentence)
    for first in range(len(tokens)):
        for last in range(first, min(first + _MOST_TOKENS, len(tokens))):
            if tokens[first].key not in ARTICLES and tokens[last].key not in ARTICLES:
                yield sentence[tokens[first].start : tokens[last].end]


def _words(text: str) -> list[str]:
    """Its single words that may name something."""
    found = [token for token in tokenize(text) if token.kind is Kind.WORD and token.key not in _NO_NAME]
    return [token.text for token in found if _is_telling(token) and token.key not in DIRECTION]


def _is_telling(token: Token) -> bool:
    return token.key not in _NO_OBJECT and any(map(str.isalnum, token.text))


def _holds(goal: Sequence[Token], telling: Sequence[Token]) -> bool:
    """Whether a goal has all these words, in their order."""
    left = iter(goal)
    return all(any(_same(token, word) for token in left) for word in telling)


def _same(one: Token, other: Token) -> bool:
    if Kind.WORD not in (one.kind, other.kind) or one.kind is not other.kind:
        return one.kind is other.kind and one.value == other.value
    short, long = sorted((one.key, other.key), key=len)
    if short == long:
        return True
    stem = short.removesuffix("e")
    return len(stem) >= 3 and long.startswith(stem) and long[len(stem) :].removeprefix(stem[-1]) in _ENDINGS
