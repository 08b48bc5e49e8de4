"""Taint: what a run has read that somebody else may have written, and which of its calls may come from there."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urljoin

from llmos.errors import LLMOSError
from llmos.kernel.declared import Declared, is_of_llmos
from llmos.kernel.permissions import Doubt
from llmos.kernel.places import Host, Place, host_of, place_of
from llmos.plugins.tool import ToolCall, ToolResult, is_os_tool
from llmos.plugins.touching import Kind, Touch, touches
from llmos.trace.evidence import leaves
from llmos.trace.program import REWRITE, Effect
from llmos.trace.run import Source
from llmos.trace.taint import addresses, output_texts, sources_shown

_MAX_HASHED_BYTES = 64 * 2**20
_MAX_LINKS = 20_000
_MAX_SCANNED_CHARS = 2_000_000
_MAX_SHOWN_CHARS = 200
_LINK = re.compile(r"(?:href|src|action)\s*=\s*[\"']?([^\"'\s>]+)|\]\(([^)\s]+)\)", re.IGNORECASE)
_WORD = re.compile(r"[^\W\d_]{2,}")
_WORDS_OF_A_SENTENCE = 6
_MCP = "mcp:"


class TaintLog(Protocol):
    """Where the taint of runs is stored (`llmos.memory.taints`)."""

    async def add(self, run_id: str, sources: Sequence[Source]) -> None: ...
    async def of_run(self, run_id: str) -> list[Source]: ...
    async def is_own(self, workspace: str, path: str, sha256: str) -> bool: ...


@dataclass(kw_only=True)
class _Run:
    """What is known of a run: its goal, what tainted it, the links it was shown, and who chooses its calls.

    `declared` is the goal of a run above whose own goal was written by one that was tainted.
    """

    goal: str = ""
    declared: str | None = None
    sources: list[Source] = field(default_factory=list)
    unstored: list[Source] = field(default_factory=list)
    links: set[str] = field(default_factory=set)
    steered: int = 0
    has_rewritten: bool = False

    def note(self, source: Source) -> None:
        if source not in self.sources:
            self.sources.append(source)
            self.unstored.append(source)


@dataclass(kw_only=True)
class Taint:
    """Middleware that notes what taints a run; tells the calls of a tainted learner that somebody must be asked about.

    A replay is not steered by what it reads, so nothing is asked about; what it reads taints the learner that goes on
    with it. Whatever taints a run is stored before the run changes anything.
    """

    log: TaintLog
    _runs: dict[str, _Run] = field(default_factory=dict)

    @contextmanager
    def run(self, run_id: str, goal: str) -> Iterator[None]:
        """A run of a goal, for as long as the block lasts."""
        self._of(run_id).goal = goal
        try:
            yield
        finally:
            self._runs.pop(run_id, None)

    @contextmanager
    def steered(self, run_id: str) -> Iterator[None]:
        """A model chooses the calls of a run, for as long as the block lasts."""
        seen = self._of(run_id)
        seen.steered += 1
        try:
            yield
        finally:
            seen.steered -= 1

    async def inherit(self, run_id: str, parent: str) -> None:
        """A run works from what another one left: it is never less tainted than that one."""
        for source in await self.log.of_run(parent):
            self._of(run_id).note(replace(source, step=None))
        await self._store(run_id)

    async def begotten(self, run_id: str, parent: str) -> None:
        """A run begins another: that is never less tainted, and what a tainted run wrote as its goal names nothing."""
        above = self._of(parent)
        if not above.sources:
            return
        seen = self._of(run_id)
        seen.declared = above.goal if above.declared is None else above.declared
        for source in above.sources:
            seen.note(replace(source, step=None))
        await self._store(run_id)

    async def shown(self, run_id: str, places: Iterable[str]) -> None:
        """A model was shown what others wrote before its first call."""
        for place in places:
            self._of(run_id).note(Source(tool="share_memory", place=place, step=None))
        await self._store(run_id)

    def forget(self, run_id: str) -> None:
        """A run did not begin."""
        self._runs.pop(run_id, None)

    def sources(self, run_id: str) -> tuple[Source, ...]:
        """What has tainted a run so far."""
        return tuple(self._of(run_id).sources)

    def _of(self, run_id: str) -> _Run:
        return self._runs.setdefault(run_id, _Run())

    # --- what taints ---------------------------------------------------------------------------------------

    async def __call__(self, call: ToolCall, proceed: Callable[[], Awaitable[ToolResult]], /) -> ToolResult:
        run_id = call.ctx.run_id
        seen = self._of(run_id)
        if call.effect.changes_world and not is_os_tool(call.tool):  # a child comes before what it says
            for source in await self._sources(call, None):
                seen.note(source)
            await self._store(run_id)
        result = await proceed()
        if call.tool.name == REWRITE:
            seen.has_rewritten = True
        found = await self._sources(call, result)
        for source in found:
            seen.note(source)
        if found and seen.steered:
            await self._store(run_id)
        if found and _is_chosen(call, seen):
            await asyncio.to_thread(_collect, seen.links, result.output)
        derived = bool(seen.sources) and call.effect not in (Effect.PURE, Effect.WRITE)
        outside = bool(found) or derived
        return result if result.outside is outside else replace(result, outside=outside)

    async def _store(self, run_id: str) -> None:
        seen = self._of(run_id)
        fresh, seen.unstored = seen.unstored, []
        try:
            if fresh:
                await self.log.add(run_id, fresh)
        except LLMOSError:
            seen.unstored = [*fresh, *seen.unstored]
            raise

    async def _sources(self, call: ToolCall, result: ToolResult | None) -> list[Source]:
        """Where what a call gives comes from, if somebody else may have written it; before the call: as it seems."""
        tool, step = call.tool, call.ctx.step

        def source(place: str) -> Source:
            return Source(tool=tool.name, place=_short(place), step=step)

        if tool.source.startswith(_MCP):
            return [source(f"the MCP server {tool.source.removeprefix(_MCP)}")]
        if not tool.may_bring(call.ctx, call.arguments, call.effect):
            told = [] if result is None or call.effect is not Effect.READ else _sentences(result.output)
            return [source(f"the name {told[0]!r}")] if told and tool.name not in ("recall", "think") else []
        if call.effect is Effect.PURE:
            return []
        touched = _touched(call)
        if touched is None:
            return [source(tool.name)]
        hosts = [touch.value for touch in touched if touch.kind is Kind.HOST]
        if hosts:
            return [source(url) for url in hosts]
        if tool.name == "bash" and call.effect.rank > Effect.WRITE.rank:
            return [source(f"bash: {call.arguments.get('command', '')}")]
        if tool.open_world and tool.name != "bash":
            return [source(tool.name)]
        read = [touch for touch in touched if touch.kind is Kind.PATH and not touch.effect.changes_world]
        looks = _is_chosen(call, self._of(call.ctx.run_id))  # a replay isn't slowed for it
        if not read and tool.name != "bash" and call.effect is Effect.READ:
            return [source(tool.name)]
        return [source(touch.value) for touch in read if not looks or await self._is_foreign(call, touch)]

    async def _is_foreign(self, call: ToolCall, touch: Touch) -> bool:
        """Whether somebody else may have written what stands at a path."""
        place = place_of(touch, call.ctx.workspace)
        root = call.ctx.workspace.resolve()
        if place.path is None or not _is_there(place.path):
            return False
        if not place.inside or not place.path.is_file():
            return True
        digest = await asyncio.to_thread(_digest, place.path)
        relative = place.path.relative_to(root).as_posix()
        return digest is None or not await self.log.is_own(str(root), relative, digest)

    # --- what is doubtful ----------------------------------------------------------------------------------

    async def doubt(self, call: ToolCall, resources: Sequence[Place | Host], /) -> Doubt | None:
        """Why a call may come from what its run has read; None where it can't, or does no more than the goal says."""
        seen = self._of(call.ctx.run_id)
        if not seen.sources or not _is_steered(call, seen):
            return None
        found = await asyncio.to_thread(self._wanted, call, seen, resources)
        if found is None:
            return None
        wants, resource = found
        return Doubt(read=sources_shown(seen.sources), wants=wants, resource=resource)

    def _wanted(
        self, call: ToolCall, seen: _Run, resources: Sequence[Place | Host]
    ) -> tuple[str, Place | Host | None] | None:
        declared = Declared(goal=seen.goal if seen.declared is None else seen.declared, workspace=call.ctx.workspace)
        if call.effect.rank > Effect.WRITE.rank:
            return f"call {call.tool.name}, whose effect is {call.effect}", None
        if call.effect is Effect.WRITE:
            undeclared = _undeclared(call, declared, resources)
            if undeclared is not None:
                return undeclared
        url = next((url for url in _urls(call) if _may_leak(url, seen, declared)), None)
        if url is not None:
            host = host_of(Touch(kind=Kind.HOST, value=url, effect=Effect.READ))
            return f"send {_short(url)}, which stands neither in the goal nor in what it read", host
        return None


