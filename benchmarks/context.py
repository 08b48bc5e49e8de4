"""What is brought back of turns that were summarised: is it what was looked for, and nothing where nothing is there?

python -m benchmarks.context --json benchmarks/results/context.json

The turns are the sections of this project's documentation, as if each had been read by a call. Looked for are their
headings, which are not part of them; sentences elsewhere that name something which one section alone speaks of too;
and, where nothing should be found, goals of public benchmarks that have nothing to do with it. Words alone and meaning
alone are the baselines, with the same passages.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.goals import load
from llmos.memory.earlier import EarlierTurns, cut, names_in
from llmos.memory.embeddings import SentenceTransformerEmbedder

DOCS = Path(__file__).resolve().parents[1] / "docs"
DATA = Path(__file__).parent / "data"
BEST = 2
"""How many passages are brought back at once."""

WAYS = {"words and meaning": (True, True), "words alone": (True, False), "meaning alone": (False, True)}
_SENTENCE = re.compile(r"[^.!?\n]+[.!?]")


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of a page below a heading."""

    page: str
    heading: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Of what is there, the share found among the best; of what is there and what is not, the share brought back."""

    looked_for: int
    found: float
    brought_back: float
    brought_back_wrongly: float


def sections() -> Iterator[Section]:
    """The sections of the documentation that say more than a line."""
    for page in sorted(DOCS.glob("*.md")):
        parts = re.split(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
        for heading, text in zip(parts[1::2], parts[2::2], strict=True):
            if len(text.split()) > 30:
                yield Section(page=page.name, heading=heading.strip(), text=text.strip())


@dataclass(frozen=True, kw_only=True)
class Need:
    """What is looked for, the turn it stands in, and the turn that it is from (0: none)."""

    query: str
    turn: int
    own: int = 0


def references(turns: Sequence[Section], rng: random.Random, most: int) -> list[Need]:
    """Sentences that name what one section besides their own alone speaks of."""
    speaking: dict[str, set[int]] = {}
    for number, section in enumerate(turns, 1):
        for name in set(names_in(section.text)):
            speaking.setdefault(name, set()).add(number)
    found = []
    for number, section in enumerate(turns, 1):
        for sentence in _SENTENCE.findall(section.text):
            others = [speaking.get(name, set()) - {number} for name in names_in(sentence)]
            alone = {next(iter(one)) for one in others if len(one) == 1}
            if len(alone) == 1:
                found.append(Need(query=sentence.strip(), turn=alone.pop(), own=number))
    rng.shuffle(found)
    return found[:most]


def measured(needs: Sequence[Need], foreign: Sequence[str], earlier: EarlierTurns) -> Figures:
    """What a search finds of what is there, and brings back of what is not."""
    found = near = 0
    for need in needs:
        others = [one for one in earlier.search(need.query, 20) if one.passage.turn != need.own][:BEST]
        found += any(one.passage.turn == need.turn for one in others)
        near += any(one.passage.turn == need.turn and one.is_near for one in others)
    wrong = sum(any(one.is_near for one in earlier.search(query, BEST)) for query in foreign)
    return Figures(
        looked_for=len(needs),
        found=found / len(needs),
        brought_back=near / len(needs),
        brought_back_wrongly=wrong / len(foreign),
    )


def once_each(encode: Callable[[Sequence[str]], NDArray[np.float32]]) -> Callable[[Sequence[str]], NDArray[np.float32]]:
    """The same vectors, each made once: the ways of searching differ in what they make of them."""
    known: dict[str, NDArray[np.float32]] = {}

    def encoded(texts: Sequence[str]) -> NDArray[np.float32]:
        fresh = [text for text in dict.fromkeys(texts) if text not in known]
        if fresh:
            known.update(zip(fresh, encode(fresh), strict=True))
        return np.stack([known[text] for text in texts])

    return encoded


def main() -> int:
    """Measure, tell, and write the figures with their conditions."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.context", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--most", type=int, default=300, help="how many sentences and goals are looked for")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    turns = list(sections())
    headings = [Need(query=one.heading, turn=number) for number, one in enumerate(turns, 1)]
    named = references(turns, rng, args.most)
    goals = sorted({goal.text for stream in load(DATA).streams.values() for goal in stream})
    foreign = rng.sample(goals, min(args.most, len(goals)))
    encode = once_each(SentenceTransformerEmbedder().encode)
    figures = {}
    for way, (by_words, by_meaning) in WAYS.items():
        earlier = EarlierTurns(encode=encode, by_words=by_words, by_meaning=by_meaning)
        passages = [cut(number, f"read({one.page})", one.text) for number, one in enumerate(turns, 1)]
        earlier.add([passage for of_turn in passages for passage in of_turn])
        for what, needs in (("headings", headings), ("sentences", named)):
            figures[f"{what}, {way}"] = measured(needs, foreign, earlier)
    for name, one in figures.items():
        sys.stdout.write(
            f"{name:28} {one.looked_for:5} looked for, {one.found:6.1%} among the best {BEST}, {one.brought_back:6.1%} "
            f"brought back; {one.brought_back_wrongly:6.1%} of {len(foreign)} foreign goals bring something\n"
        )
    if args.json is not None:
        told = {
            "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "conditions": {"python": platform.python_version(), "cores": os.cpu_count(), "seed": args.seed},
            "turns": len(turns),
            "best": BEST,
            "figures": {name: asdict(one) for name, one in figures.items()},
        }
        args.json.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
