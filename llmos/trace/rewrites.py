"""Rewrites between wordings: what a trace's own wordings show to mean the same, and what parts it from others.

Two wordings of one trace that differ in one place license putting one piece for the other. Two wordings of different
traces that differ in just that place forbid it. What other traces show counts only among those that call the same
tools: two of them license an exchange, and two that share a wording but for the names of their slots are kin, and may
be said in each other's wordings. So every rewrite that is trusted can name its evidence.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import NamedTuple, TypeAlias

from llmos.trace.align import constant_texts
from llmos.trace.english import (
    ALIKE,
    ASKED_OF_YOU,
    ASKING,
    COMING_AND_GOING,
    COURTESIES,
    CRITICAL,
    DIRECTION,
    NEGATION,
    PREPOSITIONS,
)
from llmos.trace.lex import Kind, Place, Token, template_tokens
from llmos.trace.program import Trace
from llmos.trace.values import Const, Opaque, Text, leaves_of

Words: TypeAlias = tuple[str, ...]
"""A wording as its telling words; a slot is `<name>`, a question begins with `?`."""
Rewrite: TypeAlias = tuple[Words, Words]
"""A piece of a wording, and what may be put for it."""
Company: TypeAlias = tuple[str, str]
"""The words before and after a piece; `` is the edge of the wording."""
Shown: TypeAlias = list[tuple[Company, ...]]
"""The company in which each of some traces shows a rewrite."""

_MARKS = frozenset(",.;:!?")
_SMALL = COMING_AND_GOING | PREPOSITIONS
MAX_PIECE = 4
_OWN, _FOREIGN, _COME, _GONE, _GUESSED, _KIN = 1.0, 1.5, 1.25, 2.0, 3.0, 0.5
"""The prices of a rewrite by whose evidence it is, of a word that other wordings have or lack, and of a guess."""
_MANY = 3
_MAX_WORDINGS = 60
_MAX_TRIED = 12


def telling_words(words: Sequence[str], free: frozenset[str]) -> Words:
    """A wording without the words that are `free` to come and go, nor `could you` at its beginning."""
    if len(words) > 2 and words[0] in ASKED_OF_YOU and words[1] == "you":
        words = words[2:]
    first = words[0].partition("'")[0].partition("’")[0] if words else ""
    said = (word for at, word in enumerate(words) if word not in free or is_counting(words, at))
    return (*(("?",) if first in ASKING else ()), *said)


def is_counting(words: Sequence[str], at: int) -> bool:
    """Whether a word is the `of` of `number of`: without it, `number` is something to be done."""
    return bool(at) and words[at] == "of" and words[at - 1] == "number"


def plain_words(parts: Sequence[Token | Place]) -> list[str]:
    """The words and signs of a template or goal, slots as `<name>`; courtesies and the marks of sentences left out.

    A small word with a capital inside a sentence is a name (`US`, `IT`, `Will`), and stays as it is written.
    """
    words: list[str] = []
    for position, part in enumerate(parts):
        if isinstance(part, Place):
            words.append(f"<{part.slot}>")
        elif position and part.text[:1].isupper() and part.text != "I" and (part.noise or part.key in _SMALL):
            words.append(part.text)
        elif part.text not in _MARKS and not part.noise:
            words.append(part.key if part.kind is Kind.WORD else f"{part.kind}:{part.key}")
    return words


@lru_cache(maxsize=4096)
def wordings(goals: tuple[str, ...], free: frozenset[str]) -> tuple[Words, ...]:
    """The telling words of each of a trace's templates."""
    return tuple(telling_words(plain_words(template_tokens(goal)), free) for goal in goals)


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
def licences(goals: tuple[str, ...], free: frozenset[str]) -> Mapping[Rewrite, tuple[Company, ...]]:
    """The rewrites that the wordings of one trace license, each with the company in which a pair of them shows it."""
    found: dict[Rewrite, tuple[Company, ...]] = {}
    known = sorted(set(wordings(goals, free)))[:_MAX_WORDINGS]
    for position, one in enumerate(known):
        for other in known[position + 1 :]:
            here, there = difference(one, other)
            short = max(len(here), len(there)) <= MAX_PIECE and len(one) > len(here) and len(other) > len(there)
            if short and _may_license(here, there):
                shown = company(one, _start_of_difference(one, other), len(here))
                found[here, there] = (*found.get((here, there), ()), shown)
                found[there, here] = found[here, there]
    return found


