"""What the outputs of a recording hold, looked up by value and by text; read once for a whole induction."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

from llmos.trace.run import StepRecord
from llmos.trace.transforms import TRANSFORMS
from llmos.trace.values import Transform, ValuePath

MIN_PIECE = 3
_MAX_PATH_CHARS = 1024
_MAX_RENDERED = 5_000


@dataclass(frozen=True, kw_only=True)
class OutputLeaf:
    """A string or number inside the output of step `step` (an index into the recorded steps)."""

    step: int
    path: ValuePath
    value: str | float


@dataclass(frozen=True)
class Evidence:
    """The outputs of a recording, without echoes of each call's own arguments."""

    steps: Sequence[StepRecord]

    @cached_property
    def _leaves(self) -> list[list[OutputLeaf]]:
        found: list[list[OutputLeaf]] = []
        for index, step in enumerate(self.steps):
            echoes = {_plain(leaf) for _, leaf in leaves(step.args)}
            found.append(
                [
                    OutputLeaf(step=index, path=path, value=leaf)
                    for path, leaf in leaves(step.output)
                    if not isinstance(leaf, bool) and leaf is not None and leaf != "" and _plain(leaf) not in echoes
                ]
            )
        return found

    @cached_property
    def _by_value(self) -> dict[str | float, list[OutputLeaf]]:
        index: dict[str | float, list[OutputLeaf]] = {}
        for step in self._leaves:
            for leaf in step:
                index.setdefault(leaf.value, []).append(leaf)
        return index

    @cached_property
    def _texts(self) -> list[str]:
        return ["\n".join(map(_text, step)) for step in self._leaves]

    @cached_property
    def _distinct(self) -> list[list[str]]:
        return [list({text for text in map(_text, step) if len(text) >= MIN_PIECE}) for step in self._leaves]

    @cached_property
    def _files(self) -> list[list[list[str]]]:
        return [[forms for text in step if (forms := file_forms(text))] for step in self._distinct]

    def equal(self, value: str | float, at: int) -> list[OutputLeaf]:
        """The leaves before step `at` that equal a value."""
        return [leaf for leaf in self._by_value.get(value, []) if leaf.step < at]

    def holding(self, piece: str, at: int) -> set[int]:
        """The steps before `at` in whose output a piece stands with no letter or digit touching it."""
        return {index for index in range(at) if token_bounded(piece, self._texts[index])}

    def standing_in(self, text: str, at: int) -> set[int]:
        """The steps before `at` of whose output one whole value stands in a text."""
        return {
            index
            for index in range(at)
            if any(len(piece) <= len(text) and token_bounded(piece, text) for piece in self._distinct[index])
        }

    def naming(self, text: str, at: int, known: set[str], forms: int = 3) -> set[int]:
        """The steps before `at` whose output has a file that a text names by path, name or stem, but the goal not."""
        folded = text.casefold()
        return {
            index
            for index in range(at)
            if any(
                form not in known and token_bounded(form, folded)
                for file in self._files[index]
                for form in file[:forms]
            )
        }

    def containers(self, value: Any, at: int) -> list[tuple[int, ValuePath]]:
        """The lists and objects before `at` that equal a value, reached by names alone."""
        return [
            (index, path)
            for index in range(at)
            for path, part in containers(self.steps[index].output)
            if type(part) is type(value) and len(part) == len(value) and part == value
        ]

    def rendered(self, text: str, at: int) -> list[tuple[int, ValuePath, tuple[Transform, ...]]]:
        """The lists and objects before `at` that a text is written from, each with the ways to write it so."""
        found: list[tuple[int, ValuePath, tuple[Transform, ...]]] = []
        for index in range(at):
            for path, part in containers(self.steps[index].output):
                if 2 <= len(part) <= _MAX_RENDERED and (ways := list(_renderings(part, text))):
                    found.append((index, path, ways[0] if len(ways) == 1 else ()))
        return found

    def lengths(self, leaf: OutputLeaf) -> list[int]:
        """How long the lists are that a leaf's path goes through."""
        found: list[int] = []
        here = self.steps[leaf.step].output
        for part in leaf.path:
            if isinstance(part, int):
                found.append(len(here))
            here = here[part]
        return found


def _renderings(part: Any, text: str) -> Iterator[tuple[Transform, ...]]:
    """The ways of writing a list or object that give a text; the first entry mostly shows that they can't."""
    for way in _ways(part, text) if len(text) >= len(part) else ():
        made = part
        try:
            for transform in way:
                made = TRANSFORMS[transform.name](made, *transform.args)
        except (TypeError, ValueError, AttributeError, KeyError, IndexError):
            continue
        if made == text:
            yield way


def _ways(part: Any, text: str) -> Iterator[tuple[Transform, ...]]:
    if text[0] in "[{":
        yield from ((Transform(name=name),) for name in ("json", "pretty"))
    if not isinstance(part, list):
        return
    if str(part[0]) in text:
        yield from ((joined,) for joined in _JOINED)
    if isinstance(part[0], dict):
        for key in (key for key, value in part[0].items() if text.startswith(str(value))):
            yield from ((Transform(name="column", args=(key,)), joined) for joined in _JOINED[:3])


_JOINED = (
    *(Transform(name="join", args=(mark,)) for mark in (", ", "\n", ",", "; ", " ")),
    *(Transform(name="bullets"), Transform(name="bullets", args=("* ",)), Transform(name="sentence")),
)


def _text(leaf: OutputLeaf) -> str:
    return leaf.value if isinstance(leaf.value, str) else json.dumps(leaf.value)


def _plain(value: Any) -> tuple[str, str]:
    return type(value).__name__, str(value)


def file_forms(text: str) -> list[str]:
    """A file's path, its name and its stem, without case, if a text is one; nothing otherwise."""
    if len(text) > _MAX_PATH_CHARS or not re.fullmatch(r"[^\s*?]*[\w)]\.[A-Za-z]\w{0,9}|[^\s*?]+/[^\s*?]*", text):
        return []
    path = PurePosixPath(text.casefold())
    return [form for form in (str(path), path.name, path.stem) if form not in ("", ".", "/")]


def token_bounded(needle: str, text: str) -> bool:
    """Whether a needle stands in a text with no letter or digit touching it."""
    if needle not in text:
        return False
    left = r"(?<!\w)" if needle[:1].isalnum() else ""
    right = r"(?!\w)" if needle[-1:].isalnum() else ""
    return re.search(left + re.escape(needle) + right, text) is not None


def leaves(value: Any, path: ValuePath = ()) -> Iterator[tuple[ValuePath, Any]]:
    """Every scalar inside a JSON value with its path, in document order."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from leaves(item, (*path, index))
    else:
        yield path, value


def containers(value: Any, path: ValuePath = ()) -> Iterator[tuple[ValuePath, Any]]:
    """Every list and object inside a JSON value that is reached by names alone."""
    if isinstance(value, list | dict):
        yield path, value
    if isinstance(value, dict):
        for key, item in value.items():
            yield from containers(item, (*path, key))
