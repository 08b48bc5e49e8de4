"""The effective settings as plain data, to be recorded: every value but those that are secret."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from llmos.errors import SettingsError
from llmos.settings.environment import plain_environment
from llmos.settings.records import Settings

SET, UNSET = "set", "unset"
_LONG_ENOUGH = 8


def effective_values(settings: Settings) -> dict[str, Any]:
    """Each setting by its dotted name. What may be secret says only whether it is set.

    Of the environment only the names count that lead to an account or a host; those of a login session would differ
    between a terminal and cron.
    """
    found: dict[str, Any] = {}
    for field in fields(settings):
        if field.name not in ("environment", "secrets", "_secret_values"):
            _flatten(field.name, getattr(settings, field.name), found, is_secret=not field.repr)
    plain = plain_environment(settings.environment)
    for name in sorted(settings.environment):
        if name not in plain and not name.startswith("XDG_"):
            found[f"environment.{name}"] = SET
    for name in settings.secrets:
        found[f"secrets.{name}"] = SET if _value(settings, name) else UNSET
    return found


def secret_values(settings: Settings) -> frozenset[str]:
    """The values that must not be recorded anywhere."""
    values = {_value(settings, name) for name in settings.secrets}
    values.add(settings.provider.api_key or "")
    given = [
        value for server in settings.mcp_servers.values() for value in (*server.env.values(), *_parts(server.headers))
    ]
    keys = [value for name, value in settings.environment.items() if "KEY" in name or "TOKEN" in name]
    values |= {value for value in (*given, *keys) if len(value) >= _LONG_ENOUGH}
    return frozenset(values - {""})


def _parts(headers: Mapping[str, str]) -> list[str]:
    """The values of headers, and what stands behind `Bearer`."""
    return [part for value in headers.values() for part in (value, value.partition(" ")[2])]


def _value(settings: Settings, name: str) -> str:
    try:
        return settings.secret(name)
    except SettingsError:
        return ""


def _flatten(name: str, value: Any, found: dict[str, Any], *, is_secret: bool) -> None:
    if is_dataclass(value):
        for field in fields(value):
            _flatten(f"{name}.{field.name}", getattr(value, field.name), found, is_secret=not field.repr)
    elif isinstance(value, Mapping):
        for key in sorted(value):
            _flatten(f"{name}.{key}", value[key], found, is_secret=is_secret)
    elif is_secret:
        found[name] = SET if value else UNSET
    elif isinstance(value, tuple):
        found[name] = [str(one) for one in value]
    else:
        found[name] = str(value) if isinstance(value, Path) else value
