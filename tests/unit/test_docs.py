"""The documentation says what is true: examples run, tables name what the code has, links lead somewhere."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import pytest

import llmos.errors
import llmos.events
import llmos.shipped
import llmos.trace.decide
import llmos.trace.match
from llmos.accounts import EntryKind
from llmos.boot import LLMOS, Result
from llmos.errors import LLMOSError
from llmos.interfaces.render import closing_line, explanation
from llmos.kernel.token_economy import TokenEconomy
from llmos.plugins import hookspecs
from llmos.settings import load_settings
from llmos.testing import HashEmbedder, Reply, Request, ScriptedServer, Turn, call, say, usage
from llmos.trace.codec import dumps_yaml, from_data, loads_yaml
from llmos.trace.match import Match, match
from llmos.trace.program import CheckKind, ConditionKind, Effect, Provenance, SlotType, Status, Trace
from llmos.trace.transforms import TRANSFORMS
from llmos.trace.values import EnvRef, Scope, evaluate, parse

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.glob("*.md"), *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"))])
PAGES.append(ROOT / "workspace" / "README.md")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Block:
    """A fenced block of a page; `line` is that of its first line of text."""

    page: Path
    line: int
    language: str
    text: str


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(page=page, line=text[: found.start(2)].count("\n") + 1, language=found[1], text=found[2])
        for found in FENCE.finditer(text)
    ]


def section(page: str, heading: str) -> str:
    """A page's text from one heading to the next of any level."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#+ |\Z)", text, re.DOTALL | re.MULTILINE)
    assert found, f"{page} has no section {heading!r}"
    return found[1]


def rows(text: str) -> list[list[str]]:
    """The cells of every table row, without the rules under the headings."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def named(text: str, *, column: int = 0) -> set[str]:
    """Everything in backticks in one column of a text's tables."""
    return {word for row in rows(text) for word in re.findall(r"`([^`]+)`", row[column])}


# ---------------------------------------------------------------------------------------------------- examples


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a copy of the example data, and a home and no account of its own."""
    shutil.copytree(ROOT / "workspace", tmp_path / "workspace", ignore=shutil.ignore_patterns("memory"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LLMOS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LLMOS_DAEMON", "0")
    for name in ("LLMOS_CONFIG", "LLMOS_MODEL", "LLMOS_BUDGET_USD", "ANTHROPIC_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def examples(page: str) -> list[tuple[Block, str | None]]:
    """Each Python block of a page with the output printed below it, if one is."""
    found = blocks(ROOT / page)
    return [
        (block, after.text if after is not None and after.language == "text" else None)
        for block, after in zip(found, [*found[1:], None], strict=True)
        if block.language == "python"
    ]


@contextlib.contextmanager
def event_loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


def run_example(block: Block, scope: dict[str, Any], runner: asyncio.Runner) -> str:
    """What a block prints; its functions know their source, as those of a file do."""
    source = "\n" * (block.line - 1) + block.text
    code = compile(source, str(block.page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        done = eval(code, scope)
        if inspect.iscoroutine(done):
            runner.run(done)
    return printed.getvalue()


@pytest.mark.parametrize("page", ["docs/python-api.md", "docs/writing-a-plugin.md", "README.md"])
def test_python_examples_print_what_the_page_says(page: str, elsewhere: Path) -> None:
    scope: dict[str, Any] = {"__name__": "example"}
    found = examples(page)
    assert found
    with event_loop() as runner:
        for block, expected in found:
            printed = run_example(block, scope, runner)
            assert printed == (expected or ""), f"{page}:{block.line}"
    if page == "docs/python-api.md":
        check_the_trace_shown_in_the_trace_format(scope["trace"])


def check_the_trace_shown_in_the_trace_format(trace: Trace) -> None:
    """The long example of the trace format is the trace that the API's example learned."""
    bare = replace(trace, run_id=None, model=None, cost_usd=0.0, created_at=None)
    assert dumps_yaml(bare) == blocks(DOCS / "trace-format.md")[0].text


