"""Whether a goal means a whole list, as far as its words and the recording can tell.

A learner may have picked the entries in its head: `delete the files older than a week` does all that a listing shows
if all of them are old. So a loop through an output stands only where nothing in the goal may select entries, other than
what the calls, the list or its entries account for themselves.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise, takewhile
from typing import Any

from llmos.trace.english import BINDING, LEADING, PLAIN, RANKING, SELECTING, THINGS, UNSELECTING
from llmos.trace.evidence import leaves, token_bounded
from llmos.trace.lex import Kind, Token
from llmos.trace.run import StepRecord

_SPELLED = {
    "text": "txt",
    "markdown": "md",
    "python": "py",
    "excel": "xlsx",
    "yaml": "yml",
    "image": "png",
    "log": "log",
}
_MIN_WORD = 3


def selecting(tokens: Sequence[Token], steps: Sequence[StepRecord], *, single: bool = False) -> str | None:
    """The first word of a goal that may select entries of a list; None if none does.

    Of a `single` entry it does not matter how it ranks, nor what the goal calls it.

    That is any word that the calls do not account for, other than the verb in front. The names of an output's fields
    account for what is gone through (`ship all orders`), not for what it must have (`close the issues with comments`);
    what is done for something may select nothing (`mark all files for review`).
    """
    called = {form for step in steps for text in _called(step) for form in _words(text)}
    listed = called | {form for step in steps for text in _keys(step.output) for form in _words(text)}
    passed = _passed(steps)
    begun = bound = False
    for position, token in enumerate(tokens):
        folded = token.text.casefold()
        before = tokens[position - 1].key if position else ""
        is_head = single and not bound and not _is_telling(tokens[position + 1 : position + 2])
        if folded in SELECTING and not (single and folded in RANKING):
            return token.text
        if _not_passed([token], passed):
            return token.text
        bound = token.kind is Kind.WORD and (folded in BINDING or (bound and folded not in LEADING))
        if token.kind is not Kind.WORD or folded in UNSELECTING:
            continue
        known = THINGS | RANKING | (called if bound else listed)
        if begun and before != "for" and not is_head and not _forms(folded) & known:
            return token.text
        begun = True
    return None


def counted_apart(tokens: Sequence[Token], steps: Sequence[StepRecord]) -> bool:
    """Whether a goal asks how many there are of something that the calls and their outputs do not tell of.

    Then how much an output holds is another number: three lines of a log need not be three errors.
    """
    words = [token.key for token in tokens if token.kind is Kind.WORD]
    asked = _counted(words)
    return bool(asked) and (_not_told(asked, words, steps) or _not_passed(tokens, _passed(steps)))


def decided_apart(tokens: Sequence[Token], steps: Sequence[StepRecord]) -> bool:
    """Whether a goal's condition speaks of something that the calls and their outputs do not tell of.

    Then whether an output holds anything may not be what decided: `if it has more than 5 errors`.
    """
    keys = [token.key for token in tokens]
    begin = next((i for i, key in enumerate(keys) if key in _CONDITIONAL), len(keys))
    clause = list(takewhile(lambda token: token.text not in (",", ";") and token.key != "then", tokens[begin:]))
    said = [token.key for token in clause if token.kind is Kind.WORD and token.key not in PLAIN | _CONDITIONAL]
    return _not_told([word for word in said if word not in _EMPTY], said, steps) or _not_passed(tokens, _passed(steps))


def _not_told(asked: Sequence[str], words: Sequence[str], steps: Sequence[StepRecord]) -> bool:
    """Whether calls and outputs lack what is asked for, or the calls a word that selects."""
    called = {form for step in steps for text in _called(step) for form in _words(text)}
    fields = {form for step in steps for text in _keys(step.output) for form in _words(text)}
    told = THINGS | called | fields
    return any(not _forms(word) & told for word in asked) or any(
        word in SELECTING - _CONDITIONAL - _EMPTY and word not in called for word in words
    )


def _not_passed(tokens: Sequence[Token], passed: str) -> bool:
    """Whether a literal of a goal stands in no argument."""
    return any(token.kind.is_literal and not token_bounded(token.value.replace(",", ""), passed) for token in tokens)


def _passed(steps: Sequence[StepRecord]) -> str:
    return "\n".join(str(leaf) for step in steps for _, leaf in leaves(step.args)).replace(",", "")


def _counted(words: Sequence[str]) -> list[str]:
    """What a goal asks the number of: the words behind `how many`, `number of` or `count`."""
    begins = [i for i, (a, b) in enumerate(pairwise(["", *words])) if (a, b) in _HOW_MANY or (i == 0 and b == "count")]
    behind = words[begins[0] + 1 :] if begins else []
    asked = takewhile(lambda word: word not in PLAIN or word in _ALL, behind)
    return [word for word in asked if word not in _ALL]


_CONDITIONAL = frozenset({"if", "when", "unless", "whether", "where"})
_EMPTY = frozenset(
    {"nothing", "something", "anything", "any", "none", "no", "not", "empty", "blank", "exists", "missing"}
)
_HOW_MANY = frozenset({("how", "many"), ("number", "of"), ("count", "of")})
_ALL = frozenset({"a", "an", "the", "all", "different", "distinct"})


def _is_telling(tokens: Sequence[Token]) -> bool:
    return any(token.kind is Kind.WORD and token.key not in UNSELECTING for token in tokens)


def _called(step: StepRecord) -> Iterator[str]:
    """What a call says: its tool's name and its arguments with their names."""
    yield from (step.tool, *(str(leaf) for _, leaf in leaves(step.args)), *_keys(step.args))


def _words(text: str) -> Iterator[str]:
    for word in re.findall(r"[^\W_]+", text.casefold()):
        yield from _forms(word)


def _keys(value: Any) -> set[str]:
    return {part for path, _ in leaves(value) for part in path if isinstance(part, str)}


def _forms(word: str) -> set[str]:
    """A word as it may stand elsewhere: in the singular, or as a suffix."""
    singular = word[:-1] if len(word) > _MIN_WORD and word.endswith("s") and not word.endswith("ss") else word
    return {word, singular, _SPELLED.get(singular, singular)}


def shared(entries: Sequence[Any]) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """The fields that have one value in every entry, and so may be why these were taken.

    Truth values, null, 0 and short texts, but no times: files that were made together have the same.
    """
    for path, leaf in leaves(entries[0]) if entries else ():
        others = [dict(leaves(entry)).get(path, _MISSING) for entry in entries[1:]]
        alike = all(type(other) is type(leaf) and other == leaf for other in others)
        if path and alike and _may_be_why(leaf):
            yield path, leaf


_MISSING = object()


def _may_be_why(leaf: Any) -> bool:
    if isinstance(leaf, str):
        return 0 < len(leaf) <= 40 and re.match(r"\d{4}-\d\d-\d\d", leaf) is None
    return leaf is None or isinstance(leaf, bool) or leaf == 0


def named_in_all(words: Iterable[str], texts: Sequence[str]) -> Iterator[str]:
    """The words of a goal that stand in every one of some texts: what they are called may be why they were taken."""
    folded = [text.casefold() for text in texts]
    for word in sorted(word for word in set(words) - UNSELECTING if word.isalpha()):
        one = _forms(word)
        for form in sorted(one):
            if len(form) >= _MIN_WORD and all(form in text for text in folded):
                yield form
                break


__all__ = ["counted_apart", "decided_apart", "named_in_all", "selecting", "shared"]
