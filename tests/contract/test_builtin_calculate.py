"""calculate: what people write, exact where it can be."""

from __future__ import annotations

import ast
import math
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos.errors import ToolError
from llmos.plugins.builtin.calc import evaluate, number_text
from tests.contract.toolbox import toolbox


async def test_two_and_three_are_five(tmp_path: Path) -> None:
    assert await toolbox(tmp_path).call("calculate", expression="2 + 3") == {"result": 5, "text": "5"}


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("0.1 + 0.2", "0.3"),
        ("1/3*3", "1"),
        ("10/4", "2.5"),
        ("7 // 2", "3"),
        ("-7 // 2", "-4"),
        ("-7 % 3", "2"),
        ("2**10", "1024"),
        ("2^10", "1024"),
        ("2**-2", "0.25"),
        ("2**0.5", "1.4142135623731"),
        ("-2**2", "-4"),
        ("(1 + 2) * 3", "9"),
        ("3 × 4 − 2 ÷ 1", "10"),  # noqa: RUF001
        ("15% of 80", "12"),
        ("12.5 % of 80 + 1", "11"),
        ("2 + 3 =", "5"),
        ("1_000 + 1", "1001"),
        ("123456789012345678901234567890 + 1", "123456789012345678901234567891"),
        ("sqrt(16)", "4"),
        ("sqrt(2)", "1.4142135623731"),
        ("sqrt(0.25)", "0.5"),
        ("round(2.5)", "3"),
        ("round(-2.5)", "-3"),
        ("round(2.675, 2)", "2.68"),
        ("round(1234, -2)", "1200"),
        ("floor(-1.5) + ceil(1.2)", "0"),
        ("abs(-3)", "3"),
        ("min(3, 1, 2) + max(1, 2)", "3"),
        ("log(e)", "1"),
        ("log(1000, 10)", "3"),
        ("log10(1000)", "3"),
        ("exp(0)", "1"),
        ("sin(pi/2) + cos(0)", "2"),
        ("tan(0)", "0"),
        ("1e3", "1000"),
        ("100 * 1.07**3", "122.5043"),
        ("1e-7", "1e-07"),
    ],
)
def test_an_expression_has_its_value(expression: str, text: str) -> None:
    assert number_text(evaluate(expression)) == text


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("", "is no arithmetic expression"),
        ("2 +", "is no arithmetic expression"),
        ("2 plus 3", "is no arithmetic expression"),
        ("1 < 2", "only numbers, operators"),
        ("1,5 + 2", "only numbers, operators"),
        ("'a' * 3", "'a' is not a number"),
        ("True + 1", "True is not a number"),
        ("1j * 1j", "is not a number"),
        ("x + 1", "'x' is not known"),
        ("__import__('os').system('x')", "only numbers, operators"),
        ("open('x')", "'open' is not known"),
        ("(lambda: 1)()", "only numbers, operators"),
        ("round(1, ndigits=2)", "'round' is not known"),
        ("1 / 0", "divides by zero"),
        ("0 ** -1", "divides by zero"),
        ("5 % 0", "divides by zero"),
        ("sqrt(-1)", "has no real value"),
        ("(-8) ** (1/3)", "has no real value"),
        ("log(0)", "has no real value"),
        ("min()", "has no real value"),
        ("9**9**9", "too large"),
        ("2**100000", "too large"),
        ("2**10000 + 0.5", "too large"),
        ("10.5**10000", "too large"),
        ("1e400", "too large"),
        ("exp(1000)", "too large"),
        ("(" * 250 + "1" + ")" * 250, "too many nested parentheses"),
        ("1" * 1001, "longer than 1000 characters"),
    ],
)
def test_what_has_no_value_is_one_sentence(expression: str, said: str) -> None:
    with pytest.raises(ToolError) as error:
        evaluate(expression)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


NUMBERS = st.decimals(min_value=-1000, max_value=1000, places=2).map(str)
EXPRESSIONS = st.recursive(
    NUMBERS, lambda inner: st.builds("({} {} {})".format, inner, st.sampled_from(["+", "-", "*"]), inner), max_leaves=8
)


@given(EXPRESSIONS)
def test_sums_and_products_are_exact(expression: str) -> None:
    exact = _exact(ast.parse(expression, mode="eval").body)
    value = evaluate(expression)
    assert value == (exact.numerator if exact.denominator == 1 else float(exact))


def _exact(node: ast.expr) -> Fraction:
    match node:
        case ast.Constant(value=value):
            return Fraction(repr(value))
        case ast.UnaryOp(operand=operand):
            return -_exact(operand)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _exact(left) + _exact(right)
        case ast.BinOp(left=left, op=ast.Sub(), right=right):
            return _exact(left) - _exact(right)
        case ast.BinOp(left=left, op=ast.Mult(), right=right):
            return _exact(left) * _exact(right)
    raise AssertionError(ast.dump(node))


@given(st.text(max_size=40))
def test_any_text_has_a_value_or_a_sentence(text: str) -> None:
    try:
        value = evaluate(text)
    except ToolError:
        return
    assert math.isfinite(value)


@pytest.mark.parametrize(("expression", "value"), [("1,240 + 3", 1243), ("15% of 1,240", 186), ("max(1,200)", 200)])
def test_thousands_may_be_written_with_commas_outside_calls(expression: str, value: int) -> None:
    assert evaluate(expression) == value
