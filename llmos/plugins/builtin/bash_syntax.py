"""A shell command as simple commands with literal words, or nothing: what can't be known before it runs is not read.

The grammar is tree-sitter's; a second, independent tokenizer (`shlex`) must come to the same words.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tree_sitter import Node, Parser

MAX_CHARS = 20_000
_GLOBS = frozenset("*?[]")
_EXPANDED = frozenset("${}`")
"""What makes an unquoted piece of a word mean something else than itself."""

_OUTER = frozenset({"program", "list", "pipeline", "redirected_statement", "command", "command_name", "file_redirect"})
_WORDS = frozenset({"word", "number", "raw_string", "string", "concatenation"})
_BETWEEN = frozenset({"&&", "||", "|", ";"})
_REDIRECTS = frozenset({"<", ">", ">>", ">|", "&>", "&>>", ">&"})


class NotReadError(Exception):
    """The command uses what this reader does not follow."""


@dataclass(frozen=True, kw_only=True)
class Word:
    """A word as the command gets it; of one with an unquoted `*`, `?` or `[` (`globbed`), as it is written."""

    text: str
    globbed: bool = False


@dataclass(frozen=True, kw_only=True)
class Redirect:
    """`> file`: `operator` without the number before it."""

    operator: str
    target: Word


@dataclass(kw_only=True)
class Simple:
    """One simple command: assignments before it, its words, its redirections."""

    assignments: list[str] = field(default_factory=list)
    words: list[Word] = field(default_factory=list)
    redirects: list[Redirect] = field(default_factory=list)


def read_script(command: str) -> list[Simple]:
    """The simple commands of a command line, in order, whether joined by `|`, `&&`, `||`, `;` or a line's end.

    Raises:
        NotReadError: anything else is in it: an expansion, a substitution, a subshell, a function, a here-document, …
    """
    if len(command) > MAX_CHARS or any(c != "\n" and c != "\t" and (c.isspace() and c != " ") for c in command):
        raise NotReadError("unusual blanks, or too long")
    if any(not c.isprintable() and c not in "\n\t" for c in command):
        raise NotReadError("characters that don't show")
    source = command.encode("utf-8", "surrogatepass")
    root = _parser().parse(source).root_node
    if root.has_error:
        raise NotReadError("no valid command")
    tokens = list(_tokens(root, source))
    _check_between(tokens, source)
    _check_words(tokens, command)
    return _simple_commands(tokens)


@cache
def _parser() -> Parser:
    import tree_sitter
    import tree_sitter_bash

    return tree_sitter.Parser(tree_sitter.Language(tree_sitter_bash.language()))


@dataclass(frozen=True, kw_only=True)
class _Token:
    """A word, an operator, an assignment, the number before a redirection, or the end of a statement."""

    kind: str
    start: int
    end: int
    text: str = ""
    globbed: bool = False


def _tokens(node: Node, source: bytes) -> Iterator[_Token]:
    """The leaves in order; the tree's own nesting of redirections is loose and is not relied on."""
    kind, start, end = node.type, node.start_byte, node.end_byte
    if kind in _OUTER:
        for child in node.children:
            yield from _tokens(child, source)
            if kind == "program" and child.is_named:
                yield _Token(kind="end", start=child.end_byte, end=child.end_byte)
    elif kind in _WORDS:
        text, globbed = _word(node, source)
        yield _Token(kind="word", start=start, end=end, text=text, globbed=globbed)
    elif kind == "variable_assignment":
        yield _Token(kind="assignment", start=start, end=end, text=_assignment(node, source))
    elif kind == "file_descriptor":
        yield _Token(kind="number", start=start, end=end, text=source[start:end].decode())
    elif kind in _BETWEEN | _REDIRECTS:
        yield _Token(kind="operator", start=start, end=end, text=kind)
    elif source[start:end].strip():  # a line's end is a token too
        raise NotReadError(kind)


def _word(node: Node, source: bytes) -> tuple[str, bool]:
    if node.type == "concatenation":
        pieces = list(node.children)
        if any(one.end_byte != other.start_byte for one, other in pairwise(pieces)):
            raise NotReadError("a word with a gap")
        read = [_word(piece, source) for piece in pieces]
        return "".join(text for text, _ in read), any(globbed for _, globbed in read)
    text = source[node.start_byte : node.end_byte].decode("utf-8", "surrogatepass")
    if node.type == "raw_string":
        return text[1:-1], False
    if node.type == "string":
        if any(child.type not in ('"', "string_content") for child in node.children):
            raise NotReadError("an expansion in quotes")
        return _unescaped(text[1:-1], in_quotes=True), False
    if node.type in ("word", "number"):
        return _bare(text)
    raise NotReadError(node.type)


