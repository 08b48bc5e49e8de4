"""What the settings are, once checked and resolved: frozen records with their defaults."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from llmos.errors import SettingsError
from llmos.redaction import Redactor
from llmos.settings.environment import YES
from llmos.settings.models import ModelSettings, ServerSettings, is_elsewhere, server_of
from llmos.settings.permissions import PermissionSettings

CONFIG_NAME = "llmos.yaml"

AGENTS = "agents"
"""The folder of a home, or of a workspace, in which profiles of agents are."""

MAX_WRONG: Mapping[str, float] = MappingProxyType({"pure": 0.01, "read": 0.01, "write": 0.001})
"""How likely a replay may be wrong, by effect; `external` and `unknown` are never followed without a proof."""

SANDBOXES = ("auto", "bubblewrap", "landlock", "none")
"""What `sandbox` may say; `none` runs commands with the user's own rights."""

MAY_HAVE_NETWORK = ("bash",)
"""The tools that `sandbox_network` may name; `python` computes and needs none."""

PROVIDER = "provider"
"""Name of the learner over pydantic-ai."""


@dataclass(frozen=True, kw_only=True)
class LearnerSettings:
    """Who solves a goal that no trace answers, and within what limits.

    `name` is who is asked for models that are no provider's; `max_usd_per_run` is reserved before a run and never
    exceeded; `first_estimate_usd` stands in for a cost while there is no history; `max_repeats` is how often the same
    call may follow itself. A turn of the model may take `turn_timeout_s`, `max_fruitless` calls in a row may come to
    nothing new, and the outputs of a run to `max_output_chars`. `has_key` says that the environment holds a key or a
    token for Claude. The `guided_` limits hold where a near trace is given as a plan. At the share `fold_at` of the
    model's window, or of `context_tokens` where that is less, the oldest turns are summarised until about `fold_to` of
    it is left.
    """

    name: str = "claude"
    max_usd_per_run: float = 2.0
    first_estimate_usd: float = 0.5
    max_turns: int = 50
    timeout_s: float = 900.0
    max_repeats: int = 3
    turn_timeout_s: float = 300.0
    max_fruitless: int = 12
    max_output_chars: int = 50_000_000
    guided_max_usd: float = 0.5
    guided_max_turns: int = 20
    context_tokens: int | None = None
    fold_at: float = 0.7
    fold_to: float = 0.35
    base_url: str | None = None
    has_key: bool = False


@dataclass(frozen=True, kw_only=True)
class SchedulerSettings:
    """How many goals run at once."""

    max_concurrent: int = 4


@dataclass(frozen=True, kw_only=True)
class McpServerSettings:
    """One MCP server: a `command` to start, or the `url` of a running one.

    `read_only` names tools known to change nothing; `effects` maps tool names to effect classes and wins over what the
    server says of itself. A command is confined unless `sandboxed` is false; `network`, `readable` and `writable` open
    the sandbox. It has `timeout_s` for its start, and for each call.
    """

    name: str
    command: str | None = None
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    url: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    read_only: tuple[str, ...] = ()
    effects: Mapping[str, str] = field(default_factory=dict)
    sandboxed: bool = True
    network: bool = False
    readable: tuple[Path, ...] = ()
    writable: tuple[Path, ...] = ()
    timeout_s: float = 60.0


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
class ClassSettings:
    """What goals of a class get where nothing else is said: a priority, an allowance, and roles with more rules."""

    priority: int = 10
    max_usd: float | None = None
    max_tokens: int | None = None
    roles: tuple[str, ...] = ()


CLASSES = {
    "user": ClassSettings(),
    "system": ClassSettings(priority=5),
    "housekeeping": ClassSettings(priority=19, max_usd=0.0),
    "specialist": ClassSettings(),
    "meta": ClassSettings(priority=5, max_usd=0.10),
}
"""The classes of `llmos.kernel.process.Kind`, which stands above this module, as they are by default."""


@dataclass(frozen=True, kw_only=True)
class DaemonSettings:
    """Whether commands leave a resident kernel behind that does the next ones, and how long it stays without any."""

    enabled: bool = True
    idle_s: float = 900.0


@dataclass(frozen=True, kw_only=True)
class JudgeSettings:
    """The limits of a small model that may say whether an unproven wording means a known task."""

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
class JournalSettings:
    """What is kept so that runs can be undone, and for how long.

    A file larger than `max_file_bytes` is not changed by a tool that says beforehand what it changes. For other tools
    the workspace's contents are kept up to `max_workspace_bytes`, and its files compared up to `max_files`. What
    undoing a run of the last `keep_days` needs is never removed; all that is kept takes up `max_bytes` at most.
    """

    max_file_bytes: int = 100_000_000
    max_files: int = 5_000
    max_workspace_bytes: int = 256_000_000
    max_bytes: int = 2_000_000_000
    keep_days: float = 30.0


@dataclass(frozen=True, kw_only=True)
class RetentionSettings:
    """How long, or how much of, what a home gathers is kept; what must stay is kept all the same (`gc` says what).

    Runs go with their steps and effects, but never the newest ones. `max_goals` is how many goals that removed runs
    had reached are still known word for word. Savings are summed by months, rows of the audit log move into an archive
    (`audit_days` None: never). `damaged_days` is for what a repair put aside (None: for ever).
    """

    runs_days: float = 90.0
    max_runs: int = 10_000
    max_goals: int = 100_000
    savings_days: float = 90.0
    audit_days: float | None = None
    backups: int = 4
    damaged_days: float | None = None
    history_lines: int = 10_000