def commands(page: str) -> list[tuple[str, str]]:
    """Each `$ command` of a page's console blocks with the output below it."""
    found = []
    for block in blocks(ROOT / page):
        if block.language == "console":
            for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
                command, _, output = part.partition("\n")
                found.append((command, output.rstrip()))
    return found


def timeless(text: str) -> str:
    """Output without what differs from run to run: durations, and the blanks at a line's end."""
    return re.sub(r"\b[\d.]+ (?:ms|s)\b", "N ms", re.sub(r" +$", "", text, flags=re.MULTILINE)).strip()


def test_the_readme_shows_what_its_commands_print(elsewhere: Path) -> None:
    found = commands("README.md")
    assert found
    for command, expected in found:
        line = command.replace("python boot.py", f"{sys.executable} {ROOT / 'boot.py'}")
        done = subprocess.run(
            ["bash", "-c", line], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, check=False
        )
        assert timeless(done.stdout + done.stderr) == timeless(expected), command


TOTALS = "SELECT region, sum(amount) AS total FROM data GROUP BY region ORDER BY region"


def report_totals(request: Request) -> Turn:
    """What the scripted model does in the readme's transcript, with the tokens the readme names."""
    wrote = "Wrote workspace/sales.md."
    slots = {"source": "workspace/sales.csv", "target": "workspace/sales.md"}
    turns: list[Callable[[], Reply]] = [
        lambda: call("query_data", sql=TOTALS, files={"data": slots["source"]}, format="markdown"),
        lambda: call("write", file_path=slots["target"], content=json.loads(request.tool_results[0].text)["text"]),
        lambda: call("finish", answer=wrote, slots=slots),
        lambda: say(wrote),
    ]
    return replace(turns[len(request.tool_results)](), usage=usage(input_tokens=4_000, output_tokens=150))


async def test_the_readme_shows_a_miss_and_a_hit_as_they_are(elsewhere: Path) -> None:
    transcript = next(block.text for block in blocks(ROOT / "README.md") if block.text.startswith('$ python boot.py "'))
    shown: list[str] = []
    with ScriptedServer(report_totals) as server:
        settings = load_settings(workspace=elsewhere, environ={**os.environ, **server.env(elsewhere / "claude")})
        async with LLMOS(settings=settings, embedder=HashEmbedder()) as system:
            for command, goal in re.findall(r'^(\$ python boot.py (?:explain )?"(.*)")$', transcript, re.MULTILINE):
                if "explain" in command:
                    said = explanation(await system.explain(goal)).partition("\n")[0]
                else:
                    result = await system.execute(goal)
                    said = f"{result.answer}\n{closing_line(result)}"
                shown.append(f"{command}\n{said}\n")
        assert len(server.conversation) == 4
    assert timeless("\n".join(shown)) == timeless(transcript)


