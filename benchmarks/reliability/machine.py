"""What a machine does to a program: a disk that is full or read-only, a clock that jumps.

Who may mount gets a small tmpfs and read-only mounts; everybody else a limit on the size of files, and files without
the right to write.
"""

from __future__ import annotations

import contextlib
import os
import random
import resource
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from benchmarks.reliability.kills import Worker, boot, verify
from benchmarks.reliability.outcome import Outcome
from benchmarks.reliability.place import Place

FAKETIME = tuple(Path(folder) / "faketime/libfaketimeMT.so.1" for folder in ("/usr/lib/x86_64-linux-gnu", "/usr/lib"))
_DISK = "40m"
_JUMPS = ("-400d", "-1d", "-1h", "-5m", "+0", "+5m", "+1h", "+1d", "+20d", "+400d")
_PAUSE_S = 0.15


def fill_disk(folder: Path, trials: int, seed: int) -> Outcome:
    """Take the room away while everything is being done, give it back, and look."""
    chance = random.Random(f"{seed} disk")
    outcome = Outcome(name="disk full")
    for number in range(trials):
        place = Place(folder / f"disk-{number}")
        if can_mount():
            outcome.facts["on a full tmpfs"] += 1
            with _mounted(place) as disk:
                _on_a_full_disk(place, disk, chance, outcome)
        else:
            outcome.facts["with a limit on file sizes"] += 1
            place.prepare()
            _with_small_files(place, chance, outcome)
        outcome.trials += 1
    return outcome


@contextmanager
def _mounted(place: Place) -> Iterator[Path]:
    """Home and workspace on a small disk of their own."""
    disk = place.root / "disk"
    disk.mkdir(parents=True)
    _run("mount", "-t", "tmpfs", "-o", f"size={_DISK}", "tmpfs", str(disk))
    try:
        for name in ("home", "workspace"):
            (disk / name).mkdir()
            (place.root / name).symlink_to(disk / name)
        place.prepare()
        yield disk
    finally:
        _run("umount", "-l", str(disk))


