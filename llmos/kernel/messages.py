"""Messages between processes: what an envelope holds, whom an address means, and what becomes of what nobody reads."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol, TypeAlias

from llmos.errors import LLMOSError, NotFoundError, UsageError

USER = 0
"""The number that stands for a person among those of processes."""

MAX_TEXT_CHARS = 16_000
MAX_WAITING = 200
"""How many messages may wait in one mailbox."""

MAX_RECEIVERS = 50
DEFAULT_TTL_S, MAX_TTL_S = 3_600.0, 7 * 86_400.0

LIKE_ENOUGH = 0.45
"""How near in meaning (a cosine) a goal must be to the words that somebody is meant by."""

CLEARLY_AHEAD = 0.05
"""And how much nearer than the next one."""

_GROUP = re.compile(r"[\w.-]{1,40}")


class Type(StrEnum):
    """What a message is: a question, the answer to one, something to know, or the same for many."""

    REQUEST = "request"
    RESPONSE = "response"
    NOTIFICATION = "notification"
    BROADCAST = "broadcast"


class Fate(StrEnum):
    """What became of a message."""

    WAITING = "waiting"
    RECEIVED = "received"
    DEAD = "dead"


class UndeliverableError(LLMOSError):
    """Nobody can be given a message."""


@dataclass(frozen=True, kw_only=True)
class Envelope:
    """One message to one process.

    `sender` and `receiver` are numbers of processes (USER: a person), `sender_run` and `receiver_run` their runs, which
    stay when numbers are given anew; `sender_goal` says who that is. `vector` is the meaning of the words that the
    receiver was found by. `sent_at` and `expires_at` are ISO times; a smaller `priority` is read first.
    """

    id: str
    sender: int
    receiver: int
    sender_run: str = ""
    receiver_run: str
    sender_goal: str = ""
    type: Type = Type.NOTIFICATION
    payload: str
    priority: int = 10
    sent_at: str
    expires_at: str
    requires_ack: bool = False
    reply_to: str = ""
    vector: tuple[float, ...] = ()

    def is_over(self, now: datetime) -> bool:
        """Whether its time to be read is up."""
        return datetime.fromisoformat(self.expires_at) <= now

    @property
    def data(self) -> dict[str, Any]:
        """It as JSON data."""
        return asdict(self)


_FIELDS = {one.name for one in fields(Envelope)}


def envelope_of(data: Mapping[str, Any]) -> Envelope:
    """An envelope from its JSON data; fields that only a later version knows are left out."""
    known = {name: value for name, value in data.items() if name in _FIELDS}
    return Envelope(**known | {"type": Type(known["type"]), "vector": tuple(known.get("vector", ()))})


def checked_text(text: str) -> str:
    """What a message may say.

    Raises:
        UsageError: nothing, or too much.
    """
    if not text.strip():
        raise UsageError("the message is empty.")
    if len(text) > MAX_TEXT_CHARS:
        raise UsageError(
            f"a message has {MAX_TEXT_CHARS:,} characters at most, not {len(text):,}: name a file instead."
        )
    return text


def expiry(now: datetime, ttl_s: float | None) -> datetime:
    """When a message is over.

    Raises:
        UsageError: the time is none.
    """
    ttl_s = DEFAULT_TTL_S if ttl_s is None else ttl_s
    if not 0 < ttl_s <= MAX_TTL_S:
        raise UsageError(f"a message lives above 0 and up to {MAX_TTL_S:g} seconds, not {ttl_s:g}.")
    return now + timedelta(seconds=ttl_s)


def receipt(of: Envelope, *, now: datetime) -> Envelope:
    """What tells the sender of a message that it was read."""
    return _back(of, "read", f"message {of.id} was read.", now)


def return_of(of: Envelope, why: str, *, now: datetime) -> Envelope:
    """What tells the sender of a message that nobody will read it."""
    return _back(of, "dead", f"message {of.id} to process {of.receiver} was not read: {why}.", now)


def _back(of: Envelope, what: str, text: str, now: datetime) -> Envelope:
    return Envelope(
        id=f"{of.id}-{what}",
        sender=of.receiver,
        sender_run=of.receiver_run,
        receiver=of.sender,
        receiver_run=of.sender_run,
        type=Type.NOTIFICATION,
        payload=text,
        priority=of.priority,
        sent_at=now.isoformat(),
        expires_at=expiry(now, None).isoformat(),
        reply_to=of.id,
    )


# --- whom an address means ---------------------------------------------------------------------------


class Member(Protocol):
    """A process, as far as an address can name it."""

    @property
    def pid(self) -> int: ...
    @property
    def parent(self) -> int | None: ...
    @property
    def goal(self) -> str: ...
    @property
    def groups(self) -> Iterable[str]: ...


@dataclass(frozen=True, kw_only=True)
class Pid:
    """One process, by its number."""

    pid: int


class Kin(StrEnum):
    """Processes by what they are to the sender."""

    PARENT = "parent"
    CHILDREN = "children"
    SIBLINGS = "siblings"
    EVERYONE = "everyone"


@dataclass(frozen=True, kw_only=True)
class Group:
    """The processes of a name that they share."""

    name: str


@dataclass(frozen=True, kw_only=True)
class Meaning:
    """The process whose goal is nearest to some words."""

    words: str


Address: TypeAlias = Pid | Kin | Group | Meaning


def address_of(text: str) -> Address:
    """What an address says: a number, `parent`, `children`, `siblings`, `everyone`, `group:NAME`, or words.

    Raises:
        UsageError: it is empty, or a group's name is none.
    """
    text = text.strip()
    if not text:
        raise UsageError("nobody is named: write a process's number, parent, children, group:NAME or who is meant.")
    if text.isdecimal():
        return Pid(pid=int(text))
    if text.lower() in [*Kin]:
        return Kin(text.lower())
    if text.startswith("group:"):
        return Group(name=group_name(text.removeprefix("group:")))
    return Meaning(words=text)


def group_name(text: str) -> str:
    """A name that a group may have.

    Raises:
        UsageError: it may not.
    """
    if not _GROUP.fullmatch(text):
        raise UsageError(f"a group's name has up to 40 letters, digits, dots and hyphens; {text[:60]!r} is none.")
    return text


def is_family(one: Member, other: Member) -> bool:
    """Whether two processes are parent and child, or children of the same one."""
    if one.pid == other.parent or other.pid == one.parent:
        return True
    return one.parent is not None and one.parent == other.parent


def stays_in_family(address: Address, sender: Member, others: Iterable[Member]) -> bool:
    """Whether whoever an address names is of the sender's family; what words mean is not known beforehand."""
    if isinstance(address, Kin):
        return address is not Kin.EVERYONE
    if isinstance(address, Meaning):
        return False
    named = [one for one in others if _is_named(address, sender, one)]
    return bool(named) and all(is_family(sender, one) for one in named)


