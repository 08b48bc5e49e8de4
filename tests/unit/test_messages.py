"""Messages: whom an address means, when it is refused, and what goes back to a sender."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from llmos.errors import NotFoundError, UsageError
from llmos.kernel.messages import (
    MAX_RECEIVERS,
    MAX_TEXT_CHARS,
    Address,
    Envelope,
    Group,
    Kin,
    Meaning,
    Pid,
    Type,
    UndeliverableError,
    address_of,
    checked_text,
    envelope_of,
    expiry,
    is_family,
    nearest,
    receipt,
    receivers,
    return_of,
    stays_in_family,
)

NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Someone:
    pid: int
    parent: int | None = None
    goal: str = "Do something"
    groups: Iterable[str] = ()


#      1        5
#    2   3      6
#    4
ONE, FIVE = Someone(pid=1), Someone(pid=5)
TWO, THREE = Someone(pid=2, parent=1, groups=("red",)), Someone(pid=3, parent=1, groups=("red", "blue"))
FOUR, SIX = Someone(pid=4, parent=2), Someone(pid=6, parent=5, groups=("blue",))
ALL = [ONE, TWO, THREE, FOUR, FIVE, SIX]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("7", Pid(pid=7)),
        (" parent ", Kin.PARENT),
        ("Children", Kin.CHILDREN),
        ("everyone", Kin.EVERYONE),
        ("group:reviewers", Group(name="reviewers")),
        ("whoever is reviewing the auth code", Meaning(words="whoever is reviewing the auth code")),
    ],
)
def test_an_address_is_a_number_a_relation_a_group_or_words(text: str, meant: Address) -> None:
    assert address_of(text) == meant


@pytest.mark.parametrize("text", ["", "  ", "group:", "group:two words", f"group:{'x' * 41}"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        address_of(text)


@pytest.mark.parametrize(
    ("address", "sender", "pids"),
    [
        ("4", ONE, [4]),
        ("parent", FOUR, [2]),
        ("children", ONE, [2, 3]),
        ("siblings", TWO, [3]),
        ("group:red", THREE, [2]),
        ("group:blue", ONE, [3, 6]),
        ("everyone", THREE, [1, 2, 4, 5, 6]),
        ("4", None, [4]),
    ],
)
def test_an_address_names_everybody_but_the_sender(address: str, sender: Someone | None, pids: list[int]) -> None:
    meant = address_of(address)
    assert not isinstance(meant, Meaning)
    assert [one.pid for one in receivers(meant, sender, ALL)] == pids


@pytest.mark.parametrize("address", ["9", "parent", "children", "siblings", "group:green"])
def test_an_address_that_names_nobody_says_so(address: str) -> None:
    alone = Someone(pid=8)
    meant = address_of(address)
    assert not isinstance(meant, Meaning)
    with pytest.raises(NotFoundError):
        receivers(meant, alone, [*ALL, alone])


def test_a_message_goes_to_so_many_at_most() -> None:
    crowd = [Someone(pid=number) for number in range(10, 11 + MAX_RECEIVERS)]
    with pytest.raises(UsageError, match="51 processes"):
        receivers(Kin.EVERYONE, ONE, [ONE, *crowd])


def test_family_is_parents_children_and_siblings() -> None:
    pairs = {(one.pid, other.pid) for one in ALL for other in ALL if one.pid < other.pid and is_family(one, other)}
    assert pairs == {(1, 2), (1, 3), (2, 3), (2, 4), (5, 6)}  # not 1 and 5, which have no parent, nor 1 and 4


@pytest.mark.parametrize(
    ("to", "sender", "stays"),
    [
        ("parent", TWO, True),
        ("children", TWO, True),
        ("siblings", TWO, True),
        ("everyone", TWO, False),
        ("3", TWO, True),
        ("5", TWO, False),
        ("9", TWO, False),
        ("group:red", ONE, True),
        ("group:blue", ONE, False),
        ("whoever reviews", TWO, False),
    ],
)
def test_only_what_surely_stays_in_the_family_does(to: str, sender: Someone, stays: bool) -> None:
    assert stays_in_family(address_of(to), sender, ALL) is stays


REVIEWS = Someone(pid=2, goal="Review the auth code")
WRITES = Someone(pid=3, goal="Write the auth code")


def test_who_is_near_enough_and_clearly_ahead_is_meant() -> None:
    assert nearest("whoever reviews the auth code", [WRITES, REVIEWS], [0.5, 0.78]) is REVIEWS


def test_somebody_who_is_not_near_enough_is_only_named() -> None:
    with pytest.raises(UndeliverableError, match=r"nearest is process 2 \(Review the auth code\).*0\.44"):
        nearest("the cook", [WRITES, REVIEWS], [0.1, 0.44])


def test_of_two_who_are_as_near_nobody_is_meant() -> None:
    with pytest.raises(UndeliverableError, match=r"process 2 .*0\.67\) or process 3 .*0\.64"):
        nearest("whoever works on the auth code", [WRITES, REVIEWS], [0.64, 0.67])


def test_alone_nobody_is_meant() -> None:
    with pytest.raises(UndeliverableError, match="no other process"):
        nearest("anybody", [], [])


def envelope(**changes: object) -> Envelope:
    known: dict[str, object] = {
        "id": "abc",
        "sender": 1,
        "sender_run": "run-a",
        "receiver": 2,
        "receiver_run": "run-b",
        "payload": "hello",
        "sent_at": NOW.isoformat(),
        "expires_at": expiry(NOW, 60.0).isoformat(),
    }
    return envelope_of({"type": "request", **known, **changes})


def test_an_envelope_comes_back_from_its_data() -> None:
    sent = envelope(priority=3, requires_ack=True, vector=[0.5, 0.25])
    assert envelope_of({**sent.data, "of_a_later_version": 1}) == sent
    assert (sent.type, sent.vector) == (Type.REQUEST, (0.5, 0.25))


def test_a_message_is_over_when_its_time_is() -> None:
    assert not envelope().is_over(NOW + timedelta(seconds=59))
    assert envelope().is_over(NOW + timedelta(seconds=60))
    for ttl_s in (0, -1, float("nan"), 8 * 86_400):
        with pytest.raises(UsageError):
            expiry(NOW, ttl_s)


def test_what_goes_back_names_the_message_and_asks_for_nothing() -> None:
    for back in (receipt(envelope(requires_ack=True), now=NOW), return_of(envelope(), "it has ended", now=NOW)):
        assert (back.sender, back.receiver, back.receiver_run) == (2, 1, "run-a")
        assert (back.reply_to, back.requires_ack, back.id == "abc") == ("abc", False, False)


@pytest.mark.parametrize("text", ["", " \n", "x" * (MAX_TEXT_CHARS + 1)])
def test_a_message_says_something_and_not_too_much(text: str) -> None:
    with pytest.raises(UsageError):
        checked_text(text)
