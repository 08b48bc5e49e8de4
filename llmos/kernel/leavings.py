"""Half-written files beside those that a killed process was writing: its journal says where to look for them."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from llmos.errors import NotPermittedError
from llmos.kernel.survey import inside
from llmos.trace.effects import JournalEntry

log = logging.getLogger(__name__)

_SHOWN = 80
_RESTORED = re.compile(r"\.llmos-[0-9a-f]{16}\.tmp")


def remove_leavings(entry: JournalEntry) -> list[Path]:
    """Remove what a call that never came back had prepared beside the files it named, and not put in their place.

    Only for what an earlier process left: one that is at work has such files too.
    """
    removed = []
    for path in _found(Path(entry.workspace), entry):
        with contextlib.suppress(OSError):
            info = path.lstat()
            if (stat.S_ISREG(info.st_mode) or stat.S_ISLNK(info.st_mode)) and info.st_uid == os.getuid():
                path.unlink()
                removed.append(path)
    if removed:
        names = ", ".join(path.name for path in removed)
        log.info("removed what a killed process had half-written: %s", names, extra={"action": "leavings"})
    return removed


def _found(root: Path, entry: JournalEntry) -> Iterator[Path]:
    for change in entry.files:
        with contextlib.suppress(OSError, NotPermittedError):
            place = inside(root, change.path)
            written = re.compile(rf"\.{re.escape(place.name[:_SHOWN])}\.[0-9a-f]{{12}}\.tmp")
            for folder in _folders(root, place):
                wanted = (written, _RESTORED) if folder == place.parent else (_RESTORED,)
                for name in os.listdir(folder):  # noqa: PTH208
                    if any(pattern.fullmatch(name) for pattern in wanted):
                        yield folder / name


def _folders(root: Path, place: Path) -> list[Path]:
    """The folder of a path, and those above it: what undo brings back waits in the nearest that is there."""
    return [folder for folder in place.parents if folder.is_relative_to(root) and folder.is_dir()]
