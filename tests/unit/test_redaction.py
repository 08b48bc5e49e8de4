"""What is taken out of texts and data, and what is left alone."""

from __future__ import annotations

import base64
import json
import logging
import re
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos.errors import SettingsError, ToolError
from llmos.redaction import UNNAMED, Redactor, credentials_in, is_credential_name, mark, marks_in
from llmos.redaction.logs import guarded
from tests.planted import in_context, planted

VALUE = "s3cret/Value+with=odd&chars'\"\\end"
PEM = planted(9)["private key"]


@pytest.fixture
def redactor() -> Redactor:
    return Redactor({"APP_TOKEN": VALUE, "DEPLOY_KEY": PEM, "PIN": "ab1x"}, others=["value-of-another-variable"])


# ------------------------------------------------------------------------------------------------------- detected


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", planted())
def test_every_kind_is_found_whole_and_nothing_of_it_stays(kind: str, seed: int) -> None:
    value = planted(seed)[kind]
    written = in_context({kind: value})
    redacted = Redactor().text(written)
    assert UNNAMED in redacted
    for start in range(0, len(value) - 8, 4):
        assert value[start : start + 8] not in redacted


@pytest.mark.parametrize("kind", planted())
def test_every_kind_is_found_in_json_too(kind: str) -> None:
    value = planted()[kind]
    text = json.dumps({"text": in_context({kind: value})})
    redacted = Redactor().text(text)
    assert value[-12:].replace("\n", "\\n") not in redacted
    assert UNNAMED in json.loads(redacted)["text"]


@pytest.mark.parametrize(
    "text",
    [
        "Log in as bob with password hunter2",
        'the API_KEY="a1b2c3d4e5f6"',
        "deploy --token q9w8e7r6t5 --force",
        "mysql --password swordfish",
        "curl -u bob:swordfish https://example.org",
        "https://example.org/?access_token=q9w8e7r6t5&page=2",
        "git clone https://q9w8e7r6t5y4u3i2o1p0@example.org/x.git",
        '{"auth_token":"q9w8e7r6t5"}',
        '"{\\"password\\": \\"swordfish9\\"}"',
        "passphrase: 'correct horse battery staple'",
        "DB_PASSWORD=swordfish\nNEXT=1",
    ],
)
def test_what_stands_beside_a_word_for_it_is_found(text: str) -> None:
    assert UNNAMED in Redactor().text(text)


@pytest.mark.parametrize(
    "text",
    [
        "Reset the password of bob",
        "password: must be at least 8 characters",
        "max_tokens: 4096, input_tokens=100",
        "def login(user: str, password: str, token: Optional[str] = None) -> Token:",
        'password = os.environ["DB_PASSWORD"]',
        "token = get_token(user1)",
        "export TOKEN=${GITHUB_TOKEN}",
        "Authorization: Bearer <your token>",
        "password: ******",
        "Count the tokens in report2024.txt",
        "commit 1b2c3d4e5f60718293a4b5c6d7e8f90112233445",
        "550e8400-e29b-41d4-a716-446655440000",
        "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "http://localhost:8080/path@2x.png",
        "the --password option is read first",
        "task-management-system-for-everyone-2024",
        "-----BEGIN PUBLIC KEY-----",
        "secret santa list, token ring network, key value store",
    ],
)
def test_ordinary_texts_stay_as_they_are(text: str) -> None:
    assert Redactor().text(text) == text


def test_a_variable_is_proposed_by_the_name_beside_it() -> None:
    (found,) = credentials_in('dbPassword = "swordfish9"')
    assert (found.kind, found.variable) == ("a password", "DB_PASSWORD")
    (found,) = credentials_in("use ghp_" + "a1" * 18)
    assert (found.kind, found.variable) == ("a GitHub token", "GITHUB_TOKEN")


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        *[(name, True) for name in ("DB_PASSWORD", "apiKey", "auth-token", "token_2")],
        *[(name, False) for name in ("monkey", "token_count", "max_tokens_used", "TOKENIZERS_PARALLELISM", "key")],
    ],
)
def test_a_name_tells_by_its_last_word(name: str, is_one: bool) -> None:
    assert is_credential_name(name) is is_one


def test_fields_count_by_their_names(redactor: Redactor) -> None:
    data = {"user": "bob", "password": "swordfish", "env": [{"name": "API_KEY", "value": "q9w8e7r6t5"}], "token": None}
    assert redactor.value(data) == {
        "user": "bob",
        "password": UNNAMED,
        "env": [{"name": "API_KEY", "value": UNNAMED}],
        "token": None,
    }
    assert [(one.kind, one.path) for one in redactor.credentials(data)] == [
        ("a credential in 'password'", ("password",)),
        ("a credential in 'API_KEY'", ("env", 0, "value")),
    ]


def test_numbers_that_are_secrets_go_too() -> None:
    redactor = Redactor({"PIN_CODE": "48151623"})
    assert redactor.value({"pin": 48151623, "password": 123456, "n": 5}) == {
        "pin": mark("PIN_CODE"),
        "password": UNNAMED,
        "n": 5,
    }


