"""The values of named secrets in texts: found in their usual encodings, replaced by marks, and put back."""

from __future__ import annotations

import base64
import html
import json
import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from urllib.parse import quote, quote_plus

from llmos.redaction.marks import MARK, mark

LEAST_CHARS = 4
"""A shorter value can't be told from ordinary text."""

_BOUNDED_BELOW = 8
_LEAST_ENCODED = 8
_LEAST_WRAPPED = 16
_LEAST_LINE = 12
_BREAK = re.compile(r"(?:\\r|\r)?(?:\\n|\n)[ \t]*")


class NamedValues:
    """The values of some variables, each by its name."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._marks: dict[str, str] = {}
        for name, value in values.items():
            if len(value) >= LEAST_CHARS:
                for text, form, part in _forms(value):
                    self._marks.setdefault(text, mark(name, form, part))
        self._texts = {one: text for text, one in self._marks.items()}
        self._longest_first = sorted(self._marks, key=len, reverse=True)
        self._wrappable = [text for text in self._longest_first if len(text) >= _LEAST_WRAPPED and "\n" not in text]

    def hidden(self, text: str) -> str:
        """The text with marks in the place of values."""
        present = [one for one in self._longest_first if one in text]
        if present:
            pattern = "|".join(map(_bounded, present))
            if "«" in text:  # what is a mark already stays one, whatever its name is made of
                pattern = f"{MARK.pattern}|{pattern}"
            text = re.sub(pattern, lambda found: self._marks.get(found[0], found[0]), text)
        return self._unwrapped(text)

    def text_of(self, one: str) -> str | None:
        """What a mark stands for; None if it is not one of ours."""
        whole, _, part = one.removesuffix("»").partition("[")
        text = self._texts.get(one) or self._texts.get(f"{whole}»")
        if text is None or one in self._texts or not part:
            return text
        start, _, end = part.rstrip("]").partition(":")
        return text[int(start) : int(end)]

    def _unwrapped(self, text: str) -> str:
        """The text with marks for values that line breaks divide, one for each line's part."""
        if not self._wrappable or ("\n" not in text and "\\n" not in text):
            return text
        breaks = [(found.start(), found.end()) for found in _BREAK.finditer(text)]
        joined, kept = _joined(text, breaks)
        parts: dict[tuple[int, int], str] = {}
        for one in self._wrappable:
            at = joined.find(one)
            while at >= 0:
                self._mark_parts(one, at, kept, parts)
                at = joined.find(one, at + len(one))
        return _replaced(text, parts) if parts else text

    def _mark_parts(
        self, one: str, at: int, kept: list[tuple[int, int, int]], parts: dict[tuple[int, int], str]
    ) -> None:
        """Note the parts of a value that stands at `at` of the joined text, unless a longer one took its place."""
        name = self._marks[one].removesuffix("»")
        base = re.fullmatch(r"(.*)\[(\d+):\d+\]", name)
        whole, offset = (base[1], int(base[2])) if base else (name, 0)
        first = bisect_right(kept, (at, len(one), 1 << 62)) - 1
        found: dict[tuple[int, int], str] = {}
        for joined_at, length, origin in kept[max(first, 0) :]:
            if joined_at >= at + len(one):
                break
            start, end = max(at, joined_at), min(at + len(one), joined_at + length)
            if start < end:
                piece = (origin + start - joined_at, origin + end - joined_at)
                found[piece] = f"{whole}[{offset + start - at}:{offset + end - at}]»"
        taken = any(a < end and start < b for start, end in found for a, b in parts)
        if not taken:
            parts.update(found)


def _joined(text: str, breaks: list[tuple[int, int]]) -> tuple[str, list[tuple[int, int, int]]]:
    """The text without its line breaks, and its pieces as (place in that, length, place in the text)."""
    pieces, kept, position, length = [], [], 0, 0
    for start, end in [*breaks, (len(text), len(text))]:
        pieces.append(text[position:start])
        kept.append((length, start - position, position))
        length += start - position
        position = end
    return "".join(pieces), kept


def _replaced(text: str, parts: Mapping[tuple[int, int], str]) -> str:
    pieces, position = [], 0
    for (start, end), put in sorted(parts.items()):
        pieces += [text[position:start], put]
        position = end
    return "".join([*pieces, text[position:]])


def _bounded(text: str) -> str:
    """A pattern for a value: a short one only where it stands by itself."""
    escaped = re.escape(text)
    return escaped if len(text) >= _BOUNDED_BELOW else rf"(?<![^\W_]){escaped}(?![^\W_])"


def _forms(value: str) -> Iterator[tuple[str, str, tuple[int, int] | None]]:
    """A value's text, its encodings by name, and the lines of a long one."""
    yield value, "", None
    escaped = json.dumps(value)[1:-1]
    written = {
        "json": escaped,
        "json-plain": json.dumps(value, ensure_ascii=False)[1:-1],
        "json-twice": json.dumps(escaped)[1:-1],
        "url": quote(value, safe=""),
        "url-path": quote(value),
        "url-lower": re.sub(r"%[0-9A-F]{2}", lambda code: code[0].lower(), quote(value, safe="")),
        "form": quote_plus(value),
        "html": html.escape(value),
        "quoted": value.replace("'", "'\"'\"'"),
    }
    yield from ((text, form, None) for form, text in written.items() if text != value)
    raw = value.encode("utf-8", "surrogatepass")
    encoded = {"hex": raw.hex(), "hex-upper": raw.hex().upper(), "base64": base64.b64encode(raw).decode()}
    encoded["base64-bare"] = encoded["base64"].rstrip("=")
    encoded |= {f"base64-{shift}": _base64_inside(raw, shift) for shift in range(3)}
    encoded |= {
        f"{form}-url": text.replace("+", "-").replace("/", "_") for form, text in encoded.items() if "base64" in form
    }
    yield from ((text, form, None) for form, text in encoded.items() if len(text) >= _LEAST_ENCODED)
    position = 0
    for line in value.splitlines(keepends=True) if "\n" in value else []:
        text = line.strip("\r\n")
        if len(text) >= _LEAST_LINE and not text.startswith("-----"):
            yield text, "", (position, position + len(text))
        position += len(line)


def _base64_inside(raw: bytes, shift: int) -> str:
    """The characters that the value alone decides, where it stands in other encoded text behind 3n + `shift` bytes."""
    text = base64.b64encode(bytes(shift) + raw).decode()
    first = -(-shift * 8 // 6)
    whole = (shift + len(raw)) * 8 // 6
    return text[first:whole]
