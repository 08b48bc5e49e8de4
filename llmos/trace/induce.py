"""A recorded run becomes a trace: slots, references, frozen literals, checks and an answer, or a reason why not.

The induced program, instantiated with its own goal, gives exactly the recorded arguments; anything the evidence
does not explain is frozen rather than guessed.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property
from pathlib import PurePosixPath

from llmos.trace.align import constant_texts
from llmos.trace.answer import explain_answer
from llmos.trace.checking import Recorded, output_checks, with_goal_checks, with_types
from llmos.trace.closing import held_by_entries, names_only, not_closed
from llmos.trace.codewords import telling
from llmos.trace.english import PLAIN
from llmos.trace.evidence import Evidence, token_bounded
from llmos.trace.findings import Findings, ToolFacts
from llmos.trace.folding import Fold
from llmos.trace.folds import folds
from llmos.trace.inside import keys_in, states, words_in
from llmos.trace.leaks import begins_or_ends, constants, forms, in_a_name, mentions, other_day, pieces
from llmos.trace.lex import (
    Kind,
    Token,
    escape_template,
    is_noise,
    template_skeleton,
    template_tokens,
)
from llmos.trace.match import Match, match
from llmos.trace.needed import Draft, Needs
from llmos.trace.passing import Passing
from llmos.trace.phrases import is_anchor
from llmos.trace.program import REWRITE, Answer, Effect, Loop, Provenance, Slot, SlotType, Status, Step, Trace
from llmos.trace.provenance import Explainer
from llmos.trace.rewriting import FACTS, guided_of, rewritable, with_purposes
from llmos.trace.run import Run, RunStatus, StepRecord, step_ids
from llmos.trace.secrecy import with_secret_refs
from llmos.trace.selection import selecting
from llmos.trace.suffixes import suffix_of
from llmos.trace.transforms import TRANSFORMS
from llmos.trace.values import (
    Const,
    OutputRef,
)
from llmos.trace.wording import read_goal, touching

_DELIMITED = frozenset({Kind.QUOTED, Kind.URL, Kind.EMAIL, Kind.LIST})
"""Literals that show where they begin and end; with a word that anchors them they make a template."""
_MAX_PASSES = 12


@dataclass(frozen=True, kw_only=True)
class NotATrace:
    """Why a finished run does not become a trace; with `is_urgent` the user should be told without asking."""

    reason: str
    is_urgent: bool = False


def induce(
    run: Run,
    tools: Mapping[str, ToolFacts],
    env: Mapping[str, str] | None = None,
    frozen: frozenset[str] = frozenset(),
) -> Trace | NotATrace:
    """Turn a finished learner's run into a trace.

    `tools` are the facts of every tool the follower can call, `env` the values of `cwd` and `today` at the run,
    `frozen` values of the goal that are known not to vary.
    """
    run = run.recording
    if run.status is not RunStatus.DONE:
        return NotATrace(reason=f"the run ended as {run.status}, so nothing was learned from it")
    steps = tuple(step for step in run.steps if not step.is_error)
    if not steps:
        return NotATrace(reason="no tool call succeeded, so there is nothing to replay")
    for step in steps:
        if step.tool not in tools:
            return NotATrace(reason=f"the follower has no tool {step.tool!r}")
    failed = tuple(step for step in run.steps if step.is_error)
    original = replace(run, goal=unicodedata.normalize("NFC", run.goal.strip()))
    run = replace(original, steps=steps)
    try:
        trace: Trace | NotATrace = NotATrace(reason="nothing explains the run")
        for fold in folds(run, read_goal(run.goal, run.steps, tools), tools):
            inducer = _Inducer(fold=fold, tools=tools, env=env or {}, failed=failed, frozen=frozen)
            trace = _induced(inducer)
            if not isinstance(trace, NotATrace):
                break
        return trace if isinstance(trace, NotATrace) else _with_guidance(trace, original, tools, env, frozen)
    except RecursionError:
        return NotATrace(reason="an argument or an output is nested too deeply")


def _induced(inducer: _Inducer) -> Trace | NotATrace:
    """The trace of one way to fold the run, literal where its own goal does not match otherwise."""
    trace = inducer.trace()
    if not isinstance(trace, NotATrace) and not isinstance(match(inducer.fold.original.goal, trace), Match):
        trace = replace(inducer, literal=True).trace()
    return trace if isinstance(trace, NotATrace) else _verified(trace, inducer.fold, inducer.env, inducer.tools)


def _with_guidance(
    trace: Trace, run: Run, tools: Mapping[str, ToolFacts], env: Mapping[str, str] | None, frozen: frozenset[str]
) -> Trace:
    """The trace, its opaque values told what for, with a guided program where one value can be written anew."""
    trace = with_purposes(trace, run.goal)
    recorded = rewritable(run, trace, step_ids([step for step in run.steps if not step.is_error]))
    if recorded is None:
        return trace
    varied = induce(recorded, {**tools, REWRITE: FACTS}, env, frozen)
    return trace if isinstance(varied, NotATrace) else replace(trace, guided=guided_of(varied))


@dataclass(frozen=True, kw_only=True)
class _Inducer:
    fold: Fold
    tools: Mapping[str, ToolFacts]
    env: Mapping[str, str]
    failed: tuple[StepRecord, ...] = ()
    literal: bool = False
    frozen: frozenset[str] = frozenset()

    @property
    def run(self) -> Run:
        return self.fold.run

    @property
    def tokens(self) -> list[Token]:
        return self.fold.tokens

    @cached_property
    def evidence(self) -> Evidence:
        return Evidence(self.run.steps)

    @cached_property
    def _selects(self) -> bool:
        return selecting(self.tokens, self.fold.original.steps, single=True) is not None

    def trace(self) -> Trace | NotATrace:
        tokens = self.tokens
        draft, names, banned = self._fixpoint(tokens)
        refusal = self._refusal(draft) or self._loop_refusal(draft, banned)
        if refusal is not None:
            return NotATrace(reason=refusal)
        ids = [step.id if i in draft.kept else "" for i, step in enumerate(draft.steps)]
        draft = replace(draft, steps=tuple(replace(s, id=i) for s, i in zip(draft.steps, ids, strict=True)))
        slots = tuple(
            self._slot(position, tokens[position], names[position], draft)
            for position in sorted(draft.found.used)
            if position not in banned
        )
        template = self._template(tokens, {s.name for s in slots}, names)
        aside = {*self.fold.columns, *(place.step for place in draft.found.listed.values())}
        outside = ["" if i in aside else step.id for i, step in enumerate(draft.steps)]
        steps = self._checked(draft)
        nodes, given = self.fold.nested(steps, names), self.fold.slots(slots, names)
        values = {names[position]: tokens[position].value for position in range(len(tokens))}
        said = {slot.name: list(slot.examples) if slot.many else values[slot.name] for slot in given}
        loops = {} if self.fold.is_flat else self.fold.loop_outputs(nodes, said, self.env)
        whole = {one.id for one in nodes if isinstance(one, Loop) and isinstance(one.over, OutputRef) and not one.where}
        answer = explain_answer(self.run, outside, tokens, names, given, loops, frozenset(whole))
        free = [tokens[i] for i, name in names.items() if name in {slot.name for slot in given}]
        if answer.expr is not None and any(forms(token) & keys_in(answer.expr) for token in free):
            answer = Answer()
        effect = max((step.effect for step in steps), key=lambda e: e.rank)
        return Trace(
            id=trace_id(template, slots),
            goals=(template,),
            slots=given,
            steps=nodes,
            answer=answer,
            provenance=Provenance.LEARNED,
            status=Status.TRUSTED if effect.rank <= Effect.WRITE.rank else Status.CANDIDATE,
            reason="" if effect.rank <= Effect.WRITE.rank else f"its effects ({effect}) need a confirmation first",
            run_id=self.run.id,
            model=self.run.model,
            cost_usd=self.run.cost_usd,
            created_at=self.run.started_at,
        )

    def _fixpoint(self, tokens: list[Token]) -> tuple[Draft, dict[int, str], frozenset[int]]:
        """Explain again and again until no further literal has to be frozen."""
        banned = frozenset(range(len(tokens)) if self.literal else _repeated(tokens))
        banned |= {i for i, token in enumerate(tokens) if token.value in self.frozen}
        names: dict[int, str] = {i: f"slot{i}" for i in range(len(tokens))}
        unlisted = frozenset() if self.fold.is_flat else frozenset(range(len(tokens)))
        for _ in range(_MAX_PASSES):
            draft = self._explained(tokens, names, banned, unlisted)
            if open_again := not_closed(draft.steps, draft.kept, draft.found, names):
                unlisted |= open_again
                continue
            more = self._fixed(tokens, draft) | self._leaks(tokens, draft)
            more |= held_by_entries(draft.steps, draft.kept, draft.found)
            more |= names_only(tokens, self.run.steps) & set(draft.found.used) - set(draft.found.listed)
            more |= touching(tokens, set(draft.found.used) - more - self._closed(draft))
            if self._too_general(tokens, draft):
                more |= self._loosest(tokens, draft)
            if more <= banned:
                names = self._names(tokens, draft.found)
                return self._explained(tokens, names, banned, unlisted), names, banned
            banned |= more
        banned = frozenset(range(len(tokens)))
        return self._explained(tokens, names, banned), names, banned

    def _explained(
        self,
        tokens: list[Token],
        names: Mapping[int, str],
        banned: frozenset[int],
        unlisted: frozenset[int] = frozenset(),
    ) -> Draft:
        explainer = Explainer(
            tokens=tokens,
            evidence=self.evidence,
            step_ids=self.fold.ids,
            names=names,
            banned=banned,
            env=self.env,
            unlisted=unlisted,
            selects=self._selects,
        )
        steps: list[Step] = []
        founds: list[Findings] = []
        for index, record in enumerate(self.run.steps):
            explainer.found = Findings()
            steps.append(self._step(explainer, index, record))
            self.fold.note(index, steps[-1], explainer.found)
            founds.append(explainer.found)
        return Needs(fold=self.fold).met(Draft(steps=tuple(steps), founds=tuple(founds)))

    def _fixed(self, tokens: list[Token], draft: Draft) -> set[int]:
        """Literals that may not vary: by explanation, as part of what was frozen, or as a short number met twice."""
        shared = {i for i in draft.found.shared if tokens[i].kind is Kind.NUMBER and not _telling(tokens[i])}
        frozen = {i for step in draft.found.frozen for i in draft.founds[step].used}
        return draft.found.banned | frozen | shared | self._graded(draft)

    def _graded(self, draft: Draft) -> set[int]:
        """Choices with a number beside them in one call that the goal does not say: `high` may be 255, not `low`."""
        said = {TRANSFORMS["number"](token.value) for token in self.tokens if token.kind is Kind.NUMBER} | {0, 1, 2}
        return {
            position
            for i in draft.kept
            if any(
                isinstance(e, Const) and type(e.value) in (int, float) and e.value not in said
                for e in draft.steps[i].args.values()
            )
            for position in draft.founds[i].choices
        }

    def _step(self, explainer: Explainer, index: int, step: StepRecord) -> Step:
        facts = self.tools[step.tool]
        return Step(
            id=explainer.step_ids[index],
            tool=step.tool,
            args={
                n: with_secret_refs(self.fold.filled(explainer.explain(value, index, n, facts)))
                for n, value in step.args.items()
            },
            effect=step.effect,
            tool_version=facts.version,
            expect=self.fold.expected(index),
        )

    def _leaks(self, tokens: list[Token], draft: Draft) -> set[int]:
        """Slots whose value, or its name, stem or a number made of it, still stands in a constant part of a step."""
        words = {token.text.casefold() for token in tokens if token.kind is Kind.WORD}
        steps = [draft.steps[i] for i in draft.kept]
        leaking = {
            position
            for position in draft.found.used
            for form in forms(tokens[position])
            if any((in_a_name if form in words else mentions)(form, step) for step in steps)
        }
        named = {i for i in draft.found.used if tokens[i].kind in (Kind.QUOTED, Kind.IDENTIFIER)}
        leaking |= {i for i in draft.found.used if any(other_day(tokens[i], step, self.run.goal) for step in steps)}
        leaking |= {i for i in named if any(begins_or_ends(tokens[i].value, step) for step in steps)}
        keys = {key for step in steps for expr in step.exprs for key in keys_in(expr)}
        leaking |= {i for i in draft.found.used if forms(tokens[i]) & keys}
        inner = {i: words_in(tokens[i]) - words - forms(tokens[i]) for i in draft.found.used}
        return leaking | {i for i, said in inner.items() if any(states(w, step) for w in said for step in steps)}

    def _too_general(self, tokens: list[Token], draft: Draft) -> bool:
        """Fewer than two words or constraints would hold the template."""
        free = set(draft.found.used)
        words = [t for i, t in enumerate(tokens) if i not in free and t.kind is not Kind.PUNCT and not is_noise(t)]
        closed = self._closed(draft)
        phrases = any(tokens[i].kind is Kind.TEXT for i in free - closed)
        held = sum(is_anchor(t) if phrases else t.key not in PLAIN for t in words)
        bounded = closed | set(draft.found.choices) | set(draft.found.listed)
        bounded |= {i for i in free if tokens[i].kind in _DELIMITED or _suffix(tokens[i]) != ""}
        return bool(free) and (not held or held + len(bounded & free) < 2)

    def _loosest(self, tokens: list[Token], draft: Draft) -> set[int]:
        """What to freeze where too little holds a template: the shortest free phrase, or else everything."""
        free = set(draft.found.used)
        phrases = sorted((len(tokens[i].text), i) for i in free - self._closed(draft) if tokens[i].kind is Kind.TEXT)
        return {phrases[0][1]} if len(phrases) > 1 else free

    def _closed(self, draft: Draft) -> set[int]:
        """The goal tokens whose values the tools list."""
        closed = {name for step in self.run.steps for name in self.tools[step.tool].closed_params}
        return {i for i, name in draft.found.used.items() if name in closed}

    # --- slots and their names -----------------------------------------------------------------------

    def _names(self, tokens: list[Token], found: Findings) -> dict[int, str]:
        """A name for each goal token: the model's own where it fits, else the argument that used it."""
        hints = {str(value): name for name, value in (self.run.finish.slots if self.run.finish else {}).items()}
        names: dict[int, str] = {}
        taken: set[str] = set()
        for position in range(len(tokens)):
            hint = hints.get(tokens[position].value, "")
            base = hint if re.fullmatch(r"[a-z][a-z0-9_]{0,30}", hint) else found.used.get(position, f"slot{position}")
            base = re.sub(r"[^A-Za-z0-9]+", "_", base).strip("_").lower() or "slot"
            unfit = base in ("steps", "env", "secret") or base[0].isdigit()
            if unfit or (position in found.inline and base != hint):
                base = str(tokens[position].kind)
            name, number = base, 2
            while name in taken:
                name, number = f"{base}_{number}", number + 1
            taken.add(name)
            names[position] = name
        return names

    def _slot(self, position: int, token: Token, name: str, draft: Draft) -> Slot:
        found = draft.found
        if position in found.choices:
            return Slot(name=name, type=SlotType.CHOICE, values=found.choices[position])
        is_path = token.kind is Kind.PATH
        parent = str(PurePosixPath(token.value).parent)
        texts = [text for i in draft.kept for expr in draft.steps[i].args.values() for text in constant_texts(expr)]
        bound = position in found.parents or any(_names_folder(text, parent) for text in texts)
        place = found.listed.get(position)
        listed = place.listed(draft.steps[place.step].id) if place is not None else None
        if token.kind is Kind.TEXT:
            folded = token.value != token.text
            return Slot(name=name, type=SlotType.TEXT, examples=(token.value,), folded=folded, listed=listed)
        return Slot(
            name=name,
            type=SlotType(str(token.kind)),
            suffix=_suffix(token) if is_path else None,
            parent=parent if is_path and bound else None,
            inline=position in found.inline,
            listed=listed,
        )

    def _template(self, tokens: list[Token], slots: set[str], names: Mapping[int, str]) -> str:
        template, position = "", 0
        for index, token in enumerate(tokens):
            if names[index] in slots:
                template += escape_template(self.run.goal[position : token.start]) + "{" + names[index] + "}"
                position = token.end
        end = len(self.run.goal) if self.run.goal.endswith("?") else tokens[-1].end if tokens else 0
        return template + escape_template(self.run.goal[position:end])

    # --- steps ---------------------------------------------------------------------------------------

    def _loop_refusal(self, draft: Draft, banned: frozenset[int]) -> str | None:
        if not set(self.fold.positions.values()) <= set(draft.found.used) - banned:
            return "a list of the goal may not vary"
        steps = [step if i in draft.kept else replace(step, id="") for i, step in enumerate(draft.steps)]
        return self.fold.refusal(draft.found.frozen, steps)

    def _refusal(self, draft: Draft) -> str | None:
        """Why steps can't be computed again: they hold what a failed call said, or a day that passes."""
        known = {form.casefold() for token in self.tokens for form in (token.text, token.value)}
        for i in sorted(draft.kept):
            for name, expr in draft.steps[i].args.items():
                code = name in self.tools[draft.steps[i].tool].code_params
                said = {piece for text in constants(expr) for piece in pieces(text, code=code)}
                for piece in said:
                    if piece.casefold() not in known and self._said_by_failure(piece):
                        return f"step {draft.steps[i].id} uses {piece!r}, which a failed call had said"
                if self._passing and any(map(self._passing.passes, constants(expr))):
                    return f"step {draft.steps[i].id} holds a date of that day"
        return None

    def _said_by_failure(self, piece: str) -> bool:
        return any(
            token_bounded(piece, str(step.output)) and not token_bounded(piece, json.dumps(step.args))
            for step in self.failed
        )

    @cached_property
    def _passing(self) -> Passing | None:
        """What tells constants of the day of the run; None where that day is unknown."""
        if "today" not in self.env:
            return None
        seen = json.dumps([step.output for step in self.run.steps], ensure_ascii=False)
        today = date.fromisoformat(self.env["today"])
        return Passing(goal=self.run.goal, tokens=self.tokens, today=today, seen=seen)

    def _checked(self, draft: Draft) -> tuple[Step, ...]:
        """The steps that stay, with the checks of their outputs."""
        outputs = {step.id: record.output for step, record in zip(draft.steps, self.run.steps, strict=True) if step.id}
        steps = [
            replace(
                step,
                checks=output_checks(
                    outputs[step.id],
                    frozen=index in draft.found.frozen,
                    lengths=[path for where, path in draft.found.lengths if where == index],
                ),
            )
            for index, step in enumerate(draft.steps)
            if step.id
        ]
        return with_types(steps, outputs)


