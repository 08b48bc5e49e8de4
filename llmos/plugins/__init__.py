"""Tools: what one is, where they come from, and the registry both learner and follower call them through."""

from llmos.plugins.tool import FileWrite, Tool, ToolContext, llm_tool

__all__ = ["FileWrite", "Tool", "ToolContext", "llm_tool"]
