"""The parts of the benchmark that can run side by side: a stream in one order, some pairs, the induction suite."""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from benchmarks.baselines import BASELINES
from benchmarks.encoder import RememberingEmbedder
from benchmarks.goals import Data, Goal, mostly_new
from benchmarks.induction import PER_SOURCE, InductionReport, run_induction
from benchmarks.pairs import PairReport, Question, questions, run_pairs
from benchmarks.perturb import hard_negatives
from benchmarks.streams import OwnSystem, Report, in_order, run_baseline, run_product
from llmos.memory.embeddings import DEFAULT_MODEL, SentenceTransformerEmbedder

log = logging.getLogger(__name__)

WITH_VALUES = frozenset({"homeassistant", "snips", "hwu", "text2sql", "nlupp", "atis", "overnight"})
"""The sets of free human phrasing: there `ours` has tools that list the values of earlier goals."""
CONFIRMED = frozenset({"webarena", "androidworld", "visualwebarena", "homeassistant", "snips", "hwu"})
"""The sets that are also run with a person who answers one question for each task."""
BOUNDS = (0.0, 0.05, 0.2)
"""What a replay's chance to be wrong may be in the systems `ours@…`, which run only when asked for; 0: proofs only."""
LEFT_OUT = frozenset({"banking77", "clinc150", "gptcache_mock", "bfcl", "nl2bash"})
"""Streams that run only when asked for: paraphrases without slots, and goals that hardly ever repeat."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One stream in one order, through all systems."""

    name: str
    seed: int
    goals: tuple[Goal, ...]
    systems: tuple[str, ...]
    limit: int | None

    @property
    def size(self) -> int:
        return min(len(self.goals), self.limit or len(self.goals)) * 3

    def run(self) -> StreamReports:
        """The report of each system, or why there is none; one that breaks does not take the others along."""
        goals = in_order(self.goals, self.seed, self.limit)
        reports: StreamReports = {}
        for own in own_systems(self.name):
            if own.name in self.systems:
                reports[own.name] = _kept(partial(run_product, own, goals, embedder(), mostly_new(self.goals)))
        others = [name for name in BASELINES if name in self.systems]
        if others:
            vectors = embedder().encode([goal.text for goal in goals])
            reports |= {name: _kept(partial(run_baseline, name, goals, self.seed, vectors)) for name in others}
        return reports

    def failed(self, message: str) -> StreamReports:
        """What stands for the reports when the whole job broke."""
        return dict.fromkeys(self.systems, message)


@dataclass(frozen=True, kw_only=True)
class PairJob:
    """A part of a set of pairs."""

    name: str
    asked: tuple[Question, ...]

    @property
    def size(self) -> int:
        return len(self.asked)

    def run(self) -> PairReport | str:
        """The report, or why there is none."""
        return _kept(partial(run_pairs, self.asked, embedder()))

    def failed(self, message: str) -> str:
        """What stands for the report when the whole job broke."""
        return message


@dataclass(frozen=True, kw_only=True)
class InductionJob:
    """The induction suite over the streams it takes its runs from."""

    streams: Mapping[str, tuple[Goal, ...]]
    name: str = "induction"
    size: int = 500

    def run(self) -> InductionReport | str:
        """The report, or why there is none."""
        return _kept(partial(run_induction, self.streams, embedder()))

    def failed(self, message: str) -> str:
        """What stands for the report when the whole job broke."""
        return message


AnyJob = Job | PairJob | InductionJob
StreamReports = dict[str, Report | str]
AnyReport = StreamReports | PairReport | InductionReport | str
T = TypeVar("T")


def own_systems(name: str) -> tuple[OwnSystem, ...]:
    """The ways the product is run on a set."""
    values = name in WITH_VALUES
    ways = [OwnSystem(name="ours", vocabulary=values)]
    ways.append(OwnSystem(name="ours_open") if values else OwnSystem(name="ours+values", vocabulary=True))
    if name in CONFIRMED:
        ways.append(OwnSystem(name="ours+confirm", vocabulary=values, confirm=True))
    return (*ways, *(OwnSystem(name=f"ours@{bound:g}", vocabulary=values, bound=bound) for bound in BOUNDS))


_EMBEDDER: RememberingEmbedder | None = None


def embedder() -> RememberingEmbedder:
    """This process's encoder, made once."""
    global _EMBEDDER
    if _EMBEDDER is None:
        _EMBEDDER = RememberingEmbedder(inner=SentenceTransformerEmbedder(DEFAULT_MODEL))
    return _EMBEDDER


def run_job(job: AnyJob) -> AnyReport:
    """Run a job in this process, without what the product logs about each goal."""
    ours = logging.getLogger("llmos")
    level = ours.level
    ours.setLevel(logging.CRITICAL)
    try:
        return job.run()
    finally:
        ours.setLevel(level)


def _kept(work: Callable[[], T]) -> T | str:
    try:
        return work()
    except Exception as error:  # a system is a border: the others' results are kept
        log.exception("a part of the benchmark broke")
        return f"{type(error).__name__}: {error}"


def results_of(jobs: Sequence[AnyJob], workers: int) -> Iterator[tuple[AnyJob, AnyReport]]:
    """Each job with what it gave, as they come; a worker that dies costs only its own job."""
    if workers == 1:
        for job in jobs:
            yield job, run_job(job)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=workers, mp_context=context) as pool:
        pending = {pool.submit(run_job, job): job for job in sorted(jobs, key=lambda job: -job.size)}
        for done in as_completed(pending):
            job = pending[done]
            try:
                yield job, done.result()
            except Exception as error:  # whatever ended a worker, the other sets are measured
                yield job, job.failed(f"{type(error).__name__}: {error}")


def jobs_of(
    data: Data, *, sets: Sequence[str] = (), systems: Sequence[str] = (), seeds: int = 3, limit: int | None = None
) -> list[AnyJob]:
    """One job for each stream and seed, and the pairs in handy parts; without `sets` those of every day."""
    chosen = sets or _by_default(data)
    jobs: list[AnyJob] = [
        Job(name=name, seed=seed, goals=data.streams[name], systems=tuple(systems) or DAILY, limit=limit)
        for name in chosen
        if name in data.streams
        for seed in range(seeds)
    ]
    asked = {name: questions(data.pairs[name]) for name in chosen if name in data.pairs}
    if "perturbed" in chosen:
        asked["perturbed"] = hard_negatives({n: goals for n, goals in data.streams.items() if n in PERTURBED})
    for name, found in asked.items():
        jobs += [PairJob(name=name, asked=tuple(found[i : i + _PART])) for i in range(0, len(found), _PART)]
    if "induction" in chosen:
        jobs.append(InductionJob(streams={n: goals for n, goals in data.streams.items() if n in PER_SOURCE}))
    return jobs


def _by_default(data: Data) -> list[str]:
    streams = [name for name in data.streams if name not in LEFT_OUT] or [*data.streams]
    return [*streams, *data.pairs, *MADE]


MADE = ("perturbed", "induction")
"""The parts that are made from the streams."""
OWN = ("ours", "ours_open", "ours+values", "ours+confirm")
DAILY = (*OWN, *BASELINES)
SYSTEMS = (*DAILY, *(f"ours@{bound:g}" for bound in BOUNDS))
PERTURBED = ("webarena", "androidworld", "visualwebarena", "homeassistant", "snips", "hwu", "text2sql")
"""The streams whose goals are perturbed: commands and questions with slots."""
_PART = 400
