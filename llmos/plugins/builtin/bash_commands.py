"""Commands whose effect is known from their words: which options they may have, and which words are paths.

What is not listed here is unknown: another command, another option, an option's abbreviation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

from llmos.plugins.builtin.bash_syntax import Word


class Operands(Enum):
    """What the words that are no options are."""

    NONE = auto()
    TEXT = auto()
    PATHS = auto()
    TEXT_THEN_PATHS = auto()


@dataclass(frozen=True, kw_only=True)
class Command:
    """One command that only reads, or (`writes`) changes exactly the paths it is given.

    `flags` and `valued` are short options without and with a value, `long` and `long_valued` the long ones (a value
    after `=`, for `long_valued` also as the next word). `paths` are those whose value is a file to read, `patterns`
    those that take the place of the first operand. With one of `recursing` a folder is read with all below it.
    `harmless` commands have no option at all that could do more, so that a file's name may look like one.
    """

    flags: str = ""
    valued: str = ""
    long: frozenset[str] = frozenset()
    long_valued: frozenset[str] = frozenset()
    operands: Operands = Operands.PATHS
    paths: frozenset[str] = frozenset()
    patterns: frozenset[str] = frozenset()
    recursing: frozenset[str] = frozenset()
    digits: bool = False
    most: int | None = None
    least: int = 0
    harmless: bool = False
    writes: bool = False
    builtin: bool = False


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """A command's words taken apart: options with their values, and the rest."""

    options: tuple[tuple[str, Word], ...]
    operands: tuple[Word, ...]
    names: frozenset[str] = frozenset()


def take_apart(command: Command, words: Sequence[Word]) -> Arguments | None:
    """The arguments as getopt_long reads them; None if an option is not listed.

    Source: POSIX.1-2024, 12.2 Utility Syntax Guidelines; glibc's getopt_long, which lets options follow operands.
    """
    options: list[tuple[str, Word]] = []
    operands: list[Word] = []
    left = list(words)
    while left:
        word = left.pop(0)
        if word.text == "--":
            operands += left
            break
        if word.globbed and (word.text[0] in "*?[" and not command.harmless):
            return None
        if not word.text.startswith("-") or word.text == "-":
            operands.append(word)
            continue
        if word.globbed:
            return None
        found = _long(command, word, left) if word.text.startswith("--") else _short(command, word, left)
        if found is None:
            return None
        options += found
    return Arguments(options=tuple(options), operands=tuple(operands), names=frozenset(name for name, _ in options))


_NO_VALUE = Word(text="")


def _long(command: Command, word: Word, left: list[Word]) -> list[tuple[str, Word]] | None:
    name, equals, value = word.text[2:].partition("=")
    if name in command.long and not equals:
        return [(name, _NO_VALUE)]
    if name not in command.long_valued:
        return None
    if equals:
        return [(name, Word(text=value))]
    return [(name, left.pop(0))] if left and not left[0].globbed else None


def _short(command: Command, word: Word, left: list[Word]) -> list[tuple[str, Word]] | None:
    letters, found = word.text[1:], []
    if command.digits and letters.isdecimal():
        return []
    while letters:
        letter, letters = letters[0], letters[1:]
        if letter in command.flags:
            found.append((letter, _NO_VALUE))
        elif letter not in command.valued:
            return None
        elif letters:
            return [*found, (letter, Word(text=letters))]
        else:
            return [*found, (letter, left.pop(0))] if left and not left[0].globbed else None
    return found


def names(text: str) -> frozenset[str]:
    """The words of a text, as options' names."""
    return frozenset(text.split())


_SUMS = Command(flags="btz", long=names("binary text zero tag"), harmless=False)
_GREP = Command(
    flags="abcEFGHhiIlLnoPqrsTUvVwxyz",
    valued="ABCmefdD",
    long=names(
        "count ignore-case line-number invert-match word-regexp line-regexp files-with-matches files-without-match "
        "only-matching quiet silent no-filename with-filename recursive extended-regexp fixed-strings perl-regexp "
        "basic-regexp color text no-messages null"
    ),
    long_valued=names("include exclude exclude-dir color after-context before-context context max-count regexp"),
    operands=Operands.TEXT_THEN_PATHS,
    paths=frozenset("f"),
    patterns=frozenset({"e", "f", "regexp"}),
    recursing=frozenset({"r", "recursive"}),
)

