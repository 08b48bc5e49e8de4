"""What a goal names: the files and folders that a run of it is expected to change."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from llmos.errors import LLMOSError
from llmos.plugins.builtin.paths import glob_regex
from llmos.trace.lex import Kind, tokenize

_FOLDERS = (
    re.compile(r"\b(?:folder|directory|dir)\s+[\"'`]?([\w.~/-]+)", re.IGNORECASE),
    re.compile(r"([\w.~/-]+)[\"'`]?\s+(?:folder|directory)\b", re.IGNORECASE),
)
_WILD = re.compile(r"[*?\[{}]")
_SETTINGS = "llmos.yaml"
_PLUGINS = "plugins"
_NAMING = (Kind.PATH, Kind.QUOTED, Kind.IDENTIFIER, Kind.WORD, Kind.GLOB)


@dataclass(frozen=True, kw_only=True)
class Declared:
    """The paths of a goal, counted from a workspace; a plain word counts where such a file or folder exists."""

    goal: str
    workspace: Path

    def names(self, path: Path) -> bool:
        """Whether a resolved path is one that the goal names, or below a folder that it names."""
        if any(path == named or named in path.parents for named in self._paths):
            return True
        return any(pattern.fullmatch(str(path)) for pattern in self._patterns)

    def says(self, text: str) -> bool:
        """Whether the goal holds a text as it is."""
        return bool(text) and text.casefold() in self.goal.casefold()

    @cached_property
    def _words(self) -> list[tuple[Kind, str]]:
        return [(token.kind, token.value) for token in tokenize(self.goal) if token.kind in _NAMING]

    @cached_property
    def _paths(self) -> frozenset[Path]:
        said = [found for pattern in _FOLDERS for found in pattern.findall(self.goal)]
        named = {self._resolved(text) for kind, text in self._words if kind is Kind.PATH}
        named |= {
            path for text in said if "." in text or "/" in text or _is_name(text) for path in [self._resolved(text)]
        }
        loose = [self._resolved(text) for kind, text in self._words if kind not in (Kind.PATH, Kind.GLOB)]
        named |= {path for path in loose if path is not None and path != self.root and path.exists()}
        return frozenset(path for path in named if path is not None)

    @cached_property
    def _patterns(self) -> Sequence[re.Pattern[str]]:
        found, root = [], _WILD.sub(r"[\g<0>]", str(self.root))
        for kind, text in self._words:
            if kind is not Kind.GLOB:
                continue
            try:
                found.append(glob_regex(f"{root}/{text}"))
            except (LLMOSError, re.error):
                continue
        return found

    @cached_property
    def root(self) -> Path:
        return self.workspace.resolve()

    def _resolved(self, text: str) -> Path | None:
        try:
            return (self.root / Path(text).expanduser()).resolve()
        except (OSError, ValueError, RuntimeError):
            return None


def _is_name(text: str) -> bool:
    return text.casefold() not in {"the", "a", "this", "that", "my", "each", "every", "new", "same", "in", "of", "to"}


def is_of_llmos(path: Path, root: Path) -> bool:
    """Whether a path looks like settings or plugins, which decide what later runs do."""
    return path.name == _SETTINGS or (path.is_relative_to(root) and _PLUGINS in path.relative_to(root).parts)
