"""Whether a word names a credential, and whether a value looks like one: small tests without certainty."""

from __future__ import annotations

import math
import re
from collections import Counter
from functools import lru_cache

_CREDENTIAL_NAME = re.compile(
    r"(?:.*[_.\- ])?(?:passw(?:or)?d|passphrase|passcode|pwd|secret|token|credentials?|authorization|cookie"
    r"|(?:api|access|secret|private|account|auth|client|encryption|signing|master|service|subscription)[_-]?key)s?"
    r"(?:[_-]?\d{1,2}|[_-](?:prod|production|dev|test|staging|live|value|main))?",
    re.IGNORECASE,
)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")

_FILLER = re.compile(
    r"[*x•.…?_:-]+|<[^>]*>|\$\{?\{?[^}]*\}{0,2}|\{\{?[^}]*\}?\}?|%[A-Za-z_]+%|\$[A-Za-z_]\w*|@[A-Za-z_]+@"
    r"|(?:none|null|nil|true|false|undefined|required|optional|string|str|text|bytes|int|number|any|object|self|redacted"
    r"|hidden|masked|secret|password|passwd|token|key|value|here|todo|example|empty|yes|no|on|off)[.,;:)]*"
    r"|(?:your|my|the|some|insert|enter|replace|example|dummy|fake)[-_ ].*"
    r"|(?:os|process|env|self|config|settings|request|args|ctx|this|secrets|vault|options|params)[.\[(].*"
    r"|\\u00absecret.*|«.*",
    re.IGNORECASE | re.DOTALL,
)
_FILE = re.compile(r"[\w./~-]*\.[A-Za-z][A-Za-z0-9]{0,9}|\.{0,2}/.*", re.DOTALL)
_DATE = re.compile(r"[\d:./T+Z -]+")
_SPOKEN = re.compile(r"[A-Za-z]+\d{0,2}|[a-z]+(?:[-_][a-z0-9]{1,12}){1,6}", re.IGNORECASE)
_MOST_TESTED = 512


@lru_cache(maxsize=4096)
def is_credential_name(name: str) -> bool:
    """Whether a field, variable or option of this name holds a credential: `DB_PASSWORD`, `apiKey`, `auth-token`."""
    return len(name) <= 80 and _CREDENTIAL_NAME.fullmatch(_CAMEL.sub("_", name)) is not None


def is_filler(value: str) -> bool:
    """Whether a value only shows where one goes: `<password>`, `${TOKEN}`, `***`, `your-key`, or a mark of ours."""
    return "«" in value[:3] or _FILLER.fullmatch(value[:_MOST_TESTED]) is not None


def looks_random(value: str, *, least: int = 8) -> bool:
    """Whether nobody would write a value by hand: long enough, letters and digits mixed, no name, file or date."""
    text = value[:_MOST_TESTED]
    if (
        len(text) < least
        or re.search(r"\s|://", text)
        or is_filler(text)
        or _FILE.fullmatch(text)
        or _DATE.fullmatch(text)
    ):
        return False
    digits = sum(char.isdigit() for char in text)
    letters = sum(char.isalpha() for char in text)
    if len(text) < 16:
        return digits > 0 and letters > 0 and _is_uneven(text)
    if _SPOKEN.fullmatch(text) and not _is_uneven(text):
        return False
    return (digits > 1 and letters > 1) or (letters > 15 and entropy(text) >= 4.0 and _SPOKEN.fullmatch(text) is None)


def _is_uneven(text: str) -> bool:
    """Whether digits stand among letters, not only at the end of one plain word or of words with hyphens."""
    return re.fullmatch(r"[A-Za-z]*[-_]?\d{1,2}|[a-z]{2,}(?:[-_]\d{1,4})+|[vV]?\d[\d.]*[a-z]{0,5}", text) is None


def entropy(text: str) -> float:
    """Shannon's entropy in bits for each character."""
    if not text:
        return 0.0
    counts = Counter(text).values()
    return -sum(count / len(text) * math.log2(count / len(text)) for count in counts)
