"""What looks like a credential: the forms that issuers publish, and values beside words such as `password`.

The patterns are our own, made from the issuers' documentation of their tokens. Each is linear: it begins with a literal
or a bounded look, repeats possessively or within bounds, and is only tried where one of its `hints` occurs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from llmos.redaction.beside import PLAIN_CHAR, beside_names
from llmos.redaction.found import Found
from llmos.redaction.guessing import is_credential_name, is_filler, looks_random

__all__ = ["Found", "credentials_in", "is_credential_name"]

MAX_VALUE_CHARS = 4096


@dataclass(frozen=True, kw_only=True)
class _Rule:
    """A kind of credential; the group `value`, or else the whole match, is what must go. `hints` are in small letters.

    `check` says that the value must also look random, or (`filled`) only that it is no filler such as `<password>`.
    """

    kind: str
    variable: str
    hints: tuple[str, ...]
    pattern: str
    check: str = ""


# What may stand before a token: no letter or digit, unless they are an escape (`\n`, `%3D`).
_LEFT = r"(?:(?<![A-Za-z0-9])|(?<=\\[nrt])|(?<=%[0-9A-Fa-f]{2}))"


def _token(prefix: str, chars: str, least: int, most: int = MAX_VALUE_CHARS) -> str:
    """A prefix and so many characters; fewer where the text was cut off there."""
    return rf"(?:{prefix})(?:[{chars}]{{{least},{most}}}|[{chars}]{{4,}}(?=…|\.\.\.|\Z))"


_WORD, _URLSAFE, _HEX = "A-Za-z0-9", "A-Za-z0-9_-", "0-9a-f"

_ISSUED = (
    _Rule(
        kind="an AWS access key",
        variable="AWS_ACCESS_KEY_ID",
        hints=("akia", "asia", "abia", "acca"),
        pattern=_LEFT + r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}(?![A-Za-z0-9])",
    ),
    _Rule(
        kind="a GitHub token",
        variable="GITHUB_TOKEN",
        hints=("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"),
        pattern=_token("gh[pousr]_", _WORD, 30) + "|" + _token("github_pat_", "A-Za-z0-9_", 22),
    ),
    _Rule(
        kind="a GitLab token",
        variable="GITLAB_TOKEN",
        hints=("glpat-", "gldt-", "glrt-", "glcbt-", "glptt-", "glsoat-", "glft-"),
        pattern=_token("gl(?:pat|dt|rt|cbt|ptt|soat|ft)-", "A-Za-z0-9_.-", 20),
    ),
    _Rule(
        kind="a Slack token",
        variable="SLACK_TOKEN",
        hints=("xox", "xapp-"),
        pattern=_token(r"xox[abceoprs](?:\.xox[abp])?-|xapp-\d-", "A-Za-z0-9-", 10),
    ),
    _Rule(
        kind="a Slack webhook",
        variable="SLACK_WEBHOOK_URL",
        hints=("hooks.slack.com/",),
        pattern=r"hooks\.slack\.com/(?:services|workflows|triggers)/(?P<value>[A-Za-z0-9/_+-]{16,})",
    ),
    _Rule(
        kind="a Stripe key",
        variable="STRIPE_API_KEY",
        hints=("sk_live_", "sk_test_", "rk_live_", "rk_test_", "whsec_"),
        pattern=_LEFT
        + "(?:"
        + _token("[sr]k_(?:live|test)_", _WORD, 16)
        + "|"
        + _token("whsec_", _WORD + "+/=", 24)
        + ")",
    ),
    _Rule(
        kind="a Google key",
        variable="GOOGLE_API_KEY",
        hints=("aiza", "gocspx-", "ya29."),
        pattern=_token("AIza", _URLSAFE, 30, 35)
        + "|"
        + _token("GOCSPX-", _URLSAFE, 20)
        + "|"
        + _token(r"ya29\.", _URLSAFE, 20),
    ),
    _Rule(
        kind="an Anthropic key",
        variable="ANTHROPIC_API_KEY",
        hints=("sk-ant-",),
        pattern=_token("sk-ant-", _URLSAFE, 16),
    ),
    _Rule(
        kind="an OpenAI key",
        variable="OPENAI_API_KEY",
        hints=("sk-",),
        pattern=_LEFT
        + "(?:"
        + _token("sk-(?:proj|svcacct|admin|or-v1|None)-", _URLSAFE, 20)
        + r"|sk-[A-Za-z0-9]{32,})",
    ),
    _Rule(
        kind="a JSON web token",
        variable="ACCESS_TOKEN",
        hints=("eyj",),
        pattern=r"(?:(?<![A-Za-z0-9_-])|(?<=\\[nrt])|(?<=%3[Dd]))eyJ[A-Za-z0-9_-]{8,}+\.(?:eyJ)?[A-Za-z0-9_-]{8,}+(?:\.[A-Za-z0-9_-]*+){1,3}",
    ),
    _Rule(
        kind="an npm token",
        variable="NPM_TOKEN",
        hints=("npm_",),
        pattern=_LEFT + "(?:" + _token("npm_", _WORD, 30) + ")",
    ),
    _Rule(kind="a PyPI token", variable="PYPI_TOKEN", hints=("pypi-age",), pattern=_token("pypi-AgE", _URLSAFE, 32)),
    _Rule(
        kind="an Azure key",
        variable="AZURE_KEY",
        hints=("accountkey=", "sharedaccesskey=", "sig="),
        pattern=r"(?i:AccountKey=|SharedAccessKey=|(?<=[?&])sig=)(?P<value>[A-Za-z0-9%+/=]{32,})",
    ),
    _Rule(
        kind="an Azure client secret",
        variable="AZURE_CLIENT_SECRET",
        hints=("q~",),
        pattern=r"(?<![A-Za-z0-9_~.-])[A-Za-z0-9_~.]{3}\dQ~[A-Za-z0-9_~.-]{31,40}",
    ),
    _Rule(
        kind="a Twilio key",
        variable="TWILIO_AUTH_TOKEN",
        hints=("sk",),
        pattern=_LEFT + r"SK[0-9a-f]{32}(?![A-Za-z0-9])",
    ),
    _Rule(
        kind="a SendGrid key",
        variable="SENDGRID_API_KEY",
        hints=("sg.",),
        pattern=_LEFT + r"SG\.[A-Za-z0-9_-]{16,64}\.[A-Za-z0-9_-]{16,128}",
    ),
    _Rule(
        kind="a Telegram token",
        variable="TELEGRAM_BOT_TOKEN",
        hints=(":aa",),
        pattern=r"(?<!\d)\d{8,10}:AA[A-Za-z0-9_-]{32,34}(?![A-Za-z0-9_-])",
    ),
    _Rule(
        kind="a Mailchimp key",
        variable="MAILCHIMP_API_KEY",
        hints=("-us",),
        pattern=r"(?<![A-Za-z0-9])[0-9a-f]{32}-us\d{1,2}(?![A-Za-z0-9])",
    ),
    _Rule(
        kind="an access token",
        variable="ACCESS_TOKEN",
        hints=(
            *(
                "hf_",
                "dop_v1_",
                "doo_v1_",
                "dor_v1_",
                "shpat_",
                "shpca_",
                "shppa_",
                "shpss_",
                "sq0",
                "dapi",
                "dckr_pat_",
            ),
            *(
                "hvs.",
                "hvb.",
                "lin_api_",
                "nrak-",
                "glsa_",
                "atatt3",
                "gsk_",
                "xai-",
                "pplx-",
                "r8_",
                "age-secret-key-1",
            ),
        ),
        pattern=_LEFT
        + "(?:"
        + "|".join(
            (
                _token("hf_|gsk_|pplx-|xai-|lin_api_|r8_", _WORD, 30),
                _token("do[opr]_v1_", _HEX, 32),
                _token("shp(?:at|ca|pa|ss)_", "0-9a-fA-F", 24),
                _token("sq0[a-z]{3}-", _URLSAFE, 22),
                r"dapi[0-9a-f]{32}(?:-\d)?",
                _token("dckr_pat_", _URLSAFE, 20),
                _token(r"hv[sb]\.", _URLSAFE, 24),
                r"NRAK-[A-Z0-9]{27}",
                _token("glsa_", "A-Za-z0-9_", 32),
                _token("ATATT3", "A-Za-z0-9_=-", 50),
                r"AGE-SECRET-KEY-1[A-Z0-9]{58}",
            )
        )
        + ")",
    ),
)

_BESIDE = (
    _Rule(
        kind="a password in a URL",
        variable="SERVICE_PASSWORD",
        hints=("://",),
        pattern=r"://[^\s/:@\"'`<>«»\\]{0,128}+:(?P<value>[^\s/\"'`<>«»\\]{1,256})@(?=[\w.\[-])",
        check="filled",
    ),
    _Rule(
        kind="a token in a URL",
        variable="SERVICE_TOKEN",
        hints=("://",),
        pattern=r"://(?P<value>[A-Za-z0-9_-]{20,256})@(?=[\w.\[-])",
        check="random",
    ),
    _Rule(
        kind="an authorization header",
        variable="AUTH_TOKEN",
        hints=("authorization",),
        pattern=r"(?i:authorization)\\{0,3}[\"'`]?\s{0,4}[:=]\s{0,4}\\{0,3}[\"'`]?"
        rf"(?i:basic|bearer|token|digest|apikey|bot)[ \t]{{1,4}}(?P<value>{PLAIN_CHAR}{{6,}})",
        check="filled",
    ),
    _Rule(
        kind="a bearer token",
        variable="AUTH_TOKEN",
        hints=("bearer ",),
        pattern=r"(?i:bearer)[ \t]{1,4}(?P<value>[A-Za-z0-9._~+/=-]{12,})",
        check="random",
    ),
    _Rule(
        kind="a password on a command line",
        variable="SERVICE_PASSWORD",
        hints=("curl ",),
        pattern=r"(?:(?<=\s)-u|--user)[ =]{1,3}[\"']?[^\s:\"'«»]{1,64}+:"
        r"(?P<value>(?=\S{0,127}[^\d\s])[^\s\"'«»\\]{3,128})",
        check="filled",
    ),
)


_SHORT = 256


def credentials_in(text: str) -> Sequence[Found]:
    """The credentials in a text, in order; they don't overlap."""
    return _known(text) if len(text) <= _SHORT else _searched(text)


