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


def effective_values(settings: Settings) -> dict[str, Any]:
    """Each setting by its dotted name. What may be secret says only whether it is set.

    Of the environment only the names count that lead to an account or a host; those of a login session would differ
    between a terminal and cron.
    """
    found: dict[str, Any] = {}
    for field in fields(settings):
        if field.name not in ("environment", "secrets", "_secret_values", "_provider_keys"):
            _flatten(field.name, getattr(settings, field.name), found, is_secret=not field.repr)
    plain = plain_environment(settings.environment)
    for name in sorted(settings.environment):
        if name not in plain and not name.startswith("XDG_"):
            found[f"environment.{name}"] = SET
    for name in settings.secrets:
        found[f"secrets.{name}"] = SET if _value(settings, name) else UNSET
    return found


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
