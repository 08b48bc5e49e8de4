"""Taking secrets out of texts: the values that are known, and what looks like a credential."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

REDACTED = "[redacted]"

_NAME = r"(?:api[_-]?key|access[_-]?key|secret|token|passw(?:or)?d|passphrase|credentials?|authorization|cookie|pwd)"
SECRET_NAME = re.compile(_NAME, re.IGNORECASE)
"""What a variable, an argument or a header is called that holds a secret."""

_LOOKS = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
    r"|\b(?:sk|pk|rk)[-_][A-Za-z0-9_-]{16,}"
    r"|\b(?:gh[opsru]_|github_pat_|glpat-|npm_|pypi-|hf_|dop_v1_)[A-Za-z0-9_-]{16,}"
    r"|\bxox[a-z]-[A-Za-z0-9-]{10,}"
    r"|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"
    r"|\bAIza[A-Za-z0-9_-]{30,}"
    r"|\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*",
    re.DOTALL,
)
_BEARER = re.compile(r"\b(Bearer|Basic)(\s+)[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE)
_IN_URL = re.compile(r"(://[^\s/:@]{0,200}:)[^\s/@]{1,500}(@)")
_ASSIGNED = re.compile(rf"""({_NAME}[\w-]{{0,40}}["']?\s*[:=]\s*)(?!\[redacted\])("[^"]*"|'[^']*'|[^\s,;&"']+)""", re.I)


def redactor(secrets: Iterable[str] = ()) -> Callable[[str], str]:
    """What takes these values, and everything that looks like a credential, out of a text."""
    known = sorted({secret for secret in secrets if secret}, key=len, reverse=True)
    values = re.compile("|".join(map(re.escape, known))) if known else None

    def redact(text: str) -> str:
        if values is not None:
            text = values.sub(REDACTED, text)
        text = _LOOKS.sub(REDACTED, text)
        text = _BEARER.sub(rf"\1\2{REDACTED}", text)
        text = _IN_URL.sub(rf"\1{REDACTED}\2", text)
        return _ASSIGNED.sub(rf"\1{REDACTED}", text)

    return redact


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
