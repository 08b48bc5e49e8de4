"""What a user can set, from where, and what it means: the only reader of llmos.yaml and of the environment.

A value is taken from the first of: the caller (an option of the command), the environment, llmos.yaml, the default.
llmos.yaml is $LLMOS_CONFIG if that is set; else the checkout's file with the home's laid over it, key by key. The
workspace is never asked: what goals read and write must not configure what runs them.
"""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar
from urllib.parse import urlsplit

from llmos.checked_yaml import Many, Named, Section, read_yaml
from llmos.errors import SettingsError

T = TypeVar("T")
CONFIG_NAME = "llmos.yaml"
KEY_NAMES = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN")
EFFECTS = ("pure", "read", "write", "external", "unknown")
"""The values of `llmos.trace.program.Effect`, which stands above this module."""

MAX_WRONG: Mapping[str, float] = MappingProxyType({"pure": 0.01, "read": 0.01, "write": 0.001})
"""How likely a replay may be wrong, by effect; `external` and `unknown` are never followed without a proof."""

_YES, _NO = frozenset({"1", "true", "yes", "on"}), frozenset({"0", "false", "no", "off"})

PROVIDER = "provider"
"""Name of the learner over pydantic-ai."""

GUIDED_OFF = "off"
"""`learner.guided_model` where goals are learned without the help of near traces."""

_PROVIDER_MODEL = re.compile(r"[a-z][a-z0-9_-]*:\S+")
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")

_PLAIN = re.compile(
    r"PATH|HOME|USER|LOGNAME|SHELL|LANG|LANGUAGE|LC_[A-Z]+|TERM|TZ|TMPDIR|VIRTUAL_ENV|CONDA_PREFIX|JAVA_HOME"
)

# What the Claude Code process may see of the environment: how to reach its account and host, and how to run at all.
_SEEN = re.compile(
    r"PATH|HOME|USER|LOGNAME|SHELL|TERM|TMPDIR|TMP|TEMP|TZ|LANG|LANGUAGE|USERPROFILE|APPDATA|LOCALAPPDATA|SYSTEMROOT"
    r"|COMSPEC|PATHEXT|(?:HTTPS?|ALL|NO)_PROXY|(?:https?|all|no)_proxy|MAX_THINKING_TOKENS"
    r"|(?:LC|XDG|SSL|NODE|ANTHROPIC|CLAUDE|DISABLE|AWS|GOOGLE|CLOUD_ML|VERTEX)_\w+"
)


@dataclass(frozen=True, kw_only=True)
class LearnerSettings:
    """Who solves a goal that no trace answers, and within what limits.

    `model` is a name the chosen learner understands; `max_usd_per_run` is reserved before a run and never exceeded;
    `first_estimate_usd` stands in for a cost while there is no history; `max_repeats` is how often the same call may
    follow itself. `has_key` says that the environment holds a key or a token for Claude. The `guided_` limits hold
    where a near trace is given as a plan; `guided_model` empty: the same model, GUIDED_OFF: no plan is ever given.
    """

    name: str = "claude"
    model: str = "sonnet"
    max_usd_per_run: float = 2.0
    first_estimate_usd: float = 0.5
    max_turns: int = 50
    timeout_s: float = 900.0
    max_repeats: int = 3
    guided_model: str = ""
    guided_max_usd: float = 0.5
    guided_max_turns: int = 20
    base_url: str | None = None
    has_key: bool = False


@dataclass(frozen=True, kw_only=True)
class ProviderSettings:
    """The learner over pydantic-ai: `model` as `openai:gpt-5`, or any name behind an OpenAI-compatible `base_url`.

    An empty `model` with a `base_url` means the first model that server offers. `api_key` is the value of the
    variable `api_key_env`: by default the provider's own, such as OPENAI_API_KEY, but none for a `base_url`, so that
    a key never reaches a server it was not meant for.
    """

    model: str = ""
    base_url: str | None = None
    api_key_env: str = ""
    api_key: str | None = field(default=None, repr=False)


@dataclass(frozen=True, kw_only=True)
class SchedulerSettings:
    """How many goals run at once."""

    max_concurrent: int = 4


@dataclass(frozen=True, kw_only=True)
class McpServerSettings:
    """One MCP server: a `command` to start, or the `url` of a running one.

    `read_only` names tools known to change nothing; `effects` maps tool names to effect classes and wins over what the
    server says of itself.
    """

    name: str
    command: str | None = None
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    url: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    read_only: tuple[str, ...] = ()
    effects: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ModelPrice:
    """Dollars for a million tokens; `cached_input_usd_per_mtok` None: as much as other input."""

    input_usd_per_mtok: float
    output_usd_per_mtok: float
    cached_input_usd_per_mtok: float | None = None


