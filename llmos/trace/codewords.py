"""What stands in code and commands: numbers, quoted texts, words."""

from __future__ import annotations

import re

_DATA_IN_CODE = re.compile(r"'([^'\n]{2,})'|\"([^\"\n]{2,})\"|(?<![\w.])(\d[\d.]*)(?![\w.])")
NO_DATA = frozenset({"0", "1", "2"})
EVERYDAY = frozenset({"10", "12", "24", "60", "100", "365", "1000", "1024", "3600", "0.0", "0.5", "1.0", "100.0"})


def data_in_code(code: str) -> set[str]:
    """The numbers and quoted strings in code."""
    return {next(filter(None, found.groups())) for found in _DATA_IN_CODE.finditer(code)}


_SQL = re.compile(r"--[^\n]*|/\*.*?\*/|\$\$.*?\$\$|\"(?:[^\"]|\"\")*\"|(?<!\w)'(?:[^']|'')*'", re.DOTALL)
_COMPARED = re.compile(r"(?:=|<>|!=|<|>)\s*$|\bin\s*\((?:\s*'(?:[^']|'')*'\s*,)*\s*$", re.IGNORECASE)


def sql_literals(code: str) -> list[tuple[int, int]]:
    """Where the texts stand that SQL compares with something; patterns and arguments of functions are left out."""
    return [
        found.span()
        for found in _SQL.finditer(code)
        if found.group(0)[0] == "'" and _COMPARED.search(code[: found.start()])
    ]


def shell_words(command: str) -> set[str]:
    """What a shell command says besides options, operators and the names of the programs it runs."""
    words: set[str] = set()
    for part in re.split(r"[|;&\n(){}`]+", command):
        said = [word.strip("'\"<>") for word in part.split() if not re.match(r"\d?[<>]", word)]
        words.update(word for word in said[1:] if re.search(r"\w", word) and not word.startswith("-"))
    return words


def telling(value: float) -> bool:
    """Whether a number is long enough for an equal one not to be chance."""
    return abs(value) >= 100 or value != int(value)


_MIN_DIGITS = 5
_HARMLESS = re.compile(
    r"[\d.,:%+-]*|\d{4}(-\d{2}){0,2}(T[\d:.]+Z?)?|v?\d+(\.\d+)+|(utf|iso|sha|md|h|x)[-_]?\d+(-\d+)?", re.IGNORECASE
)


def names_something(value: str) -> bool:
    """Whether a word is the name of one particular thing (an order, an account, an address), not a setting."""
    if "@" in value and "." in value:
        return True
    digits = sum(char.isdigit() for char in value)
    if value.isdigit():
        return digits >= _MIN_DIGITS and value not in EVERYDAY and set(value[1:]) != {"0"}
    return digits >= _MIN_DIGITS and _HARMLESS.fullmatch(value) is None and "/" not in value


_SETTINGS = frozenset(
    {"GET", "PUT", "POST", "HEAD", "PATCH", "ASC", "DESC", "SUM", "AVG", "MIN", "MAX", "COUNT", "AND", "OR", "NOT"}
    | {"CSV", "TSV", "TXT", "JSON", "YAML", "XML", "HTML", "PDF", "PNG", "JPEG", "JPG", "SVG", "ZIP", "MD", "SQL"}
    | {"YES", "NO", "ON", "OFF", "OK", "ALL", "NONE", "NULL", "TRUE", "FALSE", "UTC", "GMT", "UTF", "ASCII"}
    | {"DEBUG", "INFO", "WARN", "ERROR", "FATAL", "OPEN", "HIGH", "LOW", "TODO", "FIXME"}
)


def may_be_fact(value: str | float) -> bool:
    """Whether a constant may be what the model knows of a thing that is named: a coordinate, the code of a country."""
    if isinstance(value, str):
        return re.fullmatch(r"[A-Z]{2,5}", value) is not None and value not in _SETTINGS
    return abs(value) >= 1 and round(value, 1) != value