def _is_chosen(call: ToolCall, seen: _Run) -> bool:
    """Whether a model chose the call, itself or by having the rest of a replay done."""
    return call.ctx.origin is None or seen.steered > 0


def _is_steered(call: ToolCall, seen: _Run) -> bool:
    """Whether what the run has read may have chosen the call, or what it is given."""
    if _is_chosen(call, seen):
        return True
    return seen.has_rewritten and call.effect.rank > Effect.WRITE.rank


def _undeclared(
    call: ToolCall, declared: Declared, resources: Sequence[Place | Host]
) -> tuple[str, Place | Host | None] | None:
    """What a write would change that its goal does not name."""
    if is_os_tool(call.tool):
        return None  # it stays within the family, which it taints
    hosts = [one for one in resources if isinstance(one, Host) and one.effect.changes_world]
    if hosts:
        return f"change something at {hosts[0].shown}", hosts[0]
    places = [one for one in resources if isinstance(one, Place) and one.effect.changes_world]
    protected = next((one for one in places if one.path is not None and is_of_llmos(one.path, declared.root)), None)
    if protected is not None:
        return f"change {protected.shown}, which may decide what later runs do", protected
    odd = next((one for one in places if one.path is None or not declared.names(one.path)), None)
    if places and (odd is None or _only_named(call, declared)):
        return None
    if odd is not None:
        return f"change {odd.shown}, which the goal does not name", odd
    if _stored_under(call, declared) or _only_named(call, declared) or _arguments_named(call, declared):
        return None
    return f"call {call.tool.name}, which changes what the goal does not name", None


