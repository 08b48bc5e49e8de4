"""The anchor: a small file beside the database that names the last row, so that a cut tail or an older copy shows."""

from __future__ import annotations

import json
import logging
import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from llmos.errors import StorageError
from llmos.memory.audit_entries import Head

log = logging.getLogger(__name__)

FORMAT = 1
_PAUSE_S = 0.05
"""How long heads are gathered: a run ends with several commits, and one write follows them."""


class Anchor:
    """Follows the log's head from a thread of its own; of heads that come soon after each other the last is written.

    It may be behind after a crash, never ahead: it is moved once the row is durable.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._hurry = threading.Event()
        self._wanted: Head | None = None
        self._moving: Future[None] | None = None
        self._worker: ThreadPoolExecutor | None = None

    def read(self) -> Head | None:
        """What it names; None if there is none.

        Raises:
            StorageError: it can't be read as an anchor.
        """
        try:
            data = json.loads(self.path.read_bytes())
            if data["format"] != FORMAT or not isinstance(data["number"], int) or not isinstance(data["hash"], str):
                raise ValueError("it has another form")
            return Head(number=data["number"], hash=data["hash"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StorageError(f"the anchor {self.path} can't be read: {error}.") from None

    def write(self, head: Head) -> None:
        """Name a row, durably and whole.

        Raises:
            StorageError: it can't be written.
        """
        fresh = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        text = json.dumps({"format": FORMAT, "number": head.number, "hash": head.hash})
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with fresh.open("w", encoding="ascii") as stream:
                stream.write(text + "\n")
                stream.flush()
                os.fsync(stream.fileno())
            fresh.replace(self.path)  # a power cut may undo this, which leaves an anchor that is behind
        except OSError as error:
            fresh.unlink(missing_ok=True)
            raise StorageError(f"the anchor {self.path} can't be written: {error.strerror or error}.") from None

    def move(self, head: Head) -> None:
        """Name a row soon."""
        with self._lock:
            self._wanted = head
            if self._moving is None:
                self._worker = self._worker or ThreadPoolExecutor(max_workers=1, thread_name_prefix="llmos-anchor")
                self._moving = self._worker.submit(self._move)

    def wait(self) -> None:
        """Return once nothing is left to be written."""
        with self._lock:
            moving = self._moving
        if moving is not None:
            self._hurry.set()
            moving.result()
            self._hurry.clear()

    def close(self) -> None:
        """Finish what is to be written."""
        self.wait()
        with self._lock:
            worker, self._worker = self._worker, None
        if worker is not None:
            worker.shutdown()

    def _move(self) -> None:
        while True:
            self._hurry.wait(_PAUSE_S)
            with self._lock:
                head, self._wanted = self._wanted, None
                if head is None:
                    self._moving = None
                    return
            try:
                self.write(head)
            except StorageError as error:
                log.warning("%s It is behind until the next row.", error, extra={"action": "anchor_behind"})
