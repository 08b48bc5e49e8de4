"""What property tests draw from: goals as people and machines may type them, and expressions of the trace language."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from llmos.trace.values import (
    Const,
    EnvRef,
    ListExpr,
    Opaque,
    OutputRef,
    Record,
    SecretRef,
    SlotRef,
    Text,
    Transform,
    text_of,
)

PIECES = [
    "a.txt",
    "x/y",
    "*.py",
    "'q r'",
    '"',
    "'",
    "“",
    "`",
    "5",
    "1,000",
    "2.5",
    "-",
    "+",
    "(",
    ")",
    "the",
    "Word",
    "é",
    "日本",
    "https://a.b/c",
    "a@b.co",
    "2026-11-21",
    "..",
    "/",
    "~",
    "{",
    "}",
    ",",
    "?",
    "!",
    "v1_2",
    "\n",
    "\t",
]
GOALS = st.one_of(st.text(max_size=60), st.lists(st.sampled_from([*PIECES, " "]), max_size=14).map("".join))

TEXTS = st.one_of(
    st.text(max_size=20),
    st.lists(
        st.sampled_from(["$", "{", "}", "${{", "$${{", "}}", "$opaque", " x ", '"', "\\", "\n", "a|b", "${{ x }}"]),
        max_size=6,
    ).map("".join),
)
KEYS = st.one_of(TEXTS, st.sampled_from(["$opaque", "$$opaque", "$$$opaque", "$opaquex"]))

JSON: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)),
    max_leaves=8,
)

NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True).filter(
    lambda n: n not in ("steps", "env", "secret")
)
PATHS = st.lists(st.one_of(TEXTS, st.integers(min_value=-3, max_value=9), NAMES), max_size=3).map(tuple)

TRANSFORMS = st.lists(
    st.one_of(
        st.sampled_from(["stem", "lower", "number"]).map(lambda name: Transform(name=name)),
        TEXTS.map(lambda text: Transform(name="join", args=(text,))),
        st.integers().map(lambda n: Transform(name="table", args=(n,))),
    ),
    max_size=2,
).map(tuple)

REFS = st.one_of(
    st.builds(SlotRef, name=NAMES, transforms=TRANSFORMS),
    st.builds(OutputRef, step=NAMES, path=PATHS, transforms=TRANSFORMS),
    st.builds(EnvRef, name=NAMES, transforms=TRANSFORMS),
    st.builds(SecretRef, name=NAMES),
)


def is_mixed(expr: Text) -> bool:
    kinds = {isinstance(part, str) for part in expr.parts}
    return len(kinds) == 2 or len(expr.parts) > 1


EXPRS: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        JSON.map(lambda value: Const(value=value)),
        JSON.map(lambda value: Opaque(value=value)),
        REFS,
        st.tuples(REFS, st.lists(st.one_of(TEXTS, REFS), max_size=4))
        .map(lambda x: text_of([*x[1], x[0]]))
        .filter(is_mixed),
    ),
    lambda inner: st.one_of(
        st.tuples(REFS, st.lists(inner, max_size=2)).map(lambda x: ListExpr(items=(x[0], *x[1]))),
        st.tuples(KEYS, REFS, st.dictionaries(KEYS, inner, max_size=2)).map(
            lambda x: Record(fields=tuple({**x[2], x[0]: x[1]}.items()))
        ),
    ),
    max_leaves=4,
)
