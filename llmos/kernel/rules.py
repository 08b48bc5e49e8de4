"""Which calls are allowed: rules over tools, paths, hosts and effects, and what holds where none speaks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path

from llmos.errors import LLMOSError, SettingsError
from llmos.kernel.places import Host, Place, key
from llmos.plugins.builtin.paths import glob_regex
from llmos.settings import RuleSettings
from llmos.trace.program import Effect

_WILD = frozenset("*?[{")


class Answer(StrEnum):
    """What is said to a call; a later one is stricter."""

    ALLOW = "allow"
    ASK = "ask"
    DENY = "deny"

    @property
    def rank(self) -> int:
        return list(Answer).index(self)


@dataclass(frozen=True, kw_only=True)
class Said:
    """What is said to a call, why in a few words, and the line of llmos.yaml that would allow it.

    `tainted`: rules allow it to runs that have read what somebody else wrote, too.
    """

    answer: Answer
    why: str
    line: str = ""
    tainted: bool = False


@dataclass(frozen=True)
class Rule:
    """A rule of the settings, its path counted from a workspace."""

    settings: RuleSettings
    workspace: Path

    @property
    def answer(self) -> Answer:
        return Answer(self.settings.answer)

    def fits(self, tool: str | None, effect: Effect) -> bool:
        """Whether the rule speaks of a tool (None: whichever) that does this."""
        known = tool is None or fnmatchcase(tool, self.settings.tool)
        return known and (not self.settings.effects or effect in self.settings.effects)

    def holds(self, resource: Place | Host | None) -> bool:
        """Whether the rule's path or host is this one.

        A rule without either speaks of every one, but opens nothing outside the workspace and no host that can't be
        read: that takes a rule that names it.
        """
        if self.settings.path is not None:
            return isinstance(resource, Place) and self._has(resource)
        if self.settings.host is not None:
            return isinstance(resource, Host) and self._names(resource)
        return self.answer is not Answer.ALLOW or not _is_beyond(resource)

    def touches(self, place: Place) -> bool:
        """Whether something below a folder may be meant by the rule's path."""
        if self.settings.path is None or place.path is None:
            return False
        if "/" not in self.settings.path.strip("/"):
            return True
        base = self._pattern[0]
        return base == place.path or base.is_relative_to(place.path) or place.path.is_relative_to(base)

    def _has(self, place: Place) -> bool:
        """Whether the path, or a folder it is in, matches; what can't be read is only ever forbidden."""
        if place.path is None:
            return self.answer is not Answer.ALLOW
        strict = self.answer is not Answer.ALLOW
        regex = self._pattern[1]
        fold = key if place.folds and strict else str
        if "/" not in (self.settings.path or "").strip("/"):
            root = self.workspace
            if not place.inside and not strict:
                return False
            parts = place.path.relative_to(root).parts if place.inside else place.path.parts
            return any(regex.fullmatch(fold(part)) for part in parts) or (place.path == root and regex.pattern == r"\.")
        return any(regex.fullmatch(fold(str(one))) for one in (place.path, *place.path.parents))

    @cached_property
    def _pattern(self) -> tuple[Path, re.Pattern[str]]:
        """The folder before the first wildcard, links followed, and the whole as a regular expression."""
        text = (self.settings.path or "").rstrip("/") or "/"
        if "/" not in text.strip("/") and text != "/":
            return self.workspace, _regex(text, self.settings.source)
        try:
            whole = self.workspace / Path(text).expanduser()
        except RuntimeError:
            raise SettingsError(f"{self.settings.source}: {text!r} names a user that does not exist.") from None
        plain: list[str] = []
        for part in whole.parts:
            if _WILD & set(part):
                break
            plain.append(part)
        base = Path(*plain).resolve()
        rest = whole.parts[len(plain) :]
        pattern = "/".join([_escaped(str(base)).rstrip("/"), *rest]) if rest else _escaped(str(base))
        return base, _regex(pattern, self.settings.source)

    @property
    def below(self) -> str:
        """A regular expression of the paths, from the root, that the rule's path names inside the workspace."""
        regex = self._pattern[1].pattern
        if "/" not in (self.settings.path or "").strip("/"):
            regex = rf"{re.escape(str(self.workspace))}/(?:.*/)?(?:{regex})"
        return rf"(?s:(?:{regex})(?:/.*)?)"

    def _names(self, host: Host) -> bool:
        if host.name is None:
            return self.answer is not Answer.ALLOW
        pattern = (self.settings.host or "").lower()
        named, colon, port = pattern.rpartition(":")
        if colon and port.isdecimal() and not named.endswith(":"):
            if host.port != int(port):
                return False
            pattern = named
        return fnmatchcase(host.name, _ascii(pattern.strip("[]").rstrip(".")))


