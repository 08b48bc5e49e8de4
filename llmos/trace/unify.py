"""Two runs of one task become one trace: what differs is explained by both goals, or they stay two traces.

Source: Plotkin, A Note on Inductive Generalization (1970), here typed, bounded and held to both recordings.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from llmos.errors import TraceFormatError
from llmos.trace import guards
from llmos.trace.agreed import agreed, agreed_outputs
from llmos.trace.checking import has_goal_check, judged
from llmos.trace.findings import ToolFacts
from llmos.trace.inside import numbers_in, states, words_in
from llmos.trace.joining import Joining
from llmos.trace.leaks import mentions
from llmos.trace.lex import Kind, Place, Token, template_skeleton, template_tokens, tokenize
from llmos.trace.pieces import Spot, template_of
from llmos.trace.program import Answer, Check, Condition, Effect, Loop, Node, Slot, Status, Step, Trace, walk
from llmos.trace.recorded import Recorded, canonical, first_entry, recorded
from llmos.trace.renaming import renamed, with_ids
from llmos.trace.run import Run
from llmos.trace.selection import decided_apart
from llmos.trace.settling import may_let_go
from llmos.trace.shape import MAX_WORDINGS
from llmos.trace.sources import ApartError, Joint, Side, Source, side_of
from llmos.trace.validity import validate
from llmos.trace.values import (
    Const,
    Expr,
    OutputRef,
    SlotRef,
    UnboundError,
    as_text,
    evaluate,
    has_opaque,
    references,
    value_at,
)

EnvOf: TypeAlias = Callable[[Run], Mapping[str, str]]


def unify(
    known: Trace,
    run_trace: Trace,
    run: Run,
    known_runs: Sequence[Run],
    *,
    tools: Mapping[str, ToolFacts] | None = None,
    env_of: EnvOf = lambda run: {},
) -> Trace | None:
    """The next version of a known trace that both runs prove, or None: they are two programs, or may be.

    `run_trace` was induced from `run`, `known` was proven on `known_runs`; `env_of` gives `cwd` and `today` of a run,
    and without `tools` nothing that was frozen is let go.
    """
    for way in (_unified, _forked):
        try:
            return way(known, run_trace, run, known_runs, tools or {}, env_of)
        except (ApartError, TraceFormatError, UnboundError, RecursionError):
            continue
    return None


def may_unify(known: Trace, other: Trace) -> bool:
    """A quick look whether two traces may be one program: one makes the other's calls, and besides at most reads."""
    if not _may_begin_alike(known, other):
        return False
    short, long = sorted((known.calls, other.calls), key=len)
    wanted = list(short)
    for step in long:
        if wanted and (step.tool, step.args.keys()) == (wanted[0].tool, wanted[0].args.keys()):
            wanted.pop(0)
        elif step.effect.changes_world:
            return False
    return not wanted


def _may_begin_alike(known: Trace, other: Trace) -> bool:
    """Whether each constant that differs in the first call, before any output, has a word that its goal says."""
    ours, theirs = known.calls[0], other.calls[0]
    if ours.tool != theirs.tool:
        return True
    pairs = [(ours.args[name], theirs.args[name]) for name in ours.args.keys() & theirs.args.keys()]
    fixed = [(a.value, b.value) for a, b in pairs if isinstance(a, Const) and isinstance(b, Const)]
    return all(canonical(a) == canonical(b) or (_is_said(a, known) and _is_said(b, other)) for a, b in fixed)


def _is_said(value: Any, trace: Trace) -> bool:
    goals = " ".join(trace.goals).casefold()
    return any(word in goals for word in re.findall(r"\w+", str(value).casefold()))


