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

from llmos.redaction import secret_of
from llmos.trace.align import ambiguous_number, safe_inline
from llmos.trace.codewords import (
    EVERYDAY,
    NO_DATA,
    data_in_code,
    may_be_fact,
    names_something,
    shell_words,
    sql_literals,
    telling,
)
from llmos.trace.derive import Derived, Deriver, as_transforms, tried
from llmos.trace.evidence import MIN_PIECE, Evidence, OutputLeaf
from llmos.trace.findings import Findings, ToolFacts
from llmos.trace.lex import Kind, Token
from llmos.trace.lookups import Place, field_of, in_entry, place_of
from llmos.trace.placing import stands_alone
from llmos.trace.program import Effect, SlotType
from llmos.trace.transforms import TRANSFORMS
from llmos.trace.values import (
    Const,
    EnvRef,
    Expr,
    ItemRef,
    ListExpr,
    Opaque,
    OutputRef,
    Record,
    Ref,
    SecretRef,
    SlotRef,
    Transform,
    text_of,
)

SLOT_KINDS = frozenset(
    {Kind.QUOTED, Kind.URL, Kind.EMAIL, Kind.DATE, Kind.PATH, Kind.GLOB, Kind.NUMBER, Kind.EXPRESSION, Kind.IDENTIFIER}
    | {Kind.LIST, Kind.TEXT}
)
_BACK = ("lower", "upper", "capital")
_QUOTABLE = frozenset({Kind.QUOTED, Kind.TEXT})
_NAMES = frozenset({Kind.QUOTED, Kind.TEXT, Kind.IDENTIFIER})
# A user who writes one of these means it, even where a listing shows the same value.
_UNMISTAKABLE = frozenset({Kind.PATH, Kind.GLOB, Kind.URL, Kind.EMAIL, Kind.QUOTED, Kind.EXPRESSION})