@cache
def can_mount() -> bool:
    """Whether this user may mount: root, and not in a container that forbids it."""
    if os.geteuid() != 0:
        return False
    with tempfile.TemporaryDirectory() as folder:
        try:
            _run("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder)
            _run("umount", folder)
        except (subprocess.CalledProcessError, FileNotFoundError):
            return False
    return True


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


def _on_a_full_disk(place: Place, disk: Path, chance: random.Random, outcome: Outcome) -> None:
    _lived(place, chance, outcome)
    worker = Worker(place, "everything", chance.randrange(1 << 30))
    worker.wait_for("ready")
    with (disk / "filler").open("wb", buffering=0) as filler:
        with contextlib.suppress(OSError):
            while True:
                filler.write(bytes(4096))
        filler.truncate(max(0, filler.tell() - 4096 * chance.randrange(0, 200)))
    _refused(worker, outcome)
    told = boot(place, "Calculate 1 + 1")
    outcome.must(told.returncode in (0, 1, 7), f"boot.py on a full disk: {told.returncode} {told.stderr[-200:]}")
    outcome.must("Traceback" not in told.stderr, f"boot.py on a full disk: {told.stderr[-300:]}")
    (disk / "filler").unlink()
    _looked_at(place, chance, outcome)


def _with_small_files(place: Place, chance: random.Random, outcome: Outcome) -> None:
    _lived(place, chance, outcome)
    held = max(path.stat().st_size for path in place.home.rglob("*") if path.is_file())
    limit = held + chance.randrange(0, 600_000)
    worker = Worker(
        place,
        "everything",
        chance.randrange(1 << 30),
        before=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    _refused(worker, outcome)
    _looked_at(place, chance, outcome)


def _lived(place: Place, chance: random.Random, outcome: Outcome) -> None:
    """A first life in which everything goes well."""
    worker = Worker(place, "everything", chance.randrange(1 << 30))
    worker.wait_for("round")
    worker.kill()
    outcome.violations += worker.violations()


def _refused(worker: Worker, outcome: Outcome) -> None:
    """Wait until it has been refused often enough to give up, or its start was refused."""
    code = worker.end()
    sentences = worker.said("refused")
    outcome.facts["refused with a sentence"] += len(sentences)
    started = bool(worker.said("ready"))
    outcome.must(bool(sentences) or not started, f"nothing was refused: {worker.errors[-200:]}")
    outcome.must(code == 0 or "llmos.errors." in worker.errors.splitlines()[-1], f"fell over: {worker.errors[-400:]}")
    outcome.violations += worker.said("violated")


def _looked_at(place: Place, chance: random.Random, outcome: Outcome) -> None:
    """Open the home in a world that is well again."""
    worker = Worker(place, "check", chance.randrange(1 << 30))
    worker.wait_for("ready")
    outcome.must(worker.end() == 0, f"the check did not end well: {worker.errors[-300:]}")
    outcome.violations += worker.violations()
    verify(place, outcome)


# --- read-only ---------------------------------------------------------------------------------------


def forbid_writing(folder: Path, trials: int, seed: int) -> Outcome:
    """Make the home, the workspace or single files read-only, use everything, and look."""
    chance = random.Random(f"{seed} read-only")
    outcome = Outcome(name="read-only files")
    for number in range(trials):
        place = Place(folder / f"read-only-{number}")
        place.prepare()
        _lived(place, chance, outcome)
        places = (place.home, place.workspace, place.home / "memory" / "llmos.duckdb")
        target = places[number % len(places)]
        with _read_only(target):
            worker = Worker(place, "everything", chance.randrange(1 << 30))
            if target == place.workspace:
                worker.wait_for("refused")
                worker.kill()
            else:
                worker.end()
                outcome.must("llmos.errors." in worker.errors.splitlines()[-1], f"fell over: {worker.errors[-400:]}")
                for words in (("Calculate 1 + 1",), ("battery",), ("repair",)):
                    told = boot(place, *words)
                    is_told = told.returncode == 7 and told.stderr.count("\n") == 1 and "Traceback" not in told.stderr
                    outcome.must(is_told, f"{words} on read-only files: {told.returncode} {told.stderr[-300:]}")
            outcome.facts["refused with a sentence"] += 1
            outcome.violations += worker.said("violated")
        outcome.facts[f"read-only {target.name}"] += 1
        outcome.trials += 1
        _looked_at(place, chance, outcome)
    return outcome


@contextmanager
def _read_only(target: Path) -> Iterator[None]:
    """A mount that can't be written, for root may write whatever files say of themselves."""
    if can_mount():
        _run("mount", "--bind", str(target), str(target))
        try:
            _run("mount", "-o", "remount,ro,bind", str(target))
            yield
        finally:
            _run("umount", "-l", str(target))
        return
    touched = [target, *(target.rglob("*") if target.is_dir() else ())]
    modes = [(path, path.stat().st_mode) for path in touched]
    for path, mode in reversed(modes):
        path.chmod(mode & ~0o222)
    try:
        yield
    finally:
        for path, mode in modes:
            path.chmod(mode)


# --- the clock ---------------------------------------------------------------------------------------


def jump_clocks(folder: Path, trials: int, seed: int) -> Outcome:
    """Let the clock jump, back and forth, while everything is done; libfaketime tells the process another time."""
    outcome, chance = Outcome(name="clock jumps"), random.Random(f"{seed} clock")
    library = next((path for path in FAKETIME if path.exists()), None)
    if library is None:
        outcome.skipped = "libfaketime is not installed (apt install faketime)"
        return outcome
    place = Place(folder / "clock")
    place.prepare()
    now = place.root / "now"
    now.write_text("+0\n")
    fake = {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(now),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    while outcome.trials < trials:
        worker = Worker(place, "everything", chance.randrange(1 << 30), environ=fake)
        if not worker.wait_for("ready"):
            worker.end()
            outcome.violations += worker.violations() or ["it did not start"]
            break
        for _ in range(min(5, trials - outcome.trials)):
            now.write_text(f"{chance.choice(_JUMPS)}\n")
            outcome.trials += 1
            time.sleep(_PAUSE_S)
            outcome.must(worker.wait_for("round"), f"it ended: {worker.errors[-300:]}")
        worker.kill()
        outcome.violations += worker.violations()
        outcome.violations += [f"refused: {sentence}" for sentence in worker.said("refused")]
    _looked_at(place, chance, outcome)
    return outcome
