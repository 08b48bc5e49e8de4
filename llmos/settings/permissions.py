"""What llmos.yaml says of permissions: principals, their roles, and rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llmos.checked_yaml import Check, Many, Named, Section
from llmos.errors import SettingsError

ANSWERS = ("allow", "ask", "deny")


@dataclass(frozen=True, kw_only=True)
class RuleSettings:
    """One rule: what (`answer`) is said to calls of `tool` that do one of `effects` (none: any) to a path or host.

    `source` says where it stands. `tainted`: it holds for runs that have read what somebody else wrote, too.
    """

    answer: str
    tool: str
    path: str | None = None
    host: str | None = None
    effects: tuple[str, ...] = ()
    source: str = ""
    tainted: bool = False

    @property
    def line(self) -> str:
        """The rule as it would stand in llmos.yaml."""
        parts = [f"{self.answer}: {quoted(self.tool)}"]
        parts += [f"{name}: {quoted(text)}" for name, text in (("path", self.path), ("host", self.host)) if text]
        if self.effects:
            effects = self.effects[0] if len(self.effects) == 1 else f"[{', '.join(self.effects)}]"
            parts.append(f"effect: {effects}")
        if self.tainted:
            parts.append("tainted: true")
        return f"- {{{', '.join(parts)}}}"


@dataclass(frozen=True, kw_only=True)
class PermissionSettings:
    """`rules` hold for everybody, those of `roles` for the principals that have them; `principal` is who runs goals."""

    principal: str = "user"
    principals: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    roles: Mapping[str, tuple[RuleSettings, ...]] = field(default_factory=dict)
    rules: tuple[RuleSettings, ...] = ()

    @property
    def effective(self) -> tuple[RuleSettings, ...]:
        """The rules that hold for the principal."""
        return self.with_roles(())

    def with_roles(self, roles: Sequence[str]) -> tuple[RuleSettings, ...]:
        """The rules that hold for the principal in roles beside its own."""
        names = dict.fromkeys((*self.principals.get(self.principal, ()), *roles))
        return (*self.rules, *(rule for role in names for rule in self.roles.get(role, ())))


def quoted(text: str) -> str:
    """A text as YAML takes it inside braces."""
    plain = text and all(char.isalnum() or char in "_-./" for char in text) and not text.startswith("-")
    return text if plain else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def rule_schema(text: Check, effects: Check, flag: Check) -> Section:
    """The keys of a rule."""
    return Section(
        keys={**dict.fromkeys(ANSWERS, text), "path": text, "host": text, "effect": effects, "tainted": flag}
    )


def permissions_schema(text: Check, effects: Check, flag: Check) -> Section:
    """The section `permissions`."""
    rules = Many(of=rule_schema(text, effects, flag))
    return Section(
        keys={"principal": text, "principals": Named(of=Many(of=text)), "roles": Named(of=rules), "rules": rules}
    )


def lay_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Two files' permissions: rules add up, so that one file never takes away what another denies."""
    roles = {**below.get("roles", {})}
    for name, rules in above.get("roles", {}).items():
        roles[name] = (*roles.get(name, ()), *rules)
    principals = {**below.get("principals", {}), **above.get("principals", {})}
    rules = (*below.get("rules", ()), *above.get("rules", ()))
    return {**below, **above, "roles": roles, "principals": principals, "rules": rules}


def load_permissions(config: Mapping[str, Any], env: Mapping[str, str], name: str) -> PermissionSettings:
    """The permissions of one command; $LLMOS_PRINCIPAL names who runs it, else the file, else the system's user.

    Raises:
        SettingsError: a rule without exactly one answer, or a role that does not exist.
    """
    given = config.get("permissions", {})
    roles = {
        role: load_rules(rules, f"{name}: permissions.roles.{role}") for role, rules in given.get("roles", {}).items()
    }
    for principal, named in given.get("principals", {}).items():
        for role in named:
            if role not in roles:
                known = ", ".join(sorted(roles)) or "none"
                raise SettingsError(
                    f"{name}: permissions.principals.{principal} names the role {role!r}, which is not in "
                    f"permissions.roles ({known})."
                )
    principal = env.get("LLMOS_PRINCIPAL") or given.get("principal") or env.get("USER") or env.get("LOGNAME")
    return PermissionSettings(
        principal=principal or "user",
        principals=given.get("principals", {}),
        roles=roles,
        rules=load_rules(given.get("rules", ()), f"{name}: permissions.rules"),
    )


def load_rules(entries: Sequence[Mapping[str, Any]], where: str) -> tuple[RuleSettings, ...]:
    """The rules of a list that stands somewhere.

    Raises:
        SettingsError: one without exactly one answer, or that says what does not go together.
    """
    return tuple(_rule(entry, f"{where}[{n}]") for n, entry in enumerate(entries))


def _rule(entry: Mapping[str, Any], where: str) -> RuleSettings:
    answers = [answer for answer in ANSWERS if answer in entry]
    if len(answers) != 1:
        raise SettingsError(f"{where} needs exactly one of {', '.join(ANSWERS)}, with a tool's name or a pattern.")
    empty = next((key for key in (*answers, "path", "host") if entry.get(key) == ""), None)
    if empty is not None:
        raise SettingsError(f"{where} says nothing after `{empty}`: name a {'tool' if empty in ANSWERS else empty}.")
    if "path" in entry and "host" in entry:
        raise SettingsError(f"{where} names a path and a host; write a rule for each.")
    if entry.get("tainted") and (answers != ["allow"] or set("*?[") & set(entry["allow"])):
        raise SettingsError(f"{where} says `tainted: true`, which takes `allow` with the exact name of one tool.")
    return RuleSettings(
        tainted=bool(entry.get("tainted")),
        answer=answers[0],
        tool=entry[answers[0]],
        path=entry.get("path"),
        host=entry.get("host"),
        effects=entry.get("effect", ()),
        source=where,
    )