@dataclass(frozen=True, kw_only=True)
class MatchingSettings:
    """How likely a replay may be wrong, by the trace's effect; an effect that is missing needs a proof."""

    max_wrong: Mapping[str, float] = field(default_factory=lambda: dict(MAX_WRONG))


@dataclass(frozen=True, kw_only=True)
class JudgeSettings:
    """The small model that may say whether an unproven wording means a known task; off while `model` is None."""

    model: str | None = None
    max_usd: float = 0.02
    timeout_s: float = 60.0


@dataclass(frozen=True, kw_only=True)
class ReliabilitySettings:
    """How long what became of replays counts, and how many failures in a row end a trace."""

    half_life_days: float = 30.0
    max_failures: int = 3


@dataclass(frozen=True, kw_only=True)
class ProofSettings:
    """Whether learned traces are run again in a copy of the workspace, how large that may be, how long it may take."""

    enabled: bool = True
    max_files: int = 5_000
    max_bytes: int = 256_000_000
    timeout_s: float = 60.0


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything set, checked and resolved; paths are absolute.

    `budget_usd` limits this command (None: only the battery does), `initial_usd` is what a new battery holds,
    `environment` what a Claude Code process may see, `secrets` the names `secret` gives values of.
    `config_files` are the files that were read, or would be if they existed. `audit_rate` is the share of replays that
    the learner does again to compare; with `frozen` traces are used and nothing about them is changed.
    """

    home: Path
    workspace: Path
    checkout: Path | None = None
    plugin_dirs: tuple[Path, ...] = ()
    config_files: tuple[Path, ...] = ()
    budget_usd: float | None = None
    initial_usd: float = 10.0
    learner: LearnerSettings = LearnerSettings()
    provider: ProviderSettings = ProviderSettings()
    embedding_model: str = "all-MiniLM-L6-v2"
    scheduler: SchedulerSettings = SchedulerSettings()
    mcp_servers: Mapping[str, McpServerSettings] = field(default_factory=dict)
    prices: Mapping[str, ModelPrice] = field(default_factory=dict)
    matching: MatchingSettings = field(default_factory=MatchingSettings)
    judge: JudgeSettings = JudgeSettings()
    reliability: ReliabilitySettings = ReliabilitySettings()
    proof: ProofSettings = ProofSettings()
    audit_rate: float = 0.0
    frozen: bool = False
    secrets: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    _secret_values: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def memory(self) -> Path:
        return self.home / "memory"

    @property
    def database(self) -> Path:
        return self.memory / "llmos.duckdb"

    @property
    def claude_login(self) -> Path:
        """The file in which Claude Code keeps its login, if it has one (macOS has it in the keychain)."""
        home = Path(self.environment.get("HOME") or Path.home())
        return Path(self.environment.get("CLAUDE_CONFIG_DIR") or home / ".claude") / ".credentials.json"

    @property
    def has_claude_login(self) -> bool:
        """Whether Claude Code may reach an account without a key: its login, a cloud's account, or macOS's keychain."""
        clouds = ("CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_USE_VERTEX", "CLAUDE_CODE_USE_FOUNDRY")
        has_cloud = any(self.environment.get(name, "").lower() in ("1", "true", "yes", "on") for name in clouds)
        return has_cloud or sys.platform == "darwin" or self.claude_login.is_file()

    def secret(self, name: str) -> str:
        """The value of a secret from the environment as it was when the settings were loaded.

        Raises:
            SettingsError: `secrets` does not list it, or the variable is not set.
        """
        if name not in self.secrets:
            raise SettingsError(f"{name} is not a secret this home may use; add it to `secrets` in {CONFIG_NAME}.")
        try:
            return self._secret_values[name]
        except KeyError:
            raise SettingsError(f"the secret {name} is not set; export {name} before starting.") from None


def load_settings(
    *,
    home: Path | None = None,
    workspace: Path | None = None,
    plugins: Sequence[Path] = (),
    budget_usd: float | None = None,
    model: str | None = None,
    audit_rate: float | None = None,
    frozen: bool | None = None,
    environ: Mapping[str, str] | None = None,
    checkout: Path | None = None,
) -> Settings:
    """The settings for one command; `environ` stands for the process's environment, `checkout` for the folder found.

    Raises:
        SettingsError: a value that can't be used, with its place and what is allowed there.
    """
    env = dict(os.environ if environ is None else environ)
    checkout = _absolute(checkout) if checkout is not None else _find_checkout()
    home = _find_home(home, env, checkout)
    workspace = _absolute(workspace or Path.cwd())
    if not workspace.is_dir():
        raise SettingsError(f"the workspace {workspace} is not a folder; create it or name another with --workspace.")
    files = _config_files(env, home, checkout)
    config = _read_config(files)
    learner, provider = _learners(config, model, env)
    secrets = config.get("secrets", ())
    return Settings(
        home=home,
        workspace=workspace,
        checkout=checkout,
        plugin_dirs=_plugin_dirs(checkout, home, plugins),
        config_files=files,
        budget_usd=_budget(budget_usd, env),
        initial_usd=config.get("battery", {}).get("initial_usd", Settings.initial_usd),
        learner=learner,
        provider=provider,
        embedding_model=config.get("memory", {}).get("embedding_model", Settings.embedding_model),
        scheduler=SchedulerSettings(**config.get("scheduler", {})),
        mcp_servers=MappingProxyType(
            {name: _mcp_server(name, entry, env) for name, entry in config.get("mcp_servers", {}).items()}
        ),
        prices=MappingProxyType({name: ModelPrice(**entry) for name, entry in config.get("prices", {}).items()}),
        proof=ProofSettings(**config.get("proof", {})),
        secrets=secrets,
        **_trust(config, env, audit_rate, frozen),
        environment=MappingProxyType({name: value for name, value in env.items() if _SEEN.fullmatch(name)}),
        _secret_values=MappingProxyType({name: env[name] for name in secrets if env.get(name)}),
    )


def plain_environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """What any child process may see: where programs, folders and the language are; no account, no key."""
    env = os.environ if environ is None else environ
    return {name: value for name, value in env.items() if _PLAIN.fullmatch(name)}


def hidden_variables(seen: Mapping[str, str]) -> list[str]:
    """The names of this process's variables that a child with the environment `seen` is not to know."""
    return [name for name in os.environ if name not in seen]