@lru_cache(maxsize=4_096)
def _known(text: str) -> tuple[Found, ...]:
    """The same texts pass by again and again: a goal alone is on its way to five places."""
    return tuple(_searched(text))


def _searched(text: str) -> list[Found]:
    lower = text.lower()
    if len(lower) != len(text):  # a few letters are longer when small
        lower = "".join(char.lower() if char.isascii() else char for char in text)
    found = list(_private_keys(text)) if "private key" in lower else []
    for rule in (*_ISSUED, *_BESIDE):
        if any(hint in lower for hint in rule.hints):
            found += _by_rule(rule, text)
    return _apart([*found, *beside_names(text, lower)])


def _by_rule(rule: _Rule, text: str) -> Iterator[Found]:
    for found in _compiled(rule.pattern).finditer(text):
        group = "value" if "value" in found.groupdict() else 0
        value = found[group]
        if rule.check == "random" and not looks_random(value):
            continue
        if rule.check == "filled" and is_filler(value):
            continue
        yield Found(start=found.start(group), end=found.end(group), kind=rule.kind, variable=rule.variable)


@lru_cache(maxsize=64)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


# --- private keys ------------------------------------------------------------------------------------

_BEGIN = r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
_END = re.compile(r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_CUT_BODY = re.compile(r"(?:(?:\\+[nrt]|[\s\"',|:>→\d]){0,40}[A-Za-z0-9+/=]{16,}+)*")
_KEY_BODY = re.compile(r"[A-Za-z0-9+/=]{16}")
_MAX_KEY_CHARS = 32_768


def _private_keys(text: str) -> Iterator[Found]:
    """Blocks of private keys; of one without an end, what still looks like it."""
    position, end_at = 0, 0
    for begin in _compiled(_BEGIN).finditer(text):
        if begin.start() < position:
            continue
        if 0 <= end_at < begin.end():
            end_at = text.find("-----END ", begin.end())
        closing = _END.match(text, end_at) if 0 <= end_at < begin.end() + _MAX_KEY_CHARS else None
        inner = text.find("-----BEGIN ", begin.end(), closing.start()) if closing else -1
        body = _CUT_BODY.match(text, begin.end()) if closing is None or inner >= 0 else None
        position = body.end() if body is not None else closing.end() if closing is not None else begin.end()
        if _KEY_BODY.search(text, begin.end(), position):
            yield Found(start=begin.start(), end=position, kind="a private key", variable="PRIVATE_KEY")


def _apart(found: list[Found]) -> list[Found]:
    """The spans in order; of two that overlap the longer one's kind, over both."""
    apart: list[Found] = []
    for one in sorted(found, key=lambda found: (found.start, -found.end)):
        last = apart[-1] if apart else None
        if last is None or one.start >= last.end:
            apart.append(one)
        elif one.end > last.end:
            apart[-1] = Found(start=last.start, end=one.end, kind=last.kind, variable=last.variable)
    return apart
