"""The words of a recorded goal: which phrases of it the run passed on to a tool, and may therefore vary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from llmos.trace.evidence import leaves
from llmos.trace.findings import ToolFacts
from llmos.trace.lex import Kind, Token, tokenize, without_final
from llmos.trace.lookups import named_before, names_beside
from llmos.trace.phrases import carries_content, is_anchor, strange
from llmos.trace.run import StepRecord

_MAX_PHRASE_CHARS = 2_000


def read_goal(goal: str, steps: Sequence[StepRecord], tools: Mapping[str, ToolFacts]) -> list[Token]:
    """The tokens of a recorded goal, with each phrase that is a whole argument of a call as one TEXT token.

    A phrase that stands twice, says nothing, or repeats a word of the rest of the goal stays words. Where the
    tool or an earlier look-up lists what the argument may be, case may differ; the token's value is then the
    argument's spelling.
    """
    tokens, values = tokenize(goal), sorted(_values(steps, tools).items(), key=lambda pair: -len(pair[0]))
    spots = [spot for value, folded in values if (spot := _spot(goal, tokens, value, folded=folded)) is not None]
    for value, folded in values:
        place = _place(goal, tokens, value, folded=folded, spots=spots)
        if place is not None:
            start, end = place
            text = goal[tokens[start].start : tokens[end - 1].end]
            phrase = Token(kind=Kind.TEXT, text=text, value=value, start=tokens[start].start, end=tokens[end - 1].end)
            tokens = [*tokens[:start], phrase, *tokens[end:]]
    return without_final(tokens)


def _values(steps: Sequence[StepRecord], tools: Mapping[str, ToolFacts]) -> dict[str, bool]:
    """The texts that calls got as whole arguments, and whether their case is the tool's own, or a look-up's.

    A text that names what a call got another field of counts as if the call had got it.
    """
    found: dict[str, bool] = dict.fromkeys(filter(_is_phrase, names_beside(steps)), True)
    for step, named in zip(steps, named_before(steps), strict=True):
        facts = tools[step.tool]
        for name, argument in step.args.items():
            if name in facts.code_params:
                continue
            if isinstance(argument, str) and argument in facts.enums.get(name, ()):
                continue
            for _, leaf in leaves(argument):
                if isinstance(leaf, str) and _is_phrase(leaf):
                    found[leaf] = found.get(leaf, True) and (name in facts.closed_params or leaf in named)
    return found


def _is_phrase(text: str) -> bool:
    return 1 < len(text.strip()) <= _MAX_PHRASE_CHARS and text == text.strip()


def _spot(goal: str, tokens: Sequence[Token], value: str, *, folded: bool) -> tuple[int, int] | None:
    """Where in the goal's text a value stands that may be a phrase; None unless that is one place."""
    found = _only_place(goal, tokens, value, folded=folded)
    return None if found is None else (tokens[found[0]].start, tokens[found[1] - 1].end)


def _only_place(goal: str, tokens: Sequence[Token], value: str, *, folded: bool) -> tuple[int, int] | None:
    """The range of tokens that a value is, if it stands once in the goal and no literal says the same."""
    said = value.casefold() if folded else value
    if any(token.kind.is_literal and {token.value, token.text} & {value, said} for token in tokens):
        return None
    ends = {token.end: position for position, token in enumerate(tokens)}
    places: list[tuple[int, int]] = []
    for position, token in enumerate(tokens):
        end = token.start + len(value)
        text = goal[token.start : end]
        if end in ends and ends[end] >= position and (text.casefold() if folded else text) == said:
            places.append((position, ends[end] + 1))
    return places[0] if len(places) == 1 else None


def _place(
    goal: str, tokens: Sequence[Token], value: str, *, folded: bool, spots: Sequence[tuple[int, int]]
) -> tuple[int, int] | None:
    """Where a phrase stands, as the range of its tokens; None if it may be none.

    Words at the `spots` of other phrases are no words of the wording.
    """
    found = _only_place(goal, tokens, value, folded=folded)
    if found is None:
        return None
    start, end = found
    phrase, rest = tokens[start:end], [*tokens[:start], *tokens[end:]]
    if any(token.kind is Kind.TEXT for token in phrase) or not carries_content(phrase):
        return None
    article = start > 0 and tokens[start - 1].noise
    wording = (token for token in rest if not any(a <= token.start and token.end <= b for a, b in spots))
    anchors = frozenset(token.key for token in wording if token.kind is Kind.WORD and is_anchor(token))
    said = goal[phrase[0].start : phrase[-1].end]
    return None if strange((said,), phrase, anchors, article=article) else (start, end)


def touching(tokens: Sequence[Token], free: set[int]) -> set[int]:
    """Phrases that no word parts from another phrase: where one ends and the other begins can't be told."""
    found: set[int] = set()
    for left, right in pairwise(sorted(position for position in free if tokens[position].kind is Kind.TEXT)):
        if all(tokens[between].noise or between in free for between in range(left + 1, right)):
            found |= {left, right}
    return found
