"""Profiles of agents as YAML files: found by name, checked whole, and written."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmos.checked_yaml import Many, Named, Section, read_yaml
from llmos.errors import NotFoundError, SettingsError, UsageError
from llmos.kernel.agents import MAX_PATTERNS, Agent
from llmos.settings.permissions import load_rules, rule_schema
from llmos.settings.records import AGENTS as FOLDER
from llmos.settings.records import CLASSES
from llmos.settings.schema import boolean, dollars, effects, priority, string, text

if TYPE_CHECKING:
    from llmos.redaction import Redactor
    from llmos.settings import Settings

FORMAT = 1
MAX_BYTES = 256_000
_MAX_FACTS = 200
_MAX_CHARS = 20_000
_MAX_FACT_CHARS = 2_000
_MAX_NUMBER = 1e18
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_TOOL = re.compile(r"[A-Za-z0-9_.*-]{1,100}")


@dataclass(frozen=True, kw_only=True)
class Found:
    """A profile, and where it stands."""

    agent: Agent
    file: Path


# --- what a file may say -----------------------------------------------------------------------------


def name_of_agent(value: Any) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ValueError("up to 64 small letters, digits, - and _, a letter or digit first")
    return value


def _format(value: Any) -> int:
    if type(value) is not int or value != FORMAT:
        raise ValueError(f"{FORMAT}, the only format that is known here")
    return FORMAT


def _class(value: Any) -> str:
    if value not in CLASSES:
        raise ValueError(f"one of {', '.join(CLASSES)}")
    return str(value)


def _model(value: Any) -> str:
    if not isinstance(value, str) or len(value.split()) != 1:
        raise ValueError("the name of a model")
    return value.strip()


def _instructions(value: Any) -> str:
    if not isinstance(value, str) or len(value) > _MAX_CHARS:
        raise ValueError(f"a text of at most {_MAX_CHARS:,} characters")
    return value.strip()


def _tool(value: Any) -> str:
    if not isinstance(value, str) or not _TOOL.fullmatch(value):
        raise ValueError("the name of a tool, in which * stands for any text")
    return value


def _fact(value: Any) -> Any:
    is_number = isinstance(value, int | float) and abs(value) < _MAX_NUMBER  # which NaN is not
    if not (isinstance(value, str | bool) or is_number) or len(str(value)) > _MAX_FACT_CHARS:
        raise ValueError(f"a text of at most {_MAX_FACT_CHARS:,} characters, a number, true or false")
    return value


def _fact_name(value: Any) -> Any:
    if not isinstance(value, str) or not value.isprintable() or len(value) > 100:
        raise ValueError("at most 100 characters that can be printed")
    return value


_SCHEMA = Section(
    keys={
        "format": _format,
        "name": name_of_agent,
        "description": text,
        "class": _class,
        "model": _model,
        "instructions": _instructions,
        "priority": priority,
        "budget_usd": dollars,
        "tools": Many(of=_tool),
        "rules": Many(of=rule_schema(string, effects, boolean)),
        "memory": Named(of=_fact, key=_fact_name),
    },
    required=("format", "name"),
)


# --- reading -----------------------------------------------------------------------------------------


def read_agent(file: Path, redactor: Redactor, *, shown: str = "") -> Agent:
    """The profile in a file, which errors call `shown`.

    Raises:
        SettingsError: it can't be read, does not fit, would allow something, or keeps a credential.
    """
    shown = shown or str(file)
    try:
        if len(read_head(file)) > MAX_BYTES:
            raise SettingsError(f"{shown} is larger than {MAX_BYTES:,} bytes, which no profile of an agent is.")
    except OSError as error:
        raise SettingsError(f"{shown} can't be read: {error.strerror or error}.") from None
    except SettingsError as error:
        if str(error).startswith(shown):
            raise
        raise SettingsError(f"{shown} can't be read: {error}.") from None
    try:
        said = read_yaml(file, _SCHEMA)
    except SettingsError as error:
        raise SettingsError(str(error).replace(str(file), shown, 1)) from None
    if not said:
        raise SettingsError(f"{shown}, line 1: the file needs format and name.")
    _check_sizes(said, shown)
    agent = Agent(
        name=said["name"],
        description=said.get("description", ""),
        kind=said.get("class", ""),
        model=said.get("model", ""),
        instructions=said.get("instructions", ""),
        priority=said.get("priority"),
        budget_usd=said.get("budget_usd"),
        tools=said.get("tools"),
        rules=load_rules(said.get("rules", ()), f"{shown}: rules"),
        memory=said.get("memory", {}),
    )
    for rule in agent.rules:
        if rule.answer == "allow":
            raise SettingsError(
                f"{rule.source} allows something, and a profile can only take away: write ask or deny; "
                "`permissions: rules:` in llmos.yaml allows."
            )
    check_secrets(agent, redactor, shown)
    return agent


def _check_sizes(said: Mapping[str, Any], shown: str) -> None:
    for key, most in (("tools", MAX_PATTERNS), ("rules", MAX_PATTERNS), ("memory", _MAX_FACTS)):
        if len(said.get(key, ())) > most:
            raise SettingsError(f"{shown}: {key} has {len(said[key]):,} entries, and {most} at most are allowed.")


def check_secrets(agent: Agent, redactor: Redactor, shown: str) -> None:
    """Refuse a profile that keeps a credential, or the value of a secret.

    Raises:
        SettingsError: it does.
    """
    found = redactor.credentials(to_file_data(agent))
    if found:
        where = ".".join(map(str, found[0].path)) or "the file"
        raise SettingsError(
            f"{shown}: {where} holds {found[0].kind}, which no profile may keep: put it in the environment as "
            f"{found[0].variable}, and name that under `secrets` in llmos.yaml."
        )


# --- finding -----------------------------------------------------------------------------------------


def folders(settings: Settings) -> tuple[Path, ...]:
    """Where profiles are looked for, the user's own first: what goals write must not stand before them."""
    return tuple(dict.fromkeys([*settings.agent_folders, settings.workspace / FOLDER]))


