"""How others decide whether to replay: thresholds on one cosine, GPTCache, vCache, muscle-mem, upstream's rule.

`granted` systems are given the slots for nothing: a replay counts as right when the procedure is, as if some
oracle had put this goal's values in. Those without it serve the nearest entry as it was recorded, as they really do.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import TYPE_CHECKING

from benchmarks.goals import Call, Goal
from benchmarks.scoring import verdict

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(kw_only=True)
class Entry:
    """A stored goal with what was observed of it: (cosine, was it right) of goals it was the nearest to."""

    goal: Goal
    observed: list[tuple[float, bool]] = field(default_factory=list)


@dataclass(kw_only=True)
class Nearest:
    """A store of goals with their vectors, asked for the nearest one."""

    capacity: int
    entries: list[Entry] = field(default_factory=list)
    _vectors: NDArray[np.float32] | None = None

    def add(self, goal: Goal, vector: NDArray[np.float32]) -> None:
        import numpy as np

        if self._vectors is None:
            self._vectors = np.zeros((self.capacity, len(vector)), dtype=np.float32)
        self._vectors[len(self.entries)] = vector
        self.entries.append(Entry(goal=goal))

    def find(self, vector: NDArray[np.float32]) -> tuple[Entry | None, float]:
        """The nearest entry and its cosine (-1 when there is none)."""
        if self._vectors is None:
            return None, -1.0
        cosines = self._vectors[: len(self.entries)] @ vector
        best = int(cosines.argmax())
        return self.entries[best], float(cosines[best])


@dataclass(kw_only=True)
class Threshold:
    """Replay the nearest entry when its cosine is high enough, else learn."""

    store: Nearest
    threshold: float
    granted: bool

    def step(self, goal: Goal, vector: NDArray[np.float32]) -> tuple[Call, ...] | str:
        """The calls made for a goal, or why it was learned."""
        entry, cosine = self.store.find(vector)
        if entry is not None and cosine >= self.threshold:
            return served(goal, entry.goal, self.granted)
        self.store.add(goal, vector)
        return "far"


@dataclass(kw_only=True)
class SameText:
    """Replay only what was asked in the very same words."""

    known: dict[str, Goal] = field(default_factory=dict)

    def step(self, goal: Goal, vector: NDArray[np.float32]) -> tuple[Call, ...] | str:
        """The calls made for a goal, or why it was learned."""
        if goal.text in self.known:
            return served(goal, self.known[goal.text], granted=False)
        self.known[goal.text] = goal
        return "other_text"


@dataclass(kw_only=True)
class VCache:
    """vCache: each entry learns its own logistic curve of cosine against right, and serves under an error bound δ.

    A goal that is not served is learned and tells the nearest entry whether it would have been right; it becomes
    an entry of its own only if not. An entry serves after six observations of both kinds.

    Source: Schroeder et al. 2025, vCache: Verified Semantic Prompt Caching (arXiv 2502.03771), algorithm 1, δ = 0.01.
    """

    store: Nearest
    granted: bool
    rng: random.Random
    delta: float = 0.01

    def step(self, goal: Goal, vector: NDArray[np.float32]) -> tuple[Call, ...] | str:
        """The calls made for a goal, or why it was learned."""
        entry, cosine = self.store.find(vector)
        if entry is None:
            self.store.add(goal, vector)
            return "empty"
        if self.rng.random() > self._exploring(entry.observed, cosine):
            return served(goal, entry.goal, self.granted)
        right = verdict(goal, served(goal, entry.goal, self.granted)) == "right"
        entry.observed.append((cosine, right))
        if not right:
            self.store.add(goal, vector)
        return "explored"

    def _exploring(self, observed: list[tuple[float, bool]], cosine: float) -> float:
        """How likely to ask instead of serving: the least share that keeps the error under δ."""
        if len(observed) < 6 or len({right for _, right in observed}) < 2:
            return 1.0
        threshold, steepness, deviation = logistic(observed)
        least = 1.0
        for number in range(50):
            epsilon = 1e-6 + (1 - 2e-6) * number / 49
            bound = min(1.0, max(0.0, threshold + NormalDist().inv_cdf(1 - epsilon) * deviation))
            right = (1 - epsilon) * sigmoid(steepness * (cosine - bound))
            least = min(least, 1 - self.delta / (1 - right) if right < 1 else 0.0)
        return least


def logistic(observed: list[tuple[float, bool]]) -> tuple[float, float, float]:
    """Threshold, steepness and the threshold's standard deviation of a logistic curve through labelled cosines.

    Newton's method with a trace of a ridge, for data that a threshold separates has no finite steepness; there
    the deviation is that of about as many draws (0.035 at six observations, 0.01 from twenty on).
    """
    import numpy as np

    x = np.array([[1.0, cosine] for cosine, _ in observed])
    y = np.array([float(right) for _, right in observed])
    weights, ridge = np.zeros(2), 1e-6 * np.eye(2)
    for _ in range(50):
        p = 1 / (1 + np.exp(-np.clip(x @ weights, -30, 30)))
        hessian = x.T @ (x * (p * (1 - p))[:, None]) + ridge
        change = np.linalg.solve(hessian, x.T @ (y - p) - ridge @ weights)
        weights = weights + np.clip(change, -50, 50)
        if float(np.abs(change).max()) < 1e-6:
            break
    steepness = max(float(weights[1]), 1e-6)
    threshold = min(1.0, max(0.0, -float(weights[0]) / steepness))
    if x[y == 1, 1].min() > x[y == 0, 1].max():
        return threshold, steepness, math.sqrt(max(0.01, 0.21 / len(observed)))
    gradient = np.array([-1 / steepness, float(weights[0]) / steepness**2])
    variance = float(gradient @ np.linalg.inv(hessian) @ gradient)
    return threshold, steepness, math.sqrt(max(0.0, variance))


def sigmoid(value: float) -> float:
    """1 / (1 + e^-value) without overflow."""
    return 1 / (1 + math.exp(-min(700.0, max(-700.0, value))))


def served(goal: Goal, entry: Goal, granted: bool) -> tuple[Call, ...]:
    """What a cache that picked `entry` does for `goal`: its recorded calls, or with granted slots the right values."""
    return goal.calls if granted and entry.procedure == goal.procedure else entry.calls


Baseline = Threshold | SameText | VCache

GPTCACHE_COSINE = 0.6
"""GPTCache's default policy on vectors of length 1: threshold 0.8 of the range 0…4 of 4 - squared distance, so that
2 - 2 cos ≤ 0.8. Source: gptcache/similarity_evaluation/distance.py and config.py (similarity_threshold)."""

BASELINES: Mapping[str, Callable[[int, int], Baseline]] = {
    **{
        f"cosine_{at:.2f}": lambda n, seed, at=at: Threshold(store=Nearest(capacity=n), threshold=at, granted=True)  # type: ignore[misc]
        for at in (0.80, 0.90, 0.92, 0.94)
    },
    **{
        f"verbatim_{at:.2f}": lambda n, seed, at=at: Threshold(store=Nearest(capacity=n), threshold=at, granted=False)  # type: ignore[misc]
        for at in (0.80, 0.90)
    },
    "upstream": lambda n, seed: Threshold(store=Nearest(capacity=n), threshold=0.92, granted=False),
    "gptcache": lambda n, seed: Threshold(store=Nearest(capacity=n), threshold=GPTCACHE_COSINE, granted=False),
    "vcache": lambda n, seed: VCache(store=Nearest(capacity=n), granted=False, rng=random.Random(seed)),
    "vcache_granted": lambda n, seed: VCache(store=Nearest(capacity=n), granted=True, rng=random.Random(seed)),
    "muscle_mem": lambda n, seed: SameText(),
}
"""A fresh one by name, from the number of goals and the seed."""
