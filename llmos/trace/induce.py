"""A recorded run becomes a trace: slots, references, frozen literals, checks and an answer, or a reason why not.

The induced program, instantiated with its own goal, gives exactly the recorded arguments; anything the evidence
does not explain is frozen rather than guessed.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from llmos.trace.answer import explain_answer
from llmos.trace.lex import Kind, Token, escape_template, is_noise, template_skeleton, tokenize, without_final
from llmos.trace.match import Match, constant_texts, match
from llmos.trace.program import Check, CheckKind, Effect, Provenance, Slot, SlotType, Status, Step, Trace
from llmos.trace.provenance import Explainer, Findings, ToolFacts, leaves
from llmos.trace.run import Run, RunStatus, StepRecord
from llmos.trace.transforms import TRANSFORMS
from llmos.trace.values import (
    Const,
    Expr,
    ListExpr,
    OutputRef,
    Record,
    Scope,
    UnboundError,
    evaluate,
    references,
    value_at,
)

_CONDITIONAL = frozenset({"if", "when", "unless", "whether", "otherwise", "else", "depending", "missing", "exists"})
_STOP = frozenset(
    {"a", "an", "of", "in", "on", "at", "to", "into", "from", "for", "with", "and", "or", "by", "as", "is", "are"}
    | {"it", "its", "this", "that", "my", "me", "i", "you", "your", "be", "do", "then", "them", "all", "some"}
)
_MAX_PASSES = 12


@dataclass(frozen=True, kw_only=True)
class NotATrace:
    """Why a finished run does not become a trace."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class _Draft:
    """One pass of explaining: the steps it gave, and what it found."""

    steps: tuple[Step, ...]
    found: Findings


def induce(run: Run, tools: Mapping[str, ToolFacts], env: Mapping[str, str] | None = None) -> Trace | NotATrace:
    """Turn a finished learner's run into a trace.

    `tools` are the facts of every tool the follower can call, `env` the values of `cwd` and `today` at the run.
    """
    if run.status is not RunStatus.DONE:
        return NotATrace(reason=f"the run ended as {run.status}, so nothing was learned from it")
    steps = tuple(step for step in run.steps if not step.is_error)
    if not steps:
        return NotATrace(reason="no tool call succeeded, so there is nothing to replay")
    for step in steps:
        if step.tool not in tools:
            return NotATrace(reason=f"the follower has no tool {step.tool!r}")
    run = replace(run, goal=unicodedata.normalize("NFC", run.goal.strip()), steps=steps)
    trace = _Inducer(run=run, tools=tools, env=env or {}).trace()
    return trace if isinstance(trace, NotATrace) else _verified(trace, run, env or {})