def _forked(
    known: Trace, other: Trace, run: Run, known_runs: Sequence[Run], tools: Mapping[str, ToolFacts], env_of: EnvOf
) -> Trace:
    """The two as the sides of a choice that their recordings explain."""
    sides = []
    for trace, one in ((known, known_runs[-1] if known_runs else None), (other, run)):
        seen = recorded(trace, one, env_of(one)) if one is not None else None
        if seen is None or trace.status in (Status.REJECTED, Status.QUARANTINED):
            raise ApartError("a recording is no instance of its own trace")
        failed = [step for step in seen.run.steps if step.is_error]
        outputs = dict(seen.scope.outputs)
        sides.append(guards.Side(trace=trace, outputs=outputs, failed=failed, bindings=seen.bindings, env=seen.env))
    if decided_apart(tokenize(run.goal), [*known_runs[-1].steps, *run.steps]):
        raise ApartError("the goal's condition may be another one than an output shows")
    found = guards.guarded(*sides)
    if found is None or any(recorded(found, one, env_of(one)) is None for one in (*known_runs, run)):
        raise ApartError("no condition tells the two apart")
    return judged(replace(found, run_id=run.id, model=run.model, created_at=run.started_at))


def _unified(
    known: Trace, other: Trace, run: Run, known_runs: Sequence[Run], tools: Mapping[str, ToolFacts], env_of: EnvOf
) -> Trace:
    if known.status in (Status.REJECTED, Status.QUARANTINED) or not known_runs:
        raise ApartError("there is nothing to hold the two to")
    ours, theirs = _needed(known, other), _needed(other, known)
    dropped = len(ours.calls) < len(known.calls) or len(theirs.calls) < len(other.calls)
    known, other = ours, theirs
    other = with_ids(other, known)
    mine, its = recorded(known, known_runs[-1], env_of(known_runs[-1])), recorded(other, run, env_of(run))
    if its is None or mine is None:
        raise ApartError("a recording is no instance of its own trace")
    joining = Joining(
        first=side_of(mine), second=side_of(its), code_params={name: one.code_params for name, one in tools.items()}
    )
    merged = _merged(joining, other, run)
    validate(merged)
    proven = [recorded(merged, one, env_of(one)) for one in (*known_runs, run)]
    if None in proven:
        raise ApartError("a recording is no instance of the joined trace")
    return _checked(joining, merged, other, [one for one in proven if one is not None], tools, dropped=dropped)


def _checked(
    joining: Joining,
    merged: Trace,
    other: Trace,
    runs: Sequence[Recorded],
    tools: Mapping[str, ToolFacts],
    *,
    dropped: bool,
) -> Trace:
    """The trace with the checks that hold in every run; a frozen output is let go only if nothing depends on it."""
    checks, lifted = agreed_outputs(joining, merged, other, runs)
    if (lifted or dropped) and not (tools and all(may_let_go(one, lifted, tools) for one in runs)):
        raise ApartError("an output that values were read off is another one")
    goal_checks = agreed(joining, merged.checks, other.checks, merged.steps[-1].id)
    trace = replace(merged, steps=_with_checks(merged.steps, checks), checks=goal_checks)
    known = joining.first.seen.trace
    if (trace.slots, trace.steps) == (known.slots, known.steps):
        return judged(trace) if has_goal_check(known) else trace
    return judged(replace(trace, guided=None))


def _needed(trace: Trace, other: Trace) -> Trace:
    """The trace without reads that the other one does without and that none of its steps refers to."""
    if len(trace.calls) <= len(other.calls) or not all(isinstance(node, Step) for node in trace.steps):
        return trace
    used = {ref.step for step in trace.calls for expr in step.args.values() for ref in _outputs(expr)}
    used |= {ref.step for ref in _outputs(trace.answer.expr)} if trace.answer.expr is not None else set()
    used |= {slot.listed.source.step for slot in trace.slots if slot.listed is not None}
    wanted = [step.tool for step in other.calls]
    kept: list[Step] = []
    spare = len(trace.calls) - len(wanted)
    for step in trace.calls:
        met = len(kept) < len(wanted) and step.tool == wanted[len(kept)]
        if not met and spare and step.id not in used and not step.effect.changes_world:
            spare -= 1
        else:
            kept.append(step)
    return replace(trace, steps=tuple(kept))


def _outputs(expr: Expr) -> list[OutputRef]:
    return [ref for ref in references(expr) if isinstance(ref, OutputRef)]


# --- the parts of the joined trace -------------------------------------------------------------------


