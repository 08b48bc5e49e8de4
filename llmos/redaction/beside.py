"""Credentials by the word beside them: `password = "…"`, `--token …`, `"api_key": "…"`, `the password hunter2`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from llmos.redaction.found import Found
from llmos.redaction.guessing import is_filler, looks_random

_KEYS = (
    "api",
    "access",
    "secret",
    "private",
    "account",
    "auth",
    "client",
    "encryption",
    "signing",
    "master",
    "service",
)
_WORDS = ("passw", "passphrase", "passcode", "pass_code", "pass code", "pwd", "secret", "token", "credential")
_KEY_WORDS = tuple(f"{what}{joint}key" for what in _KEYS for joint in ("", "_", "-", " "))

_NAME = (
    r"(?P<name>(?i:passw(?:or)?d|passphrase|pass[_ -]?code|pwd|token|credential"
    rf"|(?:{'|'.join(_KEYS)})[_ -]?key|secret)"
    r"(?i:s|[_-]?\d{1,2}|_(?:prod|production|dev|test|staging|live|value|main))?)"
)
_ASSIGNED = (
    _NAME + r"\\{0,3}[\"'`\]]{0,2}[ \t]{0,8}(?P<sep>=>|:=|={1,2}|:)" + r"[ \t]{0,8}(?:[bru]?(?P<quote>\\{0,3}[\"'`]))?"
)
_SAID = _NAME + r"(?: (?:is|to|as|of))? [\"'`]?"

PLAIN_CHAR = r"[^\s\"'`,;&<>()\[\]{}«»\\|]"
"""A character of a value that no quotes hold."""

_QUOTED_CHAR = {mark: rf"(?:[^{mark}\\\n«»]|\\[^\n])" for mark in "\"'`"}
_MOST_TESTED = 512


def beside_names(text: str, lower: str) -> Iterator[Found]:
    """What stands beside a word that names a credential; `lower` is the text in small letters, as long as it."""
    done = 0
    for at in _named_at(lower):
        if at < done:
            continue
        span = name = None
        if found := _compiled(_ASSIGNED).match(text, at):
            span, name = _assigned(text, found), found["name"]
        elif found := _compiled(_SAID).match(text, at):
            span, name = _said(text, found), found["name"]
        if span is not None and name is not None:
            done = span[1]
            yield _found(_whole_name(text, at) + name, *span)


def _named_at(lower: str) -> list[int]:
    """Where such words begin."""
    places: set[int] = set()
    for word in _WORDS + (_KEY_WORDS if "key" in lower else ()):
        at = lower.find(word)
        while at >= 0:
            places.add(at)
            at = lower.find(word, at + len(word))
    return sorted(places)


def _assigned(text: str, found: re.Match[str]) -> tuple[int, int] | None:
    """The span of an assigned value, if it is a credential."""
    quote = found["quote"]
    span = _value_at(text, found.end(), quote)
    if span is None or (quote is None and _is_prose(text, found, span)):
        return None
    strict = quote is None and found["sep"] == ":"
    return span if _is_credential(found["name"], text[span[0] : span[1]], strict=strict) else None


def _said(text: str, found: re.Match[str]) -> tuple[int, int] | None:
    """The span of a value that is the next word: of an option anything, else only what no word, file or number is."""
    span = _value_at(text, found.end(), None)
    if span is None:
        return None
    value, name = text[span[0] : span[1]], found["name"].lower()
    if text.endswith("-", 0, found.start()):
        follows = text[span[1] : span[1] + 2]
        is_word = value.isalpha() and re.match(r"\s-|\n|\Z", follows) is None  # `the --password option is …`
        fits = not is_word and not value.startswith("-") and _is_credential(name, value, strict=True)
        return span if fits else None
    if "." in value or "/" in value or is_filler(value):
        return None
    mixed = len(value) >= 6 and any(map(str.isdigit, value)) and any(map(str.isalpha, value))
    return span if looks_random(value, least=6) or (name.startswith("passw") and mixed) else None


def _value_at(text: str, at: int, quote: str | None) -> tuple[int, int] | None:
    """The span of the value that begins at a place: up to the closing quote, or as far as no separator stands."""
    char = PLAIN_CHAR if quote is None or len(quote) > 1 else _QUOTED_CHAR[quote]
    found = _compiled(rf"{char}{{3,{_MOST_TESTED}}}+").match(text, at)
    if found is None:
        return None
    end = found.end()
    if end - at >= _MOST_TESTED:
        rest = _compiled(rf"{char}*+").match(text, end)
        end = rest.end() if rest is not None else end
    elif quote is None:
        end = at + len(found[0].rstrip(".:?"))
    return (at, end) if end - at > 2 else None


def _is_prose(text: str, found: re.Match[str], span: tuple[int, int]) -> bool:
    """Whether a value without quotes is a word of a sentence or of code: `password: must be`, `token = read(…)`."""
    after = text[span[1] : span[1] + 1]
    if after in ("(", "[", "{"):
        return True
    value = text[span[0] : min(span[1], span[0] + _MOST_TESTED)]
    word = re.fullmatch(r"[A-Za-z_]+(?:[.:_-]+[A-Za-z_]+)*:?", value) is not None
    spaced, is_colon = text[found.end() - 1] in " \t", found["sep"] == ":"
    if is_colon and re.fullmatch(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+", value):
        return True
    return word and (spaced or after in (" ", ",", ")", "|") or (is_colon and after in ("'", '"', "`")))


def _is_credential(name: str, value: str, *, strict: bool) -> bool:
    """Whether a value beside a name is one: anything but a filler beside `password`, else what looks random."""
    if is_filler(value):
        return False
    if re.match(r"(?i)passw|passphrase|pwd", name):
        said = re.search(r"\s", value) is not None and not name.lower().startswith("passphrase")
        return len(value) >= 4 and not said and not (strict and value.isdigit() and len(value) < 6)
    return looks_random(value, least=8)


@lru_cache(maxsize=16)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


_BEFORE = re.compile(r"[A-Za-z0-9_]{0,40}\Z")


def _whole_name(text: str, begin: int) -> str:
    """What of a name stands before the word in it that told: `DB_` of `DB_PASSWORD`."""
    found = _BEFORE.search(text[max(0, begin - 40) : begin])
    return found[0] if found else ""


def _found(name: str, start: int, end: int) -> Found:
    variable = re.sub(r"[^A-Za-z0-9]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)).strip("_").upper()
    kind = "a password" if re.search(r"(?:PASSW\w*|PASSPHRASE|PWD)$", variable) else "a credential"
    return Found(start=start, end=end, kind=kind, variable=variable if variable[:1].isalpha() else "SERVICE_SECRET")
