"""The interactive shell: goals and commands, one line at a time, on one running LLMOS.

On a terminal prompt_toolkit reads the lines (history, completion); from a pipe they are read as they come.
"""

from __future__ import annotations

import asyncio
import codecs
import os
import re
import shlex
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from llmos import caller
from llmos.caller import is_terminal
from llmos.errors import UsageError
from llmos.interfaces import actions, interrupt_commands, verdicts
from llmos.interfaces.commands import cli, parse
from llmos.interfaces.overhearing import Overhearing
from llmos.interfaces.parsing import MODES, Line
from llmos.interfaces.reading import chunk
from llmos.interfaces.session import Action, Options, ReaderLeftError, Screen, Session, report

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import CompleteEvent, Completer, Completion
    from prompt_toolkit.document import Document

    from llmos.interfaces.results import Result

PROMPT = "llmos> "
MAX_LINE_BYTES = 1_000_000
_GOAL_COMMANDS = ("run", "explain", "sys")
_TELL = re.compile(r"(?P<pid>\d{1,18})\s+(?P<text>[^-].*)", re.DOTALL)
_CANCEL_GRACE_S = 30.0

HELP = f"""\
A line is a goal, or one of these (a leading / or : is allowed):

  run GOAL            reach GOAL, also one that begins with a command's name
  explain GOAL        what GOAL would do, why and at what cost
  sys SENTENCE        make the system call that SENTENCE means, such as suspend the reviewer
  traces ...          list, show, versions, diff, export, import, confirm, reject, forget
  runs ...            list, show
  undo [RUN]          take back what a run did to files (--dry-run, --keep-changed)
  journal ...         list, settle, prune
  battery ...         show, recharge, ledger
  permissions ...     show, check
  approvals ...       list, revoke
  tell PID TEXT       tell the model of a process something at its next turn
  interrupts          what waits to be delivered
  schedule ...        list, add, show, pause, continue, remove
  watch ...           list, add, show, pause, continue, remove
  tools               the tools and their arguments
  doctor              what is installed and what is missing
  mode [{"|".join(MODES)}]
                      how goals are solved from now on
  last                the last answer again, with its line
  again               do the last goal again, even if nothing has changed since
  good, bad           the last answer was right; it was wrong, never do it so again
  help [COMMAND]      this text, or a command's own
  exit                leave; so does Ctrl-D

Ctrl-C stops a goal, not the shell. What is typed while the learner works is told to it at its next turn."""