def _merged(joining: Joining, other: Trace, run: Run) -> Trace:
    known = joining.first.seen.trace
    steps = _nodes(joining, known.steps, other.steps)
    exprs = [expr for node in walk(steps) for expr in node.exprs]
    slots = joining.slots(exprs)
    if any(map(has_opaque, exprs)) and set(slots) != set(known.slots):
        raise ApartError("what the model wrote may depend on what would become a slot")
    calls = [node for node in walk(steps) if isinstance(node, Step)]
    if said := next((joint.name for joint in joining.joints if _is_still_said(joint, calls)), None):
        raise ApartError(f"a constant may be made of what both values of {said} say")
    trusted = known.status is Status.TRUSTED
    merged = replace(
        known,
        goals=_goals(joining, slots),
        slots=slots,
        steps=steps,
        answer=_answer(joining, other),
        run_id=run.id,
        model=run.model,
        created_at=run.started_at,
    )
    changed = (merged.slots, merged.steps) != (known.slots, known.steps)
    if trusted and changed and merged.effect.rank > Effect.WRITE.rank:
        reason = f"its effects ({merged.effect}) need a confirmation first, now that it does more"
        return replace(merged, status=Status.CANDIDATE, reason=reason)
    return merged


def _is_still_said(joint: Joint, calls: Sequence[Step]) -> bool:
    """Whether a step says what two literals, which would become a slot, have in common: 2026 of a_2026 and b_2026."""
    pieces = [side.piece for side in (joint.first, joint.second) if side and side.piece and side.piece.kind]
    if len(pieces) < 2:
        return False
    one, two = (Token(kind=p.kind or Kind.WORD, text=p.value, value=p.value, start=0, end=0) for p in pieces)
    numbers, words = numbers_in(one) & numbers_in(two), words_in(one) & words_in(two)
    return any(
        any(mentions(form, step) for form in numbers) or any(states(word, step) for word in words) for step in calls
    )


def _nodes(joining: Joining, ours: Sequence[Node], theirs: Sequence[Node]) -> tuple[Node, ...]:
    """The same calls in the same order, with what their arguments, lists and conditions have in common."""
    if len(ours) != len(theirs):
        raise ApartError("they make different numbers of calls")
    return tuple(_node(joining, a, b) for a, b in zip(ours, theirs, strict=True))


def _node(joining: Joining, a: Node, b: Node) -> Node:
    when = _conditions(joining, a.when, b.when, a.id)
    if isinstance(a, Loop) and isinstance(b, Loop):
        return replace(
            a,
            over=joining.expr(a.over, b.over, "for_each", a.id),
            when=when,
            where=_conditions(joining, a.where, b.where, first_entry(a)),
            expect=_conditions(joining, a.expect, b.expect, first_entry(a)),
            steps=_nodes(joining, a.steps, b.steps),
        )
    if not isinstance(a, Step) or not isinstance(b, Step):
        raise ApartError(f"{a.id} is a loop in one of them")
    if (a.tool, a.tool_version, a.effect) != (b.tool, b.tool_version, b.effect) or a.args.keys() != b.args.keys():
        raise ApartError(f"{a.id} is another call in the other")
    args = {name: joining.expr(a.args[name], b.args[name], name, a.id, a.tool) for name in a.args}
    return replace(a, args=args, when=when, expect=_conditions(joining, a.expect, b.expect, a.id))


def _conditions(
    joining: Joining, ours: Sequence[Condition], theirs: Sequence[Condition], at: str
) -> tuple[Condition, ...]:
    if [one.kind for one in ours] != [one.kind for one in theirs]:
        raise ApartError(f"{at} depends on other conditions")
    joined: list[Condition] = []
    for a, b in zip(ours, theirs, strict=True):
        value = joining.expr(a.value, b.value, "condition", at)
        both = a.expected is not None and b.expected is not None
        expected = joining.expr(a.expected, b.expected, "condition", at) if both else a.expected  # type: ignore[arg-type]
        joined.append(replace(a, value=value, expected=expected))
    return tuple(joined)


def _with_checks(nodes: Sequence[Node], checks: Mapping[str, tuple[Check, ...]]) -> tuple[Node, ...]:
    return tuple(
        replace(node, checks=checks[node.id])
        if isinstance(node, Step)
        else replace(node, steps=_with_checks(node.steps, checks))
        for node in nodes
    )