def company(words: Words, at: int, length: int) -> Company:
    """The words around a piece of a wording."""
    return words[at - 1] if at else "", words[at + length] if at + length < len(words) else ""


def _start_of_difference(one: Words, other: Words) -> int:
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


class Way(NamedTuple):
    """How one wording becomes another, the cheaper the better.

    `licensed` is the price of the licensed rewrites, `come` and `gone` how many words other wordings of the trace have
    or lack as well, `guessed` how many are exchanged without any evidence, `turned` how many changes touch a word on
    which the meaning turns, `kin` 1 if it begins at a wording of kin.
    """

    price: float = 0.0
    licensed: float = 0.0
    come: int = 0
    gone: int = 0
    guessed: int = 0
    turned: int = 0
    kin: int = 0

    def rewritten(self, price: float, *, turned: bool) -> Way:
        return self._replace(price=self.price + price, licensed=self.licensed + price, turned=self.turned + turned)

    def loosened(self, *, come: int = 0, gone: int = 0, turned: bool) -> Way:
        price = self.price + _COME * come + _GONE * gone
        return self._replace(price=price, come=self.come + come, gone=self.gone + gone, turned=self.turned + turned)

    def guess(self, words: int) -> Way:
        return self._replace(price=self.price + _GUESSED * words, guessed=self.guessed + words)


def _may_license(here: Words, there: Words) -> bool:
    """Whether a difference of wordings is one of words alone: the same slots on both sides, and no number in a word."""
    slots = [sorted(word for word in piece if is_slot(word)) for piece in (here, there)]
    digits = any(char.isdigit() for word in here + there if not is_slot(word) for char in word)
    return slots[0] == slots[1] and not digits


