"""The system calls: each command with its typed parameters, read from the command line's own commands."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import click

from llmos.errors import UsageError
from llmos.trace.program import Effect

_NOT_CALLED = frozenset(("run", "explain", "interactive", "batch", "up", "sys"))
"""They take a goal or a terminal, or start what a system call needs."""

_READING = frozenset(("ps", "top", "wait", "logs", "status", "tools", "doctor", "models", "mem"))
_SHOWING = frozenset(("show", "list", "versions", "diff", "tail", "verify", "ledger", "check"))
_PLAIN = frozenset(("suspend", "resume", "nice", "model", "spawn", "tell"))

PROCESS, NUMBER, CHOICE, FLAG, TEXT = "process", "number", "choice", "flag", "text"


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """What a call takes: `kind` is one of PROCESS, NUMBER, CHOICE, FLAG and TEXT; `option` is '' for an argument."""

    name: str
    kind: str
    choices: tuple[str, ...] = ()
    required: bool = False
    many: bool = False
    option: str = ""
    says: str = ""


@dataclass(frozen=True, kw_only=True)
class SystemVerb:
    """One call: what it is named, what it takes, and what it may do."""

    name: str
    parameters: tuple[Parameter, ...]
    says: str

    @property
    def tool(self) -> str:
        """What rules and traces know it by."""
        return tool_of(self.name)

    @property
    def effect(self) -> Effect:
        """What it may do; a call that is not known to be harmless is asked about."""
        last = self.name.rpartition(" ")[2]
        return Effect.READ if last in _READING | _SHOWING else Effect.WRITE if last in _PLAIN else Effect.EXTERNAL

    def parameter(self, name: str) -> Parameter | None:
        return next((one for one in self.parameters if one.name == name), None)


def tool_of(verb: str) -> str:
    """The tool that a call counts as, such as `system_call:kill`."""
    return f"system_call:{verb.replace(' ', '_')}"


@cache
def verbs() -> Mapping[str, SystemVerb]:
    """Every system call by its name."""
    from llmos.interfaces.commands import cli

    return {verb.name: verb for name, command in cli.commands.items() for verb in _of(name, command)}


def _of(name: str, command: click.Command) -> Iterator[SystemVerb]:
    if name in _NOT_CALLED:
        return
    if isinstance(command, click.Group):
        for sub, one in command.commands.items():
            yield from _of(f"{name} {sub}", one)
        return
    parameters = tuple(_parameter(one) for one in command.params if one.expose_value and one.name)
    yield SystemVerb(name=name, parameters=parameters, says=command.get_short_help_str(limit=200))


def _parameter(param: click.Parameter) -> Parameter:
    is_option = isinstance(param, click.Option)
    kind, choices = TEXT, tuple[str, ...]()
    if param.name in ("pid", "pids"):
        kind = PROCESS
    elif is_option and getattr(param, "is_flag", False):
        kind = FLAG
    elif isinstance(param.type, click.Choice):
        kind, choices = CHOICE, tuple(map(str, param.type.choices))
    elif isinstance(param.type, click.types.IntParamType | click.types.FloatParamType):
        kind = NUMBER
    return Parameter(
        name=str(param.name),
        kind=kind,
        choices=choices,
        required=param.required,
        many=param.nargs == -1 and kind == PROCESS,
        option=max(param.opts, key=len) if is_option else "",
        says=getattr(param, "help", "") or "",
    )


@dataclass(frozen=True, kw_only=True)
class Call:
    """A typed call: `arguments` are checked against its verb; a process is a number, or the words that name it."""

    verb: SystemVerb
    arguments: Mapping[str, Any]

    def words(self) -> list[str]:
        """The command line that it is."""
        words = self.verb.name.split()
        for one in self.verb.parameters:
            value = self.arguments.get(one.name)
            if value is None or value is False:
                continue
            if one.kind == FLAG:
                words.append(one.option)
            elif one.option:
                words.append(f"{one.option}={value}")
            else:
                words += map(str, value) if isinstance(value, list) else [str(value)]
        return words


def typed(verb: str, arguments: Mapping[str, Any], sentence: str) -> Call:
    """A call whose arguments are of their types, and whose values the sentence itself says.

    Raises:
        UsageError: there is no such call, or an argument is none of it, is missing, or is nowhere in the sentence.
    """
    known = verbs().get(verb)
    if known is None:
        raise UsageError(f"there is no system call {verb!r}.")
    odd = [name for name in arguments if known.parameter(name) is None]
    if odd:
        raise UsageError(f"{verb} takes no {odd[0]!r}.")
    made = {}
    for one in known.parameters:
        value = arguments.get(one.name)
        if value is None or value is False or value == []:
            if one.required:
                raise UsageError(f"{verb} needs {one.name}, and the sentence does not say it.")
            continue
        made[one.name] = _value(verb, one, value, sentence)
    return Call(verb=known, arguments=made)


def _value(verb: str, one: Parameter, value: Any, sentence: str) -> Any:
    if one.many:
        listed = value if isinstance(value, list) else [value]
        return [_process(verb, one, item, sentence) for item in listed]
    if one.kind == PROCESS:
        return _process(verb, one, value, sentence)
    if one.kind == FLAG and value is True:
        return True
    if one.kind == CHOICE and value in one.choices:
        return value
    if one.kind == NUMBER and isinstance(value, int | float) and not isinstance(value, bool) and _says(sentence, value):
        return value
    is_text = one.kind == TEXT and isinstance(value, str) and value.strip() != "" and not value.startswith("-")
    if is_text and _says(sentence, value):
        return value
    raise UsageError(f"{verb}: {value!r} is no {one.name} that the sentence says.")


def _process(verb: str, one: Parameter, value: Any, sentence: str) -> str:
    text = str(value).strip() if isinstance(value, str | int) and not isinstance(value, bool) else ""
    if not text or text.startswith("-") or not _says(sentence, text):
        raise UsageError(f"{verb}: {value!r} is no process that the sentence names.")
    return text


def _says(sentence: str, value: object) -> bool:
    """Whether a value stands in a sentence, between its words."""
    return re.search(rf"(?<![\w.]){re.escape(str(value))}(?!\w|\.\d)", sentence, re.IGNORECASE) is not None
