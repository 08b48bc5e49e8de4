"""What the outcome of a call depends on, for tools that read the one file an argument names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmos.plugins.builtin.paths import existing_file
from llmos.plugins.context import ToolContext
from llmos.plugins.tool import FileRead, Reads


def content_of(parameter: str) -> Reads:
    """A tool's `reads`, where all it reads is the file that a parameter names."""

    def reads(ctx: ToolContext, arguments: Mapping[str, Any]) -> list[FileRead]:
        return [FileRead(path=existing_file(ctx, arguments[parameter]))]

    return reads
