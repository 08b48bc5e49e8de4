"""Words, numbers and days in their other forms: the pure functions behind the transforms."""

from __future__ import annotations

import re
from calendar import monthrange
from datetime import date, timedelta
from decimal import Decimal, InvalidOperation

MONTHS = (
    *("january", "february", "march", "april", "may", "june", "july"),
    *("august", "september", "october", "november", "december"),
)
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_SMALL = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
_TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_ORDINALS = (
    *("zeroth", "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"),
    *("eleventh", "twelfth"),
)


def spelled(value: float | str) -> str:
    """A whole number from 0 to 99 as an English word."""
    count = _whole(value)
    if not 0 <= count <= 99:
        raise ValueError("only 0 to 99 are written as words")
    if count < len(_SMALL):
        return _SMALL[count]
    return _TENS[count // 10] + (f"-{_SMALL[count % 10]}" if count % 10 else "")


ORDINAL_WORDS = _ORDINALS[1:]
MONTH_WORDS = tuple(form for month in MONTHS for form in dict.fromkeys((month, month[:3])))


def number(value: str | float) -> float | int:
    """A number as it is written, with commas between thousands or as an English word."""
    if isinstance(value, int | float):
        return value
    word = value.strip().casefold()
    if word in _NUMBER_WORDS:
        return _NUMBER_WORDS[word]
    cleaned = value.replace(",", "").replace("_", "")
    if cleaned.isdecimal():
        return int(cleaned)
    read = float(cleaned)
    return int(read) if read.is_integer() and "." not in cleaned and "e" not in cleaned.lower() else read


def position(value: str) -> int:
    """The number an ordinal stands for: third, 3rd."""
    word = value.strip().casefold()
    if word in ORDINAL_WORDS:
        return _ORDINALS.index(word)
    found = re.fullmatch(r"(\d{1,15})(st|nd|rd|th)", word)
    if found is None or ordinal(found[1]) != word:
        raise ValueError("not an ordinal")
    return int(found[1])


def ordinal(value: float | str) -> str:
    """A whole number as an ordinal: 3rd."""
    count = _whole(value)
    ending = "th" if count % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(count % 10, "th")
    return f"{count}{ending}"


def percent(value: str) -> float | int:
    """The number before a percent sign; anything without one raises."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*%", value)
    if found is None:
        raise ValueError("not a percentage")
    return number(found[1])


def times(value: str | float, factor: float) -> float | int:
    """A product, exact in decimals."""
    return _plain(_decimal(value) * _decimal(factor))


def over(value: str | float, divisor: float) -> float | int:
    """A quotient, rounded as a float is."""
    return _plain(_decimal(value) / _decimal(divisor))


def plus(value: str | float, addend: float) -> float | int:
    """A sum, exact in decimals."""
    return _plain(_decimal(value) + _decimal(addend))


def _decimal(value: str | float) -> Decimal:
    try:
        return Decimal(str(number(value)))
    except InvalidOperation as error:
        raise ValueError("not a number") from error


def _plain(value: Decimal) -> float | int:
    if not value.is_finite():
        raise ValueError("not a number")
    return int(value) if value == value.to_integral_value() and abs(value) < 10**15 else float(value)


def _whole(value: float | str) -> int:
    count = number(value)
    if isinstance(count, float) or count < 0:
        raise ValueError("not a whole number")
    return count


_NUMBER_WORDS = {spelled(count): count for count in range(100)}
NUMBER_WORDS = tuple(_NUMBER_WORDS)


# --- words -----------------------------------------------------------------------------------------------


def words(text: str) -> list[str]:
    """The words of a name, however it is written: by blanks, dashes, underscores or inner capitals."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", text)
    return re.findall(r"[^\W_]+", parted)


def spaced(text: str) -> str:
    """The words of a name with one blank between them."""
    return " ".join(words(text))


def camel(text: str) -> str:
    found = words(text)
    return "".join(word.capitalize() if place else word.lower() for place, word in enumerate(found))