def _bare(text: str) -> tuple[str, bool]:
    """An unquoted piece of a word, its backslashes gone, and whether it holds a pattern."""
    plain = "".join(char for char, escaped in _chars(text, "") if not escaped)
    if _EXPANDED & set(plain) or any(f"{before}~" in f" {text}" for before in " =:"):
        raise NotReadError("an expansion")
    if not _GLOBS & set(plain):
        return _unescaped(text, in_quotes=False), False
    if "\\" in text:
        raise NotReadError("a pattern with backslashes")
    return text, True


def _unescaped(text: str, *, in_quotes: bool) -> str:
    if in_quotes and any(char in "$`" and not escaped for char, escaped in _chars(text, '$`"\\')):
        raise NotReadError("an expansion in quotes")
    return "".join(char for char, _ in _chars(text, '$`"\\' if in_quotes else ""))


def _chars(text: str, only: str) -> Iterator[tuple[str, bool]]:
    """Each character, and whether a backslash stands for it as it is; in quotes a backslash escapes `only` some.

    Source: POSIX.1-2024, Shell Command Language, 2.2 Quoting.
    """
    chars = iter(text)
    for char in chars:
        if char != "\\":
            yield char, False
            continue
        after = next(chars, None)
        if after is None or after == "\n":
            raise NotReadError("a backslash at a line's end")
        if only and after not in only:
            yield "\\", True
        yield after, True


_HARMLESS_VARIABLES = frozenset({"LC_ALL", "LC_COLLATE", "LC_CTYPE", "LC_NUMERIC", "LC_TIME", "LANG", "TZ"})


def _assignment(node: Node, source: bytes) -> str:
    """The text of `NAME=value` for one command, where NAME is no variable that changes what runs."""
    name, value = node.child_by_field_name("name"), node.child_by_field_name("value")
    if name is None or name.type != "variable_name" or value is None or value.type not in _WORDS:
        raise NotReadError("an assignment")
    called = source[name.start_byte : name.end_byte].decode()
    text, globbed = _word(value, source)
    if called not in _HARMLESS_VARIABLES or globbed or "/" in text or source[name.end_byte : value.start_byte] != b"=":
        raise NotReadError(f"{called} is set")
    return f"{called}={text}"


def _check_between(tokens: list[_Token], source: bytes) -> None:
    """Nothing but blanks and joined lines may stand between the tokens."""
    at = 0
    for token in [*tokens, _Token(kind="end", start=len(source), end=len(source))]:
        if source[at : token.start].replace(b"\\\n", b"").strip(b" \t\n;"):
            raise NotReadError("something that was not read")
        at = max(at, token.end)


def _check_words(tokens: list[_Token], command: str) -> None:
    """The same words and operators as by `shlex`, which knows quotes and operators but no grammar."""
    lexer = shlex.shlex(command.replace("\\\n", " "), posix=True, punctuation_chars="();<>|&")
    lexer.whitespace_split, lexer.commenters = True, ""
    try:
        other = [token for token in lexer if token != ";"]
    except ValueError:
        raise NotReadError("quotes") from None
    if other != [token.text for token in tokens if token.kind != "end" and token.text != ";"]:
        raise NotReadError("two ways to read it")


def _simple_commands(tokens: list[_Token]) -> list[Simple]:
    done: list[Simple] = []
    current, pending = Simple(), ""
    for token in tokens:
        if token.kind == "end" or (token.text in _BETWEEN and token.kind == "operator"):
            if pending:
                raise NotReadError("a redirection to nothing")
            done, current = [*done, current], Simple()
        elif token.kind == "operator":
            pending = token.text
        elif token.kind == "assignment":
            current.assignments.append(token.text)
        elif token.kind == "word" and pending:
            target = Word(text=token.text, globbed=token.globbed)
            current.redirects.append(Redirect(operator=pending, target=target))
            pending = ""
        elif token.kind == "word":
            current.words.append(Word(text=token.text, globbed=token.globbed))
    commands = [one for one in done if one.words or one.redirects or one.assignments]
    if not commands or any(not one.words or one.words[0].globbed for one in commands):
        raise NotReadError("no command")
    return commands
