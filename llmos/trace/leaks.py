"""What the fixed parts of a step still say of the goal's values: what a slot must not leave behind."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import PurePosixPath

from llmos.trace.align import constant_texts
from llmos.trace.codewords import data_in_code
from llmos.trace.derive import FORMATS, date_shapes
from llmos.trace.evidence import leaves
from llmos.trace.inside import month_forms, numbers_in, stem_in
from llmos.trace.lex import Kind, Token, tokenize
from llmos.trace.program import Step
from llmos.trace.transforms import TRANSFORMS, chain
from llmos.trace.values import Const, Expr, ListExpr, Record, as_text, leaves_of
from llmos.trace.wordforms import MONTHS, NUMBER_WORDS, ORDINAL_WORDS, dated, day

_MIN_GLUED = 4


def forms(token: Token) -> set[str]:
    """The ways a literal may be mentioned: itself and, for a path, its file name and stem."""
    if not token.kind.is_literal:
        return _word_forms(token.key)
    forms = {token.value.casefold()}
    if token.kind in (Kind.TEXT, Kind.LIST, Kind.QUOTED):
        forms |= {form for inner in tokenize(token.value) if inner.value != token.value for form in _inner(inner)}
    if token.kind in (Kind.QUOTED, Kind.IDENTIFIER, Kind.TEXT):
        forms |= {form for way in _CASES if len(form := chain(token.value, way).casefold()) >= _MIN_GLUED}
    if token.kind is Kind.DATE:
        forms |= _day_forms(token.value)
    if token.kind is Kind.PATH:
        path = PurePosixPath(token.value)
        forms |= {path.name.casefold(), path.stem.casefold()}
    if token.kind is Kind.NUMBER:
        forms |= _made_of(TRANSFORMS["number"](token.value)) | {str(TRANSFORMS["number"](token.value))}
    if token.kind is Kind.IDENTIFIER and (counted := re.match(r"\d+", token.value)):
        forms |= _made_of(int(counted.group()))
    forms |= numbers_in(token) | stem_in(token)
    return {form for form in forms if form.strip("./")}


def _inner(token: Token) -> set[str]:
    """What a number, a day or a path inside a phrase may be mentioned as."""
    return forms(token) if token.kind in (Kind.NUMBER, Kind.DATE, Kind.PATH) else _word_forms(token.key)


_CASES = ("slug", "snake", "camel", "spaced")


def _word_forms(word: str) -> set[str]:
    """What a word that says a number or a month may stand for; nothing for other words."""
    if word in NUMBER_WORDS:
        return {word, str(chain(word, "number"))}
    if months := month_forms(word):
        return months
    return {word, str(chain(word, "position"))} if word in ORDINAL_WORDS else set()


def _day_forms(text: str) -> set[str]:
    """The ways a day, its month or its year may be written."""
    try:
        forms = {dated(text, pattern).casefold() for pattern in FORMATS}
        when = day(text)
        forms |= {str(when.year - 1), str(when.year + 1), f"{when.day:02}", str(when.day)}
        return forms | month_forms(MONTHS[when.month - 1]) | {form.casefold() for form in day_forms(when)}
    except ValueError:
        return set()


def other_day(token: Token, step: Step, goal: str) -> bool:
    """Whether a step holds some fixed day that the goal does not say: it may have been worked out from the goal's."""
    texts = [text for expr in step.args.values() for text in constant_texts(expr)]
    return token.kind is Kind.DATE and any(shape not in goal for text in texts for shape in date_shapes(text))


_FACTORS = (
    *(2, 3, 4, 7, 8, 10, 12, 14, 20, 24, 28, 30, 31, 48, 52, 60, 72, 90, 100, 365, 1000, 1024, 1440, 3600),
    *(86_400, 604_800, 10**6, 1024**2, 10**9, 1024**3),
)


def _made_of(number: float) -> set[str]:
    """What a number may have become in an argument: one more or less, half, a hundredth, another unit."""
    made = [number + 1, number - 1, number + 12, -number, number**2 if abs(number) < 1e6 else 0]
    made += [number * factor for factor in _FACTORS]
    made += [number / factor for factor in (2, 10, 60, 100, 1000, 1024)]
    padded = {as_text(float(number)).zfill(width) for width in range(2, 7)}
    said = {str(chain(int(number), way)) for way in ("spelled", "ordinal") if number in range(3, 100)}
    return ({as_text(float(one)) for one in made} | padded | said) - {"0", "1", "2", "-1", "-2"}