@dataclass(frozen=True, kw_only=True)
class Library:
    """All traces that a goal may mean, with what their wordings show together."""

    traces: Sequence[Trace]
    _programs: dict[str, int] = field(default_factory=dict)
    _shown_by: dict[frozenset[str], dict[str, dict[Rewrite, Shown]]] = field(default_factory=dict)
    _owned_by: dict[frozenset[str], dict[Words, set[int]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for number, trace in enumerate(self.traces):
            same = (self._programs[other.id] for other in self.traces[:number] if other.steps == trace.steps)
            self._programs[trace.id] = next(same, number)

    def book(self, trace: Trace) -> Book:
        """The rewrites that may be used on one of the traces."""
        return Book(trace=trace, library=self, free=self.free(trace))

    def program(self, trace: Trace) -> int:
        """A number for what a trace does."""
        return self._programs[trace.id]

    def free(self, trace: Trace) -> frozenset[str]:
        """The words that may come and go in goals of a trace: none that a program of its tools passes on.

        Beside courtesies only those are free that its own wordings have and lack.
        """
        types = [slot.type for slot in trace.slots if slot.default is None]
        tells_apart = len(set(types)) < len(types)
        may_be = COMING_AND_GOING if tells_apart else _SMALL
        shown = frozenset(word for word in may_be - COURTESIES if _comes_and_goes(word, trace.goals))
        return (COURTESIES | shown) - self._passed_on[tools_of(trace)]

    @cached_property
    def _passed_on(self) -> dict[str, frozenset[str]]:
        """The words that alone are an argument of some trace, by the tools it calls."""
        found: defaultdict[str, set[str]] = defaultdict(set)
        for trace in self.traces:
            texts = (text for step in trace.calls for expr in step.args.values() for text in constant_texts(expr))
            found[tools_of(trace)] |= {text.casefold() for text in texts}
        return {tools: frozenset(words) for tools, words in found.items()}

    def _shown(self, free: frozenset[str]) -> dict[str, dict[Rewrite, Shown]]:
        """By which traces of the same tools each rewrite without slots is shown, and in what company."""
        if free not in self._shown_by:
            found: dict[str, dict[Rewrite, Shown]] = defaultdict(dict)
            for trace in self.traces:
                for rewrite, companies in slotless(trace.goals, free).items():
                    found[tools_of(trace)].setdefault(rewrite, []).append(companies)
            self._shown_by[free] = found
        return self._shown_by[free]

    def shown_elsewhere(self, trace: Trace, free: frozenset[str]) -> Iterator[tuple[Rewrite, tuple[Company, ...]]]:
        """The rewrites that at least two other traces of the same tools show, with the company in all of them."""
        own = slotless(trace.goals, free)
        for rewrite, shown in self._shown(free)[tools_of(trace)].items():
            if len(shown) - (rewrite in own) > 1:
                yield rewrite, tuple(one for companies in shown for one in companies)

    def _owners(self, free: frozenset[str]) -> dict[Words, set[int]]:
        if free not in self._owned_by:
            known: dict[Words, set[int]] = defaultdict(set)
            for trace in self.traces:
                for words in wordings(trace.goals, free):
                    known[words].add(self._programs[trace.id])
            self._owned_by[free] = known
        return self._owned_by[free]

    def is_of_another(self, trace: Trace, words: Words, free: frozenset[str]) -> bool:
        """Whether another program has this wording."""
        owners = self._owners(free).get(words)
        return owners is not None and owners != {self._programs[trace.id]}

    def kin(self, trace: Trace, free: frozenset[str]) -> dict[Words, int]:
        """Wordings of other programs with the slots of this one, each with how many wordings the two share."""
        found: dict[Words, int] = {}
        own = frozenset(wordings(trace.goals, free))
        for other in self.traces:
            if self._programs[other.id] == self._programs[trace.id] or not _may_be_kin(trace, other):
                continue
            for words, shared in renamed_wordings(trace.goals, other.goals, free):
                if words not in own and not self.is_of_another(trace, words, free):
                    found[words] = max(found.get(words, 0), shared)
        return found


def _comes_and_goes(word: str, goals: Sequence[str]) -> bool:
    """Whether wordings have a word, or another form of it, and lack it."""
    forms = next((alike for alike in ALIKE if word in alike), frozenset({word}))
    return len({not forms.isdisjoint(_plain(goal)) for goal in goals}) > 1


@lru_cache(maxsize=4096)
def _plain(goal: str) -> frozenset[str]:
    words = plain_words(template_tokens(goal))
    asked = len(words) > 2 and words[0] in ASKED_OF_YOU and words[1] == "you"
    return frozenset(words[2:] if asked else words)


def _may_be_kin(one: Trace, other: Trace) -> bool:
    """Whether two programs call the same tools with the same constants, and their slots are of the same types."""
    types = [sorted(slot.type for slot in trace.slots) for trace in (one, other)]
    return types[0] == types[1] and tools_of(one) == tools_of(other) and _constants(one) == _constants(other)


def _constants(trace: Trace) -> list[str]:
    exprs = [expr for step in trace.calls for expr in step.args.values()]
    return sorted(repr(leaf) for expr in exprs for leaf in leaves_of(expr) if isinstance(leaf, Const | Opaque | Text))


def tools_of(trace: Trace) -> str:
    """The tools that a trace calls, in order."""
    return "\n".join(step.tool for step in trace.calls)


@lru_cache(maxsize=8192)
def slotless(goals: tuple[str, ...], free: frozenset[str]) -> Mapping[Rewrite, tuple[Company, ...]]:
    """The rewrites without slots that the wordings of one trace show."""
    shown = licences(goals, free)
    return {
        rewrite: companies
        for rewrite, companies in shown.items()
        if not any(is_slot(word) for piece in rewrite for word in piece)
    }


@lru_cache(maxsize=65_536)
def renamed_wordings(
    goals: tuple[str, ...], others: tuple[str, ...], free: frozenset[str]
) -> tuple[tuple[Words, int], ...]:
    """The wordings of another trace with its slots named as in this one, if the two share wordings but for the names.

    With each, how many they share by that naming.
    """
    mine = {_anonymous(words): _slots_of(words) for words in wordings(goals, free)}
    theirs = wordings(others, free)
    namings: Counter[tuple[tuple[str, str], ...]] = Counter()
    for words in theirs:
        slots = mine.get(_anonymous(words))
        if slots:
            namings[tuple(sorted(zip(_slots_of(words), slots, strict=True)))] += 1
    if not namings:
        return ()
    naming, shared = namings.most_common(1)[0]
    names = dict(naming)
    if len(set(names.values())) < len(names):
        return ()
    return tuple(
        (tuple(names.get(word, word) for word in words), shared)
        for words in theirs
        if all(slot in names for slot in _slots_of(words))
    )


def is_slot(word: str) -> bool:
    """Whether a telling word stands for a slot."""
    return word.startswith("<")


def _anonymous(words: Words) -> Words:
    return tuple("<>" if is_slot(word) else word for word in words)


def _slots_of(words: Words) -> tuple[str, ...]:
    return tuple(word for word in words if is_slot(word))


@dataclass(frozen=True, kw_only=True)
class Book:
    """The rewrites that may be used on a trace: its own, those that several others show, less what parts traces."""

    trace: Trace
    library: Library
    free: frozenset[str]

    @cached_property
    def own(self) -> tuple[Words, ...]:
        return wordings(self.trace.goals, self.free)

    @cached_property
    def _starts(self) -> dict[Words, int]:
        """The wordings to begin at, with 0 for own ones and 1 for those of kin."""
        kin = self.library.kin(self.trace, self.free)
        return dict.fromkeys(kin, 1) | dict.fromkeys(self.own, 0)

    @cached_property
    def known(self) -> Counter[str]:
        """In how many of the trace's wordings each word stands."""
        return Counter(word for words in set(self.own) for word in set(words))

    @cached_property
    def _pieces(self) -> dict[Words, set[Words]]:
        """What may be put for a piece, by the trace's wordings or those of at least two others."""
        found: dict[Words, set[Words]] = defaultdict(set)
        for here, there in licences(self.trace.goals, self.free):
            found[here].add(there)
        for here, there in self._foreign:
            found[here].add(there)
        return found

    @cached_property
    def _foreign(self) -> dict[Rewrite, tuple[Company, ...]]:
        return dict(self.library.shown_elsewhere(self.trace, self.free))

    def cost(self, here: Words, there: Words, around: Company) -> float | None:
        """What putting `there` for `here` costs by whose evidence it is; None: not licensed.

        One pair of wordings is not enough where a word on which the meaning turns comes or goes, or where the goal
        would say less than the wording; and other traces may only show what stands for what, not what may come or go.
        What stands `around` must be beside it in the evidence, too, on both sides where a word comes or goes: `free`
        is `available` before `space`, and not before `tickets`.
        """
        shown = licences(self.trace.goals, self.free).get((here, there), ())
        own = any(_same_company(one, around, both=not here) for one in shown)
        elsewhere = self._foreign.get((here, there), ()) if here else ()
        foreign = any(_same_company(one, around, both=not there) for one in elsewhere)
        delicate = turns(here, there) or not there
        licensed = own and len(shown) >= _MANY if delicate else own or foreign
        if not licensed or self._parts(here, there):
            return None
        return _OWN if own else _FOREIGN

    def _parts(self, here: Words, there: Words) -> bool:
        """Whether the rewrite turns a wording of this trace into one of another."""
        for words in self.own:
            for start in range(len(words) - len(here) + 1):
                if words[start : start + len(here)] != here:
                    continue
                put = (*words[:start], *there, *words[start + len(here) :])
                if self.library.is_of_another(self.trace, put, self.free):
                    return True
        return False

    def nearest(self, words: Words, most: float) -> tuple[Way, Words] | None:
        """The cheapest way from one of the wordings to `words`, and that wording; None above `most`."""
        said = set(words)
        near = sorted(self._starts.items(), key=lambda start: len(said.symmetric_difference(start[0])))
        best: tuple[Way, Words] | None = None
        for start, kin in near[:_MAX_TRIED]:
            way = self._way(start, words, most, Way(price=_KIN * kin, kin=kin))
            if way is not None and (best is None or way < best[0]):
                best, most = (way, start), way.price
        return best

    def _way(self, own: Words, words: Words, most: float, begin: Way) -> Way | None:
        """The cheapest way through both at once (an edit distance whose edits are the rewrites)."""
        table: dict[tuple[int, int], Way] = {(0, 0): begin}
        for i in range(len(own) + 1):
            for j in range(len(words) + 1):
                here = table.get((i, j))
                if here is None:
                    continue
                for p, q, way in self._steps(own, words, i, j, here):
                    known = table.get((i + p, j + q))
                    if way.price <= most and (known is None or way < known):
                        table[i + p, j + q] = way
        return table.get((len(own), len(words)))

    def _steps(self, own: Words, words: Words, i: int, j: int, here: Way) -> Iterator[tuple[int, int, Way]]:
        """What can be done next: how many words it takes of each side, and the way with it."""
        if i < len(own) and j < len(words) and own[i] == words[j]:
            yield 1, 1, here
        for p in range(min(MAX_PIECE, len(own) - i) + 1):
            piece = own[i : i + p]
            for put in self._pieces.get(piece, ()):
                around = company(own, i, p)
                price = self.cost(piece, put, around) if words[j : j + len(put)] == put else None
                if price is not None:
                    yield p, len(put), here.rewritten(price, turned=turns(piece, put))
        if j < len(words) and self._may_come(words, j):
            yield 0, 1, here.loosened(come=1, turned=words[j] in CRITICAL)
        if i < len(own) and self._may_go(own[i]):
            yield 1, 0, here.loosened(gone=1, turned=own[i] in CRITICAL)
        for p, q in ((1, 1), (0, 1), (1, 0)):
            if i + p <= len(own) and j + q <= len(words) and _may_guess(own[i : i + p], words[j : j + q]):
                yield p, q, here.guess(1)

    @cached_property
    def _neighbours(self) -> frozenset[tuple[str, str]]:
        """The words that stand side by side in the trace's wordings; `` is the edge."""
        return frozenset(pair for words in self.own for pair in pairwise(("", *words, "")))

    def _may_come(self, words: Words, at: int) -> bool:
        """Whether a word may be put that other wordings of the trace have, in the same company."""
        word, before, after = words[at], words[at - 1] if at else "", words[at + 1] if at + 1 < len(words) else ""
        company = {(before, word), (word, after)} <= self._neighbours
        return company and _is_loose(word) and self.known[word] >= (_MANY if word in CRITICAL else 1)

    def _may_go(self, word: str) -> bool:
        """Whether a word may be left out that other wordings of the trace lack."""
        lacking = len(set(self.own)) - self.known[word]
        return _is_loose(word) and lacking >= (_MANY if word in CRITICAL else 1)


def _same_company(shown: Company, around: Company, *, both: bool) -> bool:
    """Whether a piece stands where evidence for its rewrite stood: between the same words, or beside one of them."""
    same = [one == other for one, other in zip(shown, around, strict=True)]
    return all(same) if both else any(same)


def _is_loose(word: str) -> bool:
    return not is_slot(word) and word != "?" and word not in NEGATION | DIRECTION


def _may_guess(here: Words, there: Words) -> bool:
    """Whether words are exchanged in a guess; words on which the meaning turns, slots and numbers stay."""
    return not any(word in CRITICAL or not word.replace("-", "").isalpha() for word in here + there)


def turns(one: Words, other: Words) -> bool:
    """Whether two wordings differ in words on which the meaning turns."""
    return sorted(word for word in one if word in CRITICAL) != sorted(word for word in other if word in CRITICAL)