@dataclass(kw_only=True)
class Explainer:
    """Finds provenance for the leaves of one recording; what comes to light goes into `found`.

    `names` gives each goal token its slot name, `banned` are positions that stay literal, `unlisted` those that no
    look-up closes; `env` holds the values of `cwd` and `today` at the time of the run. `selects` says that the goal may
    ask for certain entries of a list, so that the only entry there was need not be what it would ask for again.
    """

    tokens: Sequence[Token]
    evidence: Evidence
    step_ids: Sequence[str]
    names: Mapping[int, str]
    banned: frozenset[int]
    env: Mapping[str, str]
    unlisted: frozenset[int] = frozenset()
    selects: bool = False
    found: Findings = field(default_factory=Findings)

    def explain(self, value: Any, at: int, param: str, facts: ToolFacts) -> Expr:
        """The provenance expression of one argument of step `at`; evaluates to `value` on the recorded run."""
        if isinstance(value, dict | list):
            whole = self._output_ref(value, at) or self._listed(value, param, at)
            return whole or self._explain_parts(value, at, param, facts)
        if isinstance(value, str) and (name := secret_of(value)):
            return SecretRef(name=name)
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
        if stated and self._is_dated(param, at):
            return self._freeze(value, [*stated, *(i for _, i in self._dates(at))], outputs)
        if free and not outputs:
            return self._slot(free, param, Const(value=value), (Transform(name="number"),))
        said = stated or self.deriver.whole(value) or self.deriver.numbered(value)
        entry = self._of_entry(value, outputs, at, param) if not said else None
        if entry is not None:
            return entry
        if outputs and (stated or not telling(value) or str(value) in EVERYDAY):
            return self._freeze(value, free, outputs)
        derived = [] if stated else self._sources(value)
        if outputs:
            return self._unique_or_frozen(outputs, derived, value, payload=False)
        if derived:
            return self._derived(derived, value, param, at)
        self.found.guessed |= not stated
        if not stated and abs(value) >= 10_000 and names_something(str(value)):
            self._freeze_all()
        if not stated and may_be_fact(value):
            self._freeze_names()
        return Const(value=value)

    def _freeze_all(self) -> None:
        """A name that stands nowhere was found out for this goal: with another one it would be another."""
        self.found.banned.update(i for i, token in enumerate(self.tokens) if token.kind in SLOT_KINDS)
        self.found.banned.update(self.found.choices)

    def _freeze_names(self) -> None:
        """What is known of one named thing is not so of another."""
        self.found.banned.update(i for i, token in enumerate(self.tokens) if token.kind in _QUOTABLE)

    def _explain_text(self, value: str, at: int, param: str, facts: ToolFacts) -> Expr:
        if not value:
            return Const(value=value)
        stated = [i for i, t in enumerate(self.tokens) if t.kind in SLOT_KINDS and t.value == value]
        free = [i for i in stated if i not in self.banned]
        outputs = self.evidence.equal(value, at)
        if stated and self._is_dated(param, at):
            return self._freeze(value, [*stated, *(i for _, i in self._dates(at))], outputs)
        place = self._looked_up(value, at, param, facts) if len(stated) == len(free) == 1 else None
        if place is not None:
            self.found.listed[free[0]] = place
            return self._text_slot(free, value, param, facts)
        if outputs and stated and not all(self.tokens[i].kind in _UNMISTAKABLE for i in free):
            return self._freeze(value, free, outputs)
        if free:
            return self._text_slot(free, value, param, facts)
        choice = self._choice(value, param, facts)
        if choice is not None:
            return choice
        folder = self._folder(value, param)
        if folder is not None and not outputs:
            return folder
        if stated or any(token.text == value for token in self.tokens):
            return Const(value=value)
        derived = [] if value in facts.enums.get(param, ()) else self.deriver.whole(value)
        if outputs and (value in facts.enums.get(param, ()) or self._is_hinted(value)):
            return self._freeze(value, [one.position for one in derived if one.position >= 0], outputs)
        is_name = param not in facts.code_params | facts.payload_params
        entry = self._of_entry(value, outputs, at, param) if is_name and not derived else None
        if entry is not None:
            return entry
        if outputs:
            return self._unique_or_frozen(outputs, derived, value, payload=param in facts.payload_params)
        if derived:
            return self._derived(derived, value, param, at)
        if param in facts.code_params:
            return self._explain_code(value, at, param, facts)
        written = self._written_from(value, at, param, facts)
        if written is not None:
            return written
        return self._explain_pieces(value, at, param, facts)

    def _looked_up(self, value: str, at: int, param: str, facts: ToolFacts) -> Place | None:
        """Where an earlier look-up lists a value that the goal says and an argument takes as a name."""
        position = next(i for i, t in enumerate(self.tokens) if t.kind in SLOT_KINDS and t.value == value)
        kind = self.tokens[position].kind
        if position in self.unlisted or kind not in _NAMES or param in facts.code_params | facts.payload_params:
            return None
        place = place_of(value, self.evidence, at)
        return None if place is not None and place.lines and kind is Kind.QUOTED else place

    def _of_entry(self, value: str | float, outputs: list[OutputLeaf], at: int, param: str) -> Expr | None:
        """A field of the entry that a look-up lists under the one name of it that the goal says."""
        leaf = field_of(value, param, outputs) if outputs else None
        if leaf is None:
            return None
        named = [(i, t.value) for i, t in self._literals() if t.kind in _NAMES and i not in self.unlisted]
        places = [(i, place) for i, name in named if (place := place_of(name, self.evidence, at)) is not None]
        found = [(i, place, keys) for i, place in places if (keys := in_entry(leaf, place)) is not None]
        if len(found) != 1:
            return None
        position, place, keys = found[0]
        self.found.use(position, re.sub(r"_?id$", "", param, flags=re.IGNORECASE) or str(place.by[-1]))
        self.found.listed[position] = place
        return ItemRef(loop=self.names[position], path=keys)

    def _is_hinted(self, value: str) -> bool:
        """Whether a value and a word of the goal are made of one another: `open` and `reopen`, `closed` and `close`."""
        said = [token.key for token in self.tokens if token.kind is Kind.WORD and len(token.key) > MIN_PIECE]
        word = value.casefold()
        return len(word) > MIN_PIECE and word.isalpha() and any(word in one or one in word for one in said)

    def _folder(self, value: str, param: str) -> Expr | None:
        """A folder that is passed on with the slash the goal wrote behind it."""
        places = [
            i
            for i, t in enumerate(self.tokens)
            if t.kind is Kind.PATH and t.text == value == f"{t.value}/" and i not in self.banned
        ]
        if len(places) != 1:
            return None
        self.found.use(places[0], param)
        return text_of([SlotRef(name=self.names[places[0]]), "/"])

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
        """One of the values that the tool lists, said by the goal, if need be in another case."""
        listed = facts.enums.get(param, ())
        if value not in listed:
            return None
        for said, back in ((lambda text: text, ()), (str.upper, _BACK), (str.capitalize, _BACK), (str.lower, _BACK)):
            values = tuple(said(one) for one in listed)
            places = [i for i, t in enumerate(self.tokens) if t.text == said(value) and i not in self.banned]
            ways = [way for way in back if all(tried(v, way) == one for v, one in zip(values, listed, strict=True))]
            if len(places) == 1 and (ways or not back):
                self.found.use(places[0], param)
                self.found.choices[places[0]] = values
                return SlotRef(name=self.names[places[0]], transforms=as_transforms(ways[0]) if ways else ())
        return None

    # --- derived values ----------------------------------------------------------------------------

    @cached_property
    def deriver(self) -> Deriver:
        return Deriver(tokens=self.tokens, env=self.env)

    def _sources(self, value: float) -> list[Derived]:
        """What of the goal a number may have been made of, its number words included."""
        found = self.deriver.whole(value)
        for position, transforms, instead in self.deriver.numbered(value):
            self.found.choices[position] = instead
            found.append(Derived(position=position, transforms=transforms, telling=True))
        return found

    def _is_dated(self, param: str, at: int) -> bool:
        return any(name == param for name, _ in self._dates(at))

    def _dates(self, at: int) -> set[tuple[str, int]]:
        """The arguments of a step that are year, month and day of one date of the goal; together they tell."""
        found: set[tuple[str, int]] = set()
        args = {name.rpartition("_")[2].lower(): (name, value) for name, value in self.evidence.steps[at].args.items()}
        if not {"year", "month", "day"} <= args.keys():
            return found
        for position, token in enumerate(self.tokens):
            parts = dict(zip(("year", "month", "day"), token.value.split("-"), strict=False))
            if token.kind is Kind.DATE and all(str(args[one][1]).zfill(2) == part for one, part in parts.items()):
                found |= {(args[one][0], position) for one in parts}
        return found

    def _derived(self, derived: Sequence[Derived], value: Any, param: str, at: int) -> Expr:
        """A value made of one piece of the goal or the day of the run; where that is in doubt it freezes the pieces."""
        positions = {one.position for one in derived if one.position >= 0}
        telling = derived[0].telling or (param, derived[0].position) in self._dates(at)
        doubtful = len(derived) > 1 or not telling or any(map(self._is_ambiguous, positions))
        if doubtful or positions & self.banned:
            self.found.banned |= positions.union(*(one.anchors for one in derived))
            self.found.guessed |= not positions
            return Const(value=value)
        return self._reference(derived[0], param)

    def _reference(self, made: Derived, param: str) -> Expr:
        self.found.banned |= made.anchors
        if made.position < 0:
            return EnvRef(name="today", transforms=made.transforms)
        self.found.use(made.position, param)
        if made.loses_folder:
            self.found.parents.add(made.position)
        return SlotRef(name=self.names[made.position], transforms=made.transforms)

    def _unique_or_frozen(
        self, outputs: list[OutputLeaf], derived: Sequence[Derived], value: Any, *, payload: bool
    ) -> Expr:
        """A value of an earlier output; one that the goal explains as well is frozen."""
        if any(one.telling for one in derived):
            return self._freeze(value, [one.position for one in derived if one.position >= 0], outputs)
        return self._unique_ref(outputs, value, payload=payload)

    def _listed(self, value: dict[str, Any] | list[Any], param: str, at: int) -> Expr | None:
        """A list of texts that a quoted text of the goal says."""
        derived = self.deriver.lists(value) if isinstance(value, list) and len(value) > 1 else []
        return self._derived(derived, value, param, at) if derived else None

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
        if self.selects and any(isinstance(part, int) for part in chosen.path):
            return self._freeze(value, [], outputs)
        for depth, part in enumerate(chosen.path):
            if isinstance(part, int):
                self.found.lengths.add((chosen.step, chosen.path[:depth]))
        return OutputRef(step=self.step_ids[chosen.step], path=chosen.path)

    def _written_from(self, value: str, at: int, param: str, facts: ToolFacts) -> Expr | None:
        """A text that is one list or object of an earlier output, written out; content may end in a line break more.

        Where several explain it, or several ways of writing it, nothing is decided here.
        """
        content = param in facts.payload_params
        body = value[:-1] if content and value.endswith("\n") else value
        tail = value[len(body) :]
        if tail and (outputs := self.evidence.equal(body, at)):
            ref = self._unique_ref(outputs, body, payload=True)
            return _expr_of([ref, tail]) if isinstance(ref, OutputRef) else None
        found = self.evidence.rendered(body, at) if len(body) >= MIN_PIECE else []
        if len(found) != 1 or not found[0][2]:
            self.found.frozen.update(step for step, _, _ in found)
            return None
        step, path, transforms = found[0]
        ref = OutputRef(step=self.step_ids[step], path=path, transforms=transforms)
        return _expr_of([ref, tail] if tail else [ref])

    # --- text with pieces --------------------------------------------------------------------------

    def _explain_code(self, code: str, at: int, param: str, facts: ToolFacts) -> Expr:
        """Code is the procedure itself: goal literals in it become holes, data copied from outputs freezes them."""
        parts = self._with_holes(self._with_literals(code, param), at, param, inline=True)
        constant = [part for part in parts if isinstance(part, str)]
        rest, known = "\n".join(constant), self._goal_words
        data = {piece for piece in data_in_code(rest) if piece.casefold() not in known}
        if facts.effect is Effect.UNKNOWN:
            data |= {word for word in re.findall(r"[\w.-]*\w{3,}", rest) if word.casefold() not in known}
            self.found.guessed |= any(word.casefold() not in known for word in shell_words(" - ".join(constant)))
        for piece in data - NO_DATA:
            self.found.frozen |= self.evidence.holding(piece, at)
        self.found.frozen |= self.evidence.naming(rest, at, known, forms=2)
        self.found.guessed |= any(map(self._is_guess, data))
        return _expr_of(parts)

    def _is_guess(self, piece: str) -> bool:
        """Whether a number or text in code may be what the model worked out in its head."""
        if re.fullmatch(r"\d[\d.]*", piece):
            return len(piece) > 1 and piece not in EVERYDAY
        words = [word for word in re.findall(r"[^\W\d_]{2,}", piece) if not self._is_goal_text(word)]
        return len(words) > 3

    def _explain_pieces(self, value: str, at: int, param: str, facts: ToolFacts) -> Expr:
        """Any other text: holes for goal literals; what remains must be one word or words of the goal."""
        content = param in facts.payload_params
        parts = self._with_holes([value], at, param, inline=False)
        rest = [part for part in parts if isinstance(part, str)]
        picked = self._picked(value, "\n".join(rest), at)
        simple = not content and not re.search(r"\s", value)
        known = all(self._is_goal_text(part) for part in rest)
        if picked and not (known and not content):
            self.found.frozen |= picked
            return self._written_by_model(value, at) if content or not simple else self._fixed(value, parts)
        if simple and not known and any(map(names_something, rest)) and value not in facts.enums.get(param, ()):
            self._freeze_all()
            return Const(value=value)
        if not known and len(parts) == 1 and may_be_fact(value) and value not in facts.enums.get(param, ()):
            self._freeze_names()
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

    def _with_literals(self, code: str, param: str) -> list[str | Ref]:
        """SQL with its whole texts that the goal says replaced, where a value may need quoting."""
        parts: list[str | Ref] = []
        start = 0
        for begin, end in sql_literals(code) if param == "sql" else ():
            said = code[begin + 1 : end - 1].replace("''", "'")
            places = [i for i, token in self._literals() if token.value == said and token.kind in _QUOTABLE]
            plain = len(said) < MIN_PIECE or safe_inline(said, SlotType.QUOTED)
            if plain or len(places) != 1 or tried(said, "sql") != code[begin:end]:
                continue
            self.found.use(places[0], param)
            ref = SlotRef(name=self.names[places[0]], transforms=(Transform(name="sql"),))
            parts += [code[start:begin], ref]
            start = end
        return [*parts, code[start:]]

    def _with_holes(self, parts: list[str | Ref], at: int, param: str, *, inline: bool) -> list[str | Ref]:
        """Replace goal literals (whole, file name, stem) and the working directory by references, longest first."""
        text = "\n".join(part for part in parts if isinstance(part, str))
        for form, position, ref in self._forms:
            if ref.name == "today" and position < 0 and form in text:
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
    def _forms(self) -> list[tuple[str, int, SlotRef | EnvRef]]:
        """What may stand for a goal literal (by position) or the surroundings (-1) inside a text, longest first."""
        forms: list[tuple[str, int, SlotRef | EnvRef]] = []
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
        for form, made in self.deriver.pieces:
            if made.position < 0:
                forms.append((form, -1, EnvRef(name="today", transforms=made.transforms)))
            elif made.position not in self.banned and not self._is_ambiguous(made.position):
                ref = SlotRef(name=self.names[made.position], transforms=made.transforms)
                forms.append((form, made.position, ref))
        return sorted((form for form in forms if len(form[0]) >= MIN_PIECE), key=lambda form: -len(form[0]))

    def _is_ambiguous(self, position: int) -> bool:
        return self.tokens[position].kind is Kind.NUMBER and ambiguous_number(self.tokens[position].value)

    def _split(
        self, part: str | Ref, form: str, position: int, ref: SlotRef | EnvRef, param: str, inline: bool
    ) -> list[str | Ref]:
        if not isinstance(part, str) or form not in part:
            return [part]
        pieces: list[str | Ref] = []
        start = 0
        for found in re.finditer(re.escape(form), part):
            if not stands_alone(part, found.span(), ref, self.tokens[position] if position >= 0 else None):
                continue
            tail = ["/"] if form.endswith("/") and position < 0 else []
            pieces += [part[start : found.start()], ref, *tail]
            start = found.end()
            self._ban_rivals(form, position)
            if isinstance(ref, EnvRef) and ref.transforms:
                self.found.banned |= self.deriver.calendar
            self._used_inline(position, ref, param, inline)
        return [piece for piece in [*pieces, part[start:]] if piece != ""]

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
            if token.kind is not Kind.PATH:
                return  # what the transforms of other pieces give is plain in itself
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


def _same_number(token: Token, value: float) -> bool:
    return bool(TRANSFORMS["number"](token.value) == value)
