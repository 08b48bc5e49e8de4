"""What a shell command does to the world, as far as its words say so for certain; everything else is UNKNOWN."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmos.errors import LLMOSError
from llmos.plugins.builtin.bash_commands import COMMANDS, Arguments, Command, Operands, take_apart
from llmos.plugins.builtin.bash_programs import BUILTINS, PROGRAMS, operand, reading
from llmos.plugins.builtin.bash_syntax import NotReadError, Simple, read_script
from llmos.plugins.builtin.processes import clean_environment
from llmos.plugins.context import ToolContext
from llmos.plugins.touching import Kind, Touch
from llmos.trace.program import Effect

_NOWHERE = frozenset({"/dev/null"})
_GIT = ".git"
_SAID_TO_GIT = frozenset({_GIT, ".gitattributes", ".gitmodules"})


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A command's effect and the paths it touches; of an UNKNOWN one no paths are known."""

    effect: Effect
    touches: tuple[Touch, ...] = ()


_UNKNOWN = Judged(effect=Effect.UNKNOWN)


def judge(ctx: ToolContext, command: str) -> Judged:
    """READ if nothing is changed, WRITE if only paths inside the workspace are, else UNKNOWN."""
    touched: list[Touch] = []
    try:
        script = read_script(command)
        for simple in script:
            found = _judged(ctx, simple, is_alone=len(script) == 1)
            if found is None:
                return _UNKNOWN
            touched += found
    except (NotReadError, OSError, ValueError):
        return _UNKNOWN
    writes = [touch for touch in touched if touch.effect is Effect.WRITE]
    if not all(_may_be_written(ctx, touch.value) for touch in writes):
        return _UNKNOWN
    if any(touch.value.startswith("/dev/") for touch in touched):
        return _UNKNOWN  # `/dev/tcp/HOST/PORT` is a connection
    return Judged(effect=Effect.WRITE if writes else Effect.READ, touches=tuple(dict.fromkeys(touched)))


def classify(ctx: ToolContext, arguments: Mapping[str, Any]) -> Effect:
    """The effect of a call of `bash`."""
    return judge(ctx, str(arguments.get("command", ""))).effect


def paths(ctx: ToolContext, arguments: Mapping[str, Any]) -> Iterable[Touch]:
    """The paths that a call of `bash` touches."""
    return judge(ctx, str(arguments.get("command", ""))).touches


def _judged(ctx: ToolContext, simple: Simple, *, is_alone: bool) -> list[Touch] | None:
    """What one simple command touches; None if it may do anything else."""
    name, *words = simple.words
    redirected = _redirected(simple)
    if redirected is None or not _is_the_systems(ctx, name.text):
        return None
    if name.text in PROGRAMS:
        found = PROGRAMS[name.text](words, ctx.workspace.resolve())
        return None if found is None else [*found, *redirected]
    command = COMMANDS.get(name.text)
    taken = take_apart(command, words) if command is not None else None
    if command is None or taken is None or not command.least <= len(taken.operands) <= _most(command):
        return None
    if command.writes:
        changed = _written(ctx, name.text, taken, is_alone=is_alone)
        return None if changed is None else [*changed, *redirected]
    return [*_read(ctx, command, taken), *redirected]


def _most(command: Command) -> int:
    if command.operands is Operands.NONE:
        return 0
    return 10_000 if command.most is None else command.most


def _is_the_systems(ctx: ToolContext, name: str) -> bool:
    """Whether a command's name leads to a program outside the workspace: one inside may have been written there."""
    if name in BUILTINS:
        return True
    if "/" in name:
        return False
    path = clean_environment(ctx).get("PATH", os.defpath)
    if any(not folder.startswith("/") for folder in path.split(os.pathsep)):
        return False
    found = shutil.which(name, path=path)
    if found is None:
        return True  # it fails, whatever it is
    root = ctx.workspace.resolve()
    return not any(place == root or root in place.parents for place in (Path(found), Path(found).resolve()))


