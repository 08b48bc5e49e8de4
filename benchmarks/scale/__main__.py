"""The command: `python -m benchmarks.scale [--sizes N,…] [--json OUT]`, or `--report JSON` for the tables."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from benchmarks.scale import goals as making
from benchmarks.scale import home as homes
from benchmarks.scale.table import tables
from llmos.memory.embeddings import SentenceTransformerEmbedder, packaged_model

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "benchmarks" / "data"
RESULTS = ROOT / "benchmarks" / "results" / "scale.json"
SIZES = (1_000, 10_000, 100_000, 1_000_000)
_ASKED, _NEAREST, _STARTS = 300, 10, 7
_SAME = 1e-5  # cosines of one vector by two ways


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark, or print the tables of a run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="how many traces, separated by commas")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "llmos-scale")
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument("--report", type=Path, nargs="?", const=RESULTS, help="print the tables of a run instead")
    given = parser.parse_args(arguments)
    if given.report:
        sys.stdout.write(tables(json.loads(given.report.read_text(encoding="utf-8"))))
        return 0
    sizes = sorted({int(one) for one in given.sizes.split(",")})
    for results in run(sizes, given.seed, given.cache):
        if given.json:
            given.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(tables(results))
    return 0


def run(sizes: Sequence[int], seed: int, cache: Path) -> Iterator[dict[str, Any]]:
    """Make a memory of each size and measure it; the results so far after each."""
    import numpy as np

    say = Console(stderr=True).print
    found = _variants(max(*sizes, making.ENCODED) + making.QUESTIONS, seed, cache)
    embedder = SentenceTransformerEmbedder(str(packaged_model()))  # by its library, which is faster with many texts
    first = found[: making.ENCODED + making.QUESTIONS]
    rows = {one.masked: row for row, one in enumerate(first)}
    known = making.encoded(first, embedder, cache / "vectors")
    stored, questions = making.stored_and_asked(found, seed)
    vectors = known[[rows[one.masked] for one in stored[: making.ENCODED]]]
    of = homes.Stored(goals=stored, vectors=vectors, seed=seed)
    asked = np.ascontiguousarray(known[[rows[one.masked] for one in questions]])
    homes.write_questions(cache, questions, asked)
    measured = []
    for size in sizes:
        with tempfile.TemporaryDirectory(prefix="llmos-scale-") as folder:
            say(f"{size} traces")
            measured.append(measure(Path(folder), of, size, asked, cache))
            say(json.dumps(measured[-1]))
        yield {"conditions": conditions(seed), "sizes": measured}


def _variants(count: int, seed: int, cache: Path) -> list[making.Variant]:
    file = cache / f"goals-{count}-{seed}.json"
    if file.is_file():
        return [making.Variant(text=t, origin=o, masked=m) for t, o, m in json.loads(file.read_text(encoding="utf-8"))]
    found = making.variants(DATA, count, seed)
    cache.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps([[one.text, one.origin, one.masked] for one in found]), encoding="utf-8")
    return found


def measure(home: Path, of: homes.Stored, size: int, asked: NDArray[np.float32], cache: Path) -> dict[str, Any]:
    """All figures of one size."""
    homes.fill(home / "llmos.duckdb", of, size)
    step = max(1, size // _ASKED)
    (cache / "known.json").write_text(json.dumps([one.text for one in of.goals[:size:step]][:_ASKED]), encoding="utf-8")
    prepared = _process("prepare", home, cache)
    started = [_process("start", home, cache) for _ in range(_STARTS)]
    answers = _process("ask", home, cache)
    disk = {file.name: round(file.stat().st_size / 1e6, 1) for file in sorted(home.iterdir())}
    changed = _process("change", home, cache)
    cosines, ids = homes.nearest_to(asked[:_ASKED], of, size, _NEAREST)
    found = answers.pop("found")
    first = prepared.pop("first")
    return {
        "traces": size,
        "encoded": min(size, making.ENCODED),
        **answers,
        "recall_at_10": round(_recall(found, cosines), 4),
        "first_answer_same_before_index": len(set(first) & set(ids[0])) / len(ids[0]),
        "start_ms": statistics.median(one["start_ms"] for one in started),
        "open_ms": statistics.median(one["open_ms"] for one in started),
        "prepare": prepared,
        "disk_mb": disk,
        "change": changed,
    }


def _recall(found: Sequence[Sequence[tuple[str, float]]], cosines: NDArray[np.float32]) -> float:
    """The share of the exact nearest that were found, by their cosines: equally near ones are as good."""
    hits = 0
    for near, truth in zip(found, cosines, strict=False):
        best = dict(reversed(near))  # each trace's nearest template
        hits += min(len(truth), sum(cosine >= truth[-1] - _SAME for cosine in best.values()))
    return float(hits / cosines[: len(found)].size)


def _process(what: str, home: Path, cache: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.scale.process", what, str(home), str(cache)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0 or not done.stdout:
        raise RuntimeError(f"{what}: {done.stderr[-2000:]}")
    if done.stderr:
        Console(stderr=True).print(done.stderr, markup=False)
    return dict(json.loads(done.stdout))


def conditions(seed: int) -> dict[str, Any]:
    """Under which the figures were made."""
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "seed": seed,
        "cores": os.cpu_count(),
        "cpu": model[0].partition(":")[2].strip() if model else platform.machine(),
        "load": [round(one, 2) for one in os.getloadavg()],
        "system": platform.system(),
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in ("duckdb", "faiss-cpu", "numpy")},
        "encoded": making.ENCODED,
        "questions": _ASKED,
    }


if __name__ == "__main__":
    sys.exit(main())
