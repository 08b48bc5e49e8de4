"""`sys`: a sentence becomes one typed system call, which is shown, permitted, and made."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import click

from llmos.errors import CallRefusedError, NotFoundError, UsageError
from llmos.interfaces import render
from llmos.interfaces.parsing import Line, Verb
from llmos.interfaces.results import Question
from llmos.interfaces.session import Action, Session
from llmos.interfaces.system_objects import Objects
from llmos.interfaces.system_verbs import PROCESS, Call, SystemVerb, verbs
from llmos.kernel.process import current
from llmos.kernel.rules import Answer, Policy

if TYPE_CHECKING:
    from llmos.boot import LLMOS


def system_call(sentence: str, *, dry_run: bool) -> Action:
    """Make the call that a sentence means; with `dry_run` only show it."""

    async def action(session: Session) -> None:
        system = await session.system()
        exact = exact_call(sentence)
        if exact is not None:
            verb, words = exact
            how, cost_usd, told = "exact", 0.0, _told_pids(system, verb, words)
            parsed = None
        else:
            from llmos.interfaces.system_parsing import SystemParsing

            parsed = await SystemParsing(system=system, objects=_objects(system)).parsed(sentence)
            verb, words = parsed.call.verb, parsed.call.words()
            how, cost_usd, told = parsed.how, parsed.cost_usd, _told(system, parsed.call)
        line = shlex.join(words)
        session.screen.expect({"call": line, "verb": verb.name, "parsed_by": how, "parse_cost_usd": cost_usd})
        session.screen.note(f"-> {line}{told}{_how(how, cost_usd)}")
        if parsed is not None and parsed.learned is not None and not system.traces.frozen:
            await system.home.system_parses.add(parsed.learned)
        if dry_run:
            session.screen.data({"dry_run": True})
            return
        await _permitted(session, system, verb, f"{line}{told}")
        await _action(words, session)(session)

    return action


def exact_call(sentence: str) -> tuple[SystemVerb, list[str]] | None:
    """The call that a sentence is word for word, as a command line; None for any other sentence."""
    from llmos.interfaces.commands import cli

    try:
        words = shlex.split(sentence)
    except ValueError:
        return None
    if not words or any(word in ("-h", "--help", "--version") for word in words):
        return None
    command = cli.commands.get(words[0])
    name = words[0]
    if isinstance(command, click.Group):
        name, words = (f"{name} {words[1]}", words) if len(words) > 1 else (_first(name, command), words)
    verb = verbs().get(name)
    if verb is None or (isinstance(command, Verb) and not command.is_meant(words[1:])):
        return None
    try:
        return (verb, words) if callable(_parsed(words, Line(options=_plain()))) else None
    except click.ClickException:
        return None


def _plain() -> Any:
    from llmos.interfaces.options import Options

    return Options()


def _first(name: str, group: click.Group) -> str:
    return f"{name} {next(iter(group.commands))}"


def _parsed(words: list[str], line: Line) -> Action | None:
    from llmos.interfaces.commands import parse

    return parse(words, line, prog_name="sys")


def _action(words: list[str], session: Session) -> Action:
    made = _parsed(words, Line(options=session.options, is_shell_line=True))
    if made is None:
        raise UsageError(f"{shlex.join(words)} is no system call.")
    return made


# --- permission --------------------------------------------------------------------------------------


async def _permitted(session: Session, system: LLMOS, verb: SystemVerb, shown: str) -> None:
    """Hold a call against the rules, and ask where they, or what it does, say so.

    Raises:
        CallRefusedError: it is denied, or nobody said yes.
    """
    settings = system.settings
    policy = Policy.of(settings.permissions.effective, settings.workspace)
    said = policy.judge(verb.tool, verb.effect, ())
    if said.answer is Answer.DENY:
        raise CallRefusedError(f"{shown} is not permitted ({said.why}).", line=said.line)
    if said.answer is Answer.ALLOW:
        return
    confirm = session.confirm
    question = Question(text=f"Make the call {shown}?", trace_id="", bindings={}, effect=str(verb.effect))
    reply = await confirm(question) if confirm is not None else None
    if not reply:
        why = "was not agreed to" if reply is False else "needs a yes that nobody could give"
        raise CallRefusedError(
            f"{shown} {why}; run it at a terminal, give --yes, or add this line under `permissions: rules:` in "
            f"llmos.yaml: {said.line}",
            line=said.line,
        )


# --- telling -----------------------------------------------------------------------------------------


def _objects(system: LLMOS) -> Objects:
    own = current()
    alive = [one for one in system.home.processes if one.is_alive and one is not own]
    return Objects(processes=alive, likeness=system.home.recall.likeness)


def _told(system: LLMOS, call: Call) -> str:
    """The goals of the processes that a call names."""
    pids = [call.arguments.get(one.name) for one in call.verb.parameters if one.kind == PROCESS]
    listed = [pid for value in pids if value is not None for pid in (value if isinstance(value, list) else [value])]
    return _goals(system, listed)


def _told_pids(system: LLMOS, verb: SystemVerb, words: list[str]) -> str:
    taken = [one for one in verb.parameters if not one.option]
    if not taken or taken[0].kind != PROCESS:
        return ""
    numbers = [int(word) for word in words[len(verb.name.split()) :] if word.isdigit()]
    return _goals(system, numbers if taken[0].many else numbers[:1])


def _goals(system: LLMOS, pids: list[int]) -> str:
    told = []
    for pid in pids:
        try:
            told.append(render.one_line(system.home.processes.get(pid).goal, 60))
        except NotFoundError:
            continue
    return f" ({'; '.join(told)})" if told else ""


def _how(how: str, cost_usd: float) -> str:
    return f" · {how} · {render.money(cost_usd)}" if how != "exact" else ""