def pascal(text: str) -> str:
    return "".join(word.capitalize() for word in words(text))


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def plural(text: str) -> str:
    """A regular English plural of the last word."""
    if not re.search(r"[A-Za-z]$", text):
        raise ValueError("no word at the end")
    if re.search(r"(s|x|z|ch|sh)$", text, re.IGNORECASE):
        return text + "es"
    return text[:-1] + "ies" if re.search(r"[^aeiou]y$", text, re.IGNORECASE) else text + "s"


def singular(text: str) -> str:
    """The one word that a regular English plural can have been made of; boxes (box, boxe) raises."""
    made = {one for one in (text[:-3] + "y", text[:-2], text[:-1]) if len(one) > 1 and plural(one) == text}
    if len(made) != 1:
        raise ValueError("not a regular plural of one word")
    return made.pop()


def split(text: str, mark: str) -> list[str]:
    """The entries between marks, without blanks around them."""
    entries = [entry.strip() for entry in text.split(mark)]
    if not all(entries):
        raise ValueError("an empty entry")
    return entries


def before(text: str, mark: str) -> str:
    """What stands before the only mark; none or several raise."""
    head, found, tail = text.partition(mark)
    if not found or mark in tail:
        raise ValueError(f"{mark!r} does not stand there once")
    return head


def after(text: str, mark: str) -> str:
    """What stands behind the only mark; none or several raise."""
    before(text, mark)
    return text.partition(mark)[2]


def url_name(text: str) -> str:
    """The file's name at the end of a web address; a query or an encoded name raises."""
    found = re.fullmatch(r"https?://[^/?#]+/(?:[^?#]*/)?([\w.-]+)", text)
    if found is None:
        raise ValueError("the address does not end in a plain name")
    return found[1]


def listed(text: str) -> list[str]:
    """The entries of a list in a sentence: a, b and c."""
    entries = re.split(r"\s*,\s*(?:and\s+)?|\s+and\s+|\s*;\s*", text.strip())
    if not all(entries):
        raise ValueError("an empty entry")
    return entries


# --- days ------------------------------------------------------------------------------------------------

_CODES = re.compile(r"%(-?[dm]|[YyBbAaj])")


def day(value: str) -> date:
    """The day an ISO date or time names."""
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}([T ].*)?", value):
        raise ValueError("not an ISO date")
    return date.fromisoformat(value[:10])


def dated(value: str, pattern: str) -> str:
    """A day in a format of %Y %y %m %d %-m %-d %B %b %A %a %j, always in English."""
    when = day(value)
    month = MONTHS[when.month - 1].capitalize()
    codes = {
        "Y": f"{when.year:04}",
        "y": f"{when.year % 100:02}",
        "m": f"{when.month:02}",
        "d": f"{when.day:02}",
        "-m": str(when.month),
        "-d": str(when.day),
        "B": month,
        "b": month[:3],
        "A": WEEKDAYS[when.weekday()],
        "a": WEEKDAYS[when.weekday()][:3],
        "j": f"{when.timetuple().tm_yday:03}",
    }
    if "%" in _CODES.sub("", pattern):
        raise ValueError("an unknown code in the date's format")
    return _CODES.sub(lambda found: codes[found[1]], pattern)


def days(value: str, count: int) -> str:
    """The day so many days later."""
    try:
        return (day(value) + timedelta(days=count)).isoformat()
    except OverflowError as error:
        raise ValueError("no such day") from error


def months(value: str, count: int) -> str:
    """The same day so many months later; a day that month does not have raises."""
    when = day(value)
    index = when.year * 12 + when.month - 1 + count
    return date(index // 12, index % 12 + 1, when.day).isoformat()


def month_start(value: str) -> str:
    return day(value).replace(day=1).isoformat()


def month_end(value: str) -> str:
    when = day(value)
    return when.replace(day=monthrange(when.year, when.month)[1]).isoformat()


def year_start(value: str) -> str:
    return day(value).replace(month=1, day=1).isoformat()


def year_end(value: str) -> str:
    return day(value).replace(month=12, day=31).isoformat()


def month_number(value: str) -> str:
    """The two digits of an English month, whole or by its first three letters."""
    name = value.strip().rstrip(".").casefold()
    for index, month in enumerate(MONTHS, 1):
        if name in (month, month[:3]):
            return f"{index:02}"
    raise ValueError("not a month")