def wants_color(environ: Mapping[str, str] | None = None) -> bool:
    """Whether the user's terminal shall be written to in colour. Source: no-color.org."""
    env = os.environ if environ is None else environ
    return not env.get("NO_COLOR") and env.get("TERM") != "dumb"


# ------------------------------------------------------------------------------------------------------- places


def _absolute(path: Path) -> Path:
    try:
        return Path(os.path.abspath(path.expanduser()))  # noqa: PTH100 (keeps symlinks as the user wrote them)
    except RuntimeError:
        raise SettingsError(f"the path {path} names a user that does not exist.") from None


def _find_checkout() -> Path | None:
    """The folder that holds both boot.py and this package, unless the package is installed elsewhere."""
    root = Path(__file__).resolve().parent.parent
    return root if (root / "boot.py").is_file() else None


def _find_home(home: Path | None, env: Mapping[str, str], checkout: Path | None) -> Path:
    if home is None and env.get("LLMOS_HOME"):
        home = Path(env["LLMOS_HOME"])
    if home is None and checkout is not None:
        home = checkout / "workspace"
    if home is None:
        import platformdirs

        home = platformdirs.user_data_path("llmos")
    home = _absolute(home)
    try:
        is_file = home.exists() and not home.is_dir()
    except OSError as error:
        raise SettingsError(
            f"the home {str(home)[:200]!r} can't be used: {error.strerror}; name a folder with --home or LLMOS_HOME."
        ) from None
    if is_file:
        raise SettingsError(f"the home {home} is a file; name a folder with --home or LLMOS_HOME.")
    return home


def _plugin_dirs(checkout: Path | None, home: Path, named: Sequence[Path]) -> tuple[Path, ...]:
    usual = [checkout / "plugins"] if checkout is not None else []
    found = [path for path in (*usual, home / "plugins") if path.is_dir()]
    for path in map(_absolute, named):
        if not path.is_dir():
            raise SettingsError(f"the plugins folder {path} does not exist; create it or name another with --plugins.")
        found.append(path)
    return tuple(dict.fromkeys(found))


def _budget(budget_usd: float | None, env: Mapping[str, str]) -> float | None:
    if budget_usd is not None:
        return _from_outside(_dollars, budget_usd, "--budget")
    text = env.get("LLMOS_BUDGET_USD")
    if not text:
        return None
    try:
        return _from_outside(_dollars, float(text), "LLMOS_BUDGET_USD")
    except ValueError:
        raise SettingsError(f"LLMOS_BUDGET_USD must be a number of dollars, 0 or more, not {text!r}.") from None