@dataclass(frozen=True, kw_only=True)
class _Inducer:
    run: Run
    tools: Mapping[str, ToolFacts]
    env: Mapping[str, str]

    @property
    def tokens(self) -> list[Token]:
        return without_final(tokenize(self.run.goal))

    def trace(self) -> Trace | NotATrace:
        tokens = self.tokens
        draft, names, banned = self._fixpoint(tokens)
        kept = self._needed(draft)
        draft = replace(draft, steps=tuple(s if i in kept else replace(s, id="") for i, s in enumerate(draft.steps)))
        slots = tuple(
            self._slot(position, tokens[position], names[position], draft.found)
            for position in sorted(draft.found.used)
            if position not in banned
        )
        template = self._template(tokens, {s.name for s in slots}, names)
        answer = explain_answer(self.run, [s.id for s in draft.steps], tokens, names, slots)
        steps = tuple(self._checked(index, step, draft.found) for index, step in enumerate(draft.steps) if step.id)
        effect = max((step.effect for step in steps), key=lambda e: e.rank)
        return Trace(
            id=trace_id(template, slots),
            goals=(template,),
            slots=slots,
            steps=steps,
            answer=answer,
            provenance=Provenance.LEARNED,
            status=Status.TRUSTED if effect.rank <= Effect.WRITE.rank else Status.CANDIDATE,
            reason="" if effect.rank <= Effect.WRITE.rank else f"its effects ({effect}) need a confirmation first",
            run_id=self.run.id,
            model=self.run.model,
            cost_usd=self.run.cost_usd,
            created_at=self.run.started_at,
        )

    def _fixpoint(self, tokens: list[Token]) -> tuple[_Draft, dict[int, str], frozenset[int]]:
        """Explain again and again until no further literal has to be frozen."""
        banned = frozenset(_repeated(tokens))
        names: dict[int, str] = {i: f"slot{i}" for i in range(len(tokens))}
        for _ in range(_MAX_PASSES + len(tokens)):
            draft = self._explained(tokens, names, banned)
            more = draft.found.banned | self._leaks(tokens, draft)
            if self._too_general(tokens, draft):
                more |= set(draft.found.used)
            if more <= banned:
                break
            banned |= more
        names = self._names(tokens, draft.found)
        return self._explained(tokens, names, banned), names, banned

    def _explained(self, tokens: list[Token], names: Mapping[int, str], banned: frozenset[int]) -> _Draft:
        found = Findings()
        explainer = Explainer(
            tokens=tokens,
            steps=self.run.steps,
            step_ids=step_ids(self.run.steps),
            names=names,
            banned=banned,
            env=self.env,
            found=found,
        )
        steps = tuple(self._step(explainer, index, step) for index, step in enumerate(self.run.steps))
        return _Draft(steps=steps, found=found)

    def _step(self, explainer: Explainer, index: int, step: StepRecord) -> Step:
        facts = self.tools[step.tool]
        return Step(
            id=explainer.step_ids[index],
            tool=step.tool,
            args={name: explainer.explain(value, index, name, facts) for name, value in step.args.items()},
            effect=step.effect,
            tool_version=facts.version,
        )

    def _leaks(self, tokens: list[Token], draft: _Draft) -> set[int]:
        """Slots whose value, or its name or stem, still stands in a constant part of some argument."""
        words = {token.text.casefold() for token in tokens if token.kind is Kind.WORD}
        return {
            position
            for position in draft.found.used
            for form in _forms(tokens[position]) - words
            if any(self._mentions(form, index, step) for index, step in enumerate(draft.steps))
        }

    def _mentions(self, form: str, index: int, step: Step) -> bool:
        """Whether a step's constant text holds a form, other than as a name the call itself gives (a view's)."""
        texts = [text.casefold() for expr in step.args.values() for text in _constants(expr)]
        if form in {key.casefold() for key in _keys(self.run.steps[index].args)}:
            return any(f"'{form}'" in text for text in texts)
        return any(re.search(rf"(?<![^\W_]){re.escape(form)}(?![^\W_])", text) for text in texts)

    def _too_general(self, tokens: list[Token], draft: _Draft) -> bool:
        """Fewer than two words or constraints would hold the template."""
        free = set(draft.found.used)
        words = [t for i, t in enumerate(tokens) if i not in free and t.kind is not Kind.PUNCT and not is_noise(t)]
        held = sum(t.key not in _STOP for t in words)
        held += sum(_suffix(tokens[i]) != "" for i in free) + sum(i in draft.found.choices for i in free)
        return bool(free) and held < 2

    # --- slots and their names -----------------------------------------------------------------------

    def _names(self, tokens: list[Token], found: Findings) -> dict[int, str]:
        """A name for each goal token: the model's own where it fits, else the argument that used it."""
        hints = {str(value): name for name, value in (self.run.finish.slots if self.run.finish else {}).items()}
        names: dict[int, str] = {}
        for position in range(len(tokens)):
            hint = hints.get(tokens[position].value, "")
            base = hint if re.fullmatch(r"[a-z][a-z0-9_]{0,30}", hint) else found.used.get(position, f"slot{position}")
            base = re.sub(r"\W+", "_", base).strip("_").lower() or "slot"
            if position in found.inline or base in ("steps", "env", "secret") or base[0].isdigit():
                base = hint if base == hint and hint.isidentifier() else str(tokens[position].kind)
            name, number = base, 2
            while name in names.values():
                name, number = f"{base}_{number}", number + 1
            names[position] = name
        return names

    def _slot(self, position: int, token: Token, name: str, found: Findings) -> Slot:
        if position in found.choices:
            return Slot(name=name, type=SlotType.CHOICE, values=found.choices[position])
        is_path = token.kind is Kind.PATH
        return Slot(
            name=name,
            type=SlotType(str(token.kind)),
            suffix=_suffix(token) if is_path else None,
            parent=str(PurePosixPath(token.value).parent) if position in found.parents and is_path else None,
            inline=position in found.inline,
        )

    def _template(self, tokens: list[Token], slots: set[str], names: Mapping[int, str]) -> str:
        template, position = "", 0
        for index, token in enumerate(tokens):
            if names[index] in slots:
                template += escape_template(self.run.goal[position : token.start]) + "{" + names[index] + "}"
                position = token.end
        end = tokens[-1].end if tokens else len(self.run.goal)
        return template + escape_template(self.run.goal[position:end])

    # --- steps ---------------------------------------------------------------------------------------

    def _needed(self, draft: _Draft) -> set[int]:
        """The steps that stay: effects, what they use, and what a frozen argument depended on."""
        if {token.key for token in self.tokens} & _CONDITIONAL:
            reads = {i for i, step in enumerate(draft.steps) if not step.effect.changes_world}
            draft.found.frozen.update(reads - self._used_outputs(draft))
        needed = {i for i, step in enumerate(draft.steps) if step.effect.changes_world} | draft.found.frozen
        needed.add(self._result_step(draft))
        ids = [step.id for step in draft.steps]
        while True:
            refs = {ids.index(ref.step) for i in needed for ref in _output_refs(draft.steps[i])}
            if refs <= needed:
                return needed
            needed |= refs

    def _used_outputs(self, draft: _Draft) -> set[int]:
        ids = [step.id for step in draft.steps]
        return {ids.index(ref.step) for step in draft.steps for ref in _output_refs(step)}

    def _result_step(self, draft: _Draft) -> int:
        """The step the answer comes from: the last effect or, in a run without effects, the last step."""
        effects = [i for i, step in enumerate(draft.steps) if step.effect.changes_world]
        return len(draft.steps) - 1 if not effects else max(effects[-1], len(draft.steps) - 1)

    def _checked(self, index: int, step: Step, found: Findings) -> Step:
        output = self.run.steps[index].output
        checks = [Check(kind=CheckKind.OUTPUT_TYPE, expected=json_type(output))]
        if index in found.frozen:
            checks.append(Check(kind=CheckKind.OUTPUT_SHA256, expected=digest(output)))
        for where, path in sorted(found.lengths, key=str):
            if where == index:
                length = len(value_at(output, path))
                checks.append(Check(kind=CheckKind.LENGTH, expected={"path": list(path), "length": length}))
        return replace(step, checks=tuple(checks))


