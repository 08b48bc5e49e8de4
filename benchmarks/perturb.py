"""Hard negatives made from the goals themselves: small changes outside the slots that change what is meant.

Every rule is a real change of meaning, deterministic, and leaves the slots' values where they are, so that a
replay of the trace learned on the untouched goal would be wrong. `swap` and `direction` exchange two values;
there a replay with the exchanged values is right, and only that.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from benchmarks.goals import Call, Goal
from benchmarks.pairs import Question

Span = tuple[int, int]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _both_ways(text: str) -> dict[str, str]:
    """`one/other` pairs, with `_` for a blank; where a word stands in two of them, the first counts."""
    found: dict[str, str] = {}
    for pair in text.replace("_", "\0").split():
        one, other = pair.replace("\0", " ").split("/")
        found.setdefault(one, other)
        found.setdefault(other, one)
    return found


WORDS: Mapping[str, Mapping[str, str]] = {
    "polarity": _both_ways(
        "on/off enable/disable with/without open/close add/remove increase/decrease include/exclude"
        " including/excluding like/dislike lock/unlock start/stop show/hide activate/deactivate follow/unfollow"
        " subscribe/unsubscribe mute/unmute positive/negative available/unavailable pause/resume create/delete"
        " buy/sell upvote/downvote approve/reject"
    ),
    "direction": _both_ways(
        "up/down left/right north/south east/west raise/lower ascending/descending above/below upload/download"
        " import/export send/receive sent/received forward/backward arrive/leave"
    ),
    "time": _both_ways(
        "before/after today/yesterday tomorrow/tonight next/last since/until latest/oldest earliest/most_recent"
        " past/coming now/later morning/evening daily/weekly monthly/yearly"
    ),
    "comparison": _both_ways(
        "more/less most/least highest/lowest largest/smallest longest/shortest best/worst biggest/tiniest"
        " greater/smaller cheapest/dearest top/bottom maximum/minimum closest/farthest over/under higher/lower"
    ),
    "quantifier": _both_ways("all/none_of every/no any/all each/one both/neither_of many/few"),
    "scope": _both_ways("first/last second/third only/not_only single/double"),
    "unit": _both_ways(
        "minutes/hours minute/hour seconds/days second/day weeks/days week/month year/decade meters/miles km/miles"
        " dollars/euros celsius/fahrenheit degrees/percent kg/pounds"
    ),
}
"""Words whose exchange changes the meaning, by kind."""

_NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_COMMANDS = _words(
    "add book buy call cancel change check close copy create delete disable draw edit enable fill find fork get give"
    " go invite list lookup make mark merge modify move navigate notify open play post put rate record reduce remind"
    " remove rename reply resend search send set show star start stop switch tell turn update"
)
_PHRASAL = re.compile(r"\b(set|sign|look|wake|pick|close|make|back|bring|come|give)\w*\s+(\w+\s+){0,2}$")
_SUFFIXES = (
    "and then delete it",
    "but only the first one",
    "unless it was done already",
    "and do the same for all the others",
    "except on weekends",
    "twice",
)
_STOP = _words(
    "a an the of in on at to into from for with and or by as is are was were be been it its this that these those my"
    " me i you your we our us he she they them their do does did can could would will shall should may might must have"
    " has had please what which who whom whose when where why how much many not no so if then than there here about"
    " just some any all up out off over also let lets want wanted need like get got give show tell find make know"
    " going using named called"
)


@dataclass(frozen=True, kw_only=True)
class Change:
    """A changed text and, where values were exchanged, the slots as they are to be bound now."""

    kind: str
    text: str
    slots: Mapping[str, Any] | None = None


def hard_negatives(streams: Mapping[str, Sequence[Goal]], per_kind: int = 25) -> list[Question]:
    """At most `per_kind` questions of each kind from each stream, always the same ones."""
    made: list[Question] = []
    for name in sorted(streams):
        counts: Counter[str] = Counter()
        goals = [goal for goal in streams[name] if not goal.recorded or len(goal.recorded) == 1]
        others = other_words(goals)
        taken: set[tuple[str, str, str]] = set()
        for goal in sorted(goals, key=lambda goal: _mixed(goal.id)):
            for change in changes(goal, others):
                key = (change.kind, goal.procedure, _diff(goal.text, change.text))
                if counts[change.kind] < per_kind and key not in taken:
                    taken.add(key)
                    counts[change.kind] += 1
                    made.append(question(goal, change))
    return made


def question(goal: Goal, change: Change) -> Question:
    """The changed goal as something to be decided once the untouched one was learned."""
    asked = replace(goal, id=f"{goal.id}-{change.kind}", text=change.text)
    wanted: tuple[Call, ...] | None = None
    if change.slots is not None:
        asked = replace(asked, slots=change.slots, recorded=())
        wanted = asked.calls
    learned = replace(goal, recorded=()) if change.slots is not None else goal
    return Question(learned=learned, asked=asked, group=change.kind, same=False, wanted=wanted)


def changes(goal: Goal, others: Mapping[str, Sequence[str]] | None = None) -> Iterator[Change]:
    """Every change the rules find in a goal; none where a slot's value does not stand in the text."""
    taken = spans(goal)
    if taken is None:
        return
    for rule in (_exchanged_words, _numbers, _negated, _suffixed, _order, _direction, _swap):
        yield from rule(goal, taken)
    yield from _entity(goal, taken, others or {})


