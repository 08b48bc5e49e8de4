"""Your tools: every `.py` file dropped into this folder is loaded; `from plugins import llm_tool` marks a tool."""

from llmos.plugins import FileRead, FileWrite, ToolContext, llm_tool

__all__ = ["FileRead", "FileWrite", "ToolContext", "llm_tool"]