def mentions(form: str, step: Step) -> bool:
    """Whether a step's constant text holds a form, other than as the name of a table or input the call gives it."""
    texts = [text.casefold() for expr in step.args.values() for text in constants(expr)]
    digits = re.fullmatch(r"[\d.,]+", form) is not None
    bounded = rf"(?<!\d){re.escape(form)}(?!\d)" if digits else rf"(?<![^\W_]){re.escape(form)}(?![^\W_])"
    long = len(form) >= _MIN_GLUED or re.search(r"\s", form) is not None
    if long and not digits and any(_glued(form, text) for text in texts):
        return True
    inner = {name: {key.casefold() for key in _keys(expr)} for name, expr in step.args.items()}
    holders = [name for name, keys in inner.items() if any(re.search(bounded, key) for key in keys)]
    if not holders:
        return any(re.search(bounded, text) for text in texts)
    if any(form not in inner[name] for name in holders) or not texts:
        return True
    return not _only_looked_up(bounded, "\n".join(texts), [name.casefold() for name in holders])


def begins_or_ends(value: str, step: Step) -> bool:
    """Whether a value, however short, begins or ends a single constant word of a step (a: a0)."""
    value = value.casefold()
    words = [text.casefold() for expr in step.args.values() for text in constants(expr) if not re.search(r"\s", text)]
    return any(word != value and (word.startswith(value) or word.endswith(value)) for word in words if value)


def in_a_name(form: str, step: Step) -> bool:
    """Whether a form that is also a word of the goal stands in a step's constant text as a part of a file's name."""
    name = rf"(?<=[/_.-]){re.escape(form)}(?![^\W_])|(?<![^\W_]){re.escape(form)}(?=[/_-]|\.\w)"
    return any(re.search(name, text.casefold()) for expr in step.args.values() for text in constants(expr))


def _glued(form: str, text: str) -> bool:
    return form in text and re.search(rf"[^\W_]{re.escape(form)}|{re.escape(form)}[^\W_]", text) is not None


def _only_looked_up(bounded: str, code: str, holders: Sequence[str]) -> bool:
    """Whether code names a table after FROM or JOIN, or an input in brackets, and does nothing else with the name."""
    named = rf"(?:\b(?:from|join)\s+\"?){bounded}|{bounded}\"?\s*\.\s*\w|(?<=[\[(])['\"]{bounded}['\"](?=[\])])"
    looped = any(re.search(rf"\b{re.escape(holder)}\b(?!\s*\[|\.get\()", code) for holder in holders)
    left = re.sub(named, " ", code)
    return not looped and left != code and re.search(bounded, left) is None


def pieces(text: str, *, code: bool) -> set[str]:
    """What of a constant may have been read somewhere."""
    if not code:
        return {text} if len(text) > 1 else set()
    return {piece for piece in data_in_code(text) if len(piece) > 1} | set(re.findall(r"[\w-]+(?:[./][\w-]+)+", text))


def day_forms(day: date) -> Iterator[str]:
    """The ways a day is commonly written."""
    yield day.isoformat()
    for pattern in ("%Y%m%d", "%Y/%m/%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%Y_%m_%d"):
        yield day.strftime(pattern)
    for month in (day.strftime("%B"), day.strftime("%b")):
        yield from (f"{day.day} {month}", f"{month} {day.day}", f"{day.day:02} {month}", f"{month} {day.day:02}")


def constants(expr: Expr) -> list[str]:
    numbers = [str(leaf) for leaf in _constant_numbers(expr)]
    return [*constant_texts(expr), *numbers]


def _constant_numbers(expr: Expr) -> list[float]:
    found = (value for leaf in leaves_of(expr) if isinstance(leaf, Const) for _, value in leaves(leaf.value))
    return [value for value in found if isinstance(value, int | float) and not isinstance(value, bool)]


def _keys(expr: Expr) -> set[str]:
    """Every key of the objects inside an argument: names that are local to the call."""
    match expr:
        case Const(value=value):
            return {part for path, _ in leaves(value) for part in path if isinstance(part, str)}
        case ListExpr(items=items):
            return {key for item in items for key in _keys(item)}
        case Record(fields=fields):
            return {key for name, item in fields for key in (name, *_keys(item))}
        case _:
            return set()
