"""Arithmetic: `calculate`, exact for whole numbers and decimal fractions."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from llmos.errors import InputError, ToolError
from llmos.plugins.marking import llm_tool
from llmos.trace.program import Effect

Number = Fraction | float

MAX_CHARS = 1000
MAX_BITS = 14_000
"""About 4,200 decimal digits: what Python still prints."""


@llm_tool(
    "calculate",
    "Evaluate an arithmetic expression: + - * / // % ** ( ), sqrt sin cos tan log(x, base) log10 exp round abs min max "
    "floor ceil, pi, e, '15% of 80' and '1/3 of 90'. Exact for whole numbers and decimals; round() rounds halves away "
    "from 0.",
    {"expression": str},
    effect=Effect.PURE,
    idempotent=True,
    open_world=False,
    version="1",
)
async def calculate(expression: str) -> dict[str, Any]:
    number = evaluate(expression)
    return {"result": number, "text": number_text(number)}


def evaluate(expression: str) -> int | float:
    """The value of an expression.

    Raises:
        ToolError: it is no arithmetic expression (InputError: it has no real value, or is too large).
    """
    shown = expression.strip()
    if len(shown) > MAX_CHARS:
        raise ToolError(f"the expression is longer than {MAX_CHARS} characters.")
    try:
        return _plain(_value(ast.parse(_normal(shown), mode="eval").body))
    except SyntaxError as error:
        raise ToolError(f"{shown!r} is no arithmetic expression: {error.msg}.") from None
    except ZeroDivisionError:
        raise InputError(f"{shown!r} divides by zero.") from None
    except (ValueError, TypeError) as error:
        raise InputError(f"{shown!r} has no real value: {error}.") from None
    except (OverflowError, RecursionError, MemoryError):
        raise InputError(f"{shown!r} is too large to calculate.") from None


def number_text(number: float) -> str:
    """A number as a person writes it: no `.0`, no noise in the last digits."""
    if isinstance(number, int):
        return str(number)
    text = repr(float(f"{number:.15g}"))
    return text.removesuffix(".0")


def _normal(text: str) -> str:
    """What people write for Python's operators; `15% of 80` and `1/3 of 90` become products."""
    text = text.rstrip("=? ").lstrip("= ")
    for written, operator in (("×", "*"), ("·", "*"), ("÷", "/"), ("−", "-"), ("–", "-"), ("^", "**")):  # noqa: RUF001
        text = text.replace(written, operator)
    if not re.search(r"[A-Za-z]", text.replace("of", "")):  # in a call, a comma parts arguments
        text = re.sub(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])", lambda found: found[0].replace(",", ""), text)
    text = re.sub(r"(\d+(?:\.\d+)?|\.\d+)\s*%\s*of\b", r"(\1/100)*", text)
    return re.sub(r"(?<![\d.)/*+-])(\d+)\s*/\s*(\d+)\s+of\b", r"(\1/\2)*", text)


def _value(node: ast.expr) -> Number:
    match node:
        case ast.Constant(value=bool() | complex() | str() | bytes() | None):
            raise SyntaxError(f"{node.value!r} is not a number")
        case ast.Constant(value=int() | float() as number):
            if isinstance(number, float) and not math.isfinite(number):
                raise OverflowError
            return _checked(Fraction(repr(number) if isinstance(number, float) else number))
        case ast.Name(id=name) if name in _CONSTANTS:
            return _CONSTANTS[name]
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _value(operand)
        case ast.BinOp(left=left, op=operator, right=right) if type(operator) in _OPERATORS:
            return _checked(_OPERATORS[type(operator)](_value(left), _value(right)))
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS:
            return _checked(_FUNCTIONS[name](*[_value(arg) for arg in args]))
        case ast.Name(id=name) | ast.Call(func=ast.Name(id=name)):
            raise SyntaxError(f"{name!r} is not known")
    raise SyntaxError("only numbers, operators and the listed functions are allowed")


def _checked(value: Number) -> Number:
    """The value, if it is real and small enough to write down."""
    if isinstance(value, complex):
        raise ValueError("the root of a negative number")
    if isinstance(value, Fraction):
        if max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_BITS:
            raise OverflowError
    elif math.isnan(value) or math.isinf(value):
        raise OverflowError
    return value


def _plain(value: Number) -> int | float:
    if isinstance(value, Fraction):
        return value.numerator if value.denominator == 1 else float(value)
    return value


def _power(base: Number, exponent: Number) -> Number:
    if isinstance(base, Fraction) and isinstance(exponent, Fraction) and exponent.denominator == 1:
        bits = max(base.numerator.bit_length(), base.denominator.bit_length()) if abs(base) not in (0, 1) else 0
        if bits * abs(exponent) > 2 * MAX_BITS:
            raise OverflowError
        return base**exponent.numerator
    result: Number = float(base) ** float(exponent)
    return result


def _round(value: Number, digits: Number = Fraction(0)) -> Number:
    scale = Fraction(10) ** _whole(digits, "round")
    scaled = (Fraction(repr(value)) if isinstance(value, float) else value) * scale
    whole = math.floor(abs(scaled) + Fraction(1, 2))
    return (Fraction(-whole) if scaled < 0 else Fraction(whole)) / scale


def _whole(value: Number, name: str) -> int:
    if value != int(value) or not -300 <= value <= 300:
        raise ValueError(f"{name} takes a small whole number of digits")
    return int(value)


def _log(value: Number, base: Number = math.e) -> Number:
    if base in (2, 10):
        return math.log2(value) if base == 2 else math.log10(value)
    return math.log(value) if base == math.e else math.log(value, base)


def _sqrt(value: Number) -> Number:
    if isinstance(value, Fraction) and value >= 0:
        roots = (math.isqrt(value.numerator), math.isqrt(value.denominator))
        if (roots[0] ** 2, roots[1] ** 2) == (value.numerator, value.denominator):
            return Fraction(*roots)
    return math.sqrt(value)


_CONSTANTS: dict[str, Number] = {"pi": math.pi, "e": math.e, "tau": math.tau}
_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Number]] = {
    ast.Add: lambda left, right: left + right,
    ast.Sub: lambda left, right: left - right,
    ast.Mult: lambda left, right: left * right,
    ast.Div: lambda left, right: left / right,
    ast.FloorDiv: lambda left, right: Fraction(math.floor(left / right)),
    ast.Mod: lambda left, right: left % right,
    ast.Pow: _power,
}
_FUNCTIONS: dict[str, Callable[..., Number]] = {
    "sqrt": _sqrt,
    "sin": math.sin,
    "cos": math.cos,
    "tan": math.tan,
    "log": _log,
    "log10": math.log10,
    "exp": math.exp,
    "round": _round,
    "abs": abs,
    "min": min,
    "max": max,
    "floor": lambda value: Fraction(math.floor(value)),
    "ceil": lambda value: Fraction(math.ceil(value)),
}