def find_agent(name: str, settings: Settings) -> Found:
    """The profile of a name.

    Raises:
        UsageError: it is no name for one.
        NotFoundError: there is none of that name.
        SettingsError: its file can't be used.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name[:80]!r} is no name of an agent: that is small letters, digits, - and _.")
    for folder in folders(settings):
        file = folder / f"{name}.yaml"
        if os.path.lexists(file):  # a broken link, too: what stands behind it must not be taken for it
            return _read(file, settings)
    known = ", ".join(dict.fromkeys(file.stem for file in _files(settings))) or "none yet"
    raise NotFoundError(f"there is no agent {name!r} (there is: {known}); a profile is {FOLDER}/{name}.yaml.")


def every_agent(settings: Settings) -> tuple[list[Found], list[str]]:
    """All profiles by name, and what is wrong with files that are none; of two with one name the first counts."""
    found: dict[str, Found] = {}
    wrong: list[str] = []
    for file in _files(settings):
        if file.stem in found:
            wrong.append(f"{file} is left out: {found[file.stem].file} has that name, and stands first.")
            continue
        try:
            found[file.stem] = _read(file, settings)
        except SettingsError as error:
            if not is_foreign(file, settings):
                wrong.append(str(error))
    return sorted(found.values(), key=lambda one: one.agent.name), wrong


def is_foreign(file: Path, settings: Settings) -> bool:
    """Whether a file in a folder `agents` of a workspace is somebody else's: it says no format and name."""
    return file.parent not in settings.agent_folders and not looks_like_profile(file)


def looks_like_profile(file: Path) -> bool:
    """Whether a file says format and name, as profiles do, in whatever way YAML lets it."""
    try:
        head = read_head(file)
    except (OSError, SettingsError):
        return False
    if re.search(rb"^format\s*:", head, re.MULTILINE) and re.search(rb"^name\s*:", head, re.MULTILINE):
        return True
    if not all(word in head for word in (b"format", b"name")) and b"\\" not in head:
        return False
    import yaml

    try:
        said = yaml.safe_load(head)
    except (yaml.YAMLError, ValueError, RecursionError):
        return False
    return isinstance(said, dict) and {"format", "name"} <= set(said)


def read_head(file: Path) -> bytes:
    """What a profile's file holds, and no more than one may.

    Raises:
        OSError: it can't be read.
        SettingsError: it is no file, but a folder, a device or a pipe.
    """
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise SettingsError("it is no regular file")
        return stream.read(MAX_BYTES + 1)


def profiles_in(folder: Path) -> tuple[Path, ...]:
    """The files in a folder that are profiles."""
    return tuple(file for file in folder.glob("*.yaml") if looks_like_profile(file))


def _files(settings: Settings) -> Iterator[Path]:
    for folder in folders(settings):
        if folder.is_dir():
            yield from sorted(one for one in folder.glob("*.yaml") if not one.is_dir() and _NAME.fullmatch(one.stem))


def _read(file: Path, settings: Settings) -> Found:
    agent = read_agent(file, settings.redactor)
    if agent.name != file.stem:
        raise SettingsError(f"{file} says that its name is {agent.name}: name the file {agent.name}.yaml.")
    return Found(agent=agent, file=file)


# --- writing -----------------------------------------------------------------------------------------


def to_file_data(agent: Agent) -> dict[str, Any]:
    """A profile as its file has it; what is not said is left out."""
    said: dict[str, Any] = {"format": FORMAT, "name": agent.name}
    given = {"description": agent.description, "class": agent.kind, "model": agent.model}
    said |= {key: value for key, value in given.items() if value}
    numbers = {"priority": agent.priority, "budget_usd": agent.budget_usd}
    said |= {key: value for key, value in numbers.items() if value is not None}
    if agent.tools is not None:
        said["tools"] = list(agent.tools)
    if agent.rules:
        said["rules"] = [_rule_data(rule) for rule in agent.rules]
    if agent.instructions:
        said["instructions"] = agent.instructions
    if agent.memory:
        said["memory"] = dict(agent.memory)
    return said


def _rule_data(rule: Any) -> dict[str, Any]:
    said: dict[str, Any] = {rule.answer: rule.tool}
    said |= {key: value for key, value in (("path", rule.path), ("host", rule.host)) if value is not None}
    return said | ({"effect": list(rule.effects)} if rule.effects else {})


def to_yaml(agent: Agent) -> str:
    """A profile as the text of its file."""
    import yaml

    class Dumper(yaml.SafeDumper):
        """Writes texts of several lines as blocks."""

    def represent(dumper: Any, value: str) -> Any:
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)

    Dumper.add_representer(str, represent)
    text = yaml.dump(to_file_data(agent), Dumper=Dumper, sort_keys=False, allow_unicode=True, width=110)
    return str(text)


def renamed(agent: Agent, name: str) -> Agent:
    """The profile under another name.

    Raises:
        UsageError: that is none.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name[:80]!r} is no name of an agent: that is small letters, digits, - and _.")
    return replace(agent, name=name)
