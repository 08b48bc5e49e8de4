"""Goals as nobody should type them, through the real command line: a sentence each, and no write outside."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llmos.shipped import load
from llmos.trace.codec import loads_yaml
from tests.fuzz.bench import Bench, fuzz

NOTE = """\
format: 1
id: note
goals: ["Note {text} in {file}"]
slots: {text: quoted, file: path}
steps:
- {id: write, tool: write, effect: write, args: {file_path: "${{ file }}", content: "${{ text }}\\n"}}
"""
STAMP = """\
format: 1
id: stamp
goals: ["Stamp {pattern} with {text}"]
slots: {pattern: glob, text: quoted}
steps:
- {id: find, tool: glob, effect: read, args: {pattern: "${{ pattern }}"}}
- id: stamps
  for_each: ${{ steps.find.files }}
  steps:
  - {id: write, tool: write, effect: write, args: {file_path: "${{ each.stamps }}.stamp", content: "${{ text }}"}}
"""
COPY = """\
format: 1
id: copy
goals: ["Copy {source} over {target}"]
slots: {source: {type: path, inline: true}, target: {type: path, inline: true}}
steps:
- {id: copy, tool: bash, effect: write, args: {command: "cp ${{ source }} ${{ target }}"}}
"""
SWAP = """\
format: 1
id: swap
goals: ["Swap {old} for {new} in {file}"]
slots: {old: quoted, new: quoted, file: path}
steps:
- id: edit
  tool: edit
  effect: write
  args: {file_path: "${{ file }}", old_string: "${{ old }}", new_string: "${{ new }}"}
