"""The answer as a template over this run's outputs, or None where no output explains it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmos.trace.evidence import leaves
from llmos.trace.lex import Kind, Token
from llmos.trace.listing import list_sources, said_by
from llmos.trace.program import Answer, Check, CheckKind, Slot
from llmos.trace.run import Run, StepRecord
from llmos.trace.selection import counted_apart
from llmos.trace.values import Const, Expr, OutputRef, Ref, SlotRef, Transform, as_text, text_of, value_at

_FORMATS = (None, ",", ".0f", ".1f", ".2f", ",.0f", ",.1f", ",.2f")
_NEUTRAL = frozenset(
    {"a", "all", "an", "and", "answer", "are", "as", "at", "be", "been", "by", "calculated", "complete"}
    | {"completed", "contain", "contains", "converted", "copied", "counted", "created", "data", "done", "each"}
    | {"file", "files", "for", "found", "from", "has", "have", "here", "i", "in", "into", "is", "it", "its"}
    | {"line", "lines", "new", "now", "number", "of", "ok", "on", "output", "per", "renamed", "report", "result"}
    | {"results", "row", "rows", "save", "saved", "stored", "successfully", "summary", "table", "that", "the"}
    | {"there", "these", "this", "to", "total", "totals", "value", "values", "was", "were", "which", "with"}
    | {"written", "wrote"}
)


@dataclass(frozen=True, kw_only=True)
class _Source:
    """A text that this run can compute, and how.

    `echo` says that an output only repeats an argument, `picked` that it stands in a list with other entries,
    `counted` that it is the length of a list, which no output states.
    """

    text: str
    ref: Ref
    step: int | None
    echo: bool = False
    picked: bool = False
    counted: bool = False


def explain_answer(
    run: Run,
    ids: Sequence[str],
    tokens: Sequence[Token],
    names: Mapping[int, str],
    slots: Sequence[Slot],
    loops: Mapping[str, list[Any]] | None = None,
    whole: frozenset[str] = frozenset(),
) -> Answer:
    """The answer's expression with the lengths of the lists it reads by position; empty if it is the model's prose.

    `ids` holds '' for steps that were dropped or stand in loops, `loops` what each loop gave in the recording,
    `whole` the loops that go through all of a list which an output holds, so that their entries say nothing new.
    """
    answer = (run.answer or "").strip()
    if not answer:
        return Answer()
    sources = [source for source in _sources(run, ids, tokens, names, slots) if source.text in answer]
    sources += _loop_sources(loops or {}, whole, answer)
    sources = sorted(_without_idle_counts(sources), key=lambda source: -len(source.text))
    exact = [s for s in sources if s.text.strip() == answer and s.step is not None and not _says_more(s.ref)]
    apart = counted_apart(tokens, run.steps)
    if exact and _unambiguous(exact):
        return Answer() if apart and _is_size(exact[0].ref, ids) else _answer([exact[0].ref], run, ids)
    parts = None if _asks_to_judge(tokens) else _with_holes(answer, sources)
    if parts is None or (apart and any(_is_size(part, ids) for part in parts)):
        return Answer()
    acted = any(step.effect.changes_world for step, kept in zip(run.steps, ids, strict=True) if kept or loops)
    if not acted and not any(isinstance(part, OutputRef) for part in parts):
        return Answer()
    texts = [part for part in parts if isinstance(part, str)]
    texts += [said_by(transform) for part in parts if isinstance(part, OutputRef) for transform in part.transforms]
    labels = {key.casefold() for step in run.steps for key in _labels(step.output)}
    if re.search(r"\d", " ".join(texts)) or not _is_neutral(texts, tokens, labels, acted=acted):
        return Answer()
    return _answer(parts, run, ids)


_SIZES = frozenset({"lines", "rows", "row_count", "count", "length", "size", "total", "matches", "bytes"})


def _is_size(part: str | Ref, ids: Sequence[str]) -> bool:
    """Whether a piece only says how much the output of a step holds."""
    if not isinstance(part, OutputRef) or part.step not in ids:
        return False
    return [way.name for way in part.transforms[-1:]] == ["count"] or str((part.path or ("",))[-1]) in _SIZES


_JUDGING = frozenset(
    {"whether", "if", "or", "vs", "versus", "check", "verify", "validate", "ensure", "compare", "which", "who", "whose"}
)
_POLAR = frozenset(
    {"is", "are", "was", "were", "does", "do", "did", "has", "have", "had", "can", "could", "will", "would"}
    | {"should", "must", "may"}
)


def _asks_to_judge(tokens: Sequence[Token]) -> bool:
    """Whether the answer is a verdict (yes or no, this one or that one), which no template holds."""
    words = [token.key for token in tokens if token.kind is Kind.WORD]
    return bool(_JUDGING & set(words)) or (words[:1] != [] and words[0] in _POLAR)


def _labels(output: object) -> list[str]:
    """Field names that say what a number beside them is."""
    if not isinstance(output, dict):
        return []
    own = [str(key) for key, value in output.items() if isinstance(value, int | float) and not isinstance(value, bool)]
    tables = [value for value in output.values() if isinstance(value, list)]
    own += [str(key) for rows in tables for row in rows[:1] if isinstance(row, dict) for key in row]
    return own + [label for value in output.values() for label in _labels(value)]


def _answer(parts: Sequence[str | Ref], run: Run, ids: Sequence[str]) -> Answer:
    checks: dict[str, Check] = {}
    for ref in parts:
        if isinstance(ref, OutputRef) and ref.step in ids:
            for depth in (d for d, part in enumerate(ref.path) if isinstance(part, int)):
                listed = value_at(run.steps[list(ids).index(ref.step)].output, ref.path[:depth])
                expected = {"step": ref.step, "path": list(ref.path[:depth]), "length": len(listed)}
                checks.setdefault(str(expected), Check(kind=CheckKind.LENGTH, expected=expected))
    only = parts[0] if len(parts) == 1 else None
    expr: Expr = text_of(tuple(parts)) if only is None else Const(value=only) if isinstance(only, str) else only
    return Answer(expr=expr, name="result", checks=tuple(checks.values()))


def _sources(
    run: Run,
    ids: Sequence[str],
    tokens: Sequence[Token],
    names: Mapping[int, str],
    slots: Sequence[Slot],
) -> list[_Source]:
    sources = [
        _Source(text=tokens[position].value, ref=SlotRef(name=name), step=None)
        for position, name in names.items()
        if any(slot.name == name and not slot.many for slot in slots)
    ]
    for index, (step_id, step) in enumerate(zip(ids, run.steps, strict=True)):
        if step_id:
            sources += _output_sources(step_id, index, step, (run.answer or "").replace(",", ""))
            sources += _lists(step_id, index, step.output, run.answer or "")
    return [source for source in sources if source.text.strip()]


def _output_sources(step_id: str, index: int, step: StepRecord, answer: str) -> Iterator[_Source]:
    texts = {leaf for _, leaf in leaves(step.args) if isinstance(leaf, str)}
    for path, leaf in leaves(step.output):
        if leaf is None or isinstance(leaf, bool) or not _may_stand_in(leaf, answer):
            continue
        echo = leaf in texts if isinstance(leaf, str) else bool(path) and step.args.get(str(path[-1])) == leaf
        picked = any(isinstance(p, int) and len(value_at(step.output, path[:d])) > 1 for d, p in enumerate(path))
        for text, transforms in _renderings(leaf):
            ref = OutputRef(step=step_id, path=path, transforms=transforms)
            yield _Source(text=text, ref=ref, step=index, echo=echo, picked=picked)


def _loop_sources(loops: Mapping[str, list[Any]], whole: frozenset[str], answer: str) -> Iterator[_Source]:
    for number, (loop, made) in enumerate(loops.items()):
        for source in _lists(loop, -1 - number, _without_echoes(made), answer):
            transforms = source.ref.transforms if isinstance(source.ref, OutputRef) else ()
            repeats = transforms[0].name == "count" or transforms[0].args == ("each",)
            if source.text.strip() and not (loop in whole and repeats):
                yield source


def _without_echoes(made: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A loop's iterations without the fields of outputs that only repeat the entry."""
    echoes = {
        (name, key)
        for name, output in (made[0].items() if made else ())
        if isinstance(output, dict)
        for key in output
        if all(isinstance(one.get(name), dict) and one[name].get(key) == one["each"] for one in made)
    }
    return [
        {
            name: {key: value for key, value in output.items() if (name, key) not in echoes}
            if isinstance(output, dict) and name != "each"
            else output
            for name, output in one.items()
        }
        for one in made
    ]