def _redirected(simple: Simple) -> list[Touch] | None:
    touched = []
    for redirect in simple.redirects:
        target = redirect.target
        if target.globbed or not target.text:
            return None
        if redirect.operator == ">&":
            if not target.text.isdecimal():
                return None
        elif redirect.operator == "<":
            touched.append(reading(target.text))
        elif target.text not in _NOWHERE:
            touched.append(writing(target.text))
    return [touch for touch in touched if touch.value not in _NOWHERE]


def writing(path: str) -> Touch:
    """A path that is changed."""
    return Touch(kind=Kind.PATH, value=path, effect=Effect.WRITE)


def _read(ctx: ToolContext, command: Command, taken: Arguments) -> Iterator[Touch]:
    recursive = bool(command.recursing & taken.names)
    files = list(taken.operands)
    if command.operands in (Operands.TEXT, Operands.NONE):
        return
    if command.operands is Operands.TEXT_THEN_PATHS and not command.patterns & taken.names:
        files = files[1:]
    for name, value in taken.options:
        if name in command.paths:
            yield reading(value.text)
    for word in files:
        if word.text != "-":
            yield from operand(word, ctx.workspace.resolve(), recursive=recursive)
    if not files and (recursive or command in (COMMANDS["ls"], COMMANDS["du"])):
        yield reading(".", recursive=recursive)


# --- commands that write -----------------------------------------------------------------------------


def _written(ctx: ToolContext, name: str, taken: Arguments, *, is_alone: bool) -> list[Touch] | None:
    if any(
        word.globbed or not word.text for word in (*taken.operands, *(value for n, value in taken.options if n == "t"))
    ):
        return None
    texts = [word.text for word in taken.operands]
    if name not in ("cp", "mv"):
        return [writing(text) for text in texts if text != "-" and text not in _NOWHERE]
    into = [value.text for option, value in taken.options if option == "t"]
    if len(into) > 1 or len(texts) < (1 if into else 2):
        return None
    sources, target = (texts, into[0]) if into else (texts[:-1], texts[-1])
    return _copied(
        ctx,
        name,
        sources,
        target,
        recursive=bool({"r", "R", "a", "recursive", "archive"} & taken.names),
        is_alone=is_alone,
    )


def _copied(
    ctx: ToolContext, name: str, sources: Sequence[str], target: str, *, recursive: bool, is_alone: bool
) -> list[Touch] | None:
    """What `cp` and `mv` change. A link, or a folder that may hold some, is only moved by a command that stands alone:
    another one could write through them.
    """
    places = _places(ctx, sources, target)
    if places is None:
        return None
    for source, place in zip(sources, places, strict=True):
        at = _joined(ctx, source)
        plain = not at.is_symlink() and not at.is_dir()
        if not plain and not is_alone:
            return None
        if recursive and os.path.lexists(_joined(ctx, place)):
            return None  # what is there already may be links that lead out
    moved = (
        [writing(source) for source in sources]
        if name == "mv"
        else [reading(source, recursive=recursive) for source in sources]
    )
    return [*moved, *(writing(place) for place in (target, *places))]


def _places(ctx: ToolContext, sources: Sequence[str], target: str) -> list[str] | None:
    """Where each source ends up: in the target if that is a folder."""
    if len(sources) == 1 and not _joined(ctx, target).is_dir() and not target.endswith("/"):
        return [target]
    names = [Path(source).name for source in sources]
    if any(name in ("", "..", ".") for name in names):
        return None
    return [f"{target.rstrip('/') or '/'}/{name}" for name in names]


def _joined(ctx: ToolContext, text: str) -> Path:
    return ctx.workspace.resolve() / text


def _may_be_written(ctx: ToolContext, text: str) -> bool:
    """Whether a path lies inside the workspace and neither is, holds nor is part of what belongs to LLM OS or git."""
    try:
        if text.startswith("~"):
            text = f"./{text}"  # in a literal word it is a name
        place = ctx.resolve(text, write=True)
    except LLMOSError:
        return False
    root = ctx.workspace.resolve()
    parts = (*place.relative_to(root).parts, *Path(text).parts) if place.is_relative_to(root) else (_GIT,)
    if place == root or any(part.casefold() in _SAID_TO_GIT for part in parts):
        return False
    closed = [path.resolve() for path in (*ctx.denied, *ctx.sealed)]
    return not any(path.is_relative_to(place) for path in closed)
