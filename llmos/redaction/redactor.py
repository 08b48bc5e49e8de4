"""The one place that knows what must not be written down, and takes it out of texts, data, records and errors."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

from llmos.errors import ToolError
from llmos.redaction.credentials import credentials_in
from llmos.redaction.guessing import is_credential_name, is_filler, looks_random
from llmos.redaction.marks import MARK, UNNAMED, mark, quoted
from llmos.redaction.named import LEAST_CHARS, NamedValues

R = TypeVar("R")

_REVEALED = re.compile(rf"(?P<meant>«=+secret)|{MARK.pattern}")
_IDS = frozenset({"id", "run_id", "trace_id", "trace"})
_MOST_DEEP = 150
_MOST_MET = 500
_MOST_UNCHANGED, _SHORT = 4_096, 256
"""How many texts in which nothing was found are known again, and how long they are at most."""


@dataclass(frozen=True, kw_only=True)
class Credential:
    """A credential in data: its kind, the `path` to it, and the variable to keep it in."""

    kind: str
    variable: str
    path: tuple[str | int, ...] = ()


class Redactor:
    """Takes secrets out of what is about to be written.

    `named` are the values of the secrets the settings name, by variable; `others` values that are secret too, but that
    no goal may use. Without either it knows credentials by their looks alone. `known` says why a secret of some name
    can't be put in, by raising. What once looked like a credential is known again wherever it stands by itself.
    """

    def __init__(
        self,
        named: Mapping[str, str] | None = None,
        others: Sequence[str] = (),
        known: Callable[[str], str] | None = None,
    ) -> None:
        self._named = NamedValues(named or {})
        self._others = NamedValues(
            {f"_{number}": value for number, value in enumerate(others) if len(value) > LEAST_CHARS}
        )
        self._known = known
        self.values = (frozenset((named or {}).items()), frozenset(others))
        self._numbers = {one for one in (*(named or {}).values(), *others) if re.fullmatch(r"[\d.]+", one)}
        self._met: dict[str, tuple[str, str]] = {}
        self._unchanged: set[str] = set()

    # --- at a tool's call ------------------------------------------------------------------------------

    def hidden(self, value: Any) -> Any:
        """What a tool gave, with marks for named values; what already looked like a mark is quoted."""
        return _mapped(value, lambda text: self._named.hidden(quoted(text)))

    def named(self, value: Any) -> Any:
        """The same for what the user or the model wrote: marks in it are meant."""
        return _mapped(value, self._named.hidden)

    def revealed(self, value: Any) -> Any:
        """Arguments for a tool: marks become values, and what was quoted is itself again.

        Raises:
            LLMOSError: a mark names a secret that can't be used here (what `known` raises), or is a part of none.
        """
        return _mapped(value, self._revealed)

    def _revealed(self, text: str) -> str:
        if "«" not in text:
            return text

        def put(found: Any) -> str:
            if found["meant"]:
                return f"«{found['meant'][2:]}"
            if not found["name"]:
                return str(found[0])
            value = self._named.text_of(found[0])
            if value is None and self._known is not None:
                value = self._known(found["name"]) if found[0] == mark(found["name"]) else None
            if value is None:
                raise ToolError(f"{found[0]} stands for nothing here; use the mark as it was given")
            return value

        return _REVEALED.sub(put, text)

    # --- where something is written --------------------------------------------------------------------

    def text(self, text: str) -> str:
        """A text without secrets: marks for named values and for what looks like a credential, or did before."""
        unchanged = self._unchanged
        if text in unchanged:
            return text
        redacted = self._without_secrets(text)
        if redacted == text and len(text) <= _SHORT:
            if len(unchanged) >= _MOST_UNCHANGED:
                unchanged = self._unchanged = set()
            unchanged.add(text)  # not to those noted after something new was met, see `_meet`
        return redacted

    def _without_secrets(self, text: str) -> str:
        text = self._hidden_others(self._named.hidden(text))
        found = credentials_in(text)
        if found:
            pieces, position = [], 0
            for one in found:
                self._meet(text[one.start : one.end], one.kind, one.variable)
                pieces += [text[position : one.start], UNNAMED]
                position = one.end
            text = "".join([*pieces, text[position:]])
        for value in self._met:
            if value in text:
                text = text.replace(value, UNNAMED)
        return text

    def _meet(self, value: str, kind: str, variable: str) -> None:
        """Know a credential again where nothing beside it tells what it is."""
        if value not in self._met and looks_random(value):
            kept = list(self._met.items())[-_MOST_MET + 1 :]  # replaced as a whole: other threads may be reading
            self._met = dict(sorted([*kept, (value, (kind, variable))], key=lambda one: -len(one[0])))
            self._unchanged = set()

    def value(self, value: Any) -> Any:
        """The same for JSON data; a field's name counts, such as `password`."""
        known = self._met
        redacted = self._value(value, 0)
        return redacted if self._met is known else self._value(redacted, 0)  # what stood before it told what it is

    def record(self, record: R) -> R:
        """The same for a dataclass, but for its ids; the record itself where nothing had to go."""
        changed = {}
        for name in _may_hold_secrets(type(record)):  # type: ignore[arg-type]
            old = getattr(record, name)
            if old is not None and type(old) is not bool and (new := self.value(old)) != old:
                changed[name] = new
        return dataclasses.replace(record, **changed) if changed else record  # type: ignore[type-var]

    def error(self, error: BaseException) -> None:
        """Take secrets out of an error and of what it came from, in place."""
        seen: set[int] = set()
        while error is not None and id(error) not in seen:
            seen.add(id(error))
            error.args = tuple(self.value(one) for one in error.args)
            for name, value in list(vars(error).items()):
                if isinstance(value, str | dict | list):
                    setattr(error, name, self.value(value))
                elif dataclasses.is_dataclass(value) and not isinstance(value, type):
                    setattr(error, name, self.record(value))
            error = error.__cause__ or error.__context__  # type: ignore[assignment]

    def credentials(self, value: Any) -> list[Credential]:
        """What a text or data must not keep: credentials by their looks, and values of any variable that is secret."""
        return list(self._credentials(value, ()))

    # --- inside ----------------------------------------------------------------------------------------

    def _hidden_others(self, text: str) -> str:
        hidden = self._others.hidden(text)
        return hidden if hidden is text else MARK.sub(_unnamed, hidden)

    def _value(self, value: Any, depth: int) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if value is None or isinstance(value, int | float):
            return self.text(str(value)) if self._numbers and str(value) in self._numbers else value
        if depth > _MOST_DEEP:
            return UNNAMED if isinstance(value, list | tuple | Mapping) else value
        if type(value) in (list, tuple):
            return type(value)([self._value(item, depth + 1) for item in value])
        if isinstance(value, Mapping):
            return {
                self.text(key) if isinstance(key, str) else key: self._field(value, key, item, depth)
                for key, item in value.items()
            }
        return value

    def _field(self, holder: Mapping[Any, Any], key: Any, item: Any, depth: int) -> Any:
        if _is_secret_field(holder, key, item):
            self._meet(str(item), f"a credential in {key!r}", _variable(_name_of(holder, key)))
            return UNNAMED
        return self._value(item, depth + 1)

    def _credentials(self, value: Any, path: tuple[str | int, ...]) -> Iterable[Credential]:
        if isinstance(value, str):
            yield from self._in_text(value, path)
        elif isinstance(value, Mapping) and len(path) <= _MOST_DEEP:
            for key, item in value.items():
                if isinstance(key, str):
                    yield from self._in_text(key, path)
                if _is_secret_field(value, key, item):
                    name = _name_of(value, key)
                    yield Credential(kind=f"a credential in {name!r}", variable=_variable(name), path=(*path, key))
                else:
                    yield from self._credentials(item, (*path, key))
        elif isinstance(value, list | tuple) and len(path) <= _MOST_DEEP:
            for number, item in enumerate(value):
                yield from self._credentials(item, (*path, number))

    def _in_text(self, text: str, path: tuple[str | int, ...]) -> Iterable[Credential]:
        plain = self._named.hidden(text)
        if plain != text:
            found = next((one for one in MARK.finditer(plain) if one["name"]), None)
            name = found["name"] if found is not None else "SECRET"
            yield Credential(kind=f"the value of {name}", variable=name, path=path)
        if self._others.hidden(plain) != plain:
            yield Credential(kind="the value of a secret variable", variable="SERVICE_SECRET", path=path)
        spans = credentials_in(plain)
        for one in spans:
            yield Credential(kind=one.kind, variable=one.variable, path=path)
        for value, (kind, variable) in self._met.items() if not spans else ():
            if value in plain:
                yield Credential(kind=kind, variable=variable, path=path)


