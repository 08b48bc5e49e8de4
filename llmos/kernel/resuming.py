"""Resuming: a replay that diverged goes on from a later place, with others' outputs for the steps it left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from llmos.errors import DivergenceError, ToolError
from llmos.kernel.replay import Follower, Frame, Replay, label_of, made_of
from llmos.trace.conditions import all_hold, nothing_exists
from llmos.trace.program import Loop, Node, Step, walk
from llmos.trace.takeover import Left
from llmos.trace.values import OutputRef, Scope, UnboundError, evaluate, references


@dataclass(frozen=True, kw_only=True)
class Place:
    """A step from which a replay can go on.

    `frame` is the innermost list of nodes that is kept, `at` the first of its nodes to be carried out; with `is_next`
    that list is left, and the loop around it goes on with its next entry.
    """

    label: str
    frame: int
    at: int
    is_next: bool = False


@dataclass(frozen=True, kw_only=True)
class Resuming:
    """A follower that has diverged, and the places where it may go on."""

    follower: Follower

    @property
    def frames(self) -> list[Frame]:
        return self.follower.frames

    def places(self) -> dict[str, Place]:
        """Where it may go on, by label: the step where it stopped, later ones, and the next entry of a loop."""
        found: list[Place] = []
        for number in reversed(range(len(self.frames))):
            frame, is_last = self.frames[number], number == len(self.frames) - 1
            loop = frame.nodes[frame.at]
            if not is_last and isinstance(loop, Loop) and (left := passes_left(frame)[1:]):
                label = label_of(loop.steps[0], left[0])
                found.append(Place(label=label, frame=number + 1, at=len(loop.steps), is_next=True))
            found += [
                Place(label=label_of(frame.nodes[at], frame.scope), frame=number, at=at)
                for at in range(frame.at if is_last else frame.at + 1, len(frame.nodes))
            ]
        return {place.label: place for place in found}

    def left_out(self, place: Place) -> dict[str, Step]:
        """The steps that are not carried out where it goes on from a place, and might have given something."""
        frame = self.frames[place.frame]
        nodes = frame.nodes[frame.at : place.at]
        return {label_of(node, frame.scope): node for node in nodes if isinstance(node, Step)}

    def needed(self, place: Place) -> list[str]:
        """The labels of the steps left out whose outputs the rest needs.

        Raises:
            ToolError: it needs the output of a loop that was not gone through to its end.
        """
        frame = self.frames[place.frame]
        refs = {ref.step for node in walk(tuple(self._rest(place))) for ref in _outputs_of(node)}
        around = {outer.nodes[outer.at].id for outer in self.frames[: place.frame]}
        sought = {slot.listed.source.step for slot in self.follower.trace.slots if slot.listed is not None}
        found: list[str] = []
        for node in frame.nodes[frame.at : place.at]:
            if not (node.id in refs | sought or around & refs):
                continue
            if isinstance(node, Loop):
                raise ToolError(f"steps after [{place.label}] need what all of [{node.id}] gave; go on inside of it")
            found.append(label_of(node, frame.scope))
        return found

    def prepare(self, place: Place, given: Mapping[str, Any]) -> None:
        """Take others' outputs for steps left out, and see whether the rest can be carried out as far as is known.

        Raises:
            ToolError: it can't; nothing has changed.
        """
        follower, frame = self.follower, self.frames[place.frame]
        missing = [label for label in self.needed(place) if label not in given]
        if missing:
            raise ToolError(f"the rest needs what {', '.join(f'[{one}]' for one in missing)} would have given")
        before = dict(frame.outputs), dict(follower.spelled), dict(follower.entries), follower.iterations
        try:
            for label, step in self.left_out(place).items():
                if label in given:
                    frame.outputs[step.id] = given[label]
                    follower.check(step, given[label], frame.scope)
                    follower.look_up(step, frame.scope)
            follower.foresee(*self._first(place))
        except (DivergenceError, ToolError) as error:
            for known, old in zip((frame.outputs, follower.spelled, follower.entries), before[:3], strict=True):
                known.clear()
                known.update(old)
            raise ToolError(f"the rest can't be replayed from [{place.label}]: {error}") from None
        finally:
            follower.iterations = before[3]

    async def resume(self, place: Place) -> Replay:
        """Carry out the rest, and check the goal.

        Raises:
            DivergenceError: it diverged again.
        """
        follower = self.follower
        del self.frames[place.frame + 1 :]
        self.frames[-1].at = place.at
        while True:
            frame = self.frames[-1]
            await follower.go_on()
            if not self.frames:
                return await follower.ended(frame.outputs)
            outer = self.frames[-1]
            loop, passes = outer.nodes[outer.at], outer.passes
            assert isinstance(loop, Loop) and passes is not None
            outer.done.append(made_of(loop, passes[len(outer.done)], frame.outputs))
            await follower.go_through(loop, outer)
            outer.at += 1

    def _first(self, place: Place) -> tuple[Sequence[Node], Scope]:
        """The nodes that come next, and their scope."""
        frame = self.frames[place.frame]
        if not place.is_next:
            return frame.nodes[place.at :], frame.scope
        return frame.nodes, passes_left(self.frames[place.frame - 1])[1]

    def _rest(self, place: Place) -> Iterator[Node]:
        yield from self.frames[place.frame].nodes[place.at :]
        for outer in self.frames[: place.frame]:
            yield from outer.nodes[outer.at + 1 :]

    # --- what is left ------------------------------------------------------------------------------

    def left(self) -> Iterator[Left]:
        """What is still to be carried out, in order."""
        for number in reversed(range(len(self.frames))):
            frame, is_last = self.frames[number], number == len(self.frames) - 1
            loop = frame.nodes[frame.at]
            if not is_last and isinstance(loop, Loop) and (left := passes_left(frame)[1:]):
                yield Left(nodes=loop.steps, loop=loop.id, entries=tuple(one.items[loop.id] for one in left))
            if nodes := tuple(frame.nodes[frame.at if is_last else frame.at + 1 :]):
                yield Left(nodes=nodes)

    def calls_left(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """The calls still to be made, as far as their arguments are known: the step's label, tool and arguments."""
        for number in reversed(range(len(self.frames))):
            frame, is_last = self.frames[number], number == len(self.frames) - 1
            loop = frame.nodes[frame.at]
            if not is_last and isinstance(loop, Loop):
                for inner in passes_left(frame)[1:]:
                    yield from _calls(loop.steps, inner)
            yield from _calls(frame.nodes[frame.at if is_last else frame.at + 1 :], frame.scope)


def passes_left(frame: Frame) -> list[Scope]:
    """The iterations of the loop a frame is at that are not over, the one under way first."""
    return (frame.passes or [])[len(frame.done) :]


def _outputs_of(node: Node) -> Iterator[OutputRef]:
    return (ref for expr in node.exprs for ref in references(expr) if isinstance(ref, OutputRef))


def _calls(nodes: Sequence[Node], scope: Scope) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for node in nodes:
        try:
            if isinstance(node, Step):
                arguments = {name: evaluate(expr, scope) for name, expr in node.args.items()}
                yield label_of(node, scope), node.tool, arguments
                continue
            entries = evaluate(node.over, scope)
        except UnboundError:
            continue
        for number, entry in enumerate(entries if isinstance(entries, list) else []):
            items, indexes = {**scope.items, node.id: entry}, {**scope.indexes, node.id: number}
            inner = replace(scope, items=items, indexes=indexes)
            if _may_hold(node, inner):
                yield from _calls(node.steps, inner)


def _may_hold(loop: Loop, scope: Scope) -> bool:
    try:
        return all_hold(loop.where, scope, nothing_exists)
    except UnboundError:
        return True
