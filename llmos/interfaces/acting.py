"""Whom a command works as."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmos.interfaces.session import Session


async def acting(session: Session, name: str | None = None) -> dict[str, Any]:
    """The agent of a name, or that of `--as`, as `LLMOS.execute` takes it: nothing where none is named.

    Raises:
        LLMOSError: there is none of that name, or its profile can't be used.
    """
    name = name or session.options.agent
    if name is None:
        return {}
    from llmos.interfaces.agents import find_agent

    agent = find_agent(name, (await session.system()).settings).agent
    return {"agent": agent if session.options.model is None else replace(agent, model="")}
