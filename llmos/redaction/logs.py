"""Log records without secrets, whatever handler they go to."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from llmos.redaction.redactor import Redactor

OURS = ("llmos", "mcp", "claude_agent_sdk", "pydantic_ai", "httpx", "httpcore", "asyncio", "concurrent", "py.warnings")
"""The loggers, with all below them, that may tell of what our tools and learners handle."""

_active: list[Redactor] = []
_before: list[Callable[..., logging.LogRecord]] = []


@contextmanager
def guarded(redactor: Redactor) -> Iterator[None]:
    """Take secrets out of every record of these loggers, for the length of a block."""
    if not _active:
        _before.append(logging.getLogRecordFactory())
        logging.setLogRecordFactory(_made)
    _active.append(redactor)
    try:
        yield
    finally:
        _active.remove(redactor)
        if not _active:
            before = _before.pop()
            if logging.getLogRecordFactory() is _made:
                logging.setLogRecordFactory(before)


def _made(*args: Any, **kwargs: Any) -> logging.LogRecord:
    record = (_before[-1] if _before else logging.LogRecord)(*args, **kwargs)
    if record.name.partition(".")[0] in OURS or record.name in OURS:
        for redactor in tuple(_active):
            clean(record, redactor)
    return record


def clean(record: logging.LogRecord, redactor: Redactor) -> None:
    """Take secrets out of one record: its message, and its traceback, which then is text only."""
    try:
        message = record.getMessage()
    except Exception:  # a format that does not fit: the handler will say so
        return
    redacted = redactor.text(message)
    if redacted != message:
        record.msg, record.args = redacted, None
    if record.exc_info and record.exc_info[0] is not None:
        told = "".join(traceback.format_exception(*record.exc_info)).rstrip("\n")
        redacted = redactor.text(told)
        if redacted != told:
            record.exc_info, record.exc_text = None, redacted


class LogFilter(logging.Filter):
    """The same for one handler, and every logger that it hears."""

    def __init__(self, redactor: Redactor) -> None:
        super().__init__()
        self._redactor = redactor

    def filter(self, record: logging.LogRecord) -> bool:
        clean(record, self._redactor)
        return True
