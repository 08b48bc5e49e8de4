"""Taint: what a run has read that somebody else may have written, and what of a trace comes from there alone."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from llmos.trace.evidence import leaves
from llmos.trace.program import Effect, Status, Trace
from llmos.trace.run import Run, Source, StepRecord

FROM_OUTSIDE = "a value in it comes from outside"
_ADDRESS = re.compile(  # possessive and bounded, so that no text makes it slow
    r"https?://[^\s\"'<>`|;)\]}\\]++|(?<![\w.+-])[\w.+-]{1,64}+@[\w-]++(?:\.[\w-]++)++", re.IGNORECASE
)
_LEAST_CHARS = 4
_MOST_CHARS = 500
_SHOWN_CHARS = 120
_SHOWN_SOURCES = 3


def sources_shown(sources: Sequence[Source]) -> str:
    """The first places that tainted a run, each once."""
    places = list(dict.fromkeys(source.shown for source in sources))
    more = len(places) - _SHOWN_SOURCES
    return ", ".join(places[:_SHOWN_SOURCES]) + (f" and {more} more" if more > 0 else "")


def addresses(text: str) -> list[str]:
    """The URLs and mail addresses in a text, without the full stops behind them."""
    return [found.group().rstrip(".,:!?") for found in _ADDRESS.finditer(text)]


# --- what of a run decides an effect and was not said by the user ------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Suspect:
    """A value that decides an effect of a run and that the goal does not say; `source` is where it was first read.

    With `is_written` it stands in nothing that was read as it is: the model wrote it after reading that.
    """

    tool: str
    param: str
    value: str
    source: Source
    is_written: bool = False

    @property
    def shown(self) -> str:
        text = self.value if len(self.value) <= _SHOWN_CHARS else f"{self.value[:_SHOWN_CHARS]}…"
        how = "was written by the model after reading" if self.is_written else "was read from"
        return f"{self.param} of {self.tool} is {' '.join(text.split())!r}, which {how} {self.source.shown}"


def suspects(
    run: Run,
    sources: Sequence[Source],
    code: Mapping[str, frozenset[str]],
    payload: Mapping[str, frozenset[str]],
) -> list[Suspect]:
    """The addresses, recipients and commands of a run's effects that come from what tainted it alone.

    `code` and `payload` are the parameters of each tool that hold procedures, and contents.
    """
    found: list[Suspect] = []
    goal = run.goal.casefold()
    for at, step in enumerate(run.steps):
        read = _read_before(run.steps[:at], sources)
        if step.is_error or not step.effect.changes_world or not read:
            continue
        codes = code.get(step.tool, frozenset())
        for param, value in _deciding(step, codes, payload.get(step.tool, frozenset())):
            if value.casefold() in goal or len(value) < _LEAST_CHARS:
                continue
            source = next((one for one, texts in read if any(value.casefold() in text for text in texts)), None)
            if source is not None:
                found.append(Suspect(tool=step.tool, param=param, value=value, source=source))
            elif step.effect.rank > Effect.WRITE.rank and not _was_given(value, run.steps[:at]):
                found.append(Suspect(tool=step.tool, param=param, value=value, source=read[-1][0], is_written=True))
    return list(dict.fromkeys(found))


def _read_before(steps: Sequence[StepRecord], sources: Sequence[Source]) -> list[tuple[Source, list[str]]]:
    """Each source with the texts that it gave; one that no step is known of gave everything."""
    read: list[tuple[Source, list[str]]] = []
    for source in sources:
        own = [step for step in steps if source.step is None or step.index == source.step]
        texts = [str(leaf).casefold() for step in own for _, leaf in leaves(step.output)]
        if texts:
            read.append((source, texts))
    return read


def _deciding(step: StepRecord, code: frozenset[str], payload: frozenset[str]) -> Iterator[tuple[str, str]]:
    """What decides an effect: addresses, and where more than files is changed every short text, and commands."""
    for param, argument in step.args.items():
        if param in payload:
            continue
        for _, leaf in leaves(argument):
            if not isinstance(leaf, str):
                continue
            is_short = "\n" not in leaf.strip() and len(leaf) <= _MOST_CHARS
            if step.effect.rank > Effect.WRITE.rank and (is_short or param in code):
                yield param, leaf.strip()
            elif is_short or param in code:
                yield from ((param, address) for address in addresses(leaf))


def _was_given(value: str, steps: Sequence[StepRecord]) -> bool:
    """Whether an earlier step gave a value, whatever that step read."""
    return any(value.casefold() in str(leaf).casefold() for step in steps for _, leaf in leaves(step.output))


def doubted(trace: Trace, found: Sequence[Suspect]) -> Trace:
    """The trace, a candidate whose reason names what in it comes from outside, if anything does."""
    if not found:
        return trace
    reason = f"{FROM_OUTSIDE}: {', and '.join(one.shown for one in found[:_SHOWN_SOURCES])}"
    return replace(trace, status=Status.CANDIDATE, reason="; ".join(filter(None, [reason, trace.reason])))


def is_suspect(trace: Trace) -> bool:
    """Whether somebody has still to look at a value of a trace that comes from outside."""
    return trace.status is not Status.TRUSTED and trace.reason.startswith(FROM_OUTSIDE)


def output_texts(output: Any) -> list[str]:
    """Every text of an output."""
    return [leaf for _, leaf in leaves(output) if isinstance(leaf, str)]
