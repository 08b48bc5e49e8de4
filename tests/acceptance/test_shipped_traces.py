"""Every trace that ships is followed here, on real files, in each of its wordings, without a model."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import llmos.shipped
from llmos.boot import Result
from llmos.testing import say
from llmos.trace.lex import Place, template_parts
from llmos.trace.program import Provenance, Status
from tests.lab import Lab, MakeLab

DATA = Path(__file__).parents[2] / "workspace" / "data.csv"
SHIPPED = {trace.id: trace for trace in llmos.shipped.load()}


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a test's server keeps its log to itself."""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    """A real web server with one page."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "page.txt").write_text("hello from the web\n")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "site")))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/page.txt"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def lab(make_lab: MakeLab) -> Lab:
    lab = make_lab([say("nobody should ask me")])
    lab.write("data/iris.csv", DATA.read_text())
    lab.write("data/small.csv", "name,age\nAda,36\nBo,41\n")
    lab.write("photos/img_1.txt", "one\n")
    lab.write("photos/img_2.txt", "one\n")
    lab.write("notes.txt", "a\nb\nc\n")
    return lab


async def follow(lab: Lab, *goals: str) -> list[Result]:
    async with lab.boot() as system:
        results = [await system.execute(goal, mode="follow", again=True) for goal in goals]
    assert lab.server.requests == []
    assert all((result.mode, result.cost_usd, result.status) == ("follower", 0.0, "done") for result in results)
    return results


def test_at_least_ten_ship_as_demonstrations() -> None:
    assert len(SHIPPED) >= 10
    assert all(trace.provenance is Provenance.DEMONSTRATION for trace in SHIPPED.values())
    assert all(trace.status is Status.TRUSTED and trace.description for trace in SHIPPED.values())


VALUES = {
    "source": "data/small.csv",
    "target": "out/small.json",
    "folder": "photos/",
    "pattern": "*.txt",
    "find": '"img"',
    "replace": '"holiday"',
    "expression": "2 + 3",
    "share": "15%",
    "whole": "80",
    "number": "2",
    "file": "notes.txt",
    "key": "wifi",
    "value": "horse",
    "query": "wifi",
}


def wordings() -> list[tuple[str, str]]:
    return [(trace.id, template) for trace in SHIPPED.values() for template in trace.goals]


@pytest.mark.parametrize(("trace_id", "template"), wordings(), ids=lambda text: text.replace(" ", "_")[:60])
async def test_every_wording_leads_to_its_trace_and_works(trace_id: str, template: str, lab: Lab, site: str) -> None:
    values = VALUES | {"url": site}
    goal = "".join(values[part.slot] if isinstance(part, Place) else part for part in template_parts(template))
    if trace_id == "summarize-git":
        git(lab, "photos" if "photos" in goal else ".")
    prepare = ["Calculate 6 * 7"] if trace_id == "store-result" else []
    prepare += ["Remember wifi = horse"] if trace_id == "recall-value" else []
    results = await follow(lab, *prepare, goal)
    assert (results[-1].trace_id or "").startswith(f"{trace_id}@"), results[-1].reason
    assert results[-1].answer


def git(lab: Lab, folder: str) -> None:
    who = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "init.defaultBranch=main"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "Plant a tree"]):
        subprocess.run(["git", *who, *words], cwd=lab.workspace / folder, check=True, capture_output=True)


async def test_an_analysis_names_columns_types_quantiles_and_draws(lab: Lab) -> None:
    (result,) = await follow(lab, "Analyze data in data/iris.csv")
    assert "150 rows, 5 columns" in result.answer
    assert "petal_length_cm  DOUBLE" in result.answer
    assert "median" in result.answer
    assert "█" in result.answer
    columns = {column["name"]: column for column in result.outputs["describe"]["columns"]}
    assert columns["petal_length_cm"]["median"] == pytest.approx(4.35)
    assert columns["species"]["missing"] == 0


async def test_conversions_there_and_back_keep_every_value(lab: Lab) -> None:
    await follow(
        lab,
        "Convert data/small.csv to out/a.json",
        "Convert out/a.json to out/b.parquet",
        "Convert out/b.parquet to out/c.csv",
    )
    assert lab.read("out/c.csv") == lab.read("data/small.csv")


async def test_files_are_counted_found_and_renamed(lab: Lab) -> None:
    counted, found, renamed = await follow(
        lab,
        "Count *.csv files in data/",
        "Find files matching *.csv in data/",
        "Rename files in photos/ replacing 'img' with 'holiday'",
    )
    assert counted.answer.startswith("2 files matching *.csv in data")
    assert found.answer == "data/iris.csv\ndata/small.csv"
    assert sorted(path.name for path in (lab.workspace / "photos").iterdir()) == ["holiday_1.txt", "holiday_2.txt"]
    assert "photos/img_1.txt -> photos/holiday_1.txt" in renamed.answer


async def test_duplicates_are_found_by_content(lab: Lab) -> None:
    (result,) = await follow(lab, "Find duplicate files in photos/")
    assert "photos/img_1.txt, photos/img_2.txt" in result.answer


async def test_a_result_is_calculated_stored_and_recalled(lab: Lab) -> None:
    calculated, stored, recalled, share = await follow(
        lab, "Calculate 2 + 3", "Store result for later", "Recall calculation_result", "What is 15% of 1,240?"
    )
    assert calculated.answer == "5"
    assert stored.answer == "calculation_result = 5"
    assert "5" in recalled.answer
    assert share.answer == "186"


async def test_a_page_is_fetched_to_a_file(lab: Lab, site: str) -> None:
    await follow(lab, f"Fetch {site} to out/page.txt")
    assert lab.read("out/page.txt") == "hello from the web\n"


async def test_a_repository_is_summarised(lab: Lab) -> None:
    git(lab, "data")
    (result,) = await follow(lab, "Summarize git repository in data/")
    assert "Ada" in result.answer
    assert "Plant a tree" in result.answer


async def test_rows_and_lines(lab: Lab) -> None:
    rows, lines = await follow(lab, "Show the first 1 rows of data/small.csv", "How many lines does notes.txt have?")
    assert rows.answer.splitlines()[-1].split() == ["Ada", "36"]
    assert lines.answer == "3"


async def test_a_forgotten_demonstration_stays_forgotten(lab: Lab) -> None:
    async with lab.boot() as system:
        await system.traces.forget("calculate")
    async with lab.boot() as system:
        assert "calculate" not in [trace.id for trace in await system.traces.list()]


def test_every_effect_is_the_tools_own(lab: Lab) -> None:
    effects = {step.tool: step.effect for trace in SHIPPED.values() for step in trace.calls}
    registry = registered(lab)
    assert {name: registry[name] for name in effects} == effects


def registered(lab: Lab) -> dict[str, object]:
    from llmos.plugins.loader import PluginLoader
    from llmos.plugins.registry import ToolRegistry

    registry = ToolRegistry()
    PluginLoader(registry).load()
    return {tool.name: tool.effect for tool in registry}
