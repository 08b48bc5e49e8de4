"""The options every command takes, and what a command line becomes; light, so that `--help` is quick."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from llmos.interfaces.session import Session
    from llmos.settings import Settings

Action: TypeAlias = "Callable[[Session], Awaitable[None]]"
"""What a parsed command line does."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options every command takes; None means that the settings decide."""

    home: Path | None = None
    workspace: Path | None = None
    plugins: tuple[Path, ...] = ()
    budget_usd: float | None = None
    model: str | None = None
    audit_rate: float | None = None
    frozen: bool | None = None
    mode: str = "auto"
    agent: str | None = None
    again: bool = False
    as_json: bool = False
    yes: bool = False
    verbose: int = 0

    def settings(self) -> Settings:
        """The settings these options lead to.

        Raises:
            SettingsError: see `llmos.settings.load_settings`.
        """
        from llmos.settings import load_settings

        return load_settings(
            home=self.home,
            workspace=self.workspace,
            plugins=self.plugins,
            budget_usd=self.budget_usd,
            model=self.model,
            audit_rate=self.audit_rate,
            frozen=self.frozen,
        )
