"""The tools that come with LLM OS. Where Claude Code has one of the same kind, names and arguments are the same."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from llmos.plugins.builtin.calc import calculate
from llmos.plugins.builtin.data import convert_data, query_data
from llmos.plugins.builtin.describe import describe_data
from llmos.plugins.builtin.files import edit, read, write
from llmos.plugins.builtin.folders import count_files, find_duplicates, find_files, rename_files
from llmos.plugins.builtin.git import git_summary
from llmos.plugins.builtin.memory_tools import recall, remember, think
from llmos.plugins.builtin.python_tool import python
from llmos.plugins.builtin.search import glob, grep
from llmos.plugins.builtin.shell import bash
from llmos.plugins.builtin.talking import receive_message, send_message, share_memory, spawn_process, wait_for
from llmos.plugins.builtin.web import fetch_file, http_get
from llmos.plugins.hookspecs import hookimpl
from llmos.plugins.marking import tool_of
from llmos.plugins.tool import Tool

FUNCTIONS = (
    *(read, write, edit, glob, grep, bash),
    *(python, calculate, query_data, describe_data, convert_data),
    *(count_files, find_files, find_duplicates, rename_files, git_summary),
    *(http_get, fetch_file, remember, recall, think),
    *(spawn_process, wait_for, send_message, receive_message, share_memory),
)


@hookimpl
def llmos_tools() -> Iterable[Tool]:
    """Every built-in tool."""
    return [replace(tool_of(function), source="builtin", line=None) for function in FUNCTIONS]
