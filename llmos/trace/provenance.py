"""Where each argument of a recorded call came from: the goal, an earlier output, the surroundings, or the model.

Deterministic and strict. A value that two sources explain, or that the model picked out of an output, is frozen:
the goal's literal must then be the same, and the output's hash is checked at replay.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from llmos.trace.lex import Kind, Token
from llmos.trace.program import Effect
from llmos.trace.run import StepRecord
from llmos.trace.transforms import TRANSFORMS
from llmos.trace.values import (
    Const,
    EnvRef,
    Expr,
    ListExpr,
    Opaque,
    OutputRef,
    Record,
    Ref,
    SlotRef,
    Transform,
    ValuePath,
    text_of,
)

SLOT_KINDS = frozenset(
    {Kind.QUOTED, Kind.URL, Kind.EMAIL, Kind.DATE, Kind.PATH, Kind.GLOB, Kind.NUMBER, Kind.EXPRESSION, Kind.IDENTIFIER}
)
# A user who writes one of these means it, even where a listing shows the same value.
_UNMISTAKABLE = frozenset({Kind.PATH, Kind.GLOB, Kind.URL, Kind.EMAIL, Kind.QUOTED, Kind.EXPRESSION})
_MIN_INLINE = 3
_CASES = ("lower", "upper", "title", "slug", "snake")


@dataclass(frozen=True, kw_only=True)
class ToolFacts:
    """What induction must know of a tool: which arguments hold code, which content, which are enumerations."""

    name: str
    effect: Effect = Effect.UNKNOWN
    version: str | None = None
    code_params: frozenset[str] = frozenset()
    payload_params: frozenset[str] = frozenset()
    enums: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(kw_only=True)
class Findings:
    """What explaining the arguments brought to light.

    `used` maps goal tokens (by position) to the argument that consumed them first; `banned` are tokens that may
    not vary; `frozen` are steps whose output must hash the same; `lengths` are lists inside outputs (step, path)
    that were read by position; `parents` are path tokens whose folder must stay.
    """

    used: dict[int, str] = field(default_factory=dict)
    banned: set[int] = field(default_factory=set)
    frozen: set[int] = field(default_factory=set)
    lengths: set[tuple[int, ValuePath]] = field(default_factory=set)
    parents: set[int] = field(default_factory=set)
    inline: set[int] = field(default_factory=set)
    choices: dict[int, tuple[str, ...]] = field(default_factory=dict)
    opaque: bool = False


@dataclass(frozen=True, kw_only=True)
class OutputLeaf:
    """A string or number inside the output of step `step` (an index into the recorded steps)."""

    step: int
    path: ValuePath
    value: str | float


@dataclass(frozen=True, kw_only=True)
class Explainer:
    """Finds provenance for the leaves of one recording.

    `names` gives each goal token its slot name, `banned` are positions that stay literal; `env` holds the values
    of `cwd` and `today` at the time of the run.
    """

    tokens: Sequence[Token]
    steps: Sequence[StepRecord]
    step_ids: Sequence[str]
    names: Mapping[int, str]
    banned: frozenset[int]
    env: Mapping[str, str]
    found: Findings

    def explain(self, value: Any, at: int, param: str, facts: ToolFacts) -> Expr:
        """The provenance expression of one argument of step `at`; evaluates to `value` on the recorded run."""
        if isinstance(value, dict):
            fields = tuple((key, self.explain(item, at, param, facts)) for key, item in value.items())
            plain = all(isinstance(item, Const) for _, item in fields)
            return Const(value=value) if plain else Record(fields=fields)
        if isinstance(value, list):
            whole = self._output_ref(value, at)
            if whole is not None:
                return whole
            items = tuple(self.explain(item, at, param, facts) for item in value)
            plain = all(isinstance(item, Const) for item in items)
            return Const(value=value) if plain else ListExpr(items=items)
        if isinstance(value, bool) or value is None:
            return Const(value=value)
        if isinstance(value, int | float):
            return self._explain_number(value, at, param)
        return self._explain_text(value, at, param, facts)

    # --- whole values ------------------------------------------------------------------------------

    def _explain_number(self, value: float, at: int, param: str) -> Expr:
        stated = [i for i, t in enumerate(self.tokens) if t.kind is Kind.NUMBER and _same_number(t, value)]
        free = [i for i in stated if i not in self.banned]
        outputs = [leaf for leaf in self._outputs(at) if not isinstance(leaf.value, str) and leaf.value == value]
        if free and not outputs:
            return self._slot(free, param, Const(value=value), (Transform(name="number"),))
        if outputs and (stated or not self._telling(value)):
            return self._freeze(value, free, outputs)
        if outputs:
            return self._unique_ref(outputs, value)
        return Const(value=value)

    @staticmethod
    def _telling(value: float) -> bool:
        """Whether a number is long enough for an equal one not to be chance."""
        return abs(value) >= 100 or value != int(value)

    def _explain_text(self, value: str, at: int, param: str, facts: ToolFacts) -> Expr:
        if not value:
            return Const(value=value)
        stated = [i for i, t in enumerate(self.tokens) if t.kind in SLOT_KINDS and t.value == value]
        free = [i for i in stated if i not in self.banned]
        outputs = [leaf for leaf in self._outputs(at) if leaf.value == value]
        if outputs and stated and not all(self.tokens[i].kind in _UNMISTAKABLE for i in free):
            return self._freeze(value, free, outputs)
        if free:
            return self._slot(free, param, Const(value=value))
        choice = self._choice(value, param, facts)
        if choice is not None:
            return choice
        if stated or any(token.text == value for token in self.tokens):
            return Const(value=value)
        if outputs:
            return self._unique_ref(outputs, value)
        cased = self._cased(value, param)
        if cased is not None:
            return cased
        if param in facts.code_params:
            return self._explain_code(value, at, param, facts)
        return self._explain_pieces(value, at, param, facts)

    def _literals(self) -> Iterator[tuple[int, Token]]:
        return ((i, t) for i, t in enumerate(self.tokens) if t.kind in SLOT_KINDS and i not in self.banned)

    def _slot(self, positions: list[int], param: str, fixed: Const, transforms: tuple[Transform, ...] = ()) -> Expr:
        """A reference to the one goal token that explains a value; several of them freeze it and each other."""
        if len(positions) > 1:
            self.found.banned.update(positions)
            return fixed
        self.found.used.setdefault(positions[0], param)
        return SlotRef(name=self.names[positions[0]], transforms=transforms)

    def _freeze(self, value: Any, positions: Sequence[int], outputs: Sequence[OutputLeaf]) -> Const:
        self.found.banned.update(positions)
        self.found.frozen.update(leaf.step for leaf in outputs)
        return Const(value=value)

    def _choice(self, value: str, param: str, facts: ToolFacts) -> Expr | None:
        if value not in facts.enums.get(param, ()):
            return None
        places = [i for i, t in enumerate(self.tokens) if t.text == value and i not in self.banned]
        if len(places) != 1:
            return None
        self.found.used.setdefault(places[0], param)
        self.found.choices[places[0]] = facts.enums[param]
        return SlotRef(name=self.names[places[0]])

    def _cased(self, value: str, param: str) -> Expr | None:
        """A value that is a goal literal in another case or as a slug."""
        for name in _CASES:
            places = [
                i
                for i, token in self._literals()
                if token.kind in (Kind.QUOTED, Kind.IDENTIFIER) and TRANSFORMS[name](token.value) == value
            ]
            if places and len(value) >= _MIN_INLINE:
                return self._slot(places, param, Const(value=value), (Transform(name=name),))
        return None

    # --- outputs -----------------------------------------------------------------------------------

    def _outputs(self, at: int) -> Iterator[OutputLeaf]:
        """Strings and numbers in the outputs before step `at`, without echoes of the call's own arguments."""
        for index in range(at):
            step = self.steps[index]
            echoes = {_plain(leaf) for _, leaf in leaves(step.args)}
            for path, leaf in leaves(step.output):
                if not isinstance(leaf, bool) and leaf is not None and leaf != "" and _plain(leaf) not in echoes:
                    yield OutputLeaf(step=index, path=path, value=leaf)

    def _output_ref(self, value: list[Any], at: int) -> Expr | None:
        if len(value) < 2:
            return None
        for index in reversed(range(at)):
            for path, part in containers(self.steps[index].output):
                if part == value:
                    return OutputRef(step=self.step_ids[index], path=path)
        return None

    def _unique_ref(self, outputs: list[OutputLeaf], value: Any) -> Expr:
        """A reference to the output that explains a value; read by position, its list must keep its length."""
        latest = [leaf for leaf in outputs if leaf.step == max(other.step for other in outputs)]
        named = [leaf for leaf in latest if not any(isinstance(part, int) for part in leaf.path)]
        chosen = min(named or latest, key=lambda leaf: len(leaf.path))
        if not named:
            if len(latest) > 1:
                return self._freeze(value, [], latest)
            for depth, part in enumerate(chosen.path):
                if isinstance(part, int):
                    self.found.lengths.add((chosen.step, chosen.path[:depth]))
        return OutputRef(step=self.step_ids[chosen.step], path=chosen.path)

    # --- text with pieces --------------------------------------------------------------------------

    def _explain_code(self, code: str, at: int, param: str, facts: ToolFacts) -> Expr:
        """Code is the procedure itself: goal literals in it become holes, data copied from outputs freezes them."""
        parts = self._with_holes(code, param, inline=True)
        rest = "\n".join(part for part in parts if isinstance(part, str))
        shell = facts.effect is Effect.UNKNOWN
        for leaf in self._outputs(at):
            if self._copies_data(rest, leaf, shell=shell):
                self.found.frozen.add(leaf.step)
        return _expr_of(parts)

    def _copies_data(self, code: str, leaf: OutputLeaf, *, shell: bool) -> bool:
        """Whether code holds data that stands in an output and not in the goal.

        Data is a number, a quoted string, a file's name and, in a shell command, any word.
        """
        text = leaf.value if isinstance(leaf.value, str) else json.dumps(leaf.value)
        pieces = {next(filter(None, found.groups())) for found in _DATA_IN_CODE.finditer(code)}
        if shell:
            pieces |= set(re.findall(r"[\w.-]*\w{3,}", code))
        known = self._goal_words()
        if any(piece.casefold() not in known and token_bounded(piece, text) for piece in pieces):
            return True
        return any(form not in known and token_bounded(form, code.casefold()) for form in _file_forms(text)[:2])

    def _explain_pieces(self, value: str, at: int, param: str, facts: ToolFacts) -> Expr:
        """Any other text: holes for goal literals; what remains must be one word or words of the goal."""
        content = param in facts.payload_params
        parts = self._with_holes(value, param, inline=False)
        rest = [part for part in parts if isinstance(part, str)]
        picked = [leaf for leaf in self._outputs(at) if self._picked(value, rest, leaf)]
        simple = not content and not re.search(r"\s", value)
        known = all(self._is_goal_text(part) for part in rest)
        if picked and not (known and not content):
            self.found.frozen.update(leaf.step for leaf in picked)
            return self._written_by_model(value, at) if content or not simple else self._fixed(value, parts)
        if known or simple:
            return _expr_of(parts)
        return self._written_by_model(value, at)

    def _fixed(self, value: str, parts: Sequence[str | Ref]) -> Const:
        """A value read off an output: constant while that output is, and with it the literals it holds."""
        names = {part.name for part in parts if isinstance(part, SlotRef)}
        self.found.banned.update(i for i, name in self.names.items() if name in names)
        return Const(value=value)

    def _picked(self, value: str, rest: Sequence[str], leaf: OutputLeaf) -> bool:
        """Whether a value was read off an output, or made from the name of a file in one."""
        text = leaf.value if isinstance(leaf.value, str) else json.dumps(leaf.value)
        if len(value) <= len(text) and token_bounded(value, text):
            return True
        if len(text) >= _MIN_INLINE and token_bounded(text, value):
            return True
        known = self._goal_words()
        constant = "\n".join(rest).casefold()
        return any(form not in known and token_bounded(form, constant) for form in _file_forms(text))

    def _goal_words(self) -> set[str]:
        return {form.casefold() for token in self.tokens for form in (token.text, token.value)}

    def _is_goal_text(self, text: str) -> bool:
        known = self._goal_words()
        return all(word.casefold() in known for word in re.findall(r"\w+", text))

    def _written_by_model(self, value: str, at: int) -> Opaque:
        self.found.opaque = True
        self.found.frozen.update(range(at))
        self.found.banned.update(i for i, token in enumerate(self.tokens) if token.kind in SLOT_KINDS)
        self.found.banned.update(self.found.choices)
        return Opaque(value=value)

    def _with_holes(self, text: str, param: str, *, inline: bool) -> list[str | Ref]:
        """Replace goal literals (whole, file name, stem) and the working directory by references, longest first."""
        parts: list[str | Ref] = [text]
        for form, position, ref in self._forms():
            parts = [piece for part in parts for piece in self._split(part, form, position, ref, param, inline)]
        return parts

    def _forms(self) -> list[tuple[str, int, Ref]]:
        forms: list[tuple[str, int, Ref]] = []
        for position, token in self._literals():
            name = self.names[position]
            if len(token.value) >= _MIN_INLINE:
                forms.append((token.value, position, SlotRef(name=name)))
            if token.kind is Kind.PATH:
                path = PurePosixPath(token.value)
                for transform, form in (("name", path.name), ("stem", path.stem)):
                    if len(form) >= _MIN_INLINE:
                        ref = SlotRef(name=name, transforms=(Transform(name=transform),))
                        forms.append((form, position, ref))
        if len(self.env.get("cwd", "")) > 1:
            forms += [(self.env["cwd"] + tail, -1, EnvRef(name="cwd")) for tail in ("", "/")]
        if self.env.get("today"):
            forms.append((self.env["today"], -1, EnvRef(name="today")))
        return sorted(forms, key=lambda form: (form[1] >= 0, -len(form[0])))

    def _split(self, part: str | Ref, form: str, position: int, ref: Ref, param: str, inline: bool) -> list[str | Ref]:
        if not isinstance(part, str) or form not in part:
            return [part]
        pieces: list[str | Ref] = []
        start = 0
        for found in re.finditer(re.escape(form), part):
            if not self._stands_alone(part, found.start(), found.end(), position, ref):
                continue
            tail = ["/"] if form.endswith("/") and position < 0 else []
            pieces += [part[start : found.start()], ref, *tail]
            start = found.end()
            self._ban_rivals(form, position)
            self._used_inline(position, ref, param, inline)
        return [piece for piece in [*pieces, part[start:]] if piece != ""]

    def _stands_alone(self, text: str, start: int, end: int, position: int, ref: Ref) -> bool:
        """Whether a form found in a text is a value of its own there, and not a part of a longer one."""
        before, after, beyond = text[:start][-1:], text[end:][:1], text[end:][1:2]
        if before.isalnum() or (after.isalnum() and not (position < 0 and text[end - 1] == "/")):
            return False
        if position < 0:
            return True
        transform = ref.transforms[0].name if isinstance(ref, SlotRef) and ref.transforms else None
        if transform == "stem":
            return before in {"/", "_", "-"} or (after in {".", "_", "-"} and beyond.isalnum())
        if before in {"_", "-"} or after in {"_", "-"} or (after == "." and beyond.isalnum()):
            return False
        if transform == "name":
            return before == "/" or "/" in self.tokens[position].value
        if self.tokens[position].kind is Kind.NUMBER and (before in {".", ","} or after in {".", ","}):
            return False
        return before != "/"

    def _ban_rivals(self, form: str, position: int) -> None:
        """Two literals of the goal that explain one piece freeze each other."""
        rivals = {other for text, other, _ in self._forms() if text == form and other >= 0}
        if position >= 0 and len(rivals) > 1:
            self.found.banned |= rivals

    def _used_inline(self, position: int, ref: Ref, param: str, inline: bool) -> None:
        if position < 0:
            return
        self.found.used.setdefault(position, param)
        if isinstance(ref, SlotRef) and ref.transforms:
            self.found.parents.add(position)
        if inline:
            self.found.inline.add(position)