@dataclass(kw_only=True)
class Shell:
    """What the shell knows between lines; `last` is the last answer, `goal` the last goal."""

    session: Session
    options: Options
    last: Result | None = None
    goal: str = ""
    has_left: bool = False
    own: dict[str, Any] = field(default_factory=dict)
    overhearing: Overhearing = field(default_factory=Overhearing)

    def __post_init__(self) -> None:
        self.own = {"help": self._help, "exit": self._exit, "quit": self._exit, "mode": self._mode, "last": self._last}
        self.own |= {"good": self._good, "bad": self._bad, "again": self._again}

    async def do(self, line: str) -> None:
        """Do one line; what goes wrong is told and does not end the shell."""
        screen = self._screen(self.options)
        options = self.options
        try:
            action, options = self.read(line)
            if action is None:
                return
            screen = self._screen(options)
            await self._finish(action, replace(self.session, options=options, screen=screen))
        except ReaderLeftError:
            raise
        except click.exceptions.NoArgsIsHelpError as error:
            screen.show(error.format_message())
        except Exception as error:
            report(error, screen, verbose=options.verbose)

    def _screen(self, options: Options) -> Screen:
        screen = Screen(as_json=options.as_json)
        screen.redactor = self.session.screen.redactor
        return screen

    def read(self, line: str) -> tuple[Action | None, Options]:
        """The action a line asks for (None: nothing, or answered already) and the options it gave.

        Raises:
            UsageError: a command that is none, or is used wrongly.
        """
        text = line.strip()
        if not text:
            return None, self.options
        is_marked = text[0] in "/:" and text[1:2].isalpha()
        body = text[1:] if is_marked else text
        name, _, rest = body.partition(" ")
        rest = rest.strip()
        if name in self.own and (action := self.own[name](rest)) is not None:
            return action, self.options
        if name == "tell" and (told := _TELL.fullmatch(rest)):
            return interrupt_commands.tell(int(told["pid"]), told["text"]), self.options
        if name in _GOAL_COMMANDS and not rest.startswith("-"):
            if not rest:
                raise UsageError(f"{name} what? State the goal behind it.")
            return getattr(self, f"_{name}")(_unquoted(rest)), self.options
        if name in cli.commands:
            return self._command(body)
        if is_marked and name.isalpha():
            raise UsageError(f"there is no command {text[0]}{name}; `help` lists them.")
        return self._run(_unquoted(text)), self.options

    def _command(self, body: str) -> tuple[Action | None, Options]:
        try:
            words = shlex.split(body)
        except ValueError as error:
            raise UsageError(f"the line can't be read: {error}; for a goal put `run` before it.") from None
        line = Line(options=self.options, is_shell_line=True)
        action = parse(words, line, prog_name="")
        return action, line.options

    def _run(self, goal: str, *, again: bool = False) -> Action:
        def remember(result: Result) -> None:
            self.last = result

        self.goal = goal
        return actions.run(goal, then=remember, begun=self.overhearing.begin, again=again, how="`again`")

    def _sys(self, sentence: str) -> Action:
        from llmos.interfaces import system_calls

        return system_calls.system_call(sentence, dry_run=False)

    def _explain(self, goal: str) -> Action:
        return actions.explain(goal)

    async def _finish(self, action: Action, session: Session) -> None:
        """Run an action as a task of its own, so that Ctrl-C ends it and nothing else."""
        task = asyncio.ensure_future(action(session))
        with self.session.interrupts.stopping(task):
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError:
                task.cancel()
                await asyncio.wait([task], timeout=_CANCEL_GRACE_S)
                raise
            finally:
                await self.overhearing.end()
        if task.cancelled():
            session.screen.data({"status": "interrupted", "error": "interrupted", "exit_code": 130})
            session.screen.note("llmos: interrupted")
            return
        task.result()

    # The shell's own commands: None means that the line is no command after all, but a goal.

    def _help(self, rest: str) -> Action | None:
        if not rest:
            return _shown(HELP)
        words = rest.split()
        command: click.Command | None = cli
        for word in words:
            command = command.commands.get(word) if isinstance(command, click.Group) else None
        if command is None:
            return _shown(HELP) if len(words) == 1 and words[0] in self.own else None
        context = click.Context(command, info_name=rest)
        return _shown(command.get_help(context))

    def _exit(self, rest: str) -> Action | None:
        if rest:
            return None

        async def leave(session: Session) -> None:
            self.has_left = True

        return leave

    def _mode(self, rest: str) -> Action | None:
        if rest and rest not in MODES:
            if len(rest.split()) == 1:
                raise UsageError(f"there is no mode {rest!r}; choose {', '.join(MODES)}.")
            return None

        async def choose(session: Session) -> None:
            self.options = replace(self.options, mode=rest or self.options.mode)
            session.screen.show(f"mode {self.options.mode}")
            session.screen.data({"mode": self.options.mode})

        return choose

    def _last(self, rest: str) -> Action | None:
        if rest:
            return None

        async def again(session: Session) -> None:
            if self.last is None:
                raise UsageError(_UNANSWERED)
            actions.show_result(session, self.last, how="`again`")

        return again

    def _again(self, rest: str) -> Action | None:
        if rest:
            return None
        if not self.goal:
            raise UsageError("no goal was stated yet in this shell.")
        return self._run(self.goal, again=True)

    def _good(self, rest: str) -> Action | None:
        return None if rest else self._judging(verdicts.confirm)

    def _bad(self, rest: str) -> Action | None:
        return None if rest else self._judging(lambda run: verdicts.reject(run, None))

    def _judging(self, judge: Callable[[str], Action]) -> Action:
        async def act(session: Session) -> None:
            if self.last is None:
                raise UsageError(_UNANSWERED)
            await judge(self.last.run_id)(session)

        return act


_UNANSWERED = "nothing was answered yet in this shell."


def _shown(text: str) -> Action:
    async def show(session: Session) -> None:
        session.screen.show(text)
        session.screen.data({"help": text})

    return show


def _unquoted(goal: str) -> str:
    """A goal without the quotes somebody put around all of it, as one does on the command line."""
    is_quoted = len(goal) > 2 and goal[0] == goal[-1] and goal[0] in "\"'" and goal.count(goal[0]) == 2
    return goal[1:-1] if is_quoted else goal


async def shell(session: Session) -> None:
    """Read and do lines until the end; errors of a line do not end it."""
    system = await session.system()
    loop = Shell(session=session, options=session.options)
    stdin = caller.stdin()
    if stdin is None:
        raise UsageError("there is no standard input to read goals from; name one goal on the command line.")
    on_terminal = is_terminal(stdin) and not session.options.as_json
    if on_terminal:
        loop.overhearing.descriptor = stdin.fileno()
    lines = _typed(session, system.settings.memory, loop.overhearing.ahead) if on_terminal else _piped(stdin.fileno())
    async for line in lines:
        system.plugins.rescan()
        await loop.do(line)
        if loop.has_left:
            break


