"""Commands with a small language of their own, judged by what of that language is known to only read."""

from __future__ import annotations

import glob
import itertools
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from llmos.plugins.builtin.bash_commands import Command, names, take_apart
from llmos.plugins.builtin.bash_syntax import NotReadError, Word
from llmos.plugins.touching import Kind, Touch
from llmos.trace.program import Effect


def reading(path: str, *, recursive: bool = False) -> Touch:
    """A path that is read."""
    return Touch(kind=Kind.PATH, value=path, effect=Effect.READ, recursive=recursive)


def operand(word: Word, workspace: Path, *, recursive: bool = False) -> list[Touch]:
    """The path in an operand; of a pattern the folder before its first wildcard, and the links it matches by now.

    Raises:
        NotReadError: a pattern that Python's `glob` reads in another way.
    """
    if not word.globbed:
        return [reading(word.text, recursive=recursive)]
    if "[^" in word.text or "[:" in word.text or "**" in word.text:
        raise NotReadError("a pattern")
    plain = word.text[: min(word.text.index(char) for char in "*?[" if char in word.text)]
    folder = plain.rpartition("/")[0] or ("/" if plain.startswith("/") else ".")
    matched = glob.iglob(word.text, root_dir=workspace, include_hidden=True)  # noqa: PTH207 - as the shell writes it
    found = list(itertools.islice(matched, _MAX_MATCHES + 1))
    if len(found) > _MAX_MATCHES:
        raise NotReadError("a pattern that matches too much")
    links = [name for name in found if os.path.realpath(workspace / name) != os.path.normpath(workspace / name)]
    return [reading(folder, recursive=True), *map(reading, links)]


_MAX_MATCHES = 5_000


def _find(words: Sequence[Word], workspace: Path) -> list[Touch] | None:
    """`find`: the places it begins at, and tests that neither run nor write anything."""
    left = list(words)
    while left and left[0].text in ("-H", "-P"):
        left.pop(0)
    starts: list[Touch] = []
    while left and left[0].text[:1] not in ("-", "(", "!", ")", ","):
        if left[0].globbed and left[0].text[0] in "*?[":
            return None
        starts += operand(left.pop(0), workspace, recursive=True)
    while left:
        test = left.pop(0)
        if test.globbed:
            return None
        if test.text in _FIND_TESTS:
            continue
        if test.text not in _FIND_VALUED or not left or left[0].globbed:
            return None
        value = left.pop(0).text
        if test.text in ("-newer", "-anewer", "-cnewer", "-samefile"):
            starts.append(reading(value))
    return starts or [reading(".", recursive=True)]


_FIND_TESTS = names(
    "( ) ! , -not -a -and -o -or -empty -print -print0 -ls -prune -depth -xdev -mount -readable -writable "
    "-executable -true -false -quit -daystart -nouser -nogroup -noleaf"
)
_FIND_VALUED = names(
    "-name -iname -path -ipath -wholename -iwholename -regex -iregex -regextype -type -xtype -size -mtime -atime "
    "-ctime -mmin -amin -cmin -newer -anewer -cnewer -samefile -maxdepth -mindepth -perm -user -group -uid -gid "
    "-links -inum -printf -lname -ilname"
)


def _sed(words: Sequence[Word], workspace: Path) -> list[Touch] | None:
    found = take_apart(
        Command(
            flags="nErsz",
            valued="e",
            long=frozenset({"quiet", "silent", "regexp-extended"}),
            long_valued=frozenset({"expression"}),
        ),
        words,
    )
    if found is None:
        return None
    scripts = [value.text for name, value in found.options if name in ("e", "expression")]
    files = list(found.operands)
    if not scripts:
        if not files or files[0].globbed:
            return None
        scripts.append(files.pop(0).text)
    if not all(map(_sed_reads, scripts)):
        return None
    return [touch for word in files for touch in operand(word, workspace)]