@pytest.mark.parametrize(
    "text", ["reset-the-password-of-8b6c35", "show-token-1a2b3c", "count-the-secret-files-in-0a1b2c"]
)
def test_ids_of_traces_are_no_credentials(text: str) -> None:
    assert Redactor().text(text) == text


def test_what_was_recognised_once_is_known_where_nothing_tells_what_it_is() -> None:
    redactor = Redactor()
    assert redactor.value(["q9w8e7r6t5!", "password=q9w8e7r6t5!"]) == [UNNAMED, f"password={UNNAMED}"]
    assert redactor.text("it is q9w8e7r6t5! then") == f"it is {UNNAMED} then"
    assert [one.kind for one in redactor.credentials("q9w8e7r6t5!")] == ["a password"]


def test_a_token_that_was_cut_off_leaves_no_beginning() -> None:
    assert Redactor().text("ghp_a1B2c3D4…") == f"{UNNAMED}…"
    assert Redactor().text("it was sk-ant-api03-a1B2c3") == f"it was {UNNAMED}"


# ----------------------------------------------------------------------------------------------------------- named

ENCODINGS = {
    "plain": VALUE,
    "json": json.dumps({"a": VALUE}),
    "json in json": json.dumps(json.dumps({"a": VALUE})),
    "url": quote(VALUE, safe=""),
    "url in small letters": re.sub("%..", lambda code: code[0].lower(), quote(VALUE, safe="")),
    "form": quote_plus(VALUE),
    "base64": base64.b64encode(VALUE.encode()).decode(),
    "base64 of more": base64.b64encode(f"bob:{VALUE}!".encode()).decode(),
    "base64 for urls": base64.urlsafe_b64encode(VALUE.encode()).decode().rstrip("="),
    "hex": VALUE.encode().hex(),
    "hex in capitals": VALUE.encode().hex().upper(),
    "over two lines": VALUE[:11] + "\n    " + VALUE[11:],
    "base64 in lines": "\n".join(base64.b64encode(VALUE.encode()).decode()[at : at + 10] for at in range(0, 60, 10)),
    "a key": f"first\n{PEM}\nlast",
    "a key in json": json.dumps({"key": PEM}),
    "a key with line numbers": "\n".join(f"{n}\t{line}" for n, line in enumerate(PEM.splitlines())),
}


@pytest.mark.parametrize("way", ENCODINGS)
def test_a_named_value_is_hidden_in_every_encoding_and_comes_back_exactly(redactor: Redactor, way: str) -> None:
    text = ENCODINGS[way]
    hidden = redactor.hidden(text)
    assert marks_in(hidden)
    assert VALUE[8:20] not in hidden and PEM[40:60] not in hidden
    assert redactor.revealed(hidden) == text
    assert redactor.text(redactor.text(text)) == redactor.text(text)


def test_a_short_value_counts_only_where_it_stands_by_itself(redactor: Redactor) -> None:
    assert redactor.text("pin ab1x, cab1x") == f"pin {mark('PIN')}, cab1x"


def test_a_variable_that_no_setting_names_has_no_name_here(redactor: Redactor) -> None:
    assert redactor.text("it is value-of-another-variable") == f"it is {UNNAMED}"
    assert redactor.hidden("it is value-of-another-variable") == "it is value-of-another-variable"


def test_what_only_looks_like_a_mark_reveals_nothing(redactor: Redactor) -> None:
    for text in (mark("APP_TOKEN"), f"«=secret:APP_TOKEN» {mark('OTHER')}", "«secret»", "««secret:APP_TOKEN»"):
        hidden = redactor.hidden(text)
        assert marks_in(hidden) == []
        assert redactor.revealed(hidden) == text
        assert redactor.hidden({text: [text]}) == {hidden: [hidden]}


def test_a_mark_of_no_secret_here_is_refused() -> None:
    def known(name: str) -> str:
        raise SettingsError(f"{name} is not a secret this home may use")

    redactor = Redactor({"A": "abcdefghij"}, known=known)
    assert redactor.revealed({"x": [mark("A")]}) == {"x": ["abcdefghij"]}
    with pytest.raises(SettingsError, match="B is not a secret"):
        redactor.revealed(mark("B"))
    with pytest.raises(ToolError, match="stands for nothing here"):
        redactor.revealed("«secret:A|rot13»")


def test_values_may_be_like_marks_and_like_names() -> None:
    redactor = Redactor({"TOKEN": "secret", "secret": "TOKEN-TOKEN"})
    once = redactor.text("a secret and TOKEN-TOKEN")
    assert once == f"a {mark('TOKEN')} and {mark('secret')}"
    assert redactor.text(once) == once


# --------------------------------------------------------------------------------------------- records and errors


@dataclass(frozen=True, kw_only=True)
class Spoken:
    text: str
    args: dict[str, Any] = field(default_factory=dict)


