"""Which wall a failed child may have met, in a sentence for the model and the user."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass

from llmos.plugins.confined import Child
from llmos.settings import CONFIG_NAME, SandboxLimits

_NETWORK = re.compile(
    r"could not resolve|name resolution|name or service not known|network is unreachable|no address associated"
    r"|getaddrinfo|ENOTFOUND|EAI_AGAIN|ENETUNREACH|unable to resolve|failed to resolve|temporary failure resolving",
    re.IGNORECASE,
)
_READ_ONLY = re.compile(r"read-only file system|EROFS", re.IGNORECASE)
_PROCESSES = re.compile(r"fork: .*resource temporarily unavailable|can't start new thread|EAGAIN.*fork", re.IGNORECASE)
_MEMORY = re.compile(r"cannot allocate memory|MemoryError|out of memory|bad_alloc", re.IGNORECASE)
_FULL = re.compile(r"no space left on device|ENOSPC", re.IGNORECASE)
_NOT_SEEN = re.compile(r"not visible in here|(?:no such file or directory|command not found)", re.IGNORECASE)
_HOME = re.compile(r"(?<![\w/])(?:~|/home|/root|/Users)/\S+")


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Knows what a child was denied."""

    child: Child
    network: bool
    limits: SandboxLimits

    def of(self, status: int, stderr: str) -> str:
        """The sentence for a failure; '' where none of the walls is known to be its cause."""
        name, limits = self.child.tool, self.limits
        if status in (128 + signal.SIGXFSZ, -signal.SIGXFSZ) or "File too large" in stderr:
            return f"a file may grow to {limits.file_bytes:,} bytes (sandbox_limits.file_bytes in {CONFIG_NAME})."
        if status in (128 + signal.SIGXCPU, -signal.SIGXCPU) and not self.child.lasting:
            return f"a process may take {limits.cpu_s} s of processor time (sandbox_limits.cpu_s in {CONFIG_NAME})."
        if _NETWORK.search(stderr) and not self.network:
            return f"the network is closed to {name}; allow it with {self._opening()} in {CONFIG_NAME}."
        if _READ_ONLY.search(stderr):
            return (
                f"{name} may write in the workspace and in temporary folders only, and not in what belongs to LLM OS; "
                f"allow other paths with {self._paths('writable')} in {CONFIG_NAME}."
            )
        if _PROCESSES.search(stderr):
            return f"{name} may start {limits.max_processes} processes (sandbox_limits.max_processes in {CONFIG_NAME})."
        if _MEMORY.search(stderr):
            return f"{name} may take {limits.memory_bytes:,} bytes (sandbox_limits.memory_bytes in {CONFIG_NAME})."
        if _FULL.search(stderr):
            return f"temporary folders hold {limits.tmp_bytes:,} bytes (sandbox_limits.tmp_bytes in {CONFIG_NAME})."
        if _NOT_SEEN.search(stderr) and _HOME.search(stderr):
            return (
                f"{name} sees the workspace and the system's programs, not your own files; allow paths with "
                f"{self._paths('readable')} in {CONFIG_NAME}."
            )
        return ""

    def _opening(self) -> str:
        if self.child.lasting:
            return f"`network: true` under mcp_servers.{self.child.tool}"
        return f"`sandbox_network: [{self.child.tool}]`"

    def _paths(self, kind: str) -> str:
        return f"`{kind}` under mcp_servers.{self.child.tool}" if self.child.lasting else f"`sandbox_{kind}`"