def _says_more(ref: Ref) -> bool:
    """Whether a reference puts words of its own beside the values."""
    return isinstance(ref, OutputRef) and any(said_by(transform).strip() for transform in ref.transforms)


def _lists(step_id: str, index: int, output: Any, answer: str) -> Iterator[_Source]:
    for text, path, transforms in list_sources(output, answer):
        ref = OutputRef(step=step_id, path=path, transforms=transforms)
        yield _Source(text=text, ref=ref, step=index, counted=transforms[-1].name == "count")


def _without_idle_counts(sources: Sequence[_Source]) -> list[_Source]:
    """The sources without the lengths of lists where an output, or the goal, says that number itself."""
    stated = {source.text for source in sources if not source.counted}
    return [source for source in sources if not (source.counted and source.text in stated)]


def _may_stand_in(leaf: str | float, answer: str) -> bool:
    """A quick look whether a value can be a piece of the answer (given without commas)."""
    if isinstance(leaf, str):
        return leaf.strip().replace(",", "") in answer
    whole = abs(int(leaf))
    return str(whole) in answer or str(whole + 1) in answer


def _renderings(leaf: str | float) -> list[tuple[str, tuple[Transform, ...]]]:
    if isinstance(leaf, str):
        return [(leaf, ()), (leaf.strip(), (Transform(name="strip"),))] if leaf != leaf.strip() else [(leaf, ())]
    seen: dict[str, tuple[Transform, ...]] = {}
    for spec in _FORMATS:
        text = as_text(leaf) if spec is None else format(leaf, spec)
        if spec is None or abs(float(text.replace(",", "")) - leaf) < 0.005 or "." in text:
            seen.setdefault(text, () if spec is None else (Transform(name="format", args=(spec,)),))
    return list(seen.items())


