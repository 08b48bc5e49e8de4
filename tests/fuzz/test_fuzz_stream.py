"""The Messages stream with something wrong in it, read by the real CLI: a sentence, and no bill is lost or invented."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pytest

from llmos.errors import LLMOSError
from llmos.interfaces.prices import Tokens, price_of
from llmos.testing import Request, Turn, call, calls, say, tampered, usage
from tests.lab import MakeLab

Change = Callable[[tuple[bytes, ...]], Iterable[bytes]]
USED = usage(input_tokens=40_000, output_tokens=1_000)
WRITE = calls(call("write", file_path="first.txt", content="one\n"), usage=USED)
SECOND = calls(call("write", file_path="second.txt", content="two\n"), text="Now the second.", usage=USED)
END = say("Wrote both.", usage=usage(input_tokens=1, output_tokens=1))


def event(data: Any, kind: str | None = None) -> bytes:
    return f"event: {kind or data['type']}\ndata: {json.dumps(data)}\n\n".encode()


def data_of(chunk: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(chunk.split(b"data: ", 1)[1])
    return found


def edited(kind: str, edit: Callable[[dict[str, Any]], Any]) -> Change:
    """Every event of a kind as `edit` leaves it."""

    def change(chunks: tuple[bytes, ...]) -> Iterable[bytes]:
        for chunk in chunks:
            data = data_of(chunk)
            if data["type"] == kind:
                edit(data)
                chunk = event(data)
            yield chunk

    return change


def without(*kinds: str) -> Change:
    return lambda chunks: (chunk for chunk in chunks if data_of(chunk)["type"] not in kinds)


def before(kind: str, *more: bytes) -> Change:
    """These bytes before each event of a kind."""

    def change(chunks: tuple[bytes, ...]) -> Iterable[bytes]:
        for chunk in chunks:
            yield from more if data_of(chunk)["type"] == kind else ()
            yield chunk

    return change


def used(**tokens: Any) -> Change:
    return edited("message_delta", lambda data: data.__setitem__("usage", {**data["usage"], **tokens}))


def json_delta(text: str) -> Change:
    def edit(data: dict[str, Any]) -> None:
        if data["delta"]["type"] == "input_json_delta":
            data["delta"]["partial_json"] = text

    return edited("content_block_delta", edit)


CHANGES: dict[str, Change] = {
    "cut after the start": lambda chunks: chunks[:1],
    "cut inside a block": lambda chunks: chunks[:3],
    "no message_delta": without("message_delta"),
    "no start": without("message_start"),
    "nothing": lambda chunks: (),
    "unknown events": before(
        "content_block_start", event({"type": "surprise", "x": [1]}), b": a comment\n\n", b"x\n\n"
    ),
    "an error in the middle": before("message_delta", event({"type": "error", "error": {"type": "api_error"}})),
    "no JSON": before("content_block_stop", b"event: content_block_delta\ndata: {oops\n\n"),
    "no UTF-8": before("content_block_stop", b"event: ping\ndata: \xff\xfe\xc3\x28\n\n"),
    "arguments that are no JSON": json_delta('{"file_path": '),
    "the same index twice": edited("content_block_start", lambda data: data.update(index=0)),
    "a huge index": edited("content_block_delta", lambda data: data.update(index=10**9)),
    "negative usage": used(input_tokens=-(10**6), output_tokens=-(10**6)),
    "usage that is text": used(input_tokens="many", output_tokens=None),
    "usage that is nothing": edited("message_delta", lambda data: data.update(usage=None)),
    "a message that is a list": edited("message_start", lambda data: data.update(message=[])),
    "a huge text": before(
        "content_block_stop",
        event({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "x" * 300_000}}),
    ),
}


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What learning came to: dollars by the ledger, those of one answer and of the last, the sentence it ended with."""

    spent_usd: float
    answer_usd: float
    last_usd: float
    said: str


async def learned(make_lab: MakeLab, change: Change | None) -> Lesson:
    def script(request: Request) -> Turn:
        match len(lab.server.conversation):
            case 1:
                return WRITE
            case 2:
                return SECOND if change is None else tampered(SECOND, change)
        return END

    lab = make_lab(script)
    async with lab.boot(budget_usd=10.0) as system:
        try:
            said = (await system.execute("Write one into first.txt and two into second.txt")).answer
        except LLMOSError as error:
            said = str(error)
        account = system.economy.summary()
        charged_usd = -sum(entry.amount_microusd for entry in system.economy.entries(100) if entry.run_id) / 1e6
    assert account.reserved_usd == 0.0
    assert account.balance_usd == pytest.approx(10.0 - account.spent_usd)
    assert charged_usd == pytest.approx(account.spent_usd)
    assert lab.read("first.txt") == "one\n"
    assert {path.name for path in lab.workspace.iterdir()} <= {"first.txt", "second.txt"}
    price = price_of(f"anthropic:{lab.server.conversation[0].model}", None, lab.settings())
    of_one, of_last = (
        price.cost_usd(Tokens(input=one.usage.input_tokens, output=one.usage.output_tokens)) for one in (WRITE, END)
    )
    return Lesson(spent_usd=account.spent_usd, answer_usd=of_one, last_usd=of_last, said=said)


async def test_what_is_sent_whole_costs_what_it_says(make_lab: MakeLab) -> None:
    lesson = await learned(make_lab, None)
    assert lesson.said == "Wrote both."
    assert lesson.spent_usd == pytest.approx(2 * lesson.answer_usd + lesson.last_usd)


@pytest.mark.parametrize("name", CHANGES)
async def test_a_stream_with_something_wrong_ends_in_a_sentence_and_is_billed(make_lab: MakeLab, name: str) -> None:
    lesson = await learned(make_lab, CHANGES[name])
    assert lesson.said.strip()
    assert "Traceback" not in lesson.said
    assert lesson.spent_usd >= lesson.answer_usd - 1e-6, "the first answer came whole, and its bill is lost"
    most_usd = 2 * lesson.answer_usd + lesson.last_usd + 1e-3
    # the CLI counts what came before the bill by its length
    assert lesson.spent_usd <= most_usd + (1.5 if name == "a huge text" else 0.0)
