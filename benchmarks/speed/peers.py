"""The same thousand goals through LLM OS, GPTCache and muscle-mem as they are published, and through a plain script.

Each runs in a process of its own, one after the other; what nobody replays is learned from the data. GPTCache and
muscle-mem are no dependencies of the project: `pip install gptcache==0.1.44 muscle-mem==0.1.0 SQLAlchemy`.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import io
import json
import multiprocessing
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.goals import Call, Goal, load
from benchmarks.product import OUTPUT, booted
from benchmarks.scoring import verdict
from benchmarks.streams import in_order
from llmos.memory.embeddings import SentenceTransformerEmbedder
from llmos.trace.decide import Choice

DATA = Path(__file__).resolve().parents[1] / "data"
SETS = ("webarena", "androidworld", "visualwebarena", "homeassistant")
COUNT = 1_000


@dataclass(kw_only=True)
class Score:
    """How one system did: what it replayed, how long that took, what it asked a learner for."""

    right: int = 0
    wrong: int = 0
    missed: int = 0
    new: int = 0
    hit_ms: list[float] = field(default_factory=list)
    miss_ms: list[float] = field(default_factory=list)
    known: set[str] = field(default_factory=set)

    def count(self, goal: Goal, made: Sequence[Call] | None, seconds: float) -> None:
        """Count one goal: `made` are the calls of its replay, None if it had to be learned."""
        if made is None:
            self.missed += goal.procedure in self.known
            self.new += goal.procedure not in self.known
            self.miss_ms.append(seconds * 1_000)
        else:
            is_right = verdict(goal, made) == "right"
            self.right += is_right
            self.wrong += not is_right
            self.hit_ms.append(seconds * 1_000)
        self.known.add(goal.procedure)

    def to_json(self) -> dict[str, Any]:
        """The counts, medians in milliseconds, and how many goals a learner was paid for."""
        return {
            "right": self.right,
            "wrong": self.wrong,
            "missed": self.missed,
            "new": self.new,
            "learned": self.missed + self.new,
            "hit_ms": round(statistics.median(self.hit_ms), 3) if self.hit_ms else None,
            "miss_ms": round(statistics.median(self.miss_ms), 3) if self.miss_ms else None,
        }


def measured() -> dict[str, Any]:
    """What each system did with the goals, in the same order."""
    found = {}
    for name, run in SYSTEMS.items():
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_in_process, args=(run, theirs))
        process.start()
        theirs.close()
        try:
            found[name] = ours.recv()
        except EOFError:
            found[name] = {"error": "it ended without a result"}
        process.join()
    return {"goals": COUNT, "sets": list(SETS), "systems": found}


def _in_process(run: Callable[[list[Goal]], Score], pipe: Any) -> None:
    before = _resident_mb()
    try:
        score = run(goals())
        told = {**score.to_json(), "memory_mb": _resident_mb(), "memory_before_mb": before}
    except ImportError as error:
        told = {"error": f"{error}"}
    pipe.send(told)
    pipe.close()


def goals() -> list[Goal]:
    """The thousand goals, in the order of one seed."""
    streams = load(DATA).streams
    return in_order([goal for name in SETS for goal in streams[name]], 0, COUNT)


def _resident_mb() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return round(int(line.split()[1]) / 1_024, 1)
    return 0.0


# ------------------------------------------------------------------------------------------------------- systems


def run_ours(found: list[Goal]) -> Score:
    """The product, its learner being the data."""
    return asyncio.run(_ours(found))


async def _ours(found: list[Goal]) -> Score:
    score = Score()
    async with booted(SentenceTransformerEmbedder(), goals=found) as product:
        for goal in found:
            started = time.perf_counter()
            decision = await product.decide(goal.text)
            made: Any = None
            if decision.choice is Choice.FOLLOW and decision.match is not None:
                made = await product.follow(goal, decision.match, decision.reason)
            score.count(goal, made if isinstance(made, tuple) else None, time.perf_counter() - started)
            if not isinstance(made, tuple):
                await product.learn(goal)
    return score


def run_gptcache(found: list[Goal]) -> Score:
    """GPTCache as its documentation sets it up for similar prompts: SQLite, FAISS, the distance as evaluation."""
    api, manager_of = import_module("gptcache.adapter.api"), import_module("gptcache.manager")
    evaluation = import_module("gptcache.similarity_evaluation").SearchDistanceEvaluation()
    encoder = SentenceTransformerEmbedder()

    class Embedding:
        dimension = encoder.dim

        def to_embeddings(self, data: str, **_: Any) -> Any:
            return encoder.encode([data])[0]

    score, cache = Score(), import_module("gptcache").Cache()
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder)  # before the cache's own, which runs first and writes there
    manager = manager_of.get_data_manager(
        manager_of.CacheBase("sqlite", sql_url=f"sqlite:///{folder}/cache.db"),
        manager_of.VectorBase("faiss", dimension=encoder.dim, index_path=f"{folder}/faiss.index"),
    )
    api.init_similar_cache(
        data_dir=folder,
        cache_obj=cache,
        embedding=Embedding(),
        data_manager=manager,
        evaluation=evaluation,
    )
    for goal in found:
        started = time.perf_counter()
        told = api.get(goal.text, cache_obj=cache)
        made = None
        if told is not None:
            made = tuple(Call.made(tool, args) for tool, args in json.loads(told))
            for call in made:
                carried_out(call)
        score.count(goal, made, time.perf_counter() - started)
        if made is None:
            api.put(goal.text, json.dumps([[call.tool, call.sent] for call in goal.calls]), cache_obj=cache)
    return score


def run_muscle_mem(found: list[Goal]) -> Score:
    """muscle-mem with the goal's text as the tag of its trajectory; it replays what has the same tag."""
    engine, made = import_module("muscle_mem").Engine(), list[Call]()

    @engine.function()  # type: ignore[untyped-decorator, unused-ignore]
    def step(call: str) -> str:
        tool, sent = json.loads(call)
        made.append(Call.made(tool, sent))
        return carried_out(made[-1])

    def learn(goal: Goal) -> None:
        for call in goal.calls:
            step(json.dumps([call.tool, call.sent]))

    engine.set_agent(learn).finalize()
    score = Score()
    for goal in found:
        made.clear()
        started = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):
            is_hit = engine(goal, tags=[goal.text])
        score.count(goal, tuple(made) if is_hit else None, time.perf_counter() - started)
    return score


def run_script(found: list[Goal]) -> Score:
    """The floor: somebody has written down for every goal which calls it takes."""
    book, score = {goal.text: goal.calls for goal in found}, Score()
    for goal in found:
        started = time.perf_counter()
        made = tuple(Call.made(call.tool, call.sent) for call in book[goal.text])
        for call in made:
            carried_out(call)
        score.count(goal, made, time.perf_counter() - started)
    return score


def carried_out(call: Call) -> str:
    """What the tools of the benchmark do."""
    return OUTPUT


SYSTEMS: dict[str, Callable[[list[Goal]], Score]] = {
    "LLM OS": run_ours,
    "GPTCache": run_gptcache,
    "muscle-mem": run_muscle_mem,
    "a plain script": run_script,
}


def versions() -> dict[str, str]:
    """Which releases were compared."""
    found = {}
    for name in ("gptcache", "muscle-mem"):
        with contextlib.suppress(ImportError):
            found[name] = version(name)
    return found