def _verified(trace: Trace, run: Run, env: Mapping[str, str]) -> Trace | NotATrace:
    """The trace, if its own goal matches it and gives exactly the recorded arguments."""
    bound = match(run.goal, trace)
    if not isinstance(bound, Match):
        return NotATrace(reason=f"its own goal does not match its template: {bound.message}")
    ids = step_ids(run.steps)
    records = dict(zip(ids, run.steps, strict=True))
    scope = Scope(slots=bound.bindings, outputs={i: r.output for i, r in records.items()}, env=env)
    for step in trace.steps:
        try:
            args = {name: evaluate(expr, scope) for name, expr in step.args.items()}
        except UnboundError as error:
            return NotATrace(reason=f"step {step.id} can't be computed again: {error}")
        if json.dumps(args, sort_keys=True) != json.dumps(records[step.id].args, sort_keys=True):
            return NotATrace(reason=f"step {step.id} would get other arguments than the recorded ones")
    return trace


def step_ids(steps: Sequence[StepRecord]) -> list[str]:
    """Readable ids for recorded steps: the tool's name, numbered from the second on."""
    ids: list[str] = []
    for step in steps:
        base = re.sub(r"[^A-Za-z0-9_]+", "_", step.tool).strip("_") or "step"
        name, number = base, 2
        while name in ids:
            name, number = f"{base}_{number}", number + 1
        ids.append(name)
    return ids


