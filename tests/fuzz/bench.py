"""A bench for fuzzing: the real command line in this process, in a small world whose every change is seen.

With LLMOS_FUZZ=N each test runs N times as many examples, other ones each time; without it always the same few.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from hypothesis import HealthCheck, Phase, settings

from llmos.interfaces.cli import main

FACTOR = int(os.environ.get("LLMOS_FUZZ") or 0)
EXIT_CODES = frozenset(range(8))

Snapshot = Mapping[str, tuple[Any, ...]]


def fuzz(max_examples: int) -> Callable[[Any], Any]:
    """How a fuzz test is run: so many examples, always the same; with LLMOS_FUZZ many more, and new ones."""
    return settings(
        max_examples=max_examples * max(FACTOR, 1),
        derandomize=not FACTOR,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
        phases=[phase for phase in Phase if phase is not Phase.shrink or not os.environ.get("LLMOS_FUZZ_RAW")],
    )


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a command came to."""

    args: tuple[str, ...]
    exit_code: int
    out: str
    err: str

    @property
    def sentences(self) -> list[str]:
        return [line for line in self.err.splitlines() if line.startswith("llmos: ")]

    def assert_fit_for_people(self) -> None:
        """A documented exit code, no traceback, no defect put into words; a failure says why."""
        told = (self.args, self.exit_code, self.err[-3000:])
        assert self.exit_code in EXIT_CODES, told
        assert "-v" in self.args or "Traceback (most recent call last)" not in self.err + self.out, told
        assert "(run with -v for the traceback)" not in self.err + self.out, told
        assert self.exit_code == 0 or self.sentences, told
        assert all(len(line) < 2600 for line in self.sentences), told