def _trust(
    config: Mapping[str, Any], env: Mapping[str, str], audit_rate: float | None, frozen: bool | None
) -> dict[str, Any]:
    """What says how far traces are trusted, and whether anything about them may change."""
    return {
        "matching": _matching(config),
        "judge": _judge(config, env),
        "reliability": ReliabilitySettings(**config.get("reliability", {})),
        "audit_rate": _audit_rate(audit_rate, config, env),
        "frozen": _frozen(frozen, config, env),
    }


def _matching(config: Mapping[str, Any]) -> MatchingSettings:
    given = config.get("matching", {}).get("max_wrong", {})
    return MatchingSettings(max_wrong=MappingProxyType({**MAX_WRONG, **given}))


def _judge(config: Mapping[str, Any], env: Mapping[str, str]) -> JudgeSettings:
    given = config.get("judge", {})
    return JudgeSettings(**{**given, **({"model": env["LLMOS_JUDGE"]} if env.get("LLMOS_JUDGE") else {})})


def _audit_rate(asked: float | None, config: Mapping[str, Any], env: Mapping[str, str]) -> float:
    if asked is not None:
        return _from_outside(_share, asked, "--audit-rate")
    text = env.get("LLMOS_AUDIT_RATE")
    if not text:
        return float(config.get("audit_rate", Settings.audit_rate))
    try:
        return _from_outside(_share, float(text), "LLMOS_AUDIT_RATE")
    except ValueError:
        raise SettingsError(f"LLMOS_AUDIT_RATE must be a number from 0 to 1, not {text!r}.") from None


def _frozen(asked: bool | None, config: Mapping[str, Any], env: Mapping[str, str]) -> bool:
    if asked is not None:
        return asked
    text = env.get("LLMOS_FROZEN")
    if not text:
        return bool(config.get("frozen", Settings.frozen))
    if text.lower() not in _YES | _NO:
        raise SettingsError(f"LLMOS_FROZEN must be 1 or 0, not {text!r}.")
    return text.lower() in _YES


def _learners(
    config: Mapping[str, Any], model: str | None, env: Mapping[str, str]
) -> tuple[LearnerSettings, ProviderSettings]:
    """Settings of both learners; the chosen one's model is in `LearnerSettings.model` either way."""
    wanted = _from_outside(_text, model, "--model") if model is not None else env.get("LLMOS_MODEL") or None
    learner = LearnerSettings(**config.get("learner", {}))
    provider = ProviderSettings(**config.get("provider", {}))
    if wanted is not None and _PROVIDER_MODEL.fullmatch(wanted):
        learner = replace(learner, name=PROVIDER)
    if learner.name == PROVIDER:
        provider = replace(provider, model=wanted if wanted is not None else provider.model)
        learner = replace(learner, model=provider.model)
    elif wanted is not None:
        learner = replace(learner, model=wanted)
    base_url = env.get("ANTHROPIC_BASE_URL") or None
    if base_url is not None:
        base_url = _from_outside(_url, base_url, "ANTHROPIC_BASE_URL")
    key_name = provider.api_key_env or ("" if provider.base_url else _usual_key_name(provider.model))
    return (
        replace(learner, base_url=base_url or learner.base_url, has_key=any(env.get(name) for name in KEY_NAMES)),
        replace(provider, api_key_env=key_name, api_key=env.get(key_name) or None),
    )


def _usual_key_name(model: str) -> str:
    prefix = model.partition(":")[0] if _PROVIDER_MODEL.fullmatch(model) else "openai"
    return re.sub(r"-(chat|responses)$", "", prefix).replace("-", "_").upper() + "_API_KEY"


def _mcp_server(name: str, entry: Mapping[str, Any], env: Mapping[str, str]) -> McpServerSettings:
    where = f"mcp_servers.{name}"
    if ("command" in entry) == ("url" in entry):
        raise SettingsError(f"{CONFIG_NAME}: {where} needs either `command` (to start it) or `url` (of a running one).")
    expanded = {
        key: MappingProxyType({k: _expand(v, env, f"{where}.{key}.{k}") for k, v in entry[key].items()})
        for key in ("env", "headers")
        if key in entry
    }
    return McpServerSettings(name=name, **{**entry, **expanded})


def _expand(text: str, env: Mapping[str, str], where: str) -> str:
    """`${NAME}` replaced by the variable's value."""

    def value(match: re.Match[str]) -> str:
        if match[1] not in env:
            raise SettingsError(f"{CONFIG_NAME}: {where} needs the environment variable {match[1]}, which is not set.")
        return env[match[1]]

    return _VARIABLE.sub(value, text)


# ------------------------------------------------------------------------------------- what a value may look like


