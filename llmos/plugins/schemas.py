"""JSON schemas of arguments: made sound when a tool comes in, and arguments held against them.

Whoever wrote a schema may be a stranger (an MCP server), so nothing here fetches, recurses without end, or waits for a
pattern that runs away.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from llmos.errors import PluginError, ToolError

MAX_DEPTH = 60
MAX_NODES = 100_000
PATTERN_TIMEOUT_S = 10.0

Schema = Mapping[str, Any]


def sound(tool: str, schema: Any) -> dict[str, Any]:
    """The schema of an object in the one shape that the others rely on: each property is a mapping.

    Raises:
        PluginError: it is none, or has no end.
    """
    wrong = f"tool {tool!r}: the schema must be a JSON schema of type object"
    if not isinstance(schema, Mapping) or schema.get("type") != "object":
        raise PluginError(wrong)
    if any(depth > MAX_DEPTH or number > MAX_NODES for number, (depth, _) in enumerate(_inside(schema))):
        raise PluginError(f"tool {tool!r}: the schema is nested too deeply, or too large")
    try:
        schema = json.loads(json.dumps(schema, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise PluginError(f"tool {tool!r}: the schema can't be written as JSON: {error}") from None
    if not isinstance(schema.get("$schema", ""), str):
        raise PluginError(f"{wrong}, and `$schema` a text")
    properties, required = schema.get("properties", {}), schema.get("required", [])
    if not isinstance(properties, Mapping) or not all(isinstance(name, str) for name in properties):
        raise PluginError(wrong)
    if not isinstance(required, list | tuple) or not all(isinstance(name, str) for name in required):
        raise PluginError(f"{wrong}, and `required` a list of names")
    whole = {name: _mapping(tool, name, one) for name, one in properties.items()}
    return {**schema, **({"properties": whole} if "properties" in schema else {})}


def _mapping(tool: str, name: str, schema: Any) -> dict[str, Any]:
    if isinstance(schema, bool):  # any value will do, or none
        return {} if schema else {"not": {}}
    if not isinstance(schema, Mapping):
        raise PluginError(f"tool {tool!r}: the schema of {name!r} must be a mapping, not {type(schema).__name__}")
    if not isinstance(schema.get("enum", []), list | tuple):
        raise PluginError(f"tool {tool!r}: the `enum` of {name!r} must be a list")
    return dict(schema)


def _inside(value: Any) -> Iterator[tuple[int, Any]]:
    """Every mapping, list and leaf with its depth; what is deeper than a schema may be is not entered."""
    waiting = [(0, value)]
    while waiting:
        depth, one = waiting.pop()
        yield depth, one
        if depth <= MAX_DEPTH and isinstance(one, Mapping | list | tuple):
            waiting += [(depth + 1, inner) for inner in (one.values() if isinstance(one, Mapping) else one)]


def validate_arguments(name: str, schema: Schema, arguments: dict[str, Any], *, formats: bool = False) -> None:
    """Check arguments against a JSON schema; `name` stands in the error. A `format` only counts with `formats`.

    Raises:
        ToolError: names the argument and what is wrong with it.
    """
    if plainly_valid(schema, arguments):
        return
    request = {"schema": schema, "arguments": arguments, "formats": formats}
    said = _told_apart(request) if may_run_away(schema, arguments) else fault(request)
    if said:
        raise ToolError(f"{name}: {said}")


def fault(request: Mapping[str, Any]) -> str:
    """What is wrong with arguments, or with the schema; empty if nothing is."""
    import jsonschema
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    schema, formats = request["schema"], request["formats"]
    try:
        validator = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
        validator.check_schema(schema)
        # an empty registry: a schema's $ref never fetches anything
        checker = jsonschema.FormatChecker() if formats else None
        wrong = validator(schema, registry=Registry(), format_checker=checker).iter_errors(request["arguments"])
        found = jsonschema.exceptions.best_match(wrong)
    except jsonschema.SchemaError as error:
        return f"its schema is not a JSON schema: {_short(error.message)}"
    except Unresolvable as error:
        return f"its schema refers to {error.ref!r}, which it does not hold"
    except RecursionError:
        return "its schema refers to itself without end"
    except (re.error, TypeError, ValueError, AttributeError, OverflowError) as error:  # what no meta-schema finds
        return f"its schema can't be used: {_short(str(error))}"
    if found is None:
        return ""
    where = ".".join(str(part) for part in found.absolute_path)
    return f"{where + ': ' if where else ''}{_short(found.message)}"


def _short(message: str, limit: int = 300) -> str:
    return message if len(message) <= limit else f"{message[:limit]}…"


# ------------------------------------------------------------------------------------------------------ patterns

_MAX_STEPS = 10**7
_REPEATED = re.compile(r"\)[*+{]|\\[1-9]|\(\?P=")
_MAX_OPTIONAL = 10
_ROOT = Path(__file__).resolve().parents[2]
_CHILD = """\
import json, sys
sys.path.insert(0, sys.argv[1])
from llmos.plugins.schemas import fault
sys.stdout.write(json.dumps(fault(json.load(sys.stdin))))
"""


def may_run_away(schema: Schema, arguments: Mapping[str, Any]) -> bool:
    """Whether matching a text of the arguments against a pattern of the schema may take longer than anybody waits."""
    patterns = [pattern for _, one in _inside(schema) if isinstance(one, Mapping) for pattern in _patterns(one)]
    if not patterns:
        return False
    longest = 0
    for depth, one in _inside(arguments):
        texts = [one] if isinstance(one, str) else map(str, one) if isinstance(one, Mapping) else ()
        longest = max(longest, _MAX_STEPS if depth > MAX_DEPTH else 0, *map(len, texts))
    return any(_may_run_away(pattern, longest) for pattern in patterns)


def _patterns(schema: Schema) -> Iterator[str]:
    if isinstance(schema.get("pattern"), str):
        yield schema["pattern"]
    if isinstance(schema.get("patternProperties"), Mapping):
        yield from map(str, schema["patternProperties"])


def _may_run_away(pattern: str, length: int) -> bool:
    """A bound on the steps of a backtracking matcher, read off the pattern's text: in doubt it may run away."""
    if _REPEATED.search(pattern):
        return True
    loops, optional = sum(map(pattern.count, "*+{")), pattern.count("?")
    degree = loops + (not pattern.startswith("^"))
    return optional > _MAX_OPTIONAL or max(length, 2) ** degree * 2**optional > _MAX_STEPS


