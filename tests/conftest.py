"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from llmos.testing import Script, ScriptedServer
from tests.door import Door
from tests.lab import Lab, MakeLab

# A busy machine must not fail a test; what is checked is what comes out, not how long it took.
settings.register_profile("llmos", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("llmos")


@pytest.fixture
def make_lab(tmp_path: Path) -> Iterator[MakeLab]:
    """Makes a laboratory whose model says what the script tells."""
    servers: list[ScriptedServer] = []

    def make(script: Script) -> Lab:
        server = ScriptedServer(script)
        server.start()
        servers.append(server)
        (tmp_path / "workspace").mkdir(exist_ok=True)
        return Lab(root=tmp_path, server=server)

    yield make
    for server in servers:
        server.stop()


@pytest.fixture
def door(tmp_path: Path) -> Door:
    """Runs `python boot.py` with a home and a workspace of the test's own."""
    return Door(tmp_path)
