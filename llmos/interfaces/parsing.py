"""How a command line is read: options that may stand anywhere, and words that are no command."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from llmos.interfaces.options import Action, Options

MODES = ("auto", "follow", "learn")
C = TypeVar("C", bound=Callable[..., Any])
_AT_START = ("home", "workspace", "plugins", "budget_usd", "model", "audit_rate", "frozen")
_FOLDER = click.Path(path_type=Path)


class _Number(click.ParamType[float]):
    """A number; what is none is said in the words of the settings, which know what is allowed."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return float(value)
        except ValueError:
            asked = "of dollars, 0 or more" if param is not None and param.name == "budget_usd" else "from 0 to 1"
            self.fail(f"must be a number {asked}, not {value!r}.", param, ctx)


_OPTIONS: tuple[tuple[tuple[str, ...], dict[str, Any]], ...] = (
    (("--home",), {"type": _FOLDER, "metavar": "DIR", "help": "Where memory lives (also: $LLMOS_HOME)."}),
    (
        ("--workspace",),
        {"type": _FOLDER, "metavar": "DIR", "help": "What goals may read and write; by default this folder."},
    ),
    (
        ("--plugins",),
        {"type": _FOLDER, "metavar": "DIR", "multiple": True, "help": "One more folder of plugins; repeatable."},
    ),
    (("--budget", "budget_usd"), {"type": _Number(), "metavar": "USD", "help": "What this command may spend at most."}),
    (("--model",), {"metavar": "NAME", "help": "The model that learns: sonnet, opus, haiku, openai:gpt-5, …"}),
    (
        ("--mode",),
        {
            "type": click.Choice(MODES),
            "help": "Follow a proven trace or else learn (auto), only follow, or only learn.",
        },
    ),
    (("--as", "agent"), {"metavar": "NAME", "help": "Work as an agent: its profile is agents/NAME.yaml."}),
    (("--again",), {"is_flag": True, "help": "Do a goal again, even if nothing has changed since it was done."}),
    (
        ("--audit-rate",),
        {"type": _Number(), "metavar": "SHARE", "help": "Let the learner check this share of replays that only read."},
    ),
    (("--frozen",), {"is_flag": True, "help": "Use traces, but change nothing about them and learn no new ones."}),
    (("--json", "as_json"), {"is_flag": True, "help": "One JSON object on stdout, everything else on stderr."}),
    (("--yes", "-y"), {"is_flag": True, "help": "Answer yes to what would be asked."}),
    (("--no-daemon",), {"is_flag": True, "help": "Work in this process, without the resident kernel."}),
    (("--verbose", "-v"), {"count": True, "help": "Tell what happens, on stderr; with tracebacks. -vv: all logs."}),
)


@dataclass
class Line:
    """One parsed command line; `is_shell_line` says that LLMOS runs already and can't be set up otherwise."""

    options: Options
    is_shell_line: bool = False


def shared_options(*, hidden: bool = True) -> Callable[[C], C]:
    """The options that every command takes, before or after its own arguments."""

    def add(command: C) -> C:
        for option in _made(hidden):
            made = cast("type[click.Option]", lambda _, option=option: option)  # one for all commands: there are forty
            command = click.option(cls=made)(command)
        return command

    return add


@cache
def _made(hidden: bool) -> list[click.Option]:
    """The shared options, the last one first."""
    settings: dict[str, Any] = {"expose_value": False, "callback": _gather}
    return [
        click.Option(names, **settings, **{**how, "hidden": hidden or how.get("hidden", False)})
        for names, how in reversed(_OPTIONS)
    ]


def _gather(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    """Lay an option that was given over those given before it."""
    if param.name is None or ctx.get_parameter_source(param.name) is click.core.ParameterSource.DEFAULT:
        return
    line = ctx.find_object(Line)
    if line is None or param.name == "no_daemon":
        return
    if line.is_shell_line and param.name in _AT_START:
        raise click.UsageError(f"{param.opts[0]} is chosen when the shell starts; leave it first.", ctx)
    before = getattr(line.options, param.name)
    given = before + tuple(value) if isinstance(before, tuple) else value
    changed: dict[str, Any] = {param.name: given}
    line.options = replace(line.options, **changed)


class Verb(click.Command):
    """A command that takes numbers alone: with other words after it, its name is the beginning of a goal."""

    def is_meant(self, words: Sequence[str]) -> bool:
        """Whether what stands after its name may be meant for it: `top`, but not `top 5 customers of sales.csv`."""
        return all(word.isdigit() for word in takewhile(lambda word: not word.startswith("-"), words))


class NumberedVerb(Verb):
    """A command that takes a number first: with other words, or more of them, its name is the beginning of a goal."""

    def is_meant(self, words: Sequence[str]) -> bool:
        given = list(takewhile(lambda word: not word.startswith("-"), words))
        needed = sum(isinstance(param, click.Argument) for param in self.params)
        is_cut_short = len(given) < needed and len(given) < len(words)  # as in `lend 9 -1`
        return not given or (given[0].isdigit() and (len(given) == needed or is_cut_short))


class GoalGroup(click.Group):
    """A group whose unknown commands are goals: `boot.py "goal" --json` is `boot.py run "goal" --json`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta["llmos.given"] = list(args)
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        taken = ctx.meta["llmos.given"][: -len(args)]
        if taken[-1:] == ["--"]:
            return "run", self.commands["run"], ["--", *args]
        command = self.commands.get(args[0])
        if command is None or (isinstance(command, Verb | VerbGroup) and not command.is_meant(args[1:])):
            return "run", self.commands["run"], args
        return super().resolve_command(ctx, args)


class ListingGroup(click.Group):
    """A group that does its first command when it is called alone."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in self.commands:
            words = f"{ctx.info_name} {args[0]}"
            raise click.UsageError(
                f"there is no command {words!r}, only {', '.join(self.commands)}; "
                f"if it is a goal, put `run` before it or quotes around it.",
                ctx,
            )
        return super().resolve_command(ctx, args)


class VerbGroup(ListingGroup):
    """A group named as a goal may begin: it is meant alone, with an option, or with one of its commands."""

    def is_meant(self, words: Sequence[str]) -> bool:
        """Whether what stands after its name may be meant for it: `watch list`, but not `watch the folder in`."""
        return not words or words[0].startswith("-") or words[0] in self.commands


class Telling(Verb):
    """A command that takes a number and then words: without the number, its name is the beginning of a goal."""

    def is_meant(self, words: Sequence[str]) -> bool:
        given = [word for word in words if not word.startswith("-")]
        return not given or given[0].isdigit()


def first_by_default(ctx: click.Context) -> Action | None:
    """The action of a group called alone: that of its first command, with that command's defaults."""
    group = ctx.command
    if ctx.invoked_subcommand is not None or not isinstance(group, click.Group):
        return None
    first = next(iter(group.commands.values()))
    action: Action = ctx.invoke(first)
    return action