def _dollars(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
        raise ValueError("a number of dollars, 0 or more")
    return float(value)


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value <= 0:
        raise ValueError("a number of seconds above 0")
    return float(value)


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError("a whole number, 1 or more")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("a text that is not empty")
    return value.strip()


def _guided_model(value: Any) -> str:
    if value is False:  # what YAML makes of a plain `off`
        return GUIDED_OFF
    if not isinstance(value, str) or not value.strip():
        raise ValueError("the name of a model, or off")
    return value.strip()


def _share(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise ValueError("a number from 0 to 1")
    return float(value)


def _days(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value <= 0:
        raise ValueError("a number of days above 0")
    return float(value)


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def _url(value: Any) -> str:
    parts = urlsplit(value) if isinstance(value, str) else None
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("a URL such as http://localhost:5001/v1")
    return str(value).rstrip("/")


def _variable(value: Any) -> str:
    if not isinstance(value, str) or not _VARIABLE.fullmatch(f"${{{value}}}"):
        raise ValueError("the name of an environment variable")
    return value


def _effect(value: Any) -> str:
    if value not in EFFECTS:
        raise ValueError(f"one of {', '.join(EFFECTS)}")
    return str(value)


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("a text (put numbers in quotes)")
    return value


def _server_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}", value):
        raise ValueError("a name of 1 to 32 letters, digits, _ or -")
    return value


_SCHEMA = Section(
    keys={
        "battery": Section(keys={"initial_usd": _dollars}),
        "learner": Section(
            keys={
                "name": _text,
                "model": _text,
                "max_usd_per_run": _dollars,
                "first_estimate_usd": _dollars,
                "max_turns": _count,
                "timeout_s": _seconds,
                "max_repeats": _count,
                "guided_model": _guided_model,
                "guided_max_usd": _dollars,
                "guided_max_turns": _count,
                "base_url": _url,
            }
        ),
        "provider": Section(keys={"model": _text, "base_url": _url, "api_key_env": _variable}),
        "memory": Section(keys={"embedding_model": _text}),
        "scheduler": Section(keys={"max_concurrent": _count}),
        "mcp_servers": Named(
            key=_server_name,
            of=Section(
                keys={
                    "command": _text,
                    "args": Many(of=_string),
                    "env": Named(of=_string, key=_variable),
                    "url": _url,
                    "headers": Named(of=_string),
                    "read_only": Many(of=_text),
                    "effects": Named(of=_effect),
                }
            ),
        ),
        "prices": Named(
            of=Section(
                keys={
                    "input_usd_per_mtok": _dollars,
                    "output_usd_per_mtok": _dollars,
                    "cached_input_usd_per_mtok": _dollars,
                },
                required=("input_usd_per_mtok", "output_usd_per_mtok"),
            )
        ),
        "matching": Section(keys={"max_wrong": Section(keys=dict.fromkeys(MAX_WRONG, _share))}),
        "judge": Section(keys={"model": _text, "max_usd": _dollars, "timeout_s": _seconds}),
        "reliability": Section(keys={"half_life_days": _days, "max_failures": _count}),
        "audit_rate": _share,
        "proof": Section(keys={"enabled": _boolean, "max_files": _count, "max_bytes": _count, "timeout_s": _seconds}),
        "frozen": _boolean,
        "secrets": Many(of=_variable),
    }
)


def _from_outside(check: Callable[[Any], T], value: Any, name: str) -> T:
    try:
        return check(value)
    except ValueError as error:
        raise SettingsError(f"{name} must be {error}, not {value!r}.") from None


# -------------------------------------------------------------------------------------------------- llmos.yaml


def _config_files(env: Mapping[str, str], home: Path, checkout: Path | None) -> tuple[Path, ...]:
    if env.get("LLMOS_CONFIG"):
        path = _absolute(Path(env["LLMOS_CONFIG"]))
        if not path.is_file():
            raise SettingsError(f"LLMOS_CONFIG names {path}, which is not a file.")
        return (path,)
    return tuple(folder / CONFIG_NAME for folder in (checkout, home) if folder is not None)


def _read_config(files: Sequence[Path]) -> dict[str, Any]:
    """The checked contents of those files that exist, later ones laid over earlier ones."""
    merged: dict[str, Any] = {}
    for path in files:
        if path.is_file():
            _lay_over(merged, read_yaml(path, _SCHEMA))
    return merged


def _lay_over(below: dict[str, Any], above: Mapping[str, Any]) -> None:
    """Sections are merged key by key; an entry of `mcp_servers` or `prices` is one key."""
    for key, value in above.items():
        if isinstance(value, dict):
            below[key] = {**below.get(key, {}), **value}
        else:
            below[key] = value