def trace_id(template: str, slots: Sequence[Slot]) -> str:
    """A readable id for a goal template: its first words and a hash of its skeleton."""
    words = re.findall(r"[a-z0-9]+", re.sub(r"\{\w+\}", " ", template.lower()))
    slug = "-".join(words[:4]) or "trace"
    return f"{slug[:40]}-{hashlib.sha256(_identity(template, slots).encode()).hexdigest()[:6]}"


def _identity(template: str, slots: Sequence[Slot]) -> str:
    literals = [t.value for t in tokenize(re.sub(r"\{\w+\}", " ", template)) if t.kind.is_literal]
    return "\n".join([template_skeleton(template, slots), *literals, *(s.suffix or "" for s in slots)])


def digest(value: Any) -> str:
    """SHA-256 of a JSON value's canonical form, in hexadecimal."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def json_type(value: Any) -> str:
    """The JSON name of a value's type."""
    names = {bool: "boolean", int: "number", float: "number", str: "string", list: "array", dict: "object"}
    return names.get(type(value), "null")


def _repeated(tokens: Sequence[Token]) -> set[int]:
    """Literals the goal says twice: which one an argument came from can't be told."""
    values = [token.value for token in tokens]
    return {i for i, token in enumerate(tokens) if token.kind.is_literal and values.count(token.value) > 1}


def _forms(token: Token) -> set[str]:
    """The ways a literal may be mentioned: itself and, for a path, its file name and stem."""
    if not token.kind.is_literal:
        return set()
    forms = {token.value.casefold()}
    if token.kind is Kind.PATH:
        path = PurePosixPath(token.value)
        forms |= {path.name.casefold(), path.stem.casefold()}
    if token.kind is Kind.NUMBER:
        forms.add(str(TRANSFORMS["number"](token.value)))
    return {form for form in forms if form.strip("./")}


def _suffix(token: Token) -> str:
    return PurePosixPath(token.value).suffix if token.kind is Kind.PATH else ""


def _constants(expr: Expr) -> list[str]:
    numbers = [str(leaf) for leaf in _constant_numbers(expr)]
    return [*constant_texts(expr), *numbers]


def _constant_numbers(expr: Expr) -> list[float]:
    match expr:
        case Const(value=value):
            return [v for _, v in leaves(value) if isinstance(v, int | float) and not isinstance(v, bool)]
        case ListExpr(items=items):
            return [number for item in items for number in _constant_numbers(item)]
        case Record(fields=fields):
            return [number for _, item in fields for number in _constant_numbers(item)]
        case _:
            return []


def _keys(value: Any) -> set[str]:
    """Every key of the objects inside an argument: names that are local to the call."""
    if isinstance(value, dict):
        return {str(key) for key in value} | {key for item in value.values() for key in _keys(item)}
    if isinstance(value, list):
        return {key for item in value for key in _keys(item)}
    return set()


def _output_refs(step: Step) -> list[OutputRef]:
    return [ref for expr in step.args.values() for ref in references(expr) if isinstance(ref, OutputRef)]


__all__ = ["NotATrace", "ToolFacts", "digest", "induce", "json_type", "step_ids", "trace_id"]