@lru_cache(maxsize=256)
def _may_hold_secrets(kind: type) -> tuple[str, ...]:
    """The fields of a dataclass, but for its ids."""
    return tuple(one.name for one in dataclasses.fields(kind) if one.init and one.name not in _IDS)


def _unnamed(found: Any) -> str:
    """The mark of a value that has no name of ours."""
    return UNNAMED if (found["name"] or "").startswith("_") and not found["quoted"] else str(found[0])


def _mapped(value: Any, change: Callable[[str], str], depth: int = 0) -> Any:
    """Every text in JSON data changed, keys included.

    Raises:
        ToolError: it is nested deeper than anybody means to.
    """
    if isinstance(value, str):
        return change(value)
    if depth > _MOST_DEEP and isinstance(value, list | dict):
        raise ToolError(f"the data is nested more than {_MOST_DEEP} levels deep; use flatter data")
    if isinstance(value, list):
        return [_mapped(item, change, depth + 1) for item in value]
    if isinstance(value, dict):
        return {change(key): _mapped(item, change, depth + 1) for key, item in value.items()}
    return value


def _is_secret_field(holder: Mapping[Any, Any], key: Any, item: Any) -> bool:
    """Whether a field holds a credential for its name, or, as `value`, for the name beside it."""
    name = _name_of(holder, key)
    if isinstance(item, int) and not isinstance(item, bool):
        return _is_password(name) and is_credential_name(name) and abs(item) > 99_999
    if not isinstance(item, str) or not isinstance(key, str):
        return False
    if not is_credential_name(name) or is_filler(item) or "${{" in item:
        return False
    return looks_random(item) or (_is_password(name) and len(item) >= 4 and " " not in item)


def _name_of(holder: Mapping[Any, Any], key: Any) -> str:
    """What a field is called: a `value` after the `name` or `key` beside it."""
    return str(holder.get("name", holder.get("key", key)) if key == "value" else key)


def _is_password(name: str) -> bool:
    return any(word in name.lower() for word in ("passw", "passphrase", "pwd"))


def _variable(name: str) -> str:
    upper = "".join(char if char.isalnum() and char.isascii() else "_" for char in name).strip("_").upper()
    return upper if upper[:1].isalpha() else "SERVICE_SECRET"
