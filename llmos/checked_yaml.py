"""A YAML file read against a schema: every error names the file, the line, the key, and what is allowed there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from llmos.errors import SettingsError

Check: TypeAlias = Callable[[Any], Any]
"""Takes a plain value, returns it cleaned; its ValueError completes the sentence "the key must be …"."""


def _any_name(value: Any) -> Any:
    return value


@dataclass(frozen=True, kw_only=True)
class Many:
    """A list of values."""

    of: Rule


@dataclass(frozen=True, kw_only=True)
class Named:
    """A mapping with keys of the user's choosing."""

    of: Rule
    key: Check = _any_name


@dataclass(frozen=True, kw_only=True)
class Section:
    """A mapping with these keys only; `moved` says of keys that were there once where they are now."""

    keys: Mapping[str, Rule]
    required: tuple[str, ...] = ()
    moved: Mapping[str, str] = field(default_factory=dict)


Rule: TypeAlias = Check | Many | Named | Section


def read_yaml(path: Path, schema: Section) -> dict[str, Any]:
    """What the file says, checked; an empty file says nothing, an empty key is left out.

    Raises:
        SettingsError: it can't be read, is no YAML, or does not fit the schema.
    """
    return _Reader(path=path).read(schema)


@dataclass(frozen=True, kw_only=True)
class _Reader:
    """Reads one file against the schema; every error names the file, the line and the key."""

    path: Path

    def read(self, schema: Section) -> dict[str, Any]:
        import yaml

        try:
            root = yaml.compose(self.path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"{self.path} can't be read: {error}.") from None
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = f", line {mark.line + 1}" if mark is not None else ""
            problem = getattr(error, "problem", None) or str(error)
            raise SettingsError(f"{self.path}{line} is not YAML: {problem}.") from None
        except RecursionError:
            raise SettingsError(f"{self.path} is nested too deeply to be settings.") from None
        return self._checked(root, schema, "") if root is not None else {}

    def _checked(self, node: Any, rule: Any, where: str) -> Any:
        if isinstance(rule, Section):
            return self._section(node, rule, where)
        if isinstance(rule, Named):
            return {
                self._apply(rule.key, name, child, where, "each name"): self._checked(child, rule.of, f"{where}.{name}")
                for name, child in self._pairs(node, where)
            }
        if isinstance(rule, Many):
            if getattr(node, "id", "") != "sequence":
                raise self._wrong(node, f"{where} must be a list")
            return tuple(self._checked(child, rule.of, f"{where}[{n}]") for n, child in enumerate(node.value))
        return self._apply(rule, self._plain(node), node, where)

    def _section(self, node: Any, rule: Section, where: str) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for name, child in self._pairs(node, where):
            path = f"{where}.{name}" if where else name
            if name in rule.moved:
                raise self._wrong(child, f"there is no key {path} any more: it is {rule.moved[name]} now")
            if name not in rule.keys:
                raise self._wrong(child, f"there is no key {path}; allowed here: {', '.join(rule.keys)}")
            if child.tag != "tag:yaml.org,2002:null":  # an empty key means its default
                result[name] = self._checked(child, rule.keys[name], path)
        if missing := [name for name in rule.required if name not in result]:
            raise self._wrong(node, f"{where} needs {' and '.join(missing)}")
        return result

    def _pairs(self, node: Any, where: str) -> Iterator[tuple[str, Any]]:
        if getattr(node, "id", "") != "mapping":
            raise self._wrong(node, f"{where or 'the file'} must be a mapping of names to values")
        seen: set[str] = set()
        for key, child in node.value:
            name = key.value if key.id == "scalar" else ""
            if not name or name in seen:
                raise self._wrong(
                    key, f"{where or 'the file'}: the key {name!r} is {'there twice' if name else 'none'}"
                )
            seen.add(name)
            yield name, child

    def _plain(self, node: Any) -> Any:
        """A scalar, or a list of them: no check takes more, and what aliases and `<<` unfold to may have no end."""
        if node.id == "scalar":
            return self._scalar(node)
        if node.id == "sequence":
            return [self._scalar(child) if child.id == "scalar" else ... for child in node.value]
        return ...

    def _scalar(self, node: Any) -> Any:
        import yaml

        loader = yaml.SafeLoader("")
        try:
            return loader.construct_object(node)
        except (yaml.YAMLError, ValueError, TypeError, AttributeError, KeyError) as error:  # of values tagged wrongly
            kind = node.tag.rpartition(":")[2]
            is_date = kind == "timestamp" and isinstance(error, ValueError)
            problem = getattr(error, "problem", None) or (str(error) if is_date else f"this is no {kind}")
            raise self._wrong(node, problem) from None
        finally:
            loader.dispose()

    def _apply(self, check: Check, value: Any, node: Any, where: str, what: str = "") -> Any:
        try:
            return check(value)
        except ValueError as error:
            subject = f"{what} in {where}" if what else where
            raise self._wrong(node, f"{subject} must be {error}, not {_shown(node, value)}") from None

    def _wrong(self, node: Any, message: str) -> SettingsError:
        return SettingsError(f"{self.path}, line {node.start_mark.line + 1}: {message}.")


def _shown(node: Any, value: Any) -> str:
    """What stands in the file, as far as it helps."""
    if node.id in ("sequence", "mapping") and not isinstance(value, str):
        return "a list" if node.id == "sequence" else "a mapping"
    is_number = isinstance(value, int) and not isinstance(value, bool)  # one may be too long for Python to write down
    return _shortened(node.value if is_number else repr(value))


def _shortened(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:80]}…"