def _sed_reads(script: str) -> bool:
    """Whether a sed script is a list of `p`, `d`, `q`, `=` and `s/…/…/` commands, none with a `w` or an `e`.

    Source: GNU sed's manual, 3.1 and 3.3; a delimiter inside brackets is left to others.
    """
    if "\n" in script or not script.strip():
        return False
    at = 0
    while at < len(script):
        if script[at] in " ;":
            at += 1
            continue
        after = _sed_command(script, at)
        if after is None or (after < len(script) and script[after] not in " ;"):
            return False
        at = after
    return True


def _sed_command(script: str, at: int) -> int | None:
    """Where one command with its addresses ends; None if it is none of those known."""
    start = _sed_address(script, at)
    if start is not None and script[start : start + 1] == ",":
        start = _sed_address(script, start + 1, needed=True)
    if start is None:
        return None
    while script[start : start + 1] == "!":
        start += 1
    name = script[start : start + 1]
    if name in ("p", "d", "="):
        return start + 1
    if name == "q":
        return start + 1
    return _sed_substitution(script, start) if name == "s" else None


def _sed_address(script: str, at: int, *, needed: bool = False) -> int | None:
    if script[at : at + 1] == "$":
        return at + 1
    if script[at : at + 1] == "/":
        end = _sed_until(script, at + 1, "/")
        return None if end is None else end + 1
    end = at
    while end < len(script) and script[end] in "0123456789":
        end += 1
    return None if needed and end == at else end


def _sed_substitution(script: str, at: int) -> int | None:
    delimiter = script[at + 1 : at + 2]
    if not delimiter or delimiter.isalnum() or delimiter in " \\;[]":
        return None
    middle = _sed_until(script, at + 2, delimiter)
    end = None if middle is None else _sed_until(script, middle + 1, delimiter)
    if end is None:
        return None
    end += 1
    while end < len(script) and script[end] in "gpiI0123456789":
        end += 1
    return end


def _sed_until(script: str, at: int, delimiter: str) -> int | None:
    """Where the next unescaped delimiter is; None if brackets could hide one."""
    in_brackets = False
    while at < len(script):
        char = script[at]
        if char == "\\":
            at += 2
            continue
        if char == delimiter:
            return None if in_brackets else at
        in_brackets = char == "[" or (in_brackets and char != "]")
        at += 1
    return None


def _awk(words: Sequence[Word], workspace: Path) -> list[Touch] | None:
    """`awk` with a program that has no way to run, write, include or open anything."""
    found = take_apart(Command(valued="Fv"), words)
    if found is None or not found.operands or found.operands[0].globbed:
        return None
    program, *files = found.operands
    texts = [program.text, *(value.text for _, value in found.options)]
    if any(word in text for text in texts for word in ("system", "getline", "|", ">", "@", "ARG", "ENVIRON", "close")):
        return None
    return [touch for word in files if "=" not in word.text for touch in operand(word, workspace)]


def _echo(words: Sequence[Word], workspace: Path) -> list[Touch] | None:
    return None if any(word.globbed for word in words) else []


def _printf(words: Sequence[Word], workspace: Path) -> list[Touch] | None:
    """`printf -v NAME` would set a variable."""
    return None if not words or words[0].text.startswith("-") else _echo(words, workspace)


def _date(words: Sequence[Word], workspace: Path) -> list[Touch] | None:
    """`date` without a date to set."""
    found = take_apart(Command(flags="uR", valued="dI", long=frozenset({"utc", "iso-8601"}), long_valued=_DATE), words)
    if found is None or any(not word.text.startswith("+") or word.globbed for word in found.operands):
        return None
    return []


_DATE = frozenset({"date", "iso-8601", "rfc-3339"})