def test_a_record_without_secrets_is_the_same_record(redactor: Redactor) -> None:
    plain = Spoken(text="nothing", args={"a": 1})
    assert redactor.record(plain) is plain
    assert redactor.record(Spoken(text=VALUE)) == Spoken(text=mark("APP_TOKEN"))


def test_an_error_tells_nothing_nor_does_its_cause(redactor: Redactor) -> None:
    try:
        try:
            raise ValueError(VALUE)
        except ValueError as cause:
            raise ToolError(f"it failed: {VALUE}") from cause
    except ToolError as error:
        redactor.error(error)
        assert str(error) == f"it failed: {mark('APP_TOKEN')}"
        assert str(error.__cause__) == mark("APP_TOKEN")


def test_no_handler_hears_a_secret(redactor: Redactor, caplog: pytest.LogCaptureFixture) -> None:
    log, foreign = logging.getLogger("llmos.some.part"), logging.getLogger("somebody.else")
    with guarded(redactor), caplog.at_level(logging.INFO):
        log.info("got %s and %d", VALUE, 3)
        foreign.info("got %s", "nothing of ours")
        try:
            raise ValueError(VALUE)
        except ValueError:
            log.exception("it broke")
    log.info("nobody watches now")
    assert VALUE not in caplog.text
    assert f"got {mark('APP_TOKEN')} and 3" in caplog.messages
    assert "ValueError" in caplog.text
    assert logging.getLogRecordFactory() is logging.LogRecord


# ------------------------------------------------------------------------------------------------------ properties

WORDS = st.sampled_from(
    [
        *["password", "token: ", "secret=", "=", ": ", '"', "'", "\\", "\n", "\\n", " ", "://", "@", ".", "é", "İ"],
        *["«secret", "«secret:A»", "»", "«=", "ghp_", "sk-", "eyJ", "Bearer ", "authorization: basic ", "--password "],
        *["-----BEGIN RSA PRIVATE KEY-----", "-----END RSA PRIVATE KEY-----", "q9w8e7r6t5", "a1B2c3D4e5F6g7H8i9J0k1L2"],
        *[VALUE, VALUE[:9], PEM],
    ]
)
TEXTS = st.one_of(st.text(max_size=200), st.lists(st.one_of(WORDS, st.text(max_size=8)), max_size=30).map("".join))
DATA = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), TEXTS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.one_of(WORDS, st.text(max_size=8)), inner, max_size=4)
    ),
    max_leaves=12,
)


def fresh() -> Redactor:
    return Redactor({"APP_TOKEN": VALUE, "DEPLOY_KEY": PEM}, others=["value-of-another-variable"])


@given(TEXTS)
def test_a_second_time_changes_nothing(text: str) -> None:
    redactor = fresh()
    once = redactor.text(text)
    assert redactor.text(once) == once


@given(DATA)
def test_a_second_time_changes_nothing_in_data(data: Any) -> None:
    redactor = fresh()
    once = redactor.value(data)
    assert redactor.value(once) == once


@given(DATA)
def test_what_a_tool_gave_comes_back_exactly(data: Any) -> None:
    redactor = fresh()
    hidden = redactor.hidden(data)
    assert VALUE not in json.dumps(hidden, ensure_ascii=False)
    assert redactor.revealed(hidden) == data


@given(st.text(alphabet=st.characters(exclude_characters="«"), max_size=300))
def test_a_text_in_which_nothing_is_found_stays_as_it_is(text: str) -> None:
    if not credentials_in(text):
        assert fresh().text(text) == text


HARD = {
    "one letter": "a",
    "names": "password=",
    "names apart": "password ",
    "beginnings": "-----BEGIN PRIVATE KEY-----\nAAAA ",
    "web tokens": "eyJ-",
    "web tokens in parts": "eyJabcdefgh.",
    "urls": "://a:",
    "headers": "authorization: bearer ",
    "options": "curl -u a:b -u ",
    "marks": "«secret:",
    "line breaks": "\n",
    "quotes": 'password="\\',
    "keys": "sk-ghp_SG.",
    "base64": base64.b64encode(bytes(range(256))).decode(),
}


@pytest.mark.parametrize("what", HARD)
def test_the_time_is_linear(what: str) -> None:
    """Eight times the text takes about eight times the time; a pattern that backtracks takes 64 times, or for ever.

    One measurement on a busy machine says nothing, so one of several is enough.
    """

    def seconds(size: int) -> float:
        text = (HARD[what] * (size // len(HARD[what]) + 1))[:size]
        redactor = fresh()
        started = time.process_time()
        redactor.text(text)
        redactor.hidden(text)
        return time.process_time() - started

    measured = []
    for _ in range(6):
        measured.append((seconds(125_000), seconds(1_000_000)))
        small, large = (min(each) for each in zip(*measured, strict=True))
        if large < 30 * max(small, 0.005):
            return
    raise AssertionError(measured)