COMMANDS: dict[str, Command] = {
    # files as they are
    "cat": Command(
        flags="AbeEnstTuv", long=names("number number-nonblank show-all show-ends squeeze-blank"), harmless=True
    ),
    "ls": Command(
        flags="aAbBcCdfFgGhHiklLmnNopqQrRsStuUvxXZ1",
        valued="ITw",
        long=names(
            "all almost-all human-readable recursive size reverse directory inode color group-directories-first "
            "full-time classify numeric-uid-gid no-group literal si escape file-type"
        ),
        long_valued=names("sort time color time-style ignore hide format block-size width indicator-style"),
        recursing=frozenset({"R", "recursive"}),
        harmless=True,
    ),
    "head": Command(
        flags="qvz", valued="nc", long=names("quiet silent verbose"), long_valued=names("lines bytes"), digits=True
    ),
    "tail": Command(
        flags="qvz", valued="nc", long=names("quiet silent verbose"), long_valued=names("lines bytes"), digits=True
    ),
    "wc": Command(flags="clLmw", long=names("lines words bytes chars max-line-length")),
    "stat": Command(
        flags="Lft", valued="c", long=names("dereference file-system terse"), long_valued=names("format printf")
    ),
    "du": Command(
        flags="abchkmsxS",
        valued="d",
        long=names("all human-readable summarize total apparent-size bytes one-file-system"),
        long_valued=names("max-depth block-size exclude threshold"),
        recursing=frozenset("abchkmsxSd"),
    ),
    "df": Command(flags="ahikmTHlP", long=names("all human-readable inodes local print-type total"), harmless=True),
    "md5sum": _SUMS,
    "sha1sum": _SUMS,
    "sha224sum": _SUMS,
    "sha256sum": _SUMS,
    "sha384sum": _SUMS,
    "sha512sum": _SUMS,
    "b2sum": _SUMS,
    "cksum": Command(),
    "readlink": Command(flags="efmnqsvz", long=names("canonicalize no-newline")),
    "realpath": Command(flags="emLPqsz"),
    # their text
    "grep": _GREP,
    "egrep": _GREP,
    "fgrep": _GREP,
    "sort": Command(
        flags="bcCdfgiMhnrsuVz",
        valued="kt",
        long=names(
            "reverse numeric-sort unique human-numeric-sort ignore-case stable version-sort general-numeric-sort "
            "month-sort ignore-leading-blanks dictionary-order check zero-terminated"
        ),
        long_valued=names("key field-separator sort"),
    ),
    "uniq": Command(
        flags="cdDiuz",
        valued="fsw",
        long=names("count repeated unique ignore-case zero-terminated"),
        long_valued=names("skip-fields skip-chars check-chars"),
        most=1,
    ),
    "cut": Command(
        flags="snz",
        valued="bcdf",
        long=names("complement only-delimited"),
        long_valued=names("delimiter fields bytes characters output-delimiter"),
    ),
    "tr": Command(flags="cCdst", long=names("complement delete squeeze-repeats truncate-set1"), operands=Operands.TEXT),
    "paste": Command(flags="sz", valued="d", long=names("serial"), long_valued=names("delimiters")),
    "comm": Command(flags="123iz", long=names("total check-order nocheck-order")),
    "join": Command(flags="iz", valued="12jtaveo"),
    "cmp": Command(flags="bls", long=names("silent quiet verbose print-bytes")),
    "diff": Command(
        flags="abBcdeEilNqsTtuwyZ",  # -r would follow links
        valued="UCxWI",
        long=names("brief unified side-by-side ignore-case ignore-all-space ignore-blank-lines text"),
        long_valued=names("unified context color width exclude"),
    ),
    "nl": Command(flags="p", valued="bfhilnsvw"),
    "tac": Command(flags="b", valued="s"),
    "rev": Command(),
    "fold": Command(flags="bs", valued="w"),
    "column": Command(flags="txe", valued="soc", long=names("table")),
    # the path itself
    "basename": Command(flags="az", valued="s", operands=Operands.TEXT),
    "dirname": Command(flags="z", operands=Operands.TEXT),
    # neither
    "pwd": Command(flags="LP", operands=Operands.NONE, builtin=True),
    "true": Command(operands=Operands.TEXT, builtin=True),
    "false": Command(operands=Operands.TEXT, builtin=True),
    "whoami": Command(operands=Operands.NONE),
    "id": Command(flags="ugnGr", operands=Operands.TEXT),
    "groups": Command(operands=Operands.TEXT),
    "uname": Command(flags="asnrvmpio", long=names("all"), operands=Operands.NONE),
    "nproc": Command(long=names("all"), operands=Operands.NONE),
    "uptime": Command(flags="ps", operands=Operands.NONE),
    "arch": Command(operands=Operands.NONE),
    "hostname": Command(flags="sfiId", operands=Operands.NONE),
    "env": Command(operands=Operands.NONE),
    "printenv": Command(operands=Operands.TEXT),
    "seq": Command(flags="w", valued="sf", operands=Operands.TEXT, digits=True),
    "sleep": Command(operands=Operands.TEXT),
    "which": Command(flags="a", operands=Operands.TEXT),
    # what changes the paths it names, and nothing else
    "mkdir": Command(flags="pv", long=names("parents verbose"), writes=True, least=1),
    "rmdir": Command(flags="pv", writes=True, least=1),
    "touch": Command(flags="acm", long=names("no-create"), writes=True, least=1),
    "rm": Command(flags="rRfvdi", long=names("recursive force verbose dir"), writes=True, least=1),
    "cp": Command(
        flags="rRafpuvn", valued="t", long=names("recursive archive force update verbose no-clobber"), writes=True
    ),
    "mv": Command(flags="fnuv", valued="t", long=names("force no-clobber update verbose"), writes=True),
    "tee": Command(flags="a", long=names("append"), writes=True),
}
