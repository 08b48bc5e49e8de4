"""What a plugin may give LLM OS: hooks only register, they do no work.

A package names its plugin module under the entry-point group `llmos`; a file dropped into a plugin folder may
implement the same hooks beside its `@llm_tool` functions:

    from llmos.plugins.hookspecs import hookimpl

    @hookimpl
    def llmos_tools():
        return [my_decorated_function]
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from os import PathLike
from typing import Any

import pluggy

from llmos.plugins.tool import Tool

GROUP = "llmos"

hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)


@hookspec
def llmos_tools() -> Iterable[Tool | Callable[..., Any]]:
    """Tools, or functions decorated with `llm_tool`."""
    raise NotImplementedError


@hookspec
def llmos_learners() -> Iterable[tuple[str, Callable[..., Any]]]:
    """Pairs of a name (as in `learner.name` of llmos.yaml) and the factory that makes the learner."""
    raise NotImplementedError


@hookspec
def llmos_traces() -> Iterable[str | PathLike[str]]:
    """YAML trace files, or folders of them, that are offered as demonstrations."""
    raise NotImplementedError
