"""A memory of any size, filled by SQL with what the product would have stored: traces, runs, hashes, words, vectors."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.scale.goals import Variant, moved
from llmos.memory import opening, sql
from llmos.memory.database import digest
from llmos.memory.embeddings import DEFAULT_MODEL
from llmos.memory.engine import CONFIG
from llmos.memory.trace_rows import content_hash_of
from llmos.memory.words import file_all
from llmos.trace import lex
from llmos.trace.codec import dumps_json
from llmos.trace.program import Effect, Provenance, Status, Step, Trace
from llmos.trace.shape import shape
from llmos.trace.values import Const

if TYPE_CHECKING:
    import numpy as np
    from duckdb import DuckDBPyConnection
    from numpy.typing import NDArray

NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
_BLOCK = 10_000


@dataclass(frozen=True, kw_only=True)
class Stored:
    """The goals that are stored, in order, and the vectors of the first of them."""

    goals: Sequence[Variant]
    vectors: NDArray[np.float32]
    seed: int

    def blocks(self, count: int) -> Iterator[tuple[Sequence[Variant], NDArray[np.float32]]]:
        """The first `count` goals with their vectors: those encoded, then those that are moved."""
        true = min(count, len(self.vectors))
        yield self.goals[:true], self.vectors[:true]
        start = true
        if count > true:
            known = self.goals[: len(self.vectors)]
            for vectors in moved(self.goals[len(known) : count], known, self.vectors, self.seed):
                yield self.goals[start : start + len(vectors)], vectors
                start += len(vectors)


def id_of(goal: Variant) -> str:
    """The id of a goal's trace."""
    return f"goal-{sha256(goal.text.encode()).hexdigest()[:12]}"


def a_trace(goal: Variant) -> Trace:
    """A trace for one goal, as a learner's run of one read would have left it."""
    return Trace(
        id=id_of(goal),
        goals=(lex.escape_template(goal.text),),
        steps=(Step(id="read", tool="read", args={"path": Const(value="notes.md")}, effect=Effect.READ),),
        status=Status.TRUSTED,
        provenance=Provenance.LEARNED,
        run_id=f"run-{id_of(goal)}",
        cost_usd=0.1,
        created_at=NOW,
    )


def fill(path: Path, stored: Stored, count: int) -> None:
    """Make a database with `count` traces, each with the learner's run it came from."""
    import duckdb

    opening.create(path)
    with duckdb.connect(str(path), config=CONFIG) as connection, ProcessPoolExecutor() as pool:
        connection.execute(sql.AMPLE_MEMORY)
        for goals, vectors in stored.blocks(count):
            parts = [goals[start : start + _BLOCK] for start in range(0, len(goals), _BLOCK)]
            for number, columns in enumerate(pool.map(_columns, parts)):
                _insert(connection, columns, vectors[number * _BLOCK : (number + 1) * _BLOCK])
        file_all(connection)
        connection.execute("CHECKPOINT")


def _insert(connection: DuckDBPyConnection, made: dict[str, list[str]], vectors: NDArray[np.float32]) -> None:
    import numpy as np

    columns: dict[str, Any] = {name: np.array(values, dtype=object) for name, values in made.items()}
    columns |= {f"v{place}": np.ascontiguousarray(vectors[:, place]) for place in range(vectors.shape[1])}
    connection.register("rows", columns)
    now = "TIMESTAMP '2026-11-28 12:00:00'"
    for statement in (
        f"INSERT INTO traces SELECT id, 1, 'trusted', '', 'learned', 0, 0, 0, 0.0, {now}, NULL FROM rows",
        f"INSERT INTO trace_versions SELECT id, 1, body, content, run, {now} FROM rows",
        "INSERT INTO trace_templates SELECT id, 1, 0, template, masked, skeleton, hash FROM rows",
        "INSERT INTO trace_runs SELECT id, 1, run FROM rows",
        "INSERT INTO trace_shapes SELECT id, shape FROM rows",
        "INSERT INTO runs SELECT run, nextval('run_no'), nextval('run_end_no'), goal, hash, 'learner', 'done', 'done', "
        f"NULL, id, 1, '{{}}', 'model', 0.1, 0.0, '', {now}, 1.0 FROM rows",
        "INSERT INTO embeddings SELECT nextval('embedding_no'), 'template', id, 1, 0, masked, "
        f"'{DEFAULT_MODEL}', list_value({', '.join(f'v{place}' for place in range(vectors.shape[1]))}) FROM rows",
    ):
        connection.execute(statement)
    connection.unregister("rows")


def _columns(goals: Iterable[Variant]) -> dict[str, list[str]]:
    """What the product derives from traces, by column."""
    rows = []
    for goal in goals:
        trace = a_trace(goal)
        rows.append(
            {
                "id": trace.id,
                "goal": goal.text,
                "template": trace.goals[0],
                "masked": lex.template_masked(trace.goals[0], ()),
                "skeleton": digest(lex.template_skeleton(trace.goals[0], ())),
                "hash": digest(lex.normalise(goal.text)),
                "body": dumps_json(trace),
                "content": content_hash_of(trace),
                "run": trace.run_id or "",
                "shape": shape(trace),
            }
        )
    return {name: [row[name] for row in rows] for name in rows[0]}


def nearest_to(
    questions: NDArray[np.float32], stored: Stored, count: int, k: int
) -> tuple[NDArray[np.float32], list[list[str]]]:
    """The cosines of the exact `k` nearest stored goals of each question, and the ids of their traces."""
    import numpy as np

    best = np.full((len(questions), k), -2, dtype=np.float32)
    ids = np.full((len(questions), k), "", dtype=object)
    for goals, vectors in stored.blocks(count):
        for start in range(0, len(goals), _BLOCK):
            block = goals[start : start + _BLOCK]
            cosines = np.concatenate([best, questions @ vectors[start : start + _BLOCK].T], axis=1)
            named = np.array([id_of(goal) for goal in block], dtype=object)
            known = np.concatenate([ids, np.broadcast_to(named, (len(questions), len(block)))], axis=1)
            order = np.argsort(-cosines, axis=1)[:, :k]
            best, ids = np.take_along_axis(cosines, order, 1), np.take_along_axis(known, order, 1)
    return best, ids.tolist()


def write_questions(folder: Path, questions: Sequence[Variant], vectors: NDArray[np.float32]) -> None:
    """What a measuring process asks, where it finds it."""
    import numpy as np

    np.save(folder / "questions.npy", vectors)
    (folder / "questions.json").write_text(json.dumps([[one.text, one.masked] for one in questions]), encoding="utf-8")