def spans(goal: Goal) -> list[Span] | None:
    """Where the values of a goal's arguments stand in its text; None when one does not, or stands there twice."""
    found: list[Span] = []
    for value in goal.arguments.values():
        pattern = rf"(?<!\w){re.escape(str(value))}(?!\w)"
        places = [match.span() for match in re.finditer(pattern, goal.text, re.IGNORECASE)]
        if len(places) != 1:
            return None
        found += places
    return found


def _outside(goal: Goal, taken: Sequence[Span], pattern: str) -> Iterator[re.Match[str]]:
    """The matches of a pattern that touch no value."""
    for match in re.finditer(pattern, goal.text, re.IGNORECASE):
        if all(match.end() <= start or match.start() >= end for start, end in taken):
            yield match


def _put(goal: Goal, match: re.Match[str], new: str) -> str:
    old = match.group(0)
    new = new.capitalize() if old[:1].isupper() and not old.isupper() else new
    return goal.text[: match.start()] + new + goal.text[match.end() :]


def _exchanged_words(goal: Goal, taken: Sequence[Span]) -> Iterator[Change]:
    for kind, words in WORDS.items():
        for match in _outside(goal, taken, rf"(?<![\w'-])({'|'.join(sorted(words, key=len, reverse=True))})(?![\w'-])"):
            word = match.group(0).lower()
            if _means_what_it_says(goal.text, match, kind, word):
                yield Change(kind=kind, text=_put(goal, match, words[word]))


def _means_what_it_says(text: str, match: re.Match[str], kind: str, word: str) -> bool:
    """Whether a word is of the kind here: "on" only after a verb of switching, "like" only as a verb, and so on."""
    before, after = text[: match.start()].lower(), text[match.end() :].lower()
    if word in ("on", "off"):
        return bool(re.search(r"\b(turn|switch|put|power)(ed|ing)?\s+(\w+\s+){0,3}$", before))
    if word == "like":
        return bool(re.search(r"\b(i|to|that|and)\s+$", before)) and not re.search(r"\bwould\s+$", before)
    if word in ("over", "under", "up", "down", "close", "second", "past", "show", "right", "left", "most"):
        return word in ("most", "show", "up", "down") and not _PHRASAL.search(before)
    if word in ("any", "each"):
        return kind == "quantifier" and bool(re.match(r"\s+(of|\w+s)\b", after))
    return not (word == "next" and after.lstrip().startswith("to"))


def _numbers(goal: Goal, taken: Sequence[Span]) -> Iterator[Change]:
    for match in _outside(goal, taken, r"(?<![\w.,:/#-])\d{1,4}(?![\w.,:/-]*\d)(?!\w)"):
        yield Change(kind="number", text=_put(goal, match, str(int(match.group(0)) + 1)))
    for match in _outside(goal, taken, rf"\b({'|'.join(_NUMBERS[1:])})\b"):
        word = match.group(0).lower()
        yield Change(kind="number", text=_put(goal, match, _NUMBERS[(_NUMBERS.index(word) + 1) % len(_NUMBERS)]))


def _negated(goal: Goal, taken: Sequence[Span]) -> Iterator[Change]:
    first = re.match(r"[A-Za-z]+", goal.text)
    if first and first.group(0).lower() in _COMMANDS and all(first.end() <= start for start, _ in taken):
        yield Change(kind="negation", text=f"Do not {goal.text[0].lower()}{goal.text[1:]}")


def _suffixed(goal: Goal, taken: Sequence[Span]) -> Iterator[Change]:
    """A clause more; not after a value, which might be meant to hold it."""
    body = goal.text.rstrip(" .?!")
    first = re.match(r"[A-Za-z]+", goal.text)
    if first is None or first.group(0).lower() not in _COMMANDS or any(end >= len(body) - 1 for _, end in taken):
        return
    if not goal.arguments or body.endswith(('"', "'", ")")) or ":" in body[-40:]:
        return
    suffix = _SUFFIXES[_mixed(goal.id) % len(_SUFFIXES)]
    yield Change(kind="suffix", text=f"{body} {suffix}{goal.text[len(body) :]}")