def receivers(address: Pid | Kin | Group, sender: Member | None, others: Sequence[Member]) -> list[Member]:
    """Who of the living processes an address names.

    Raises:
        NotFoundError: nobody.
        UsageError: too many.
    """
    found = [one for one in others if (sender is None or one.pid != sender.pid) and _is_named(address, sender, one)]
    if not found:
        raise NotFoundError(_nobody(address))
    if len(found) > MAX_RECEIVERS:
        raise UsageError(f"{len(found)} processes are meant, and a message goes to {MAX_RECEIVERS} at most.")
    return found


def _is_named(address: Pid | Kin | Group, sender: Member | None, one: Member) -> bool:
    match address:
        case Pid(pid=pid):
            return one.pid == pid
        case Group(name=name):
            return name in one.groups
        case Kin.EVERYONE:
            return True
    if sender is None or one.pid == sender.pid:
        return False
    match address:
        case Kin.PARENT:
            return one.pid == sender.parent
        case Kin.CHILDREN:
            return one.parent == sender.pid
        case _:
            return one.parent is not None and one.parent == sender.parent


def _nobody(address: Pid | Kin | Group) -> str:
    match address:
        case Pid(pid=pid):
            return f"no process {pid} is alive: `ps --all` lists those there are, and that were."
        case Group(name=name):
            return f"no living process is in the group {name!r}."
        case Kin.EVERYONE:
            return "there is no other process."
        case _:
            return f"this process has no living {address}."


def nearest(words: str, others: Sequence[Member], nearness: Sequence[float]) -> Member:
    """The one whose goal some words mean, by how near each goal is to them.

    Raises:
        UndeliverableError: none is near enough, or two are as near; it names the nearest.
    """
    ranked = sorted(zip(nearness, others, strict=True), key=lambda pair: -pair[0])
    if not ranked:
        raise UndeliverableError(f"nobody is meant by {words!r}: there is no other process.")
    first, one = ranked[0]
    if first < LIKE_ENOUGH:
        raise UndeliverableError(
            f"nobody is plainly meant by {words!r}; the nearest is {_shown(one)}, with a likeness of {first:.2f} "
            f"of the {LIKE_ENOUGH} it takes: write its number."
        )
    if len(ranked) > 1 and first - ranked[1][0] < CLEARLY_AHEAD:
        raise UndeliverableError(
            f"{words!r} may mean {_shown(one)} (likeness {first:.2f}) or {_shown(ranked[1][1])} ({ranked[1][0]:.2f}): "
            f"write the number of the one."
        )
    return one


def _shown(one: Member) -> str:
    goal = " ".join(one.goal.split())
    return f"process {one.pid} ({goal if len(goal) <= 80 else goal[:79] + '…'})"
