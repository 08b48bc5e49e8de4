"""What a value may look like, and where each stands in llmos.yaml."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from llmos.checked_yaml import Many, Named, Section
from llmos.errors import SettingsError
from llmos.settings.models import MODELS
from llmos.settings.permissions import permissions_schema
from llmos.settings.records import CLASSES, MAX_WRONG, MAY_HAVE_NETWORK, SANDBOXES

T = TypeVar("T")
EFFECTS = ("pure", "read", "write", "external", "unknown")
"""The values of `llmos.trace.program.Effect`, which stands above this module."""

MAX_DAYS = 100_000
"""Far enough for everybody, and within what a date can be."""

MAX_COUNT = 10**15
"""More bytes, files or seconds than anybody has, and within what the system takes as a limit."""

LEAST_CONTEXT = 20_000
"""Tokens: the tools and instructions alone take some 4,000."""

VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def _is_number(value: Any) -> bool:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


def dollars(value: Any) -> float:
    if not _is_number(value) or value < 0:
        raise ValueError("a number of dollars, 0 or more")
    return float(value)


def seconds(value: Any) -> float:
    if not _is_number(value) or value <= 0:
        raise ValueError("a number of seconds above 0")
    return float(value)


def days(value: Any) -> float:
    if not _is_number(value) or not 0 < value <= MAX_DAYS:
        raise ValueError(f"a number of days above 0, at most {MAX_DAYS:,}")
    return float(value)


def count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError("a whole number, 1 or more")
    if value > MAX_COUNT:
        raise ValueError(f"a whole number, at most {MAX_COUNT:,}")
    return value


def context(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not LEAST_CONTEXT <= value <= MAX_COUNT:
        raise ValueError(f"a whole number of tokens, at least {LEAST_CONTEXT:,}: tools and instructions take thousands")
    return value


def priority(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 19:
        raise ValueError("a whole number from 0 (the most urgent) to 19")
    return value


def share(value: Any) -> float:
    if not _is_number(value) or not 0 <= value <= 1:
        raise ValueError("a number from 0 to 1")
    return float(value)


def boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("a text that is not empty")
    return value.strip()


def string(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("a text (put numbers in quotes)")
    return value


def url(value: Any) -> str:
    parts = urlsplit(value) if isinstance(value, str) else None
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("a URL such as http://localhost:5001/v1")
    return str(value).rstrip("/")


def variable(value: Any) -> str:
    if not isinstance(value, str) or not VARIABLE.fullmatch(f"${{{value}}}"):
        raise ValueError("the name of an environment variable")
    return value


def effect(value: Any) -> str:
    if value not in EFFECTS:
        raise ValueError(f"one of {', '.join(EFFECTS)}")
    return str(value)


def sandbox(value: Any) -> str:
    if value not in SANDBOXES:
        raise ValueError(f"one of {', '.join(SANDBOXES)}")
    return str(value)


def network_tool(value: Any) -> str:
    if value not in MAY_HAVE_NETWORK:
        raise ValueError(f"one of {', '.join(MAY_HAVE_NETWORK)} (an MCP server has `network: true` in its own entry)")
    return str(value)


def place(value: Any) -> Path:
    try:
        path = Path(value).expanduser() if isinstance(value, str) and value.strip() else Path()
        os.lstat(path)
    except FileNotFoundError:
        pass  # it may come to be
    except (OSError, RuntimeError, ValueError) as error:
        if not isinstance(error, PermissionError | NotADirectoryError):
            raise ValueError("a path that can be: no name too long, no user who does not exist") from None
    if not path.is_absolute():
        raise ValueError("an absolute path, or one that begins with ~/")
    return path


def effects(value: Any) -> tuple[str, ...]:
    listed = value if isinstance(value, list) else [value]
    if not listed or any(one not in EFFECTS for one in listed):
        raise ValueError(f"one of {', '.join(EFFECTS)}, or a list of them")
    return tuple(listed)


def server_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}", value):
        raise ValueError("a name of 1 to 32 letters, digits, _ or -")
    return value


SCHEMA = Section(
    keys={
        "battery": Section(keys={"initial_usd": dollars}),
        "learner": Section(
            keys={
                "name": text,
                "max_usd_per_run": dollars,
                "first_estimate_usd": dollars,
                "max_turns": count,
                "timeout_s": seconds,
                "max_repeats": count,
                "turn_timeout_s": seconds,
                "max_fruitless": count,
                "max_output_chars": count,
                "guided_max_usd": dollars,
                "guided_max_turns": count,
                "context_tokens": context,
                "fold_at": share,
                "fold_to": share,
                "base_url": url,
            },
            moved={"model": "models.learner", "guided_model": "models.guided"},
        ),
        "models": MODELS,
        "servers": Named(key=server_name, of=Section(keys={"base_url": url, "api_key_env": variable})),
        "memory": Section(keys={"embedding_model": text}),
        "scheduler": Section(keys={"max_concurrent": count}),
        "classes": Section(
            keys=dict.fromkeys(
                CLASSES,
                Section(keys={"priority": priority, "max_usd": dollars, "max_tokens": count, "roles": Many(of=text)}),
            )
        ),
        "daemon": Section(keys={"enabled": boolean, "idle_s": seconds}),
        "mcp_servers": Named(
            key=server_name,
            of=Section(
                keys={
                    "command": text,
                    "args": Many(of=string),
                    "env": Named(of=string, key=variable),
                    "url": url,
                    "headers": Named(of=string),
                    "read_only": Many(of=text),
                    "effects": Named(of=effect),
                    "sandboxed": boolean,
                    "network": boolean,
                    "readable": Many(of=place),
                    "writable": Many(of=place),
                    "timeout_s": seconds,
                }
            ),
        ),
        "prices": Named(
            of=Section(
                keys={
                    "input_usd_per_mtok": dollars,
                    "output_usd_per_mtok": dollars,
                    "cached_input_usd_per_mtok": dollars,
                },
                required=("input_usd_per_mtok", "output_usd_per_mtok"),
            )
        ),
        "matching": Section(keys={"max_wrong": Section(keys=dict.fromkeys(MAX_WRONG, share))}),
        "judge": Section(keys={"max_usd": dollars, "timeout_s": seconds}, moved={"model": "models.judge"}),
        "reliability": Section(keys={"half_life_days": days, "max_failures": count}),
        "audit_rate": share,
        "proof": Section(keys={"enabled": boolean, "max_files": count, "max_bytes": count, "timeout_s": seconds}),
        "journal": Section(
            keys={
                "max_file_bytes": count,
                "max_files": count,
                "max_workspace_bytes": count,
                "max_bytes": count,
                "keep_days": days,
            }
        ),
        "retention": Section(
            keys={
                "runs_days": days,
                "max_runs": count,
                "max_goals": count,
                "savings_days": days,
                "audit_days": days,
                "backups": count,
                "damaged_days": days,
                "history_lines": count,
            }
        ),
        "sandbox": sandbox,
        "sandbox_limits": Section(
            keys={
                "cpu_s": count,
                "wall_s": seconds,
                "memory_bytes": count,
                "max_processes": count,
                "max_open_files": count,
                "file_bytes": count,
                "tmp_bytes": count,
            }
        ),
        "sandbox_network": Many(of=network_tool),
        "sandbox_readable": Many(of=place),
        "sandbox_writable": Many(of=place),
        "permissions": permissions_schema(text, effects, boolean),
        "frozen": boolean,
        "skip_unchanged": boolean,
        "secrets": Many(of=variable),
    },
    moved={"provider": "servers (`servers: {NAME: {base_url: …}}`, with models named NAME:model)"},
)


def from_outside(check: Callable[[Any], T], value: Any, name: str) -> T:
    """The checked value of an option or a variable.

    Raises:
        SettingsError: it does not pass `check`; the sentence has its name.
    """
    try:
        return check(value)
    except ValueError as error:
        raise SettingsError(f"{name} must be {error}, not {value!r}.") from None