def _with_holes(answer: str, sources: Sequence[_Source]) -> list[str | Ref] | None:
    """The answer with every explained piece replaced; None where one piece has two different explanations."""
    parts: list[str | Ref] = [answer]
    by_text: dict[str, list[_Source]] = {}
    for source in sources:
        by_text.setdefault(source.text, []).append(source)
    for text, rivals in by_text.items():
        pieces: list[str | Ref] = []
        for part in parts:
            if isinstance(part, str) and text in part:
                split = _split(part, text, rivals)
                if split is None:
                    return None
                pieces += split
            else:
                pieces.append(part)
        parts = pieces
    return parts


def _split(part: str, text: str, rivals: Sequence[_Source]) -> list[str | Ref] | None:
    pieces: list[str | Ref] = []
    start = 0
    left = r"(?<![\w.,])" if text[:1].isalnum() else ""
    right = r"(?!\w|[.,]\d)" if text[-1:].isalnum() else ""
    for found in re.finditer(left + re.escape(text) + right, part):
        if len(text) < 3 and text.isalpha():
            continue
        chosen = _choose(rivals)
        if chosen is None:
            return None
        pieces += [part[start : found.start()], chosen.ref]
        start = found.end()
    return [piece for piece in [*pieces, part[start:]] if piece != ""]


def _choose(rivals: Sequence[_Source]) -> _Source | None:
    """The one explanation of a piece: a slot no output contests, else the only output; None if several fit."""
    slots = [source for source in rivals if source.step is None]
    if slots:
        contested = any(source.step is not None and not source.echo for source in rivals)
        return slots[0] if len(slots) == 1 and not contested else None
    return rivals[0] if _unambiguous(rivals) else None


def _unambiguous(rivals: Sequence[_Source]) -> bool:
    return not any(source.picked for source in rivals) and len({(s.step, s.ref) for s in rivals}) == 1


_CLAIMS = frozenset({"ok", "all", "each", "complete", "completed", "successfully", "new"})
_NEGATIONS = frozenset({"no", "not", "none", "never", "nothing", "without", "neither", "nor", "cannot", "t"})


def _is_neutral(texts: Sequence[str], tokens: Sequence[Token], labels: set[str], *, acted: bool) -> bool:
    """Whether the words around the holes claim nothing of their own: they are small words, the goal's, or labels."""
    goal_words = {token.text.casefold() for token in tokens} | labels
    neutral = _NEUTRAL if acted else _NEUTRAL - _CLAIMS
    words = re.findall(r"\w+", " ".join(texts).casefold())
    return all(word not in _NEGATIONS and (word in neutral or _inflections(word) & goal_words) for word in words)


def _inflections(word: str) -> set[str]:
    """A word and what it may be a form of (replaced: replace; sorted: sort; sums: sum)."""
    return {word} | {word.removesuffix(ending) for ending in ("s", "d", "ed", "ing") if len(word) > len(ending) + 2}