# ------------------------------------------------------------------------------------------------------- a pipe


async def _piped(descriptor: int) -> AsyncIterator[str]:
    """The lines of a pipe or a file, as they come.

    A line beyond MAX_LINE_BYTES is cut there; it is no goal either way.
    """
    decoder = codecs.getincrementaldecoder("utf-8")(errors="surrogateescape")
    pending = ""
    while found := await chunk(descriptor):
        pending += decoder.decode(found)
        *lines, pending = pending.split("\n")
        for line in lines:
            yield line
        pending = pending[:MAX_LINE_BYTES]
    if pending:
        yield pending


# --------------------------------------------------------------------------------------------------- a terminal


async def _typed(session: Session, memory: Path, ahead: deque[str]) -> AsyncIterator[str]:
    """The lines a person types, first those typed `ahead`; Ctrl-C drops the line, Ctrl-D ends."""
    prompt = await _prompt(session, memory)
    while True:
        while ahead:
            yield ahead.popleft()
        try:
            line = await prompt.prompt_async(PROMPT)
        except KeyboardInterrupt:
            continue
        except EOFError:
            return
        yield line


async def _prompt(session: Session, memory: Path) -> PromptSession[str]:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.history import FileHistory, InMemoryHistory
    from prompt_toolkit.input import create_input
    from prompt_toolkit.output import create_output

    redactor = (await session.system()).redactor

    class Lines(FileHistory):
        """Keeps what is typed, without secrets."""

        def store_string(self, string: str) -> None:
            super().store_string(redactor.text(string))

    path = memory / "history"
    try:
        os.close(os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600))
        path.chmod(0o600)
        history: FileHistory | InMemoryHistory = Lines(str(path))
    except OSError as error:
        session.screen.note(f"llmos: no history: {path} can't be written: {error.strerror or error}")
        history = InMemoryHistory()
    workspace = (await session.system()).settings.workspace
    return PromptSession(
        history=history,
        completer=_completer(workspace),
        complete_while_typing=False,
        enable_history_search=True,
        input=create_input(stdin=caller.stdin()),
        output=create_output(stdout=caller.stdout() if is_terminal(caller.stdout()) else caller.stderr()),
    )


def completions(text: str, workspace: Path) -> Iterator[tuple[str, int]]:
    """What may stand at the end of `text`: (replacement, how many characters it replaces).

    Commands at the beginning of a line, sub-commands behind their group, else paths of the workspace.
    """
    words = text.split(" ")
    word = words[-1]
    if len(words) == 1:
        mark, name = (word[:1], word[1:]) if word[:1] in ("/", ":") else ("", word)
        names = sorted({*cli.commands, "help", "exit", "mode", "last", "again", "good", "bad"} - {"interactive"})
        yield from ((mark + found, len(word)) for found in names if found.startswith(name))
    group = cli.commands.get(words[0].lstrip("/:"))
    if len(words) == 2 and isinstance(group, click.Group):
        yield from ((found, len(word)) for found in group.commands if found.startswith(word))
        return
    if len(words) == 2 and words[0].lstrip("/:") == "mode":
        yield from ((found, len(word)) for found in MODES if found.startswith(word))
        return
    if len(words) > 1 or "/" in word or "." in word:
        yield from ((found, len(word)) for found in _paths(word, workspace))


def _paths(word: str, workspace: Path) -> Iterable[str]:
    """Paths of the workspace that begin like `word`, folders with a slash; a leading quote is kept."""
    quote, begun = (word[0], word[1:]) if word[:1] in ("'", '"') else ("", word)
    folder, slash, start = begun.rpartition("/")
    try:
        inside = (workspace / folder).resolve() if slash else workspace.resolve()
        if not inside.is_relative_to(workspace.resolve()):
            return []
        entries = sorted(os.scandir(inside), key=lambda entry: entry.name)
    except (OSError, ValueError):
        return []
    found = [entry for entry in entries if entry.name.startswith(start) and (start or not entry.name.startswith("."))]
    return [f"{quote}{folder}{slash}{entry.name}{'/' if entry.is_dir() else ''}" for entry in found[:500]]


def _completer(workspace: Path) -> Completer:
    from prompt_toolkit.completion import Completer, Completion

    class Words(Completer):
        def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
            for found, length in completions(document.text_before_cursor, workspace):
                yield Completion(found, start_position=-length)

    return Words()
