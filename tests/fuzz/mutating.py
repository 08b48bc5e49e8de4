"""Structure-aware mutation: a tree of plain data with some nodes wrong, and YAML text with something wrong in it."""

from __future__ import annotations

import copy
from datetime import date
from typing import Any

import yaml
from hypothesis import strategies as st

OUTSIDE = ["../outside/secret.csv", "../pwned", "/etc/passwd", "~/notes.txt", "link.csv", "linked/new.txt", "dangling"]
NODES: list[Any] = [
    *(None, True, False, 0, -1, 1, 10**30, -(10**30), 1e308, float("nan"), float("inf"), 2**31, 2**63, 10**4000),
    *("", " ", "\0", "\x1b[2J", "\u2028", "x" * 10_000, "a\nb", "{x}", "{", "${{", "${{ env.cwd }}", "${{ env.now }}"),
    *("${{ secret.HOME }}", "${{ steps.nope.x }}", "${{ source }}/../../pwned", "${{ source | stem | table(9) }}"),
    *("${{ steps }}", "${{ a | join('\\') }}", "$opaque", "(a+)+$", "bash", "python", "write", "http_get", "=", "<<"),
    *([], {}, [[]], [None], {"": ""}, {"$opaque": "x"}, {"type": "path"}, ["a.txt", "../pwned"], {"a": {"b": {}}}),
    *(date(2026, 11, 27), b"\xff\x00", {"for_each": "${{ source }}", "id": "x", "steps": []}),
    *OUTSIDE,
]
DEEP: Any = "bottom"
for _ in range(60):
    DEEP = [DEEP]


def nodes_of(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all nodes below the top."""
    inner = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [place for key, value in inner for place in ((*path, key), *nodes_of(value, (*path, key)))]


def at(data: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        data = data[key]
    return data


@st.composite
def mutated(draw: st.DrawFn, seeds: list[Any], most: int = 4) -> Any:
    """One of the seeds with up to `most` nodes deleted, doubled, replaced, renamed or exchanged."""
    data = copy.deepcopy(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, most))):
        places = nodes_of(data)
        if not places:
            break
        *above, key = draw(st.sampled_from(places))
        parent = at(data, tuple(above))
        match draw(st.sampled_from(["delete", "double", "replace", "replace", "replace", "rename", "move", "deepen"])):
            case "delete":
                del parent[key]
            case "double" if isinstance(parent, list):
                parent.insert(key, copy.deepcopy(parent[key]))
            case "rename" if isinstance(parent, dict):
                renamed = draw(
                    st.sampled_from(["", "id", "steps", "args", "x" * 300, 5, None, "a b", "__class__", "\0"])
                )
                parent[renamed] = parent.pop(key)
            case "move":
                parent[key] = copy.deepcopy(at(data, draw(st.sampled_from(places[:40]))))
            case "deepen":
                parent[key] = copy.deepcopy([DEEP, {"x": DEEP}]) if draw(st.booleans()) else [parent[key]]
            case _:
                parent[key] = copy.deepcopy(draw(st.one_of(st.sampled_from(NODES), st.text(max_size=20))))
    return data


def bomb(levels: int = 30) -> str:
    """Anchors that double at each level: some hundred bytes that stand for a billion values."""
    return "".join(
        f"a{n}: &a{n} [{'*a' + str(n - 1) if n else 'x'}, {'*a' + str(n - 1) if n else 'x'}]\n" for n in range(levels)
    )


INSERTED = [
    "!!python/object/apply:os.system ['touch pwned']",
    "!!python/name:os.system ",
    "!!python/object/new:type {args: [x, [], {}]}",
    "!!binary 'nonsense'",
    "!!timestamp nonsense",
    "!!int nonsense",
    "!!set {a, b}",
    "!!omap [a: 1]",
    "!unknown {a: 1}",
    "&a [*a]",
    "&b {x: *b}",
    "*nowhere",
    "{<<: {a: 1}, a: 2}",
    "{? [a, b] : c}",
    "0x" + "f" * 5000,
    "9" * 5000,
    "1:" + "59:" * 2000 + "59",
    "2026-99-99",
    "2026-11-27T25:61:61Z",
    "[" * 2000,
    "\t- x",
    "--- ",
    "... ",
    "%YAML 9.9",
    "\ufeff",
    "\x07",
    "\x85",
    "|999\n x",
]


@st.composite
def texts(draw: st.DrawFn, seeds: list[Any]) -> str:
    """YAML of a mutated seed, its text wrong too in some cases."""
    text = yaml.safe_dump(draw(mutated(seeds)), sort_keys=False, allow_unicode=draw(st.booleans()))
    kind = draw(st.sampled_from(["plain", "plain", "plain", "insert", "insert", "cut", "double", "bomb"]))
    lines = text.splitlines()
    where = draw(st.integers(0, max(0, len(lines) - 1)))
    if kind == "insert" and lines:
        head, _, _ = lines[where].partition(": ")
        lines[where] = f"{head}: {draw(st.sampled_from(INSERTED))}"
    elif kind == "cut":
        return text[: draw(st.integers(0, len(text)))]
    elif kind == "double" and lines:
        lines.insert(where, lines[where])
    elif kind == "bomb":
        return bomb() + text + "x: *a29\n"
    return "\n".join(lines) + "\n"
