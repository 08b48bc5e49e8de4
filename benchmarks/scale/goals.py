"""Up to a million different goals out of the benchmark's own, and an embedding for each.

A goal with slots gives variants: the same sentence with other values of those slots, all from the same source. The
first `ENCODED` goals and all questions are encoded by the product's own encoder. The vector of any further variant is
that of an encoded sentence of the same goal, moved by what changing a value moved another goal of the source. Its text
is real, so hashes and words are; its vector is likely, not true.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import goals
from llmos.memory.embeddings import Embedder
from llmos.trace import lex

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ENCODED = 60_000
QUESTIONS = 1_000
_BATCH = 512
_TRIES = 40


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A goal, the place of the one it is made from among the originals, and its text as it is encoded, if it is."""

    text: str
    origin: int
    masked: str


def variants(data: Path, count: int, seed: int) -> list[Variant]:
    """`count` different goals: the originals, shuffled, then variants of them in turn.

    Raises:
        ValueError: the data can't give as many.
    """
    chance = random.Random(f"{seed} goals")
    streams = goals.load(data).streams
    originals = [(name, goal) for name in sorted(streams) for goal in streams[name]]
    chance.shuffle(originals)
    values = _values(originals)
    found: dict[str, Variant] = {}
    texts: set[str] = set()
    for number, (_, goal) in enumerate(originals):
        _keep(found, texts, goal.text, number)
    varied = [(number, *one) for number, one in enumerate(originals) if _places(one[1], values[one[0]])]
    fails = dict.fromkeys((number for number, _, _ in varied), 0)
    while len(found) < count and varied:
        for number, name, goal in varied:
            text = _changed(goal, values[name], chance)
            fails[number] = 0 if text != goal.text and _keep(found, texts, text, number) else fails[number] + 1
            if len(found) >= count:
                break
        varied = [one for one in varied if fails[one[0]] < _TRIES]
    if len(found) < count:
        raise ValueError(f"{data} gives {len(found)} different goals, not {count}")
    return list(found.values())[:count]


def _values(originals: Iterable[tuple[str, goals.Goal]]) -> dict[str, dict[str, list[str]]]:
    """By source and slot: the values that stand in a goal as they are."""
    found: defaultdict[str, defaultdict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for name, goal in originals:
        for slot, value in goal.slots.items():
            if isinstance(value, str) and len(value) > 1 and value in goal.text:
                found[name][slot].add(value)
    return defaultdict(dict, {name: {slot: sorted(some) for slot, some in of.items()} for name, of in found.items()})


def _places(goal: goals.Goal, values: dict[str, list[str]]) -> list[tuple[str, str]]:
    """The slots of a goal whose value stands in it and may be another one, with that value."""
    return [
        (slot, value)
        for slot, value in goal.slots.items()
        if isinstance(value, str) and value in goal.text and len(values.get(slot, ())) > 1
    ]


def _changed(goal: goals.Goal, values: dict[str, list[str]], chance: random.Random) -> str:
    text = goal.text
    places = _places(goal, values)
    for slot, value in chance.sample(places, chance.randint(1, len(places))):
        text = text.replace(value, chance.choice(values[slot]), 1)
    return text


def _keep(found: dict[str, Variant], texts: set[str], text: str, origin: int) -> bool:
    """Keep a new goal; of those that are encoded, only one that is new to the encoder too."""
    if text in texts:
        return False
    masked = lex.masked(text) if len(found) < ENCODED + QUESTIONS else ""
    key = masked or text
    if key in found or not key:
        return False
    texts.add(text)
    found[key] = Variant(text=text, origin=origin, masked=masked)
    return True


def stored_and_asked(found: Sequence[Variant], seed: int) -> tuple[list[Variant], list[Variant]]:
    """The goals to store, in the order of storing, and the questions: `QUESTIONS` of the encoded ones, held out."""
    encoded = list(found[: ENCODED + QUESTIONS])
    random.Random(f"{seed} order").shuffle(encoded)
    return [*encoded[QUESTIONS:], *found[ENCODED + QUESTIONS :]], encoded[:QUESTIONS]


# --- vectors -----------------------------------------------------------------------------------------


def encoded(found: Sequence[Variant], embedder: Embedder, folder: Path) -> NDArray[np.float32]:
    """The vectors of goals, by the encoder; what was encoded before is taken from `folder`."""
    import numpy as np

    folder.mkdir(parents=True, exist_ok=True)
    for part in range(0, len(found), _BATCH * 20):
        texts = [one.masked for one in found[part : part + _BATCH * 20]]
        if not _is_there(folder, part, texts):
            vectors = [embedder.encode(texts[start : start + _BATCH]) for start in range(0, len(texts), _BATCH)]
            np.save(folder / f"{part}.npy", np.concatenate(vectors))
            (folder / f"{part}.json").write_text(json.dumps(texts), encoding="utf-8")
    return np.concatenate([np.load(folder / f"{part}.npy") for part in range(0, len(found), _BATCH * 20)])


def _is_there(folder: Path, part: int, texts: Sequence[str]) -> bool:
    try:
        return bool(json.loads((folder / f"{part}.json").read_text(encoding="utf-8")) == texts)
    except (OSError, ValueError):
        return False


def moved(
    found: Sequence[Variant], known: Sequence[Variant], vectors: NDArray[np.float32], seed: int
) -> Iterator[NDArray[np.float32]]:
    """A vector for each of `found`, in blocks: near a sentence of its goal, moved by what a change of a value moves."""
    import numpy as np

    chance = np.random.default_rng(seed)
    of: defaultdict[int, list[int]] = defaultdict(list)
    for row, one in enumerate(known):
        of[one.origin].append(row)
    pairs = np.array([chance.choice(rows, 2, replace=False) for rows in of.values() if len(rows) > 1 for _ in range(4)])
    for start in range(0, len(found), 50_000):
        block = found[start : start + 50_000]
        rows = [of.get(one.origin) or range(len(known)) for one in block]  # all of a few goals may be questions
        base = vectors[[some[chance.integers(len(some))] for some in rows]]
        first, second = pairs[chance.integers(len(pairs), size=len(block))].T
        made = base + vectors[first] - vectors[second]
        yield (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)
