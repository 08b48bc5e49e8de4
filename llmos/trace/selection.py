"""Whether a goal means a whole list, as far as its words and the recording can tell.

A learner may have picked the entries in its head: `delete the files older than a week` does all that a listing shows
if all of them are old. So a loop through an output stands only where nothing in the goal may select entries, other than
what the calls, the list or its entries account for themselves.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from llmos.trace.english import SELECTING, UNSELECTING
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


def selecting(tokens: Sequence[Token], steps: Sequence[StepRecord]) -> str | None:
    """The first word of a goal that may select entries of a list; None if none does."""
    said = {form for step in steps for form in _said(step)}
    texts = "\n".join(str(leaf) for step in steps for _, leaf in leaves(step.args))
    for token in tokens:
        folded = token.text.casefold()
        if folded in SELECTING:
            return token.text
        if token.kind.is_literal and not token_bounded(token.value.replace(",", ""), texts.replace(",", "")):
            return token.text
    return next((word for word in _modifiers(tokens) if not _forms(word) & said), None)


def _modifiers(tokens: Sequence[Token]) -> Iterator[str]:
    """The words that stand before another word of the same phrase: `stale` in `close all stale issues`."""
    phrase: list[str] = []
    for position, token in enumerate(tokens):
        is_word = token.kind is Kind.WORD and token.text.casefold() not in UNSELECTING
        if is_word and position > 0:
            phrase.append(token.text.casefold())
        else:
            yield from phrase[:-1]
            phrase = []
    yield from phrase[:-1]


def _said(step: StepRecord) -> Iterator[str]:
    """The words that a call accounts for: of its tool's name, its arguments and the names of its output's fields."""
    texts = [step.tool, *(str(leaf) for _, leaf in leaves(step.args)), *_keys(step.args), *_keys(step.output)]
    for text in texts:
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


__all__ = ["named_in_all", "selecting", "shared"]
