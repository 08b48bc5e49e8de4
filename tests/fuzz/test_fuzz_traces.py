"""Trace files as nobody should hand them over: imported, shown and run, with a sentence for each."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from llmos.shipped import FOLDER
from tests.fuzz.bench import Bench, fuzz
from tests.fuzz.mutating import INSERTED, OUTSIDE, bomb, texts
from tests.fuzz.test_fuzz_goals import CONFIG, COPY, NOTE, STAMP, SWAP

SEEDS: list[Any] = [yaml.safe_load(file.read_text()) for file in sorted(FOLDER.glob("*.yaml"))]
WRITING: list[Any] = [yaml.safe_load(text) for text in (NOTE, STAMP, COPY, SWAP)]
USUAL = {
    **{
        "source": "data.csv",
        "file": "a.txt",
        "folder": "sub/",
        "target": "out.json",
        "number": "2",
        "pattern": "*.txt",
    },
    **{
        "find": "'b'",
        "replace": "'c'",
        "text": "'x'",
        "old": "'one'",
        "new": "'1'",
        "key": "wifi",
        "value": "'secret'",
    },
    **{"expression": "1 + 1", "percent": "15", "url": "http://127.0.0.1:9/x"},
}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    bench = Bench(tmp_path_factory.mktemp("fuzz") / "bench")
    bench.learn(config=CONFIG)
    return bench


def goals_of(seed: Any) -> list[str]:
    return [re.sub(r"\{(\w+)\}", lambda hole: USUAL.get(hole[1], "5"), goal) for goal in seed["goals"]]


GOALS = sorted({goals_of(seed)[0] for seed in (*SEEDS, *WRITING)})


@fuzz(40)
@given(text=texts([*SEEDS, *WRITING, *WRITING]), data=st.data())
def test_any_trace_file_is_refused_or_followed_with_a_sentence_and_writes_nothing_outside(
    bench: Bench, text: str, data: st.DataObject
) -> None:
    bench.renew()
    name = (re.findall(r"^id: (\S+)$", text, re.MULTILINE) or ["note"])[0]
    goals = [
        re.sub(r"\{(\w+)\}", lambda hole: USUAL.get(hole[1], "5"), goal)
        for goal in re.findall(r"^- (.+)$", text, re.MULTILINE)
    ]
    run = [*goals[:1], data.draw(st.sampled_from(GOALS))]
    lines = ["traces import ../tmp/trace.yaml --trust", f"traces show {name}", f"traces export {name}"]
    lines += [line.replace("\n", " ") for goal in run for line in (f"explain {goal}", f"run {goal}")]
    (bench.temporary / "trace.yaml").write_text(text, encoding="utf-8", errors="surrogatepass")
    done = bench.check("--yes", "--mode", "follow", "interactive", stdin="\n".join(lines).encode("utf-8", "replace"))
    assert done.exit_code == 0
    assert not (bench.work / "pwned").exists()


@pytest.mark.parametrize("inserted", [*INSERTED, bomb(), bomb() + "goals: *a29"])
def test_what_yaml_can_do_beyond_data_is_refused(bench: Bench, inserted: str) -> None:
    bench.renew()
    told = NOTE.replace("id: note", f"id: note\ndescription: {inserted}") if "a0:" not in inserted else inserted + NOTE
    done = bench.check("traces", "import", "-", stdin=told.encode())
    assert done.exit_code in (0, 2), done.err


@pytest.mark.parametrize("place", [*OUTSIDE, "sub/../../pwned", "a.txt/../../pwned", "${{ file }}/../../pwned"])
@pytest.mark.parametrize("seed", [NOTE, STAMP, COPY])
def test_a_place_outside_that_a_trace_holds_as_a_constant_is_not_written(bench: Bench, seed: str, place: str) -> None:
    bench.renew()
    for hole in ('"${{ file }}"', '"${{ each.stamps }}.stamp"', "${{ target }}"):
        seed = seed.replace(hole, f'"{place}"' if hole.startswith('"') else place)
    if "${{ file }}" in place and "{file}" not in seed:
        return
    assert bench.check("traces", "import", "--trust", "-", stdin=seed.encode()).exit_code in (0, 2)
    (goal,) = goals_of(yaml.safe_load(seed))
    assert bench.check("--mode", "follow", "--yes", goal).exit_code != 0
    assert sorted(path.name for path in Path(bench.outside).rglob("*")) == ["a.txt", "folder", "secret.csv"]
