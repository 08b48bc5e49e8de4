"""The page on scale shows the stored results, and the benchmark's goals are what it says they are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from benchmarks.scale.goals import Variant, moved, variants
from benchmarks.scale.table import tables

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_shows_the_stored_results() -> None:
    results = json.loads((ROOT / "benchmarks" / "results" / "scale.json").read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    for block in tables(results).strip().split("\n\n"):
        assert block in page


def test_variants_have_other_values_and_begin_alike_for_any_count(tmp_path: Path) -> None:
    goals = [("wake me at seven in Lima", "Lima"), ("wake me at nine in Oslo", "Oslo"), ("sing", "")]
    lines = [
        json.dumps({"id": str(n), "goal": text, "task_id": "t", "slots": {"city": city} if city else {}})
        for n, (text, city) in enumerate(goals)
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(lines), encoding="utf-8")
    few, all_of_them = variants(tmp_path, 4, 1), variants(tmp_path, 5, 1)

    assert few == all_of_them[:4]
    assert {one.text for one in all_of_them} == {
        *(text for text, _ in goals),
        "wake me at seven in Oslo",
        "wake me at nine in Lima",
    }


def test_made_vectors_are_near_a_sentence_of_their_goal() -> None:
    chance = np.random.default_rng(1)
    centres = chance.normal(size=(2, 32)).repeat(3, axis=0)
    known = (centres + 0.1 * chance.normal(size=centres.shape)).astype(np.float32)
    known /= np.linalg.norm(known, axis=1, keepdims=True)
    goals = [Variant(text=str(row), origin=row // 3, masked=str(row)) for row in range(6)]
    (made,) = moved([Variant(text="new", origin=1, masked="")] * 20, goals, known, 1)

    assert made.shape == (20, 32)
    assert np.allclose(np.linalg.norm(made, axis=1), 1, atol=1e-5)
    assert ((made @ known.T).argmax(axis=1) >= 3).all()
    assert len({one.tobytes() for one in made}) > 10