def _told_apart(request: Mapping[str, Any]) -> str:
    """The same in a process that can be killed."""
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-B", "-c", _CHILD, str(_ROOT)],
            cwd="/",
            input=json.dumps(request).encode(),
            capture_output=True,
            timeout=PATTERN_TIMEOUT_S,
            check=True,
        )
    except subprocess.TimeoutExpired:
        return f"a pattern of its schema takes more than {PATTERN_TIMEOUT_S:.0f} s for these arguments"
    except (subprocess.CalledProcessError, TypeError, ValueError) as error:
        return f"its schema can't be used: {type(error).__name__}"
    said: str = json.loads(done.stdout)
    return said


# ------------------------------------------------------------------------------------------------- at a glance

_PLAIN: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}
_SEEN_AT_A_GLANCE = {"type", "description", "default", "title", "enum", "minimum", "maximum"}


def plainly_valid(schema: Schema, arguments: Mapping[str, Any]) -> bool:
    """Whether the arguments satisfy a schema simple enough to see at a glance (spares importing jsonschema)."""
    properties = schema.get("properties", {})
    if set(schema) - {"type", "properties", "required", "additionalProperties", "title", "description"}:
        return False
    if not set(schema.get("required", ())) <= set(arguments) <= set(properties):
        return False
    try:
        return all(_plain_value(properties[name], value) for name, value in arguments.items())
    except TypeError:  # a bound that is no number
        return False


def _plain_value(schema: Schema, value: Any) -> bool:
    if set(schema) - _SEEN_AT_A_GLANCE or not isinstance(schema.get("type", ""), str):
        return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    kind = schema.get("type")
    if kind in ("integer", "number"):
        if not isinstance(value, int if kind == "integer" else int | float) or isinstance(value, bool):
            return False
        return bool(schema.get("minimum", value) <= value <= schema.get("maximum", value))
    if kind is None:
        return not {"minimum", "maximum"} & set(schema)
    return kind in _PLAIN and isinstance(value, _PLAIN[kind])