def _test(words: Sequence[Word], workspace: Path) -> list[Touch] | None:
    """`test` in its plainest forms: `-v`, or an index in a number, could run a command."""
    match [word.text for word in words if not word.globbed]:
        case [("-e" | "-f" | "-d" | "-s" | "-r" | "-w" | "-x" | "-L" | "-h"), path] if len(words) == 2:
            return [reading(path)]
        case [("-n" | "-z"), _] if len(words) == 2:
            return []
        case [_, ("=" | "!="), _] if len(words) == 3:
            return []
    return None


def _command(words: Sequence[Word], workspace: Path) -> list[Touch] | None:
    """`command -v NAME` looks a command up."""
    return [] if len(words) == 2 and words[0].text in ("-v", "-V") and not words[1].globbed else None


_GIT = {
    "log": Command(
        flags="pqz",
        valued="nSGL",
        long=names(
            "oneline stat shortstat numstat name-only name-status graph all decorate no-merges merges reverse follow "
            "patch no-patch abbrev-commit no-color no-pager first-parent summary no-decorate"
        ),
        long_valued=names("format pretty since until after before author grep max-count date"),
        digits=True,
    ),
    "status": Command(flags="sbuz", long=names("short branch porcelain long"), long_valued=frozenset({"porcelain"})),
    "rev-parse": Command(
        long=names("abbrev-ref short show-toplevel is-inside-work-tree verify git-dir"),
        long_valued=frozenset({"short"}),
    ),
    "ls-files": Command(flags="cdmoz", long=names("cached deleted modified others exclude-standard stage")),
    "shortlog": Command(
        flags="sne", long=frozenset({"summary", "numbered", "email", "all"}), long_valued=frozenset({"since", "until"})
    ),
}
_GIT["show"] = _GIT["diff"] = Command(
    flags=_GIT["log"].flags + "wb",
    valued="UM",
    long=_GIT["log"].long | {"cached", "staged", "no-renames", "word-diff", "ignore-all-space"},
    long_valued=_GIT["log"].long_valued | {"unified"},
)

_RUNS_PROGRAMS = names(
    "fsmonitor external textconv program command pager include filter hook worktree promisor partialclone"
)
"""What a repository's own settings must not say: each could name a program for a reading git to run, or other files."""


def _git(words: Sequence[Word], workspace: Path) -> list[Touch] | None:
    """The reading commands of git, in a workspace that is a repository whose settings name no programs."""
    command = _GIT.get(words[0].text) if words else None
    found = take_apart(command, words[1:]) if command is not None else None
    if found is None or any(word.globbed or _leads_out(word.text) for word in found.operands):
        return None
    if not _is_plain_repository(workspace):
        return None
    return [reading(".", recursive=True)]


def _leads_out(text: str) -> bool:
    """Whether a path may leave the workspace: `git diff` compares any two files then."""
    return text.startswith(("/", "../")) or "/.." in text or text == ".."


def _is_plain_repository(workspace: Path) -> bool:
    """Whether the workspace is a repository whose settings and hooks run nothing."""
    git = workspace / ".git"
    try:
        if git.is_symlink() or any((git / name).exists() for name in ("config.worktree", "commondir")):
            return False
        settings = (git / "config").read_text(encoding="utf-8", errors="replace").lower()
        hooks = list((git / "hooks").iterdir()) if (git / "hooks").exists() else []
    except OSError:
        return False
    return not any(word in settings for word in _RUNS_PROGRAMS) and all(path.suffix == ".sample" for path in hooks)


PROGRAMS: dict[str, Callable[[Sequence[Word], Path], list[Touch] | None]] = {
    "find": _find,
    "sed": _sed,
    "awk": _awk,
    "gawk": _awk,
    "mawk": _awk,
    "echo": _echo,
    "printf": _printf,
    "date": _date,
    "test": _test,
    "command": _command,
    "git": _git,
}
"""Each gives the paths that are read, or None if it can't be said that nothing else happens."""

BUILTINS = frozenset({"echo", "printf", "test", "command", "pwd", "true", "false"})
"""What the shell does itself."""