"""
CONFIG = "permissions: {rules: [{allow: bash, effect: [write, unknown]}]}\nsandbox: auto\n"

PLACES = """
a.txt data.csv new/x.txt sub/b.txt sub/ . .. / ./ ../ ../outside/secret.csv ../outside/ ../../x.txt link.csv linked/
linked/a.txt linked/new.txt dangling loop loop/x.csv pipe bytes.bin ~/notes.txt ~ ~root/x.txt ~nobody-at-all/x.txt
sub/../../outside/secret.csv ./linked/../secret.csv /dev/null /dev/zero /dev/full /proc/self/mem /proc/self/cwd/a.txt
/etc/passwd //etc/passwd $HOME/x.txt $(id).txt `id`.txt a.txt;id a.txt|id >x.txt -rf.txt --help.txt *.txt **/* {a,b}.txt
[!a].txt ../home/llmos.yaml ../home/memory/llmos.duckdb a.txt/x.txt x.parquet x.json CON.txt file:///etc/passwd é.csv
日本.csv http://127.0.0.1:9/x http://[::1
"""
ODD_PLACES = ["\u202etxt.exe.csv", "e\u0301.csv", "a\u2028b.csv", "https://\u0301/"]
PATHS = st.sampled_from([*PLACES.split(), *ODD_PLACES])
ODD = st.sampled_from(
    [
        *("'", '"', "\0", "\x1b[2J", "\r", "\ud800", "\udc80", "\ufeff", "\u2028", "${{ env.cwd }}", "${{ secret.X }}"),
        *("{source}", "{file}", "{", "}}", "%s%n", "${{", "$(touch ../pwned)", "`touch ../pwned`", "; touch ../pwned"),
        *(
            "&& touch ../pwned",
            "'; touch ../pwned; '",
            "\\",
            "\n",
            "1e999",
            "-" * 40,
            "9" * 5000,
            "x" * 9000,
            "(" * 400,
        ),
        *("__import__('os').system('touch ../pwned')", "2**9**9**9", "1/0", "NaN", "0x" + "f" * 400, "sqrt(-1)"),
    ]
)
QUOTED = st.one_of(ODD, st.text(max_size=30), PATHS).flatmap(
    lambda text: st.sampled_from([f'"{text}"', f"'{text}'", f"“{text}”", f"`{text}`"])
)
VALUES = st.one_of(PATHS, PATHS, QUOTED, ODD, st.text(max_size=20), st.integers().map(str))
TEMPLATES = sorted(
    {goal for trace in load() for goal in trace.goals}
    | {goal for text in (NOTE, STAMP, COPY, SWAP) for goal in loads_yaml(text).goals}
)


@st.composite
def filled(draw: st.DrawFn) -> str:
    """A goal of a known kind, with values of which few are right."""
    return re.sub(r"\{\w+\}", lambda _: draw(VALUES), draw(st.sampled_from(TEMPLATES)))


GOALS = st.one_of(
    filled(),
    filled(),
    filled(),
    st.tuples(filled(), ODD).map("".join),
    st.text(max_size=200),
    st.lists(st.one_of(VALUES, ODD), max_size=5).map(" ".join),
    st.sampled_from(["x" * 20_001, "Count lines in " + "a/" * 9_000 + "b.csv", "Calculate " + "(" * 9_000, " ", "\n"]),
)
HOW = st.sampled_from(
    [
        ("--mode", "follow"),
        ("--mode", "follow", "--yes"),
        ("--yes",),
        ("--json", "--yes"),
        ("explain",),
        ("-v", "--yes"),
    ]
)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    bench = Bench(tmp_path_factory.mktemp("fuzz") / "bench")
    bench.learn(NOTE, STAMP, COPY, SWAP, config=CONFIG)
    return bench


def test_the_traces_that_write_are_followed_where_they_may(bench: Bench) -> None:
    bench.renew()
    for goal in (
        "Note 'hi' in new/x.txt",
        "Stamp sub/*.txt with 'ok'",
        "Copy a.txt over b.txt",
        "Swap 'one' for '1' in a.txt",
    ):
        assert bench.check("--mode", "follow", goal).exit_code == 0
    assert (bench.work / "new" / "x.txt").read_text() == "hi\n"
    assert (bench.work / "sub" / "b.txt.stamp").read_text() == "ok"
    assert (bench.work / "b.txt").read_text() == "one\ntwo\n"
    assert (bench.work / "a.txt").read_text() == "1\ntwo\n"


@fuzz(60)
@given(goal=GOALS, how=HOW)
@example(goal="Count lines in " + "a/" * 9_000 + "b.csv", how=("--yes",))
@example(goal=f"Count lines in {'a' * 300}.csv", how=("--yes",))
@example(goal=f"Note 'x' in new/{'a' * 300}.txt", how=("--yes",))
@example(goal="Note 'x' in dangling", how=("--yes",))
@example(goal="Copy a.txt over dangling", how=("--yes",))
@example(goal="Stamp linked/* with 'x'", how=("--yes",))
def test_any_goal_ends_with_a_sentence_and_writes_nothing_outside(
    bench: Bench, goal: str, how: tuple[str, ...]
) -> None:
    bench.renew()
    done = bench.check(*how, "--", goal)
    assert done.exit_code != 5 or "--mode" not in how


@fuzz(4)
@given(lines=st.lists(GOALS.map(lambda goal: goal.replace("\n", " ")), max_size=12))
def test_a_shell_that_reads_any_lines_goes_on_to_the_last(bench: Bench, lines: list[str]) -> None:
    bench.renew()
    told = "\n".join([*lines, "run Calculate 2 + 3", ""]).encode("utf-8", "surrogatepass")
    done = bench.check("--yes", "--mode", "follow", "interactive", stdin=told)
    assert done.exit_code == 0
    assert done.out.endswith("5\n") or any(line.strip() in ("exit", "quit") for line in lines)


def test_a_goal_from_standard_input_may_hold_any_bytes(bench: Bench) -> None:
    for said in (b"", b"\0", b"\xff\xfe", b"Count lines in \xff.csv", bytes(range(256)), b"x" * 3_000_000):
        bench.renew()
        assert bench.check("--mode", "follow", "run", "-", stdin=said).exit_code != 0


def test_the_watch_itself_sees_what_leaves_home_and_workspace(tmp_path: Path) -> None:
    """What the other tests rely on: a write outside can't pass unseen."""
    bench = Bench(tmp_path / "bench")
    bench.renew()
    plugins = bench.root / "plugins"
    plugins.mkdir()
    (plugins / "leak.py").write_text(f"open({str(bench.root / 'pwned')!r}, 'w').close()\n")
    with pytest.raises(AssertionError, match="pwned"):
        bench.run("--plugins", str(plugins), "tools")
