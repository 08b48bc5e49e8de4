"""Files that are cut or overwritten at random places: database, write-ahead log, snapshot of the vectors."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.reliability.kills import Worker, boot
from benchmarks.reliability.outcome import Outcome
from benchmarks.reliability.place import Place

_LIVES = 3
_ROUNDS = 4
_MISSING = ("runs:", "traces:", "facts:", "ledger:", "effects:", "undo:", "journal:")
"""What a check may find wrong where `repair` has said that something is lost."""

_NEVER = ("does not add up", "a row is missing", "another balance", "booked twice", "does not replay", "blindly")
"""What nothing excuses."""


def damage_databases(folder: Path, trials: int, seed: int) -> Outcome:
    """Cut or overwrite the database or its log: recovered, or refused with a sentence that names the way out."""
    outcome, chance = Outcome(name="database damaged"), random.Random(f"{seed} damage")
    base = _base(folder / "base", chance, outcome)
    for number in range(trials):
        with _copy(base, folder / f"damaged-{number}") as place:
            database = place.home / "memory" / "llmos.duckdb"
            target = database if number % 3 else database.with_name(f"{database.name}.wal")
            how = _cut if number % 2 else _overwrite
            at = how(target, chance)
            what = f"{'cut' if number % 2 else 'overwritten'} {'log' if target != database else 'file'}"
            _one(place, database, f"{what} at {at}", chance, outcome)
            outcome.facts[what] += 1
        outcome.trials += 1
    return outcome


def _base(root: Path, chance: random.Random, outcome: Outcome) -> Place:
    """A home of some lives, the last of which was killed: with copies, and with a log beside the database."""
    place = Place(root)
    place.prepare()
    for _ in range(_LIVES):
        worker = Worker(place, "everything", chance.randrange(1 << 30))
        for _ in range(_ROUNDS):
            worker.wait_for("round")
        worker.kill()
        outcome.violations += worker.violations()
    return place


@contextmanager
def _copy(base: Place, root: Path) -> Iterator[Place]:
    """The base under another name; its processes know no other place."""
    shutil.copytree(base.root, root, symlinks=True)
    bell = root / "home" / "plugins" / "bell.py"
    bell.write_text(bell.read_text().replace(str(base.bell), str(root / "bell.log")))
    try:
        yield Place(root)
    finally:
        shutil.rmtree(root)


def _cut(path: Path, chance: random.Random) -> int:
    at = chance.randrange(path.stat().st_size)
    os.truncate(path, at)
    return at


def _overwrite(path: Path, chance: random.Random) -> int:
    size = path.stat().st_size
    at = chance.randrange(size)
    with path.open("r+b") as stream:
        stream.seek(at)
        stream.write(chance.randbytes(min(chance.choice((1, 64, 4096, 600_000)), size - at)))
    return at


def _one(place: Place, database: Path, what: str, chance: random.Random, outcome: Outcome) -> None:
    before = _digests(database)
    first = boot(place, "battery", "--json")
    if first.returncode == 0:
        outcome.facts["opened all the same"] += 1
    else:
        outcome.facts["refused with a sentence"] += 1
        _must_be_told(first, what, outcome)
    damaged = before if first.returncode else _digests(database)
    repaired = boot(place, "repair", "--json")
    if repaired.returncode != 0:
        outcome.violations.append(f"{what}: repair: {repaired.returncode} {repaired.stderr.strip()[-400:]}")
        return
    told = json.loads(repaired.stdout)
    if told["aside"] is not None:
        outcome.facts["repaired"] += 1
        aside = _digests(Path(told["aside"]) / database.name)
        outcome.must(aside == damaged, f"{what}: the damaged files are not kept as they were")
    is_cut_off = any("audit reseal" in sentence for sentence in told["found"])
    if is_cut_off:
        outcome.facts["rows cut off, told by the anchor"] += 1
        sealed = boot(place, "audit", "reseal", "looked at")
        outcome.must(sealed.returncode == 0, f"{what}: reseal: {sealed.stderr.strip()[-300:]}")
    verified = boot(place, "audit", "verify")
    outcome.must(verified.returncode == 0, f"{what}: audit verify: {verified.stderr.strip()[-300:]}")
    _judge(place, what, is_told=bool(told["lost"]) or is_cut_off, chance=chance, outcome=outcome)


def _must_be_told(done: subprocess.CompletedProcess[str], what: str, outcome: Outcome) -> None:
    lines = done.stderr.strip().splitlines()
    is_told = done.returncode == 7 and len(lines) == 1 and "boot.py repair" in lines[0]
    outcome.must(is_told, f"{what}: {done.returncode} {done.stderr.strip()[-400:]}")


def _judge(place: Place, what: str, *, is_told: bool, chance: random.Random, outcome: Outcome) -> None:
    """What was acknowledged is there, or `repair` has said that it is lost; what is there is right."""
    worker = Worker(place, "check", chance.randrange(1 << 30))
    worker.wait_for("ready")
    outcome.must(worker.end() == 0, f"{what}: the check did not end well: {worker.errors[-400:]}")
    wrong = worker.violations()
    grave = [one for one in wrong if not one.startswith(_MISSING) or any(part in one for part in _NEVER)]
    outcome.violations += [f"{what}: {one}" for one in (grave if is_told else wrong)]
    if wrong and is_told:
        outcome.facts["something lost, and told"] += 1
    else:
        outcome.facts["nothing lost"] += 1


def _digests(database: Path) -> list[str]:
    paths = (database, database.with_name(f"{database.name}.wal"))
    return [hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "" for path in paths]


# --- the vectors -------------------------------------------------------------------------------------


def damage_vectors(folder: Path, trials: int, seed: int) -> Outcome:
    """Put garbage into the snapshot or its description: what is found by meaning is the same as before."""
    outcome, chance = Outcome(name="FAISS snapshot garbage"), random.Random(f"{seed} vectors")
    place = Place(folder / "vectors")
    place.prepare()
    worker = Worker(place, "storing", chance.randrange(1 << 30))
    for _ in range(8):
        worker.wait_for("round")
    worker.kill()
    right = _found(place, chance, outcome)
    snapshot = place.home / "memory" / "traces.faiss"
    outcome.must(snapshot.exists() and bool(right), "there is no snapshot to damage")
    for number in range(trials):
        target = snapshot if number % 3 else snapshot.with_name(f"{snapshot.name}.json")
        if number % 4 == 3:
            target.write_bytes(chance.randbytes(chance.randrange(0, 5_000)))
        else:
            (_cut if number % 2 else _overwrite)(target, chance)
        if number % 5 == 4:
            repaired = boot(place, "repair", "--json")
            is_made = repaired.returncode == 0 and "made anew" in repaired.stdout
            outcome.must(is_made, f"repair did not make the vectors anew: {repaired.stdout} {repaired.stderr[-300:]}")
            outcome.facts["made anew by repair"] += 1
        outcome.must(_found(place, chance, outcome) == right, f"other traces are found after damage {number}")
        outcome.trials += 1
    return outcome


def _found(place: Place, chance: random.Random, outcome: Outcome) -> list[str]:
    worker = Worker(place, "recall", chance.randrange(1 << 30))
    outcome.must(worker.end() == 0, f"looking up fell over: {worker.errors[-400:]}")
    outcome.violations += worker.violations()
    return worker.said("found")