def _is_beyond(resource: Place | Host | None) -> bool:
    """Outside the workspace, or nobody knows where."""
    return (isinstance(resource, Place) and not resource.inside) or (isinstance(resource, Host) and not resource.name)


def _escaped(path: str) -> str:
    return re.sub(r"([*?\[{}])", r"[\1]", path)


def _regex(pattern: str, where: str) -> re.Pattern[str]:
    try:
        return glob_regex(pattern)
    except (LLMOSError, re.error) as error:
        raise SettingsError(f"{where}: {error}") from None


def _ascii(pattern: str) -> str:
    try:
        return ".".join(
            label if label.isascii() else label.encode("idna").decode() for label in pattern.split(".")
        ).lower()
    except UnicodeError:
        return pattern


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Rules in layers: of each layer the strictest rule that fits speaks, and of all layers the strictest.

    Without a rule: inside the workspace everything that only reads or writes is allowed, outside nothing; what is
    external or unknown is asked about.
    """

    layers: tuple[tuple[Rule, ...], ...] = ((),)

    @classmethod
    def of(cls, settings: Sequence[RuleSettings], workspace: Path) -> Policy:
        """The policy of one principal.

        Raises:
            SettingsError: a path pattern that is none.
        """
        rules = tuple(Rule(rule, workspace.resolve()) for rule in settings)
        for rule in rules:
            rule.holds(Place(path=workspace.resolve(), inside=True, effect=Effect.READ))
        return cls(layers=(rules,))

    def narrowed(self, settings: Sequence[RuleSettings], workspace: Path) -> Policy:
        """What this policy allows, and these rules do not ask about or deny; where they say nothing, they say nothing.

        Each layer stands as it was and once more with the rules: a rule that asks must not open what is denied by
        default.
        """
        (rules,) = Policy.of(settings, workspace).layers
        return Policy(layers=(*self.layers, *((*layer, *rules) for layer in self.layers)))

    @property
    def is_empty(self) -> bool:
        """Whether only what holds without a rule does."""
        return not any(self.layers)

    def judge(self, tool: str, effect: Effect, resources: Iterable[Place | Host]) -> Said:
        """The strictest of what is said to everything a call touches, or to the call itself if it touches nothing."""
        touched: list[Place | Host | None] = [*resources]
        if touched:
            return self._judged(tool, effect, touched)
        found = self._untouching.get((tool, effect))
        if found is None:
            found = self._untouching[tool, effect] = self._judged(tool, effect, touched)
        return found

    @cached_property
    def _untouching(self) -> dict[tuple[str, Effect], Said]:
        """What was said to calls that touch nothing: it depends on nothing else."""
        return {}

    def _judged(self, tool: str, effect: Effect, touched: Sequence[Place | Host | None]) -> Said:
        said = [self._one(tool, effect, resource) for resource in touched or [None]]
        if effect.rank > Effect.WRITE.rank and not any(_is_own(one, effect) for one in touched):
            said.append(self._one(tool, effect, None))
        strictest = max(said, key=lambda one: one.answer.rank)
        deciding = [
            one for one, resource in zip(said, [*(touched or [None]), None], strict=False) if _decides(resource)
        ]
        return replace(strictest, tainted=bool(deciding) and all(one.tainted for one in deciding))

    def explicit(self, tool: str | None, place: Place) -> Answer | None:
        """What rules themselves say of a path; None where none does."""
        found = [self._rule(layer, tool, place.effect, place) for layer in self.layers]
        said = [rule.answer for rule in found if rule is not None]
        if not said or (any(rule is None for rule in found) and max(said, key=lambda one: one.rank) is Answer.ALLOW):
            return None
        return max(said, key=lambda one: one.rank)

    def closed(self, tool: str) -> tuple[str, ...]:
        """Regular expressions of the paths that a tool may not read unasked."""
        rules = (rule for layer in self.layers for rule in layer if rule.answer is not Answer.ALLOW)
        return tuple(rule.below for rule in rules if rule.settings.path is not None and rule.fits(tool, Effect.READ))

    def _one(self, tool: str, effect: Effect, resource: Place | Host | None) -> Said:
        said = [self._layer(layer, tool, effect, resource) for layer in self.layers]
        return max(said, key=lambda one: one.answer.rank)

    def _layer(self, layer: Sequence[Rule], tool: str, effect: Effect, resource: Place | Host | None) -> Said:
        own = resource.effect if resource is not None else effect
        rule = self._rule(layer, tool, own, resource)
        line = _line(tool, own, resource)
        below = self._below(layer, tool, own, resource)
        if below is not None and (rule is None or rule.answer is Answer.ALLOW):
            why = f"it may reach below {_shown(resource)} what the rule {below.settings.line[2:]} speaks of"
            return Said(answer=Answer.ASK, why=why)
        if rule is not None:
            why = f"{rule.settings.source}: {rule.settings.line[2:]}"
            shown = "" if rule.answer is Answer.DENY else line
            return Said(answer=rule.answer, why=why, line=shown, tainted=rule.settings.tainted)
        answer, why = _default(own, resource)
        return Said(answer=answer, why=why, line=line)

    @staticmethod
    def _rule(layer: Sequence[Rule], tool: str | None, effect: Effect, resource: Place | Host | None) -> Rule | None:
        fitting = [rule for rule in layer if rule.fits(tool, effect) and rule.holds(resource)]
        return max(fitting, key=lambda rule: (rule.answer.rank, rule.settings.tainted), default=None)

    @staticmethod
    def _below(layer: Sequence[Rule], tool: str, effect: Effect, resource: Place | Host | None) -> Rule | None:
        if not isinstance(resource, Place) or not resource.recursive:
            return None
        strict = (rule for rule in layer if rule.answer is not Answer.ALLOW and rule.fits(tool, effect))
        return next((rule for rule in strict if rule.touches(resource)), None)


def intersection(parent: Policy, child: Policy) -> Policy:
    """What both allow: a run inside another never gets more than that one."""
    return Policy(layers=(*parent.layers, *child.layers))


def _is_own(resource: Place | Host | None, effect: Effect) -> bool:
    """Whether what is judged of a resource stands for the call's own effect."""
    return resource is not None and resource.effect is effect


