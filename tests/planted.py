"""Credentials for tests, made up anew for each: none of them stands in the repository, or opens anything."""

from __future__ import annotations

import base64
import json
import random
import string
from collections.abc import Iterable

ALNUM = string.ascii_letters + string.digits
HEX = "0123456789abcdef"


def planted(seed: int = 1) -> dict[str, str]:
    """One credential of each kind: what a text holds of it, by name; the value is what must never be written."""
    rng = random.Random(seed)

    def some(count: int, chars: str = ALNUM) -> str:
        return "".join(rng.choice(chars) for _ in range(count))

    def coded(data: dict[str, str]) -> str:
        return base64.urlsafe_b64encode(json.dumps(data).encode()).decode().rstrip("=")

    key = "\n".join(some(64, ALNUM + "+/") for _ in range(6))
    return {
        "aws access key": "AKIA" + some(16, string.ascii_uppercase + "234567"),
        "aws secret key": some(40, ALNUM + "/"),
        "github token": "ghp_" + some(36),
        "github fine-grained token": f"github_pat_{some(22)}_{some(59)}",
        "gitlab token": "glpat-" + some(20),
        "slack token": f"xoxb-{some(12, string.digits)}-{some(12, string.digits)}-{some(24)}",
        "stripe key": "sk_" + "live_" + some(24),
        "google key": "AIza" + some(35),
        "openai key": "sk-proj-" + some(48),
        "anthropic key": "sk-ant-api03-" + some(93, ALNUM + "-_"),
        "json web token": f"{coded({'alg': 'HS256'})}.{coded({'sub': some(12)})}.{some(43)}",
        "private key": f"-----BEGIN RSA PRIVATE KEY-----\n{key}\n-----END RSA PRIVATE KEY-----",
        "password in a url": some(14) + "7",
        "bearer token": some(32) + "0z",
        "npm token": "npm_" + some(36),
        "pypi token": "pypi-AgEIcHlwaS5vcmc" + some(80),
        "azure account key": some(86, ALNUM) + "==",
        "twilio key": "SK" + some(32, HEX),
        "sendgrid key": f"SG.{some(22)}.{some(43)}",
        "password": some(10) + "!9q",
        "token": some(24) + "1a",
        "telegram token": some(9, "123456789") + ":AA" + some(33),
        "hugging face token": "hf_" + some(34),
    }


def in_context(values: dict[str, str]) -> str:
    """A file that holds them all, as such files do."""
    about = {
        "aws secret key": "aws_secret_access_key = {}",
        "password in a url": "DATABASE_URL=postgres://app:{}@db.example.org:5432/app",
        "bearer token": "Authorization: Bearer {}",
        "azure account key": "AccountName=store;AccountKey={};EndpointSuffix=core.windows.net",
        "password": "password = {}",
        "token": 'token: "{}"',
    }
    return "".join(about.get(name, "{}").format(value) + "\n" for name, value in values.items())


def pieces(values: Iterable[str], length: int = 12) -> dict[str, str]:
    """What to look for: the beginning of each value's own part, so that a prefix is found too."""
    return {value: _own(value)[:length] for value in values}


def _own(value: str) -> str:
    """A value without what all of its kind have."""
    if value.startswith("-----"):
        return value.splitlines()[1]
    for prefix in ("github_pat_", "sk-ant-api03-", "sk-proj-", "sk_live_", "pypi-AgEIcHlwaS5vcmc", "glpat-", "xoxb-"):
        if value.startswith(prefix):
            return value.removeprefix(prefix)
    if value.startswith("eyJ"):
        return value.rpartition(".")[2]
    return value[4:] if value[:4] in ("ghp_", "AKIA", "AIza", "npm_") else value