def _only_named(call: ToolCall, declared: Declared) -> bool:
    """Whether the tool says which files it will change, and the goal names them all."""
    if call.tool.writes is None:
        return False
    try:
        files = [write.path for write in call.tool.writes(call.ctx, call.arguments)]
    except Exception:  # a plugin's code, or what the call itself will say
        return False
    return bool(files) and all(
        declared.names(path.resolve()) and not is_of_llmos(path.resolve(), declared.root) for path in files
    )


def _stored_under(call: ToolCall, declared: Declared) -> bool:
    """Whether a fact is stored under a key that the goal says."""
    return call.tool.name == "remember" and declared.says(str(call.arguments.get("key", "")).strip())


def _arguments_named(call: ToolCall, declared: Declared) -> bool:
    """Whether every path in the arguments of a tool that does not say what it changes is one that the goal names."""
    texts = [value for name, value in call.arguments.items() if isinstance(value, str) and not _is_content(call, name)]
    paths = [text for text in texts if "/" in text or Path(text).suffix]
    resolved = [place_of(Touch(kind=Kind.PATH, value=text, effect=Effect.WRITE), call.ctx.workspace) for text in paths]
    return bool(paths) and all(one.path is not None and declared.names(one.path) for one in resolved)


def _is_content(call: ToolCall, name: str) -> bool:
    return name in call.tool.payload_params


# --- requests that may carry something away --------------------------------------------------------------


def _urls(call: ToolCall) -> list[str]:
    touched = _touched(call) or ()
    return [touch.value for touch in touched if touch.kind is Kind.HOST]


def _may_leak(url: str, seen: _Run, declared: Declared) -> bool:
    """Whether a URL was put together, and goes where what was read elsewhere should not go."""
    if declared.says(url) or url in seen.links or url.rstrip("/") in seen.links:
        return False
    own = _host(url)
    if own is None:
        return True
    read_there = any(_host(source.place) == own for source in seen.sources)
    read_elsewhere = any(_host(source.place) != own for source in seen.sources)
    named = any(_host(one) == own for one in addresses(declared.goal)) or declared.says(own)
    return read_elsewhere if read_there else not named


def _host(url: str) -> str | None:
    if "://" not in url:
        return None
    found = host_of(Touch(kind=Kind.HOST, value=url, effect=Effect.READ))
    return None if found.name is None else f"{found.name}:{found.port}" if found.port else found.name


def _collect(links: set[str], output: Any) -> None:
    """Note the links in an output, those of a page from its own address."""
    base = output.get("url", "") if isinstance(output, dict) else ""
    budget = _MAX_SCANNED_CHARS
    for text in output_texts(output):
        text, budget = text[:budget], budget - len(text)
        links.update(addresses(text))
        for pair in _LINK.findall(text):
            target = pair[0] or pair[1]
            links.add(_joined(str(base), target))
        if budget <= 0 or len(links) > _MAX_LINKS:
            return


def _joined(base: str, target: str) -> str:
    try:
        return urljoin(base, target).partition("#")[0]
    except ValueError:
        return target


# --- what a call touches ---------------------------------------------------------------------------------


def _touched(call: ToolCall) -> Sequence[Touch] | None:
    """What a call touches; None where the tool can't tell."""
    try:
        return touches(call.tool, call.ctx, call.arguments, call.effect)
    except Exception:  # a plugin's code
        return None


def _digest(path: Path) -> str | None:
    """The SHA-256 of a file; None if it is too large, or can't be read."""
    try:
        if path.stat().st_size > _MAX_HASHED_BYTES:
            return None
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def _sentences(output: Any) -> list[str]:
    """The names in a listing that say as much as a sentence does."""
    texts = [str(leaf) for path, leaf in leaves(output) if path and path[-1] != "text"]
    return [name for text in texts for name in _names(text) if _is_sentence(name)]


def _names(text: str) -> Iterable[str]:
    return (part for line in text.splitlines() for part in line.split("/"))


def _is_sentence(name: str) -> bool:
    return len(_WORD.findall(name)) >= _WORDS_OF_A_SENTENCE


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= _MAX_SHOWN_CHARS else f"{flat[:_MAX_SHOWN_CHARS]}…"


def _is_there(path: Path) -> bool:
    return os.path.exists(path)  # noqa: PTH110 - pathlib raises where a name is too long