def _decides(resource: Place | Host | None) -> bool:
    """Whether what is said of a resource tells of more than that a file may be read."""
    return resource is None or isinstance(resource, Host) or resource.effect.changes_world


def _default(effect: Effect, resource: Place | Host | None) -> tuple[Answer, str]:
    if isinstance(resource, Place) and not resource.inside:
        return Answer.DENY, f"{resource.shown} is outside the workspace; --workspace DIR works elsewhere"
    if isinstance(resource, Host) and resource.name is None:
        return Answer.DENY, "it is not plain where the URL leads"
    if effect.rank > Effect.WRITE.rank:
        return Answer.ASK, f"by default a call whose effect is {effect} is asked about"
    if isinstance(resource, Host) and effect.changes_world:
        return Answer.ASK, "by default changing something at a host is asked about"
    if isinstance(resource, Host):
        return Answer.ALLOW, "by default hosts may be read"
    return Answer.ALLOW, f"by default a {effect} inside the workspace is allowed"


def _shown(resource: Place | Host | None) -> str:
    return "" if resource is None else resource.shown


def line_for(tool: str, effect: Effect, resource: Place | Host | None) -> str:
    """The line of llmos.yaml that would allow this to runs that have read what somebody else wrote."""
    line = _line(tool, effect, resource)
    return f"{line[:-1]}, tainted: true}}" if line else ""


def _line(tool: str, effect: Effect, resource: Place | Host | None) -> str:
    path = resource.shown if isinstance(resource, Place) and resource.path is not None else None
    host = resource.name if isinstance(resource, Host) else None
    if (isinstance(resource, Host) and host is None) or (isinstance(resource, Place) and path is None):
        return ""
    return RuleSettings(answer="allow", tool=tool, path=path, host=host, effects=(str(effect),)).line
