"""The door of a checkout as a user has it: `python boot.py` in a process, home and workspace of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BOOT = ROOT / "boot.py"
TIMEOUT_S = 120


class Door:
    """Runs `python boot.py` in the folder of one test: in a process of its own, or with LLMOS_TEST_DAEMON=1 through a
    resident kernel, which ends when the folder is removed."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home, self.workspace, self.user = folder, folder / "home", folder / "work", folder / "user"
        self.workspace.mkdir()
        self.user.mkdir()
        self.env = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self.user),
            "LANG": "C.UTF-8",
            "LLMOS_HOME": str(self.home),
            "TERM": "xterm",
            "LLMOS_DAEMON": os.environ.get("LLMOS_TEST_DAEMON", "0"),
        }

    def command(self, *args: str | bytes) -> list[str | bytes]:
        return [sys.executable, str(BOOT), *args]

    def start(self, *args: str, **more: Any) -> subprocess.Popen[str]:
        """A command that is left running; `more` goes to Popen."""
        how: dict[str, Any] = {"env": self.env, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
        return subprocess.Popen(self.command(*args), cwd=self.workspace, text=True, **how)

    def __call__(
        self,
        *args: str | bytes,
        stdin: bytes | str = b"",
        env: Mapping[str, str] | None = None,
        preexec_fn: Callable[[], None] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """A command that is waited for, with `env` laid over the environment."""
        done = subprocess.run(
            self.command(*args),
            cwd=self.workspace,
            env={**self.env, **(env or {})},
            input=stdin.encode() if isinstance(stdin, str) else stdin,
            capture_output=True,
            timeout=TIMEOUT_S,
            check=False,
            preexec_fn=preexec_fn,
        )
        out, err = (stream.decode("utf-8", "replace") for stream in (done.stdout, done.stderr))
        return subprocess.CompletedProcess(done.args, done.returncode, out, err)

    def json(self, *args: str) -> Any:
        """The one JSON object of a command that succeeds."""
        done = self(*args, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


def assert_sentence(done: subprocess.CompletedProcess[str], exit_code: int, *parts: str) -> None:
    """One sentence on stderr, nothing on stdout, no traceback."""
    assert_told(done, exit_code, *parts)
    assert done.stdout == ""


def assert_told(done: subprocess.CompletedProcess[str], exit_code: int, *parts: str) -> None:
    """One sentence on stderr, with these parts, and no traceback."""
    assert done.returncode == exit_code, (done.args, done.stderr)
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("llmos: ")]
    assert len(lines) == 1, done.stderr
    assert all(part in lines[0] for part in parts), lines[0]