@dataclass(frozen=True, kw_only=True)
class SandboxLimits:
    """What a confined child may use, with all processes it starts.

    `cpu_s`, `file_bytes` and `max_open_files` hold for each of them; `tmp_bytes` for each folder of temporary files.
    Threads count as processes.
    """

    cpu_s: int = 600
    wall_s: float = 600.0
    memory_bytes: int = 4_000_000_000
    max_processes: int = 512
    max_open_files: int = 1024
    file_bytes: int = 4_000_000_000
    tmp_bytes: int = 1_000_000_000


@dataclass(frozen=True, kw_only=True)
class SandboxSettings:
    """The walls around the children of tools: `kind` is one of SANDBOXES.

    `network` names tools that may use it; `readable` and `writable` are paths beside the workspace that all may.
    """

    kind: str = "auto"
    limits: SandboxLimits = SandboxLimits()
    network: tuple[str, ...] = ()
    readable: tuple[Path, ...] = ()
    writable: tuple[Path, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything set, checked and resolved; paths are absolute.

    `budget_usd` limits this command (None: only the battery does), `initial_usd` is what a new battery holds,
    `environment` what a Claude Code process may see, `secrets` the names `secret` gives values of.
    `config_files` are the files that were read, or would be if they existed. `audit_rate` is the share of replays that
    the learner does again to compare; with `frozen` traces are used and nothing about them is changed. With
    `skip_unchanged` a goal that writes is only told of while an earlier run of it still stands.
    """

    home: Path
    workspace: Path
    checkout: Path | None = None
    plugin_dirs: tuple[Path, ...] = ()
    config_files: tuple[Path, ...] = ()
    budget_usd: float | None = None
    initial_usd: float = 10.0
    learner: LearnerSettings = LearnerSettings()
    models: ModelSettings = field(default_factory=ModelSettings)
    servers: Mapping[str, ServerSettings] = field(default_factory=dict)
    embedding_model: str = "all-MiniLM-L6-v2"
    scheduler: SchedulerSettings = SchedulerSettings()
    classes: Mapping[str, ClassSettings] = field(default_factory=lambda: CLASSES)
    daemon: DaemonSettings = DaemonSettings()
    mcp_servers: Mapping[str, McpServerSettings] = field(default_factory=dict)
    prices: Mapping[str, ModelPrice] = field(default_factory=dict)
    matching: MatchingSettings = field(default_factory=MatchingSettings)
    judge: JudgeSettings = JudgeSettings()
    reliability: ReliabilitySettings = ReliabilitySettings()
    proof: ProofSettings = ProofSettings()
    journal: JournalSettings = JournalSettings()
    retention: RetentionSettings = RetentionSettings()
    sandbox: SandboxSettings = SandboxSettings()
    permissions: PermissionSettings = field(default_factory=PermissionSettings)
    audit_rate: float = 0.0
    frozen: bool = False
    skip_unchanged: bool = True
    secrets: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    _secret_values: Mapping[str, str] = field(default_factory=dict, repr=False)
    _other_secrets: tuple[str, ...] = field(default=(), repr=False)
    _provider_keys: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def memory(self) -> Path:
        return self.home / "memory"

    @property
    def database(self) -> Path:
        return self.memory / "llmos.duckdb"

    @property
    def anchor(self) -> Path:
        """The file that names the last row of the audit log."""
        return self.memory / "audit-anchor.json"

    @property
    def vectors(self) -> Path:
        """The snapshot of the vectors."""
        return self.memory / "traces.faiss"

    @property
    def backups(self) -> Path:
        """The folder of the database's copies."""
        return self.memory / "backups"

    @property
    def audit_archive(self) -> Path:
        """The folder of those rows of the audit log that are not in the database any more."""
        return self.memory / "audit"

    @property
    def agent_folders(self) -> tuple[Path, ...]:
        """The user's own folders of agents' profiles."""
        checkout = () if self.checkout is None else (self.checkout / "workspace" / AGENTS,)
        return tuple(dict.fromkeys([self.home / AGENTS, *checkout]))

    @property
    def claude_login(self) -> Path:
        """The file in which Claude Code keeps its login, if it has one (macOS has it in the keychain)."""
        home = Path(self.environment.get("HOME") or Path.home())
        return Path(self.environment.get("CLAUDE_CONFIG_DIR") or home / ".claude") / ".credentials.json"

    @property
    def has_claude_login(self) -> bool:
        """Whether Claude Code may reach an account without a key: its login, a cloud's account, or macOS's keychain."""
        return self.has_cloud or sys.platform == "darwin" or self.claude_login.is_file()

    @property
    def has_cloud(self) -> bool:
        """Whether Claude Code is to ask a cloud's models, under the names that they have there."""
        clouds = ("CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_USE_VERTEX", "CLAUDE_CODE_USE_FOUNDRY")
        return any(self.environment.get(name, "").lower() in YES for name in clouds)

    def is_elsewhere(self, model: str) -> bool:
        """Whether a model is asked over pydantic-ai: `provider:name`, or `server:name` of a named server."""
        return is_elsewhere(model, self.servers)

    def server_of(self, model: str) -> tuple[ServerSettings, str]:
        """Where a model is that `is_elsewhere`, with the key for it, and its name there."""
        return server_of(model, self.servers, self._provider_keys)

    @property
    def redactor(self) -> Redactor:
        """Knows these secrets, and the values of the other variables whose names say that they hold one."""
        return Redactor(self._secret_values, self._other_secrets, known=self.secret)

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
