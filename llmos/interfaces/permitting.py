"""What a person asks of permissions and approvals: show, check, list, revoke. Each command as an Action."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from llmos.errors import DatabaseLockedError, NotFoundError, ToolError, UsageError
from llmos.interfaces import render
from llmos.interfaces.session import Action, Session

if TYPE_CHECKING:
    from llmos.boot import LLMOS
    from llmos.kernel.rules import Said
    from llmos.plugins.tool import Tool
    from llmos.settings.permissions import RuleSettings

DEFAULTS = (
    "without a rule: inside the workspace reading and writing is allowed; outside it nothing is; hosts may be read; "
    "what is external or unknown is asked about"
)


def show_permissions() -> Action:
    """Show the principal, its roles and the rules that hold for it."""

    async def action(session: Session) -> None:
        given = session.options.settings().permissions
        unknown = await _unknown(session, given.effective)
        roles = list(given.principals.get(given.principal, ()))
        rules = [{"rule": rule.line[2:], "source": rule.source} for rule in given.effective]
        session.screen.data(
            {"principal": given.principal, "roles": roles, "rules": rules, "default": DEFAULTS}
            | {"unknown_tools": unknown}
        )
        session.screen.show(f"{given.principal}, {'roles ' + ', '.join(roles) if roles else 'no roles'}")
        rows = [[rule["rule"], rule["source"]] for rule in rules]
        session.screen.table(("rule", "where"), rows, empty="no rules")
        session.screen.show(DEFAULTS)
        for tool in unknown:
            session.screen.note(f"llmos: {no_such_tool(tool)}")

    return action


async def _unknown(session: Session, rules: Iterable[RuleSettings]) -> list[str]:
    """The tools of rules that are none; while another process holds the home nobody knows, and nothing is said."""
    if not (found := list(rules)):
        return []
    try:
        system = await session.system()
    except DatabaseLockedError:
        return []
    await system.mcp.discover()
    return unknown_tools(system, found)


def unknown_tools(system: LLMOS, rules: Iterable[RuleSettings]) -> list[str]:
    """The tools of rules that no tool is called, so that the rules say nothing; those of a lost server are left out."""
    from fnmatch import fnmatchcase

    from llmos.plugins.mcp import tool_name

    known = [tool.name for tool in system.registry]
    lost = {failure.path.removeprefix("mcp:").partition(".")[0] for failure in system.mcp.failures}
    asked = dict.fromkeys(rule.tool for rule in rules)
    return [
        tool
        for tool in asked
        if not any(fnmatchcase(name, tool) for name in known)
        and not any(tool.startswith(tool_name(server, "")) for server in lost)
    ]


def no_such_tool(tool: str) -> str:
    """The sentence about a rule's tool that there is not."""
    return f"a rule of permissions names the tool {tool!r}, and no tool is called so: it holds for nothing; see `tools`"


def check_permission(name: str, given: Sequence[str]) -> Action:
    """Say what would be said to a call; it is not made, and nobody is asked."""

    async def action(session: Session) -> None:
        system = await session.system()
        if name not in system.registry:
            await system.mcp.discover()
        if name not in system.registry:
            raise NotFoundError(f"there is no tool {name!r}; `tools` lists those there are.")
        tool = system.registry.get(name)
        arguments = _arguments(tool, given)
        said, effect = await _said(system, tool, arguments)
        session.screen.data(
            {"tool": name, "arguments": arguments, "effect": effect, "verdict": str(said.answer), "why": said.why}
            | {"line": said.line}
        )
        session.screen.show(f"{said.answer}: {name} (effect {effect}): {said.why}")
        if said.line and str(said.answer) != "allow":
            session.screen.show(f"to allow it, under `permissions: rules:` in llmos.yaml: {said.line}")

    return action


async def _said(system: LLMOS, tool: Tool, arguments: dict[str, Any]) -> tuple[Said, str]:
    from llmos.plugins.registry import validate
    from llmos.plugins.tool import ToolCall

    try:
        validate(tool, arguments)
    except ToolError as error:
        raise UsageError(f"{error}; arguments are written NAME=VALUE.") from None
    ctx = system.surroundings.context("")
    effect = tool.effect_of(ctx, arguments)
    return system.permissions.said(ToolCall(tool=tool, arguments=arguments, effect=effect, ctx=ctx)), str(effect)


def _arguments(tool: Tool, given: Sequence[str]) -> dict[str, Any]:
    """`name=value`, where a value is text unless the tool wants something else and it is JSON.

    Raises:
        UsageError: an argument without a name.
    """
    arguments: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError(f"{text!r} is no argument; write NAME=VALUE.")
        wanted = tool.schema.get("properties", {}).get(name, {}).get("type")
        arguments[name] = value if wanted == "string" else _json(value)
    return arguments


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def list_approvals() -> Action:
    """List what was approved for good."""

    async def action(session: Session) -> None:
        found = await (await session.system()).approvals.list()
        session.screen.data({"approvals": [render.data(one) | {"id": one.id} for one in found]})
        rows = [
            [one.id, one.tool, one.effect, one.trace_id or "(this call)", render.one_line(one.shown, 80)]
            for one in found
        ]
        session.screen.table(
            ("id", "tool", "effect", "trace", "arguments"), rows, empty="nothing was approved for good"
        )

    return action


def revoke_approval(name: str) -> Action:
    """Forget an approval by the beginning of its id, or all those of a trace."""

    async def action(session: Session) -> None:
        gone = await (await session.system()).approvals.revoke(name)
        session.screen.data({"revoked": [one.id for one in gone]})
        session.screen.show(f"revoked {', '.join(one.id for one in gone)}")

    return action
