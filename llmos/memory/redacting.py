"""Taking secrets out of the data of audit rows: what is called like one, and what a redactor finds in the texts."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

REDACTED = "[redacted]"

_NAME = r"(?:api[_-]?key|access[_-]?key|secret|token|passw(?:or)?d|passphrase|credentials?|authorization|cookie|pwd)"
SECRET_NAME = re.compile(_NAME, re.IGNORECASE)
"""What a variable, an argument or a header is called that holds a secret."""


def without_secrets(value: Any, redact: Callable[[str], str]) -> Any:
    """JSON data without secrets; what is called like one is left out whole."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {
            redact(str(name)): REDACTED if SECRET_NAME.search(str(name)) and inner else without_secrets(inner, redact)
            for name, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [without_secrets(inner, redact) for inner in value]
    if isinstance(value, int | float) and not isinstance(value, bool) and redact(str(value)) != str(value):
        return REDACTED
    return value
