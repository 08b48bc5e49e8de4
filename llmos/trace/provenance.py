"""Where each argument of a recorded call came from: the goal, an earlier output, the surroundings, or the model.

Deterministic and strict. A value that two sources explain, or that the model picked out of an output, is frozen:
the goal's literal must then be the same, and the output's hash is checked at replay.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

from llmos.trace.evidence import MIN_PIECE, Evidence, OutputLeaf
from llmos.trace.lex import Kind, Token
from llmos.trace.match import ambiguous_number, safe_inline
from llmos.trace.program import Effect, SlotType
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
    """What explaining the arguments of one step brought to light.

    `used` maps goal tokens (by position) to the argument that consumed them first; `banned` are tokens that may
    not vary; `frozen` are steps whose output must hash the same; `lengths` are lists inside outputs (step, path)
    that were read by position; `parents` are path tokens whose folder must stay; `shared` are consumed by
    arguments of different names; `guessed` says that an argument holds data which nothing stated explains: the
    model may have worked it out from anything it had seen.
    """

    used: dict[int, str] = field(default_factory=dict)
    banned: set[int] = field(default_factory=set)
    frozen: set[int] = field(default_factory=set)
    lengths: set[tuple[int, ValuePath]] = field(default_factory=set)
    parents: set[int] = field(default_factory=set)
    inline: set[int] = field(default_factory=set)
    choices: dict[int, tuple[str, ...]] = field(default_factory=dict)
    shared: set[int] = field(default_factory=set)
    guessed: bool = False

    def add(self, other: Findings) -> None:
        """Take in what another step brought to light."""
        self.shared |= other.shared | {i for i in other.used if self.used.get(i, other.used[i]) != other.used[i]}
        self.used = {**other.used, **self.used}
        self.choices |= other.choices
        self.banned |= other.banned
        self.frozen |= other.frozen
        self.lengths |= other.lengths
        self.parents |= other.parents
        self.inline |= other.inline

    def use(self, position: int, param: str) -> None:
        """Note that an argument consumes a goal token."""
        if self.used.setdefault(position, param) != param:
            self.shared.add(position)


@dataclass(kw_only=True)
class Explainer:
    """Finds provenance for the leaves of one recording; what comes to light goes into `found`.

    `names` gives each goal token its slot name, `banned` are positions that stay literal; `env` holds the values
    of `cwd` and `today` at the time of the run.
    """

    tokens: Sequence[Token]
    evidence: Evidence
    step_ids: Sequence[str]
    names: Mapping[int, str]
    banned: frozenset[int]
    env: Mapping[str, str]
    found: Findings = field(default_factory=Findings)

    def explain(self, value: Any, at: int, param: str, facts: ToolFacts) -> Expr:
        """The provenance expression of one argument of step `at`; evaluates to `value` on the recorded run."""
        if isinstance(value, dict | list):
            return self._output_ref(value, at) or self._explain_parts(value, at, param, facts)
        if isinstance(value, bool) or value is None:
            self.found.guessed |= value is not None and facts.effect.rank > Effect.WRITE.rank
            return Const(value=value)
        if isinstance(value, int | float):
            return self._explain_number(value, at, param)
        return self._explain_text(value, at, param, facts)

    def _explain_parts(self, value: dict[str, Any] | list[Any], at: int, param: str, facts: ToolFacts) -> Expr:
        if isinstance(value, dict):
            fields = tuple((key, self.explain(item, at, param, facts)) for key, item in value.items())
            plain = all(isinstance(item, Const) for _, item in fields)
            return Const(value=value) if plain else Record(fields=fields)
        items = tuple(self.explain(item, at, param, facts) for item in value)
        return Const(value=value) if all(isinstance(i, Const) for i in items) else ListExpr(items=items)

    # --- whole values ------------------------------------------------------------------------------

    def _explain_number(self, value: float, at: int, param: str) -> Expr:
        stated = [i for i, t in enumerate(self.tokens) if t.kind is Kind.NUMBER and _same_number(t, value)]
        free = [i for i in stated if i not in self.banned]
        outputs = self.evidence.equal(value, at)
        if free and not outputs:
            return self._slot(free, param, Const(value=value), (Transform(name="number"),))
        if outputs and (stated or not telling(value)):
            return self._freeze(value, free, outputs)
        if outputs:
            return self._unique_ref(outputs, value, payload=False)
        self.found.guessed |= not stated
        return Const(value=value)

    def _explain_text(self, value: str, at: int, param: str, facts: ToolFacts) -> Expr:
        if not value:
            return Const(value=value)
        stated = [i for i, t in enumerate(self.tokens) if t.kind in SLOT_KINDS and t.value == value]
        free = [i for i in stated if i not in self.banned]
        outputs = self.evidence.equal(value, at)
        if outputs and stated and not all(self.tokens[i].kind in _UNMISTAKABLE for i in free):
            return self._freeze(value, free, outputs)
        if free:
            return self._text_slot(free, value, param, facts)
        choice = self._choice(value, param, facts)
        if choice is not None:
            return choice
        if stated or any(token.text == value for token in self.tokens):
            return Const(value=value)
        if outputs:
            return self._unique_ref(outputs, value, payload=param in facts.payload_params)
        cased = self._cased(value, param)
        if cased is not None:
            return cased
        if param in facts.code_params:
            return self._explain_code(value, at, param, facts)
        return self._explain_pieces(value, at, param, facts)

    def _text_slot(self, free: list[int], value: str, param: str, facts: ToolFacts) -> Expr:
        """A literal of the goal as the whole of an argument; as code or as digits only plain values may vary."""
        token = self.tokens[free[0]]
        if token.kind is Kind.NUMBER or (param in facts.code_params and token.kind is not Kind.GLOB):
            if not safe_inline(value, SlotType(token.kind)):
                self.found.banned.update(free)
                return Const(value=value)
            self.found.inline.add(free[0])
        return self._slot(free, param, Const(value=value))

    def _literals(self) -> Iterator[tuple[int, Token]]:
        return ((i, t) for i, t in enumerate(self.tokens) if t.kind in SLOT_KINDS and i not in self.banned)

    def _slot(self, positions: list[int], param: str, fixed: Const, transforms: tuple[Transform, ...] = ()) -> Expr:
        """A reference to the one goal token that explains a value; several of them freeze it and each other."""
        token = self.tokens[positions[0]]
        if len(positions) > 1 or (token.kind is Kind.NUMBER and ambiguous_number(token.value)):
            self.found.banned.update(positions)
            return fixed
        self.found.use(positions[0], param)
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
        self.found.use(places[0], param)
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
            if places and len(value) >= MIN_PIECE:
                return self._slot(places, param, Const(value=value), (Transform(name=name),))
        return None

    # --- outputs -----------------------------------------------------------------------------------

    def _output_ref(self, value: list[Any] | dict[str, Any], at: int) -> Expr | None:
        """The one list or object of an earlier output that equals a value of two entries or more."""
        found = self.evidence.containers(value, at) if len(value) >= 2 else []
        if len(found) != 1:
            self.found.frozen.update(step for step, _ in found)
            return None
        step, path = found[0]
        return OutputRef(step=self.step_ids[step], path=path)

    def _unique_ref(self, outputs: list[OutputLeaf], value: Any, *, payload: bool) -> Expr:
        """A reference to the one output that explains a value; what was picked from several freezes them.

        A tool's `text` says the same as its other fields; it is what a payload is made of.
        """
        named = [leaf for leaf in outputs if max(self.evidence.lengths(leaf), default=1) == 1]
        texts = [leaf for leaf in named if leaf.path == ("text",)]
        others = [leaf for leaf in named if leaf.path != ("text",)]
        candidates = texts or others if payload else others or texts
        doubtful = len(named) < len(outputs) or len(candidates) > 1 or len(others) > 1
        if doubtful or len({leaf.step for leaf in outputs}) > 1 or value == self.env.get("today"):
            return self._freeze(value, [], outputs)
        chosen = candidates[0]
        for depth, part in enumerate(chosen.path):
            if isinstance(part, int):
                self.found.lengths.add((chosen.step, chosen.path[:depth]))
        return OutputRef(step=self.step_ids[chosen.step], path=chosen.path)

    # --- text with pieces --------------------------------------------------------------------------

    def _explain_code(self, code: str, at: int, param: str, facts: ToolFacts) -> Expr:
        """Code is the procedure itself: goal literals in it become holes, data copied from outputs freezes them."""
        parts = self._with_holes(code, at, param, inline=True)
        constant = [part for part in parts if isinstance(part, str)]
        rest, known = "\n".join(constant), self._goal_words
        data = {piece for piece in data_in_code(rest) if piece.casefold() not in known}
        if facts.effect is Effect.UNKNOWN:
            data |= {word for word in re.findall(r"[\w.-]*\w{3,}", rest) if word.casefold() not in known}
            self.found.guessed |= any(word.casefold() not in known for word in shell_words(" - ".join(constant)))
        for piece in data - _NO_DATA:
            self.found.frozen |= self.evidence.holding(piece, at)
        self.found.frozen |= self.evidence.naming(rest, at, known, forms=2)
        self.found.guessed |= any(map(self._is_guess, data))
        return _expr_of(parts)

    def _is_guess(self, piece: str) -> bool:
        """Whether a number or text in code may be what the model worked out in its head."""
        if re.fullmatch(r"\d[\d.]*", piece):
            return len(piece) > 1 and piece not in _EVERYDAY
        words = [word for word in re.findall(r"[^\W\d_]{2,}", piece) if not self._is_goal_text(word)]
        return len(words) > 3

    def _explain_pieces(self, value: str, at: int, param: str, facts: ToolFacts) -> Expr:
        """Any other text: holes for goal literals; what remains must be one word or words of the goal."""
        content = param in facts.payload_params
        parts = self._with_holes(value, at, param, inline=False)
        rest = [part for part in parts if isinstance(part, str)]
        picked = self._picked(value, "\n".join(rest), at)
        simple = not content and not re.search(r"\s", value)
        known = all(self._is_goal_text(part) for part in rest)
        if picked and not (known and not content):
            self.found.frozen |= picked
            return self._written_by_model(value, at) if content or not simple else self._fixed(value, parts)
        if known or simple:
            self.found.guessed |= not known and len(parts) == 1 and value not in facts.enums.get(param, ())
            return _expr_of(parts)
        return self._written_by_model(value, at)

    def _fixed(self, value: str, parts: Sequence[str | Ref]) -> Const:
        """A value read off an output: constant while that output is, and with it the literals it holds."""
        names = {part.name for part in parts if isinstance(part, SlotRef)}
        self.found.banned.update(i for i, name in self.names.items() if name in names)
        return Const(value=value)

    def _picked(self, value: str, rest: str, at: int) -> set[int]:
        """The steps a value was read off, or that name a file it was made from."""
        found = self.evidence.holding(value, at) | self.evidence.standing_in(value, at)
        return found | self.evidence.naming(rest, at, self._goal_words)

    @cached_property
    def _goal_words(self) -> set[str]:
        return {form.casefold() for token in self.tokens for form in (token.text, token.value)}

    def _is_goal_text(self, text: str) -> bool:
        known = self._goal_words
        return all(word.casefold() in known for word in re.findall(r"\w+", text))

    def _written_by_model(self, value: str, at: int) -> Opaque:
        self.found.frozen.update(range(at))
        self.found.banned.update(i for i, token in enumerate(self.tokens) if token.kind in SLOT_KINDS)
        self.found.banned.update(self.found.choices)
        return Opaque(value=value)

    def _with_holes(self, text: str, at: int, param: str, *, inline: bool) -> list[str | Ref]:
        """Replace goal literals (whole, file name, stem) and the working directory by references, longest first."""
        parts: list[str | Ref] = [text]
        for form, position, ref in self._forms:
            if position < 0 and form == self.env.get("today") and form in text:
                seen = self.evidence.holding(form, at)
                self.found.frozen |= seen
                if seen:
                    continue
            parts = [piece for part in parts for piece in self._split(part, form, position, ref, param, inline)]
        self._ban_repeated_numbers(parts)
        return parts

    def _ban_repeated_numbers(self, parts: Sequence[str | Ref]) -> None:
        """A number that stands twice in one text may be another one there."""
        names = [part.name for part in parts if isinstance(part, SlotRef)]
        numbers = {name: i for i, name in self.names.items() if self.tokens[i].kind is Kind.NUMBER}
        self.found.banned.update(i for name, i in numbers.items() if names.count(name) > 1)

    @cached_property
    def _forms(self) -> list[tuple[str, int, Ref]]:
        """What may stand for a goal literal (by position) or the surroundings (-1) inside a text, longest first."""
        forms: list[tuple[str, int, Ref]] = []
        for position, token in self._literals():
            ref = SlotRef(name=self.names[position])
            forms.append((token.value, position, ref))
            if token.kind is Kind.PATH:
                path = PurePosixPath(token.value)
                for transform, form in (("name", path.name), ("stem", path.stem)):
                    forms.append((form, position, SlotRef(name=ref.name, transforms=(Transform(name=transform),))))
        if len(self.env.get("cwd", "")) > 1:
            forms += [(self.env["cwd"] + tail, -1, EnvRef(name="cwd")) for tail in ("", "/")]
        if self.env.get("today") and not any(token.value == self.env["today"] for token in self.tokens):
            forms.append((self.env["today"], -1, EnvRef(name="today")))
        return sorted((form for form in forms if len(form[0]) >= MIN_PIECE), key=lambda form: -len(form[0]))

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
        before, after, beyond = text[max(start - 1, 0) : start], text[end : end + 1], text[end + 1 : end + 2]
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
        """Literals of the goal that explain one piece freeze each other, and so does a plain word of the goal."""
        if position < 0:
            return
        rivals = {other for text, other, _ in self._forms if text == form and other >= 0}
        worded = any(t.kind is Kind.WORD and t.key == form.casefold() for t in self.tokens)
        if len(rivals) > 1 or worded:
            self.found.banned |= rivals

    def _used_inline(self, position: int, ref: Ref, param: str, inline: bool) -> None:
        if position < 0:
            return
        self.found.use(position, param)
        token = self.tokens[position]
        if isinstance(ref, SlotRef) and ref.transforms:
            self.found.parents.add(position)
        if inline or token.kind is Kind.NUMBER:
            self.found.inline.add(position)
            if not safe_inline(token.value, SlotType(token.kind)):
                self.found.banned.add(position)


def _expr_of(parts: Sequence[str | Ref]) -> Expr:
    if all(isinstance(part, str) for part in parts):
        return Const(value="".join(str(part) for part in parts))
    if len(parts) == 1 and not isinstance(parts[0], str):
        return parts[0]
    return text_of(tuple(parts))


_DATA_IN_CODE = re.compile(r"'([^'\n]{2,})'|\"([^\"\n]{2,})\"|(?<![\w.])(\d[\d.]*)(?![\w.])")
_NO_DATA = frozenset({"0", "1", "2"})
_EVERYDAY = frozenset({"10", "12", "24", "60", "100", "365", "1000", "1024", "3600", "0.0", "0.5", "1.0", "100.0"})


def data_in_code(code: str) -> set[str]:
    """The numbers and quoted strings in code."""
    return {next(filter(None, found.groups())) for found in _DATA_IN_CODE.finditer(code)}


def shell_words(command: str) -> set[str]:
    """What a shell command says besides options, operators and the names of the programs it runs."""
    words: set[str] = set()
    for part in re.split(r"[|;&\n(){}`]+", command):
        said = [word.strip("'\"<>") for word in part.split() if not re.match(r"\d?[<>]", word)]
        words.update(word for word in said[1:] if re.search(r"\w", word) and not word.startswith("-"))
    return words


def telling(value: float) -> bool:
    """Whether a number is long enough for an equal one not to be chance."""
    return abs(value) >= 100 or value != int(value)


def _same_number(token: Token, value: float) -> bool:
    return bool(TRANSFORMS["number"](token.value) == value)