def _order(goal: Goal, taken: Sequence[Span]) -> Iterator[Change]:
    """`duration of activities` becomes `activities of duration`."""
    for match in _outside(goal, taken, r"\b([a-z]{4,}) (of|in|on|for|from|by|than|per) ([a-z]{4,})\b"):
        one, link, other = match.groups()
        if one.lower() != other.lower() and not {one.lower(), other.lower()} & _STOP:
            yield Change(kind="order", text=_put(goal, match, f"{other} {link} {one}".lower()))


def _direction(goal: Goal, taken: Sequence[Span]) -> Iterator[Change]:
    """`from A to B` becomes `to A from B`: both values change their places."""
    slots = dict(zip(taken, goal.arguments, strict=True))
    if goal.recorded and goal.recorded[0].args.keys() != goal.slots.keys():
        return
    for (start, end), name in slots.items():
        for (begin, finish), other in slots.items():
            if goal.text[:start].endswith("from ") and goal.text[end:begin] == " to " and name != other:
                text = (
                    f"{goal.text[: start - 5]}to {goal.text[start:end]} from {goal.text[begin:finish]}"
                    f"{goal.text[finish:]}"
                )
                if goal.arguments[name] != goal.arguments[other]:
                    yield Change(kind="direction", text=text, slots=_exchanged(goal, name, other))


def _swap(goal: Goal, taken: Sequence[Span]) -> Iterator[Change]:
    """Two values of a text exchanged; each goes where the other was, and so do the arguments."""
    slots = sorted(zip(taken, goal.arguments, strict=True))
    if goal.recorded and goal.recorded[0].args.keys() != goal.slots.keys():
        return
    for ((start, end), name), ((begin, finish), other) in pairwise(slots):
        one, two = goal.text[start:end], goal.text[begin:finish]
        if one.lower() != two.lower() and end <= begin and _alike(goal.arguments[name], goal.arguments[other]):
            text = f"{goal.text[:start]}{two}{goal.text[end:begin]}{one}{goal.text[finish:]}"
            yield Change(kind="swap", text=text, slots=_exchanged(goal, name, other))


def _alike(one: Any, other: Any) -> bool:
    """Whether two values are of one kind, so that either could stand in the other's place."""
    shape = [re.sub(r"[A-Za-z]+", "a", re.sub(r"\d+", "0", str(value))) for value in (one, other)]
    return type(one) is type(other) and shape[0] == shape[1]


def _exchanged(goal: Goal, name: str, other: str) -> dict[str, Any]:
    return {**goal.slots, name: goal.slots[other], other: goal.slots[name]}


# --- another word ------------------------------------------------------------------------------------


def other_words(goals: Sequence[Goal]) -> dict[str, list[str]]:
    """For each task, content words of the stream's other tasks that never stand in a goal of its own."""
    words: dict[str, Counter[str]] = defaultdict(Counter)
    for goal in goals:
        taken = spans(goal) or []
        words[goal.task_id].update({match.group(0).lower() for match in _outside(goal, taken, r"[a-z]{4,}")} - _STOP)
    tasks = Counter(word for found in words.values() for word in found)
    rare = sorted(word for word, count in tasks.items() if count <= max(2, len(words) // 10) and word.isascii())
    return {task: [word for word in rare if word not in found] for task, found in words.items()}


def _entity(goal: Goal, taken: Sequence[Span], others: Mapping[str, Sequence[str]]) -> Iterator[Change]:
    """One content word outside the values replaced by one that the task never has."""
    choices = others.get(goal.task_id, ())
    matches = [m for m in _outside(goal, taken, r"(?<![\w'-])[a-z]{4,}(?![\w'-])") if m.group(0).lower() not in _STOP]
    first = re.match(r"\w+", goal.text)
    matches = [m for m in matches if first is None or m.start() >= first.end()]
    if not matches or not choices:
        return
    match = matches[_mixed(goal.id) % len(matches)]
    yield Change(kind="entity", text=_put(goal, match, choices[_mixed(goal.text) % len(choices)]))


def _mixed(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])


def _diff(old: str, new: str) -> str:
    """What a change put in and took out, whatever the values around it are."""
    one, two = Counter(old.lower().split()), Counter(new.lower().split())
    return f"{sorted((one - two).elements())} {sorted((two - one).elements())}"