def _goals(joining: Joining, slots: Sequence[Slot]) -> tuple[str, ...]:
    """The wordings of both, with the joined slots in place of what they stand for."""
    known = joining.first.seen.trace
    goals = [_reworded(goal, joining) for goal in known.goals]
    second = joining.second
    spots = {
        joint.second.piece.spot: joint.name
        for joint in joining.joints
        if joint.second is not None and joint.second.piece is not None
    }
    goals.append(_rewritten(second, spots))
    kept: dict[str, str] = {}
    for goal in goals:
        kept.setdefault(_sameness(goal, slots), goal)
    if len(kept) > MAX_WORDINGS:
        raise ApartError("it has as many wordings as a trace may have")
    return tuple(kept.values())


def _sameness(goal: str, slots: Sequence[Slot]) -> str:
    """What two templates have in common when they bind the same goals in the same way."""
    cut = template_of(goal, {})
    literals = [piece.value for piece in cut.pieces if piece.kind is not None and piece.kind.is_literal]
    articles = [part.slot for part in template_tokens(goal) if isinstance(part, Place) and part.article]
    return "\n".join([template_skeleton(goal, slots), *cut.slots, *literals, str(goal.endswith("?")), *articles])


def _rewritten(side: Side, spots: Mapping[Spot, str]) -> str:
    places = {piece.spot for piece in side.template.pieces if piece.slot is not None}
    if not places <= spots.keys():
        raise ApartError("a slot of one goal is used by no step of the joined trace")
    return side.template.rewritten(spots)


def _reworded(goal: str, joining: Joining) -> str:
    """One of the known wordings; a literal that became a slot is looked for in it."""
    side = replace(joining.first, template=template_of(goal, joining.first.seen.bindings))
    here = goal == joining.first.seen.template
    spots: dict[Spot, str] = {}
    for joint in joining.joints:
        if joint.first is not None and joint.first.slot is not None:
            spots |= {piece.spot: joint.name for piece in side.template.pieces if piece.slot == joint.first.slot.name}
        elif joint.first is not None and joint.first.piece is not None:
            spots[joint.first.piece.spot if here else _only(side, joint.first)] = joint.name
    return _rewritten(side, spots)


def _only(side: Side, source: Source) -> Spot:
    """Where another wording says the same literal."""
    assert source.piece is not None
    same = [p.spot for p in side.template.pieces if (p.kind, p.value) == (source.piece.kind, source.piece.value)]
    if len(same) != 1:
        raise ApartError(f"another wording does not say {source.value!r} once")
    return same[0]


def _answer(joining: Joining, other: Trace) -> Answer:
    """The answer of the one trace that the other run does not contradict; else the last output is shown."""
    names = {
        joint.second.slot.name: joint.name
        for joint in joining.joints
        if joint.second is not None and joint.second.slot is not None
    }
    slots = {joint.name for joint in joining.joints}
    for trace, side, renames in (
        (joining.first.seen.trace, joining.second, {}),
        (other, joining.first, names),
    ):
        if trace.answer.expr is None:
            continue
        expr = renamed(trace.answer.expr, renames)
        used = {ref.name for ref in references(expr) if isinstance(ref, SlotRef)}
        answer = replace(trace.answer, expr=expr)
        if used <= slots and _answers(answer, joining, side):
            return answer
    return Answer()


def _answers(answer: Answer, joining: Joining, side: Side) -> bool:
    """Whether an answer can be computed for a run and holds no other numbers than were answered."""
    second = side is joining.second
    bound = {
        joint.name: source.value if (source := joint.second if second else joint.first) is not None else joint.default
        for joint in joining.joints
    }
    scope = replace(side.seen.scope, slots=bound)
    assert answer.expr is not None
    try:
        said = as_text(evaluate(answer.expr, scope))
        for check in answer.checks:
            listed = value_at(scope.outputs[check.expected["step"]], tuple(check.expected["path"]))
            if len(listed) != check.expected["length"]:
                return False
    except (UnboundError, KeyError, TypeError):
        return False
    recorded_answer = side.seen.run.answer or ""
    return _digits(recorded_answer) <= _digits(said) or said.strip() == recorded_answer.strip()


def _digits(text: str) -> set[str]:
    return set(re.findall(r"\d[\d.,]*", text))


__all__ = ["EnvOf", "may_unify", "unify"]
