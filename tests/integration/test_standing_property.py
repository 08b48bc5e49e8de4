"""Whatever happens between two goals: what is told as unchanged is what doing it again would answer, and leave."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections import Counter
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from llmos.errors import LLMOSError
from llmos.interfaces.results import Result
from tests.standing_lab import TRACES, StandingLab

FILES = ("a.csv", "b.csv", "sub/a.csv", "sub/n.txt", "n.txt", "out/a.csv")
TARGETS = ("x.json", "y.csv", "out/x.json", "sub/x.txt", "n.txt", "link.txt", "lane/x.txt")
FOLDERS = (".", "sub", "out", "lane")
TEXTS = ("a,b\n1,2\n", "a,b\n3,4\n", "a,b\n1,one\n5,one\n", "one\n", "two\n", "")
PLACES = st.sampled_from(sorted({*FILES, *TARGETS}))
OLD_S = 1_700_000_000


EDITS = st.one_of(
    st.tuples(st.just("write"), PLACES, st.sampled_from(TEXTS), st.booleans()),
    st.tuples(st.just("touch"), PLACES),
    st.tuples(st.just("chmod"), PLACES, st.sampled_from((0o644, 0o600, 0o755))),
    st.tuples(st.just("remove"), st.one_of(PLACES, st.sampled_from(("sub", "out", "lane")))),
    st.tuples(st.just("move"), PLACES, PLACES),
    st.tuples(st.just("copy"), PLACES, PLACES),
    st.tuples(
        st.just("link"), PLACES, st.sampled_from(("a.csv", "b.csv", "sub/a.csv", "n.txt", "x.json", "out/x.json"))
    ),
    st.tuples(st.just("link"), st.just("lane"), st.sampled_from(("sub", "out", "nowhere"))),
    st.tuples(st.just("link"), st.just("link.csv"), st.sampled_from(("a.csv", "b.csv", "sub/a.csv"))),
    st.tuples(st.just("undo")),
)
Edit = tuple[Any, ...]


def goals() -> st.SearchStrategy[str]:
    values = {
        "source": st.sampled_from(("a.csv", "b.csv", "sub/a.csv", "link.csv", "lane/a.csv")),
        "middle": st.sampled_from(("m.json", "out/m.csv", "a.csv")),
        "target": st.sampled_from(TARGETS),
        "folder": st.sampled_from(FOLDERS),
        "other": st.sampled_from(("out", "sub", "n.txt", "link.txt")),
    }
    templates = ["Convert {source} to {target}", "Save {source} as {target}", *(goal for goal, _, _ in TRACES.values())]

    @st.composite
    def drawn(draw: st.DrawFn) -> str:
        template = draw(st.sampled_from(templates))
        return template.format(**{name: draw(one) for name, one in values.items() if f"{{{name}}}" in template})

    return drawn()


class World:
    """One laboratory for all examples: what was known in earlier ones must not mislead later ones."""

    lab: StandingLab
    runner: asyncio.Runner
    modes: ClassVar[Counter[str]] = Counter()


def done(work: Coroutine[Any, Any, Any]) -> Any:
    return World.runner.run(work)


class Edits(RuleBasedStateMachine):
    """Goals and edits in any order; `StandingLab.do` holds what is told against what is done."""

    @initialize()
    def begin(self) -> None:
        World.lab.clear()
        for name in ("a.csv", "b.csv", "sub/a.csv"):
            self._write(name, TEXTS[0], False)
        self._write("n.txt", "one\n", False)
        (World.lab.workspace / "out").mkdir()
        (World.lab.workspace / "link.csv").symlink_to("a.csv")
        (World.lab.workspace / "lane").symlink_to("sub")

    @rule(goal=goals())
    def do(self, goal: str) -> None:
        result: Result | None = done(World.lab.do(goal))
        World.modes[result.mode if result else "failed"] += 1

    @rule(goal=goals(), edits=st.lists(EDITS, max_size=3))
    def do_it_before_and_after(self, goal: str, edits: list[Edit]) -> None:
        self.do(goal)
        self.do(goal)
        for edit in edits:
            self.edit(edit)
        self.do(goal)

    @rule(goal=goals())
    def do_it_again(self, goal: str) -> None:
        done(World.lab.do(goal, again=True))

    @rule(edit=EDITS)
    def edit(self, edit: Edit) -> None:
        name, *arguments = edit
        with contextlib.suppress(OSError, shutil.Error, LLMOSError):
            getattr(self, f"_{name}")(*arguments)

    def _undo(self) -> None:
        async def work() -> None:
            undoing = World.lab.system.undoing
            await undoing.undo(await undoing.plan(await undoing.last()), keep_changed=True)

        done(work())

    def _write(self, name: str, text: str, keep_time: bool) -> None:
        """Write a file in place, if asked with the time of change it has had before."""
        path = _at(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        if keep_time:
            os.utime(path, (OLD_S, OLD_S))

    def _touch(self, name: str) -> None:
        _at(name).touch()

    def _chmod(self, name: str, mode: int) -> None:
        _at(name).chmod(mode)

    def _remove(self, name: str) -> None:
        path = _at(name)
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()

    def _move(self, name: str, other: str) -> None:
        _at(name).replace(_at(other))

    def _copy(self, name: str, other: str) -> None:
        shutil.copy2(_at(name), _at(other))

    def _link(self, name: str, to: str) -> None:
        path = _at(name)
        path.unlink(missing_ok=True)
        path.symlink_to(os.path.relpath(to, path.parent.relative_to(World.lab.workspace)))


def _at(name: str) -> Path:
    return World.lab.workspace / name


@pytest.fixture
def world(tmp_path: Path) -> Iterator[type[World]]:
    with asyncio.Runner() as runner:
        World.runner, World.modes = runner, Counter()
        World.lab = runner.run(StandingLab(tmp_path).__aenter__())
        yield World
        runner.run(World.lab.__aexit__())


EXAMPLES = int(os.environ.get("LLMOS_STANDING_EXAMPLES", "15"))


def test_what_is_told_as_unchanged_is_what_doing_it_would_give(world: type[World]) -> None:
    checks = (HealthCheck.too_slow, HealthCheck.data_too_large)
    how = settings(max_examples=EXAMPLES, stateful_step_count=25, deadline=None, suppress_health_check=checks)
    run_state_machine_as_test(Edits, settings=how)
    assert world.modes["unchanged"] > 0 < world.modes["follower"]
