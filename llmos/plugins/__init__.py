"""Tools: what one is, where they come from, and the registry both learner and follower call them through."""

from llmos.plugins.context import ToolContext
from llmos.plugins.marking import llm_tool
from llmos.plugins.tool import FileRead, FileWrite, Tool

__all__ = ["FileRead", "FileWrite", "Tool", "ToolContext", "llm_tool"]
