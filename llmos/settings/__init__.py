"""What a user can set, from where, and what it means: the only reader of llmos.yaml and of the environment.

A value is taken from the first of: the caller (an option of the command), the environment, llmos.yaml, the default.
llmos.yaml is $LLMOS_CONFIG if that is set; else the checkout's file with the home's laid over it, key by key. The
workspace is never asked: what goals read and write must not configure what runs them.
"""

from llmos.settings.effective import effective_values
from llmos.settings.environment import (
    hidden_variables,
    local_zone,
    own_variables,
    plain_environment,
    variables,
    wants_color,
)
from llmos.settings.loading import load_settings
from llmos.settings.models import GUIDED, JUDGE, LEARNER, SUMMARY, TASKS, ModelSettings, ServerSettings
from llmos.settings.permissions import PermissionSettings, RuleSettings
from llmos.settings.records import (
    AGENTS,
    CONFIG_NAME,
    PROVIDER,
    ClassSettings,
    JournalSettings,
    JudgeSettings,
    LearnerSettings,
    McpServerSettings,
    ModelPrice,
    ProofSettings,
    RetentionSettings,
    SandboxLimits,
    SandboxSettings,
    Settings,
)

__all__ = [
    "AGENTS",
    "CONFIG_NAME",
    "GUIDED",
    "JUDGE",
    "LEARNER",
    "PROVIDER",
    "SUMMARY",
    "TASKS",
    "ClassSettings",
    "JournalSettings",
    "JudgeSettings",
    "LearnerSettings",
    "McpServerSettings",
    "ModelPrice",
    "ModelSettings",
    "PermissionSettings",
    "ProofSettings",
    "RetentionSettings",
    "RuleSettings",
    "SandboxLimits",
    "SandboxSettings",
    "ServerSettings",
    "Settings",
    "effective_values",
    "hidden_variables",
    "load_settings",
    "local_zone",
    "own_variables",
    "plain_environment",
    "variables",
    "wants_color",
]
