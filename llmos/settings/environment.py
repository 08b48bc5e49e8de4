"""The process's environment, and what of it others may see: the only reader of os.environ."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping

from llmos import caller
from llmos.redaction import is_credential_name

YES, NO = frozenset({"1", "true", "yes", "on"}), frozenset({"0", "false", "no", "off"})
"""What a variable that turns something on or off may say, in small letters."""

_PLAIN = re.compile(
    r"PATH|HOME|USER|LOGNAME|SHELL|LANG|LANGUAGE|LC_[A-Z]+|TERM|TZ|TMPDIR|VIRTUAL_ENV|CONDA_PREFIX|JAVA_HOME"
)

_SEEN = re.compile(
    r"PATH|HOME|USER|LOGNAME|SHELL|TERM|TMPDIR|TMP|TEMP|TZ|LANG|LANGUAGE|USERPROFILE|APPDATA|LOCALAPPDATA|SYSTEMROOT"
    r"|COMSPEC|PATHEXT|(?:HTTPS?|ALL|NO)_PROXY|(?:https?|all|no)_proxy|MAX_THINKING_TOKENS"
    r"|(?:LC|XDG|SSL|NODE|ANTHROPIC|CLAUDE|DISABLE|AWS|GOOGLE|CLOUD_ML|VERTEX)_\w+"
)


def variables(environ: Mapping[str, str] | None = None) -> Mapping[str, str]:
    """The variables given, by default the caller's."""
    if environ is not None:
        return environ
    asking = caller.current()
    return os.environ if asking is None else asking.environ


def claude_environment(env: Mapping[str, str]) -> dict[str, str]:
    """What the Claude Code process may see of `env`: how to reach its account and host, and how to run at all."""
    return {name: value for name, value in env.items() if _SEEN.fullmatch(name)}


def plain_environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """What any child process may see: where programs, folders and the language are; no account, no key."""
    return {name: value for name, value in variables(environ).items() if _PLAIN.fullmatch(name)}


_SETS_UP = re.compile(r"LLMOS_(?!HOME|WORKSPACE|DAEMON|TEST)\w+")


def own_variables(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variables that set LLM OS up for a command, without those that hold a secret."""
    return {
        name: value
        for name, value in variables(environ).items()
        if _SETS_UP.fullmatch(name) and not is_credential_name(name)
    }


def local_zone(environ: Mapping[str, str] | None = None, link: str = "/etc/localtime") -> str:
    """The name of the user's time zone: what TZ says, or the system; UTC where neither does."""
    _, _, name = variables(environ).get("TZ", "").lstrip(":").rpartition("zoneinfo/")
    if name and not name.startswith("/"):
        return name
    try:
        _, mark, name = os.readlink(link).partition("zoneinfo/")  # noqa: PTH115
    except OSError:
        return "UTC"
    return name if mark else "UTC"


def hidden_variables(seen: Mapping[str, str]) -> list[str]:
    """The names of this process's variables that a child with the environment `seen` is not to know."""
    return [name for name in variables() if name not in seen]


_LEAST_SECRET_CHARS = 8


def other_secrets(env: Mapping[str, str], named: Collection[str]) -> tuple[str, ...]:
    """The values of variables that no setting names, but whose names say that they hold a secret."""
    return tuple(
        value
        for name, value in env.items()
        if name not in named
        and len(value) >= _LEAST_SECRET_CHARS
        and is_credential_name(name)
        and not value.startswith(("/", "~", "./"))
    )


def wants_color(environ: Mapping[str, str] | None = None) -> bool:
    """Whether the user's terminal shall be written to in colour. Source: no-color.org."""
    env = variables(environ)
    return not env.get("NO_COLOR") and env.get("TERM") != "dumb"