def _verified(trace: Trace, fold: Fold, env: Mapping[str, str], tools: Mapping[str, ToolFacts]) -> Trace | NotATrace:
    """The trace with checks of its goal, if its own goal matches it and gives exactly the recorded arguments."""
    run = fold.original
    bound = match(run.goal, trace)
    if not isinstance(bound, Match):
        return NotATrace(reason=f"its own goal does not match its template: {bound.message}")
    mismatch = fold.mismatch(trace, bound.bindings, env)
    if mismatch is not None:
        return NotATrace(reason=mismatch)
    tainted = None if fold.is_flat else fold.tainted(trace, tools)
    if tainted is not None:
        return NotATrace(reason=f"step {tainted} holds what another entry of a loop may have given")
    records = {name: run.steps[at] for name, at in zip(fold.ids, fold.origin, strict=True)}
    kept = {step.id: records[step.id] for step in trace.steps if isinstance(step, Step)}
    recorded = Recorded(records=kept, bindings=bound.bindings, tools=tools)
    return with_goal_checks(trace, recorded, run.finish.checks if run.finish else ())


def trace_id(template: str, slots: Sequence[Slot]) -> str:
    """A readable id for a goal template: its first words and a hash of its skeleton."""
    words = re.findall(r"[a-z0-9]+", re.sub(r"\{\w+\}", " ", template.lower()))
    slug = "-".join(words[:4]) or "trace"
    return f"{slug[:40]}-{hashlib.sha256(_identity(template, slots).encode()).hexdigest()[:6]}"


def _identity(template: str, slots: Sequence[Slot]) -> str:
    literals = [t.value for t in template_tokens(template) if isinstance(t, Token) and t.kind.is_literal]
    return "\n".join([template_skeleton(template, slots), *literals, *(s.suffix or "" for s in slots)])


def _repeated(tokens: Sequence[Token]) -> set[int]:
    """Literals the goal says twice: which one an argument came from can't be told."""
    counts = Counter(token.value for token in tokens)
    return {i for i, token in enumerate(tokens) if token.kind.is_literal and counts[token.value] > 1}


def _telling(token: Token) -> bool:
    return telling(TRANSFORMS["number"](token.value))


def _names_folder(text: str, folder: str) -> bool:
    """Whether a constant names a folder; that of a plain file name is `./`."""
    return re.search(r"(?<![\w./])\./", text) is not None if folder == "." else token_bounded(folder, text)


def _suffix(token: Token) -> str:
    return suffix_of(token.value) if token.kind is Kind.PATH else ""


__all__ = ["NotATrace", "ToolFacts", "induce", "step_ids", "trace_id"]