def test_the_shell_answers_as_the_readme_shows(elsewhere: Path) -> None:
    shown = section("README.md", "The shell")
    lines = re.findall(r"^llmos> (.*)$", shown, re.MULTILINE)
    done = subprocess.run(
        [sys.executable, str(ROOT / "boot.py"), "interactive"],
        input="\n".join(lines) + "\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    said = [line for line in blocks_of(shown) if not line.startswith(("$ ", "llmos> "))]
    assert done.stdout.splitlines() == said


def blocks_of(text: str) -> list[str]:
    """The lines inside a text's fenced blocks."""
    return [line for found in FENCE.finditer(text) for line in found[2].splitlines()]


# ------------------------------------------------------------------------------------------------ the trace format


def test_the_trace_format_reads_as_a_trace_and_answers_its_goals() -> None:
    trace = loads_yaml(blocks(DOCS / "trace-format.md")[0].text)
    for name in ("sales", "march"):
        goal = f"Total amount by region of workspace/{name}.csv into workspace/{name}.md"
        assert isinstance(match(goal, trace), Match)


@pytest.mark.parametrize(
    ("heading", "expected"),
    [
        ("Transforms", set(TRANSFORMS)),
        ("Checks", {str(kind) for kind in CheckKind}),
        ("Conditions", {str(kind) for kind in ConditionKind}),
        ("Status", {str(status) for status in Status}),
    ],
)
def test_the_trace_format_lists_exactly_what_there_is(heading: str, expected: set[str]) -> None:
    listed = {name.partition("(")[0] for name in named(section("docs/trace-format.md", heading))}
    assert listed == expected


def test_the_trace_format_lists_every_slot_type_effect_key_and_provenance() -> None:
    slots, steps = section("docs/trace-format.md", "Slots"), section("docs/trace-format.md", "Steps")
    keys = section("docs/trace-format.md", "Keys")
    data = loads_yaml(blocks(DOCS / "trace-format.md")[0].text)
    assert {str(kind) for kind in SlotType} <= named(slots)
    assert {str(effect) for effect in Effect} <= named(steps)
    assert {f"`{one}`" for one in Provenance} <= set(re.findall(r"`\w+`", keys))
    assert named(keys) - {"format"} == {field.name for field in fields(data)}
    assert {"type", "values", "suffix", "parent", "inline", "default"} <= named(slots)


def slot_examples() -> Iterator[tuple[str, str, bool]]:
    """Each slot type's examples, with whether they bind."""
    for kind, text in (row for row in rows(section("docs/trace-format.md", "Slots")) if len(row) == 2):
        if " such as " in text and kind.strip("`") in list(SlotType):
            yes, _, no = text.partition(" such as ")[2].partition("; not ")
            yield from ((kind.strip("`"), example, True) for example in re.findall(r"`([^`]+)`", yes))
            yield from ((kind.strip("`"), example, False) for example in re.findall(r"`([^`]+)`", no))


@pytest.mark.parametrize(("kind", "example", "binds"), list(slot_examples()))
def test_the_examples_of_the_slot_types_bind(kind: str, example: str, binds: bool) -> None:
    step = {"id": "a", "tool": "a", "args": {"a": "${{ slot }}"}}
    data = {"format": 1, "id": "a", "goals": ["Take {slot} now"], "slots": {"slot": kind}, "steps": [step]}
    assert isinstance(match(f"Take {example} now", from_data(data)), Match) is binds


def test_the_trace_format_lists_every_value_of_the_surroundings() -> None:
    known = set(re.findall(r"\w+", str(EnvRef.__doc__).partition(": ")[2]))
    listed = named(section("docs/trace-format.md", "References"))
    assert {name.removeprefix("env.") for name in listed if name.startswith("env.")} == known


def test_the_examples_of_the_transforms_are_right() -> None:
    examples = [row for row in rows(section("docs/trace-format.md", "Transforms")) if row[0].startswith("`")]
    for transform, value, result in examples:
        expr = parse("${{ value | " + transform.strip("`") + " }}")
        scope = Scope(slots={"value": json.loads(value.strip("`"))})
        assert evaluate(expr, scope) == json.loads(result.strip("`")), transform


# ------------------------------------------------------------------------------------------------------- other pages


def rules_of_the_gate() -> set[str]:
    """Every rule a refusal may name, read from the gate's source."""
    found: set[str] = set()
    for module in (llmos.trace.match, llmos.trace.decide):
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if isinstance(node, ast.Call):
                given = {"_miss": node.args[2:3], "_refused": node.args[1:2]}.get(ast.unparse(node.func), [])
                given += [keyword.value for keyword in node.keywords if keyword.arg == "rule"]
                found |= {one.value for one in given if isinstance(one, ast.Constant) and isinstance(one.value, str)}
            elif isinstance(node, ast.FunctionDef) and node.name == "_rule":
                texts = [one.value for one in ast.walk(node) if isinstance(one, ast.Constant)]
                found |= {text for text in texts if isinstance(text, str) and text not in ("insert", "delete")}
    return found


def test_every_rule_of_the_gate_is_documented() -> None:
    assert named(section("docs/how-it-works.md", "The gate")) == rules_of_the_gate()


def test_every_hook_is_documented() -> None:
    hooks = {name for name in vars(hookspecs) if name.startswith("llmos_")}
    assert named(section("docs/writing-a-plugin.md", "Hooks")) & hooks == hooks


def test_every_effect_is_documented_for_plugin_authors() -> None:
    table = section("docs/writing-a-plugin.md", "What the tool may do: effects")
    assert named(table, column=1) >= {str(effect) for effect in Effect}


def test_every_event_is_documented() -> None:
    base = llmos.events.Event
    known = {kind.__name__ for kind in vars(llmos.events).values() if isinstance(kind, type) and issubclass(kind, base)}
    assert named(section("docs/python-api.md", "Events")) == known - {"Event"}


def test_every_field_of_a_result_is_documented() -> None:
    assert named(section("docs/python-api.md", "Result")) == {field.name for field in fields(Result)}


def errors() -> list[type[LLMOSError]]:
    return [getattr(llmos.errors, name) for name in llmos.errors.__all__]


def test_every_error_is_documented_with_its_exit_code() -> None:
    table = section("docs/python-api.md", "Errors")
    first = {row[0].strip("`"): row for row in rows(table) if row[0].startswith("`")}
    for kind in errors():
        near = [row for row in first.values() if f"`{kind.__name__}`" in (row[0], *re.findall(r"`\w+`", row[2]))]
        assert near, f"{kind.__name__} is not documented"
        assert int(near[0][1]) == kind.exit_code, kind.__name__


@pytest.mark.parametrize(("page", "heading"), [("docs/cli.md", "Exit codes"), ("README.md", "Exit codes")])
def test_every_exit_code_is_documented(page: str, heading: str) -> None:
    codes = {int(row[0]) for row in rows(section(page, heading)) if row[0].isdigit()}
    assert {kind.exit_code for kind in errors()} | {0} <= codes


def test_the_public_methods_are_documented() -> None:
    page = (DOCS / "python-api.md").read_text(encoding="utf-8")
    for owner in (LLMOS, TokenEconomy):
        for name, member in vars(owner).items():
            if not name.startswith("_") and (callable(member) or isinstance(member, property)):
                assert re.search(rf"`[^`\n]*\b{name}\b", page), f"{owner.__name__}.{name}"
    how = (DOCS / "how-it-works.md").read_text(encoding="utf-8")
    assert all(f"`{kind}`" in how for kind in EntryKind)


def test_every_demonstration_stands_in_the_readme() -> None:
    table = section("README.md", "What works without a key")
    shipped = {trace.id: trace for trace in llmos.shipped.load()}
    listed = {row[1].strip("`"): row[0].strip("`") for row in rows(table) if row[0].startswith("`")}
    assert set(listed) == set(shipped)
    for name, goal in listed.items():
        assert isinstance(match(goal, shipped[name]), Match), goal


# ------------------------------------------------------------------------------------------------------------- links


def anchors(page: Path) -> set[str]:
    """The anchors GitHub makes of a page's headings."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        assert place.exists(), f"{page.name}: {target}"
        assert place.is_relative_to(ROOT), f"{page.name}: {target} leaves the project"
        if anchor:
            assert anchor in anchors(place), f"{page.name}: {target}"


def test_every_page_is_in_the_index() -> None:
    index = (DOCS / "README.md").read_text(encoding="utf-8")
    assert all(f"({page.name})" in index for page in DOCS.glob("*.md") if page.name != "README.md")
    assert "(docs/README.md)" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_picture_is_well_formed_and_has_a_description() -> None:
    from xml.etree import ElementTree

    picture = ElementTree.parse(DOCS / "way-of-a-goal.svg").getroot()
    names = {child.tag.rpartition("}")[2] for child in picture}
    assert {"title", "desc"} <= names