def _expr_of(parts: Sequence[str | Ref]) -> Expr:
    if all(isinstance(part, str) for part in parts):
        return Const(value="".join(str(part) for part in parts))
    if len(parts) == 1 and not isinstance(parts[0], str):
        return parts[0]
    return text_of(tuple(parts))


_DATA_IN_CODE = re.compile(r"'([^'\n]{2,})'|\"([^\"\n]{2,})\"|(?<![\w.])(\d[\d.]{2,})(?![\w.])")


def _file_forms(text: str) -> list[str]:
    """A file's path, its name and its stem, if a text is one; nothing otherwise."""
    if not re.fullmatch(r"[^\s*?]*[\w)]\.[A-Za-z]\w{0,9}|[^\s*?]+/[^\s*?]*", text):
        return []
    path = PurePosixPath(text.casefold())
    return [form for form in (str(path), path.name, path.stem) if form not in ("", ".", "/")]


def _same_number(token: Token, value: float) -> bool:
    return bool(TRANSFORMS["number"](token.value) == value)


def _plain(value: Any) -> tuple[str, str]:
    return type(value).__name__, str(value)


def token_bounded(needle: str, text: str) -> bool:
    """Whether a needle stands in a text with no letter or digit touching it."""
    if needle not in text:
        return False
    left = r"(?<!\w)" if needle[:1].isalnum() else ""
    right = r"(?!\w)" if needle[-1:].isalnum() else ""
    return re.search(left + re.escape(needle) + right, text) is not None


def leaves(value: Any, path: ValuePath = ()) -> Iterator[tuple[ValuePath, Any]]:
    """Every scalar inside a JSON value with its path, in document order."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from leaves(item, (*path, index))
    else:
        yield path, value


def containers(value: Any, path: ValuePath = ()) -> Iterator[tuple[ValuePath, list[Any]]]:
    """Every list inside a JSON value that is reached by names alone."""
    if isinstance(value, list):
        yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from containers(item, (*path, key))
