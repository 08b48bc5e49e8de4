"""Every error LLM OS raises on purpose, in one tree.

LLMOSError                      exit code
├── UsageError                  2   the input can't be used as it is
│   ├── GoalError                   empty, binary or oversized goal
│   ├── SettingsError               llmos.yaml, an option or an environment variable
│   ├── TraceFormatError            a trace file that can't be read as one
│   └── NotFoundError               an id or a name that does not exist
├── LowBatteryError             3   the battery can't carry the estimate
├── NotPermittedError           4   outside the workspace, or needs a confirmation nobody gave
│   └── CallRefusedError            a rule denies the call, or nobody approved it: it was not made
├── LearnerError                1   the learner was asked and did not finish
│   └── NoLearnerError          5   no key, no login, no server
├── NothingToFollowError        6   --mode follow and no proven trace
├── StorageError                7   memory can't be opened, read or written
│   ├── DatabaseLockedError         another process holds it
│   └── TamperedError               the audit log is not as it was written
├── ToolError                   1   a tool call failed
│   ├── ToolNotFoundError
│   └── InputError                  what the goal names is missing or unreadable: no model can mend that
│       └── WrongKindError              it is there, and another kind of thing than the tool works on
├── UndoError                   1   a run could not be undone
├── PluginError                 -   one plugin could not be loaded (reported, the others load)
│   └── DuplicateToolError
├── DivergenceError             1   a replay met another world than the recorded one
│   ├── StaleTraceError             the tools changed since the trace was made
│   ├── UnknownValueError           the goal names what the trace's own look-up does not list
│   ├── OtherKindError              the goal names another kind of thing than the trace works on
│   └── WorseEffectError            with this goal's values a step would do more than was recorded
└── WatchdogError               1   a process was stopped for its time or for repeating itself

A message says what, which one, and what to do; it is the sentence the user reads.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "CallRefusedError",
    "DatabaseLockedError",
    "DivergenceError",
    "DuplicateToolError",
    "GoalError",
    "InputError",
    "LLMOSError",
    "LearnerError",
    "LowBatteryError",
    "NoLearnerError",
    "NotFoundError",
    "NotPermittedError",
    "NothingToFollowError",
    "OtherKindError",
    "PluginError",
    "SettingsError",
    "StaleTraceError",
    "StorageError",
    "TamperedError",
    "ToolError",
    "ToolNotFoundError",
    "TraceFormatError",
    "UndoError",
    "UnknownValueError",
    "UsageError",
    "WatchdogError",
    "WorseEffectError",
    "WrongKindError",
]


class LLMOSError(Exception):
    """Root of the tree; `exit_code` is what a command ends with when it reaches the user."""

    exit_code = 1


class UsageError(LLMOSError):
    """The input can't be used as it is."""

    exit_code = 2


class GoalError(UsageError):
    """The goal is empty, binary or too long."""


class SettingsError(UsageError):
    """A setting, an option or an environment variable has a value that means nothing."""


class TraceFormatError(UsageError):
    """A trace file that can't be read as a trace; nothing of it was stored."""


class NotFoundError(UsageError):
    """An id or a name that does not exist in this home."""


class LowBatteryError(LLMOSError):
    """The battery can't carry the estimated cost.

    `needed_usd` and `available_usd` are dollars.
    """

    exit_code = 3

    def __init__(self, message: str, *, needed_usd: float = 0.0, available_usd: float = 0.0) -> None:
        super().__init__(message)
        self.needed_usd = needed_usd
        self.available_usd = available_usd


class NotPermittedError(LLMOSError):
    """The call reaches outside what this run may touch, or needs a confirmation nobody gave."""

    exit_code = 4


class CallRefusedError(NotPermittedError):
    """A tool call was judged and not made; `line` is the rule that would allow it, where one could."""

    def __init__(self, message: str, *, line: str = "") -> None:
        super().__init__(message)
        self.line = line


class LearnerError(LLMOSError):
    """The learner was asked and did not finish; `cost_usd` was charged all the same.

    `is_down`: its server can't be reached, is overloaded, or does not know the model, so another model may do; where
    it said when to come back, that is `retry_after_s`.
    """

    def __init__(
        self, message: str, *, cost_usd: float = 0.0, is_down: bool = False, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.cost_usd = cost_usd
        self.is_down = is_down
        self.retry_after_s = retry_after_s


class NoLearnerError(LearnerError):
    """No learner can be reached: no key, no login, or no server."""

    exit_code = 5


class NothingToFollowError(LLMOSError):
    """Only following was allowed and no trace is proven for the goal."""

    exit_code = 6


class StorageError(LLMOSError):
    """The memory of this home can't be opened, read or written."""

    exit_code = 7


class DatabaseLockedError(StorageError):
    """Another process holds the database; `pid` is that process, if known."""

    def __init__(self, message: str, *, pid: int | None = None) -> None:
        super().__init__(message)
        self.pid = pid


class TamperedError(StorageError):
    """The audit log is not as it was written: rows were changed, removed, added or put out of order."""


class ToolError(LLMOSError):
    """A tool call failed; the message is what the learner sees as the tool's result."""


class ToolNotFoundError(ToolError):
    """No tool of that name is registered."""


class InputError(ToolError):
    """What the goal itself names is missing or unreadable; asking a model would not mend it."""


class WrongKindError(InputError):
    """What is named is there, but of another kind: a folder for a file, a format that the tool can't read.

    In a replay that shows rather a goal that was misread than a mistake of the user's.
    """


class UndoError(LLMOSError):
    """A run could not be undone: what it changed was changed again, or can't be brought back."""


class PluginError(LLMOSError):
    """One plugin could not be loaded; `path` and `line` say where."""

    def __init__(self, message: str, *, path: str = "", line: int | None = None) -> None:
        super().__init__(message)
        self.path = path
        self.line = line


class DuplicateToolError(PluginError):
    """Two tools claim one name."""


class DivergenceError(LLMOSError):
    """A replay met another world than the recorded one.

    `step_id` is where, `expected` and `actual` say what; `effects_done` counts the effectful
    steps (write, external, unknown) already carried out.
    """

    def __init__(
        self, message: str, *, step_id: str, expected: Any = None, actual: Any = None, effects_done: int = 0
    ) -> None:
        super().__init__(message)
        self.step_id = step_id
        self.expected = expected
        self.actual = actual
        self.effects_done = effects_done


class StaleTraceError(DivergenceError):
    """The tools a trace was made with are gone or have changed; it is quarantined, not followed."""


class UnknownValueError(DivergenceError):
    """The goal names what the trace's own look-up does not list; that is no failure of the trace."""


class OtherKindError(DivergenceError):
    """The goal names another kind of thing than the trace works on, so another task is meant; the trace is fine."""


class WorseEffectError(DivergenceError):
    """With this goal's values a step would do more than was recorded; that is no failure of the trace."""


class WatchdogError(LLMOSError):
    """A process was stopped for exceeding its time or for repeating itself."""