@dataclass
class Bench:
    """A home, a workspace with links that lead out of it, and what lies around them."""

    root: Path
    template: Path = field(init=False)

    def __post_init__(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        self.template = self.root.with_name(self.root.name + "-template")
        for folder in (self.outside / "folder", self.user, self.temporary):
            folder.mkdir(parents=True)
        (self.outside / "secret.csv").write_text("name,amount\nada,1\n")
        (self.outside / "folder" / "a.txt").write_text("outside\n")
        (self.user / "notes.txt").write_text("mine\n")

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def work(self) -> Path:
        return self.root / "work"

    @property
    def outside(self) -> Path:
        return self.root / "outside"

    @property
    def user(self) -> Path:
        return self.root / "user"

    @property
    def temporary(self) -> Path:
        return self.root / "tmp"

    def learn(self, *traces: str, config: str = "") -> None:
        """Make the home that every example starts from, with these traces trusted."""
        self.renew()
        self.home.mkdir()
        (self.home / "llmos.yaml").write_text(config)
        for trace in traces:
            done = self.run("traces", "import", "--trust", "-", stdin=trace.encode())
            assert done.exit_code == 0, done.err
        assert self.run("Calculate 1 + 1").out == "2\n"
        assert self.run("--mode", "follow", "What no trace knows").exit_code == 6  # the traces are embedded for it
        shutil.copytree(self.home, self.template)

    def renew(self) -> None:
        """Put workspace and home back to where every example starts."""
        for folder in (self.work, self.home):
            shutil.rmtree(folder, ignore_errors=True)
        if self.template.is_dir():
            shutil.copytree(self.template, self.home)
        (self.work / "sub").mkdir(parents=True)
        (self.work / "data.csv").write_text("name,amount\nada,1\nbob,2\n")
        (self.work / "a.txt").write_text("one\ntwo\n")
        (self.work / "sub" / "b.txt").write_text("three\n")
        (self.work / "bytes.bin").write_bytes(bytes(range(256)))
        (self.work / "link.csv").symlink_to(self.outside / "secret.csv")
        (self.work / "linked").symlink_to(self.outside / "folder")
        (self.work / "dangling").symlink_to(self.outside / "new.txt")
        (self.work / "loop").symlink_to("loop")
        os.mkfifo(self.work / "pipe")

    def run(self, *args: str, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> Outcome:
        """One command line, in this process; it must leave everything beside home and workspace as it is."""
        before = self._snapshot()
        with self._surroundings(env or {}, stdin) as (out, err), WATCH.watching(self):
            exit_code = main(list(args), prog_name="llmos")
            out.flush()
            err.flush()
            texts = [Path(stream.name).read_bytes().decode("utf-8", "replace") for stream in (out, err)]
        assert WATCH.seen == [], (args, WATCH.seen)
        assert self._snapshot() == before, args
        return Outcome(args=args, exit_code=exit_code, out=texts[0], err=texts[1])

    def check(self, *args: str, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> Outcome:
        """The same, and what it told must be fit for people."""
        done = self.run(*args, stdin=stdin, env=env)
        done.assert_fit_for_people()
        return done

    @contextlib.contextmanager
    def _surroundings(
        self, env: Mapping[str, str], stdin: bytes
    ) -> Iterator[tuple[io.TextIOWrapper, io.TextIOWrapper]]:
        """This process's environment, folder, streams and logging as a command of a user's has them."""
        plain = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(self.user), "LANG": "C.UTF-8"}
        plain |= {"LLMOS_HOME": str(self.home), "LLMOS_DAEMON": "0", "TERM": "dumb", "USER": "ada", **env}
        root, ours = logging.getLogger(), logging.getLogger("llmos")
        kept = (root.handlers[:], root.level, ours.level)
        with contextlib.ExitStack() as stack:
            streams = [
                stack.enter_context((self.temporary / name).open("w+", encoding="utf-8")) for name in ("out", "err")
            ]
            said = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the stream around it
            said.write(stdin)
            said.seek(0)
            stack.enter_context(mock.patch.dict(os.environ, plain, clear=True))
            stack.enter_context(mock.patch.object(tempfile, "tempdir", str(self.temporary)))
            stack.enter_context(contextlib.chdir(self.work))
            stack.enter_context(warnings.catch_warnings())
            stack.enter_context(contextlib.redirect_stdout(streams[0]))
            stack.enter_context(contextlib.redirect_stderr(streams[1]))
            heard = stack.enter_context(io.TextIOWrapper(said, encoding="utf-8"))
            stack.enter_context(mock.patch.object(sys, "stdin", heard))
            try:
                yield streams[0], streams[1]
            finally:
                logging.captureWarnings(False)
                root.handlers[:] = kept[0]
                root.setLevel(kept[1])
                ours.setLevel(kept[2])

    def _snapshot(self) -> Snapshot:
        """Everything beside home, workspace and temporary files, as it is."""
        found: dict[str, tuple[Any, ...]] = {
            "": tuple(sorted({path.name for path in self.root.iterdir()} - {"home", "work", "tmp"}))
        }
        for top in (self.outside, self.user):
            for folder, folders, files in os.walk(top):
                for name in (*folders, *files):
                    path = Path(folder, name)
                    stat = path.lstat()
                    content = path.read_bytes() if path.is_file() and not path.is_symlink() else None
                    found[str(path)] = (stat.st_mode, stat.st_mtime_ns, stat.st_nlink, content)
        return found


class Watch:
    """Sees, through the interpreter's own audit events, what this process changes outside home and workspace."""

    CHANGES = frozenset({"os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.symlink", "os.link", "os.truncate"})
    CHANGES |= frozenset({"os.chmod", "os.chown", "os.utime", "os.setxattr"})

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []
        self._bench: Bench | None = None
        self._is_installed = False

    @contextlib.contextmanager
    def watching(self, bench: Bench) -> Iterator[None]:
        if not self._is_installed:
            sys.addaudithook(self._heard)  # for good: a hook can't be taken away
            self._is_installed = True
        self.seen, self._bench = [], bench
        try:
            yield
        finally:
            self._bench = None

    def _heard(self, event: str, args: tuple[Any, ...]) -> None:
        bench = self._bench
        if bench is None:
            return
        if event == "open":
            path, _, flags = args
            if not isinstance(flags, int) or not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC):
                return
            self._judge(bench, event, path)
        elif event in self.CHANGES:
            for path in args[: 2 if event in ("os.rename", "os.link") else 1]:
                self._judge(bench, event, path)

    def _judge(self, bench: Bench, event: str, path: Any) -> None:
        if not isinstance(path, str | bytes):
            return  # a descriptor: it was judged when it was opened
        text = os.fsdecode(path)
        if not text.startswith("/") or text.startswith(("/dev/", "/sys/fs/cgroup/")) or "__pycache__" in text:
            return  # what is relative to a folder's descriptor is seen in the snapshot
        if text.startswith("/proc/self/fd/"):
            text = str(Path(text).parent.resolve() / Path(text).name)
        allowed = (bench.home, bench.work, bench.temporary)
        if not any(text == str(folder) or text.startswith(f"{folder}/") for folder in allowed):
            self.seen.append((event, text))


WATCH = Watch()
