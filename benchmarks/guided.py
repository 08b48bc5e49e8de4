"""`python -m benchmarks.guided`: tokens of learning from nothing, guided by a plan, one value written anew, following.

The real client (SDK and CLI) works against the scripted server, so what is sent is exactly what a model would be sent.
What the model says is a script: from nothing it looks around, works, checks and finishes; with a plan it says the same
without looking around; asked for one value it says just that. So the figures compare ways of asking. They say nothing
of how well a model would answer. Tokens are counted with the vocabulary of all-MiniLM-L6-v2, which stands in for a
model's own; bytes are given beside them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from rich.console import Console

from llmos.boot import LLMOS, Result
from llmos.settings import load_settings
from llmos.testing import HashEmbedder, Reply, Request, ScriptedServer, Turn, call, say

Say = Turn | Callable[[Request], Turn]


@dataclass(frozen=True, kw_only=True)
class Job:
    """What the model says to one goal: to look around, to work, to check and finish; `value` where one is its own."""

    goal: str
    look: tuple[Say, ...]
    work: tuple[Say, ...]
    check: tuple[Say, ...]
    answer: str
    value: str | None = None


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A task that was learned, and a near one."""

    name: str
    files: Mapping[str, str]
    first: Job
    second: Job
    again: str


@dataclass(kw_only=True)
class Cost:
    """What one run exchanged with the model; `new_tokens` leaves out what an earlier request of the run had sent."""

    mode: str
    requests: int = 0
    sent_tokens: int = 0
    new_tokens: int = 0
    received_tokens: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0


@dataclass(kw_only=True)
class Desk:
    """A home, a workspace and the server that plays the model for one measurement."""

    root: Path
    job: Job
    looks: bool = True
    said: list[tuple[Request, Turn]] = field(default_factory=list)

    def answer(self, request: Request) -> Turn:
        """The next thing the model says."""
        if not request.tools:
            turn: Turn = say(f"<new-value>\n{self.job.value}</new-value>")
        else:
            says: Sequence[Say] = (*(self.job.look if self.looks else ()), *self.job.work, *self.job.check)
            done = len(request.tool_results)
            closing = (call("finish", answer=self.job.answer), say(self.job.answer))
            one = (*says, *closing)[min(done, len(says) + 1)]
            turn = one(request) if callable(one) else one
        self.said.append((request, turn))
        return turn

    async def run(self, server: ScriptedServer, goal: str, *, mode: str = "auto", keep_leaf: bool = True) -> Result:
        """Carry a goal out in a process-like way of its own; without `keep_leaf` no value is written anew."""
        environ = {"PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}
        environ |= server.env(self.root / "claude")
        settings = load_settings(home=self.root / "home", workspace=self.root / "workspace", environ=environ)
        async with LLMOS(settings=settings, embedder=HashEmbedder()) as system:
            if not keep_leaf:
                for shown in await system.traces.list():
                    trace = await system.traces.get(shown.id)
                    if trace.guided is not None:
                        await system.traces.add(replace(trace, guided=None))
            return await system.execute(goal, mode=mode)


@cache
def _tokenizer() -> Any:
    from tokenizers import Tokenizer

    from llmos.memory.embeddings import packaged_model

    folder = packaged_model()
    if folder is None:
        raise SystemExit("the packaged all-MiniLM-L6-v2 is needed to count tokens; install the requirements.")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def tokens(text: str) -> int:
    """How many tokens a text has in the vocabulary of all-MiniLM-L6-v2."""
    return len(_tokenizer().encode(text, add_special_tokens=False).ids)


def cost_of(result: Result, said: Sequence[tuple[Request, Turn]]) -> Cost:
    """What went over the wire in one run, from the bodies of the client's own requests."""
    cost = Cost(mode=result.mode)
    before: list[str] = []
    for request, turn in said:
        parts = _parts(request)
        shared = next((i for i, (a, b) in enumerate(zip(before, parts, strict=False)) if a != b), len(before))
        received = _spoken(turn)
        cost.requests += 1
        cost.sent_tokens += sum(map(tokens, parts))
        cost.new_tokens += sum(map(tokens, parts[min(shared, len(parts)) :]))
        cost.received_tokens += tokens(received)
        cost.sent_bytes += sum(len(part.encode()) for part in parts)
        cost.received_bytes += len(received.encode())
        before = parts
    return cost


def _parts(request: Request) -> list[str]:
    """What a model reads of a request: tools, system prompt, then each message."""
    body = request.body
    parts = [json.dumps(body.get(key), ensure_ascii=False) for key in ("tools", "system") if body.get(key)]
    return parts + [_text(message) for message in body.get("messages") or ()]


def _text(message: Mapping[str, Any]) -> str:
    """A message without the marks that only tell the server what to cache."""
    bare = json.loads(
        json.dumps(message), object_hook=lambda one: {k: v for k, v in one.items() if k != "cache_control"}
    )
    return json.dumps(bare, ensure_ascii=False)


def _spoken(turn: Turn) -> str:
    assert isinstance(turn, Reply)
    return turn.text + "".join(json.dumps({"name": one.name, "input": dict(one.arguments)}) for one in turn.calls)


async def measured(pair: Pair) -> dict[str, Any]:
    """One task pair by every way there is for it."""
    ways: dict[str, Cost] = {}
    with tempfile.TemporaryDirectory() as folder:
        ways["learn"] = await _one(pair, Path(folder), pair.second.goal, pair.second, mode="learn")
    ways["plan"] = await _after_first(pair, pair.second.goal, looks=False, keep_leaf=False)
    if pair.second.value is not None:
        ways["value"] = await _after_first(pair, pair.second.goal)
    ways["follow"] = await _after_first(pair, pair.again)
    expected = {"learn": "learner", "plan": "guided", "value": "guided", "follow": "follower"}
    for way, cost in ways.items():
        if cost.mode != expected[way]:
            raise SystemExit(f"{pair.name}: {way} went by {cost.mode}, not {expected[way]}")
    if "value" in ways and ways["value"].requests != 1:
        raise SystemExit(f"{pair.name}: a value was not written anew by one request, but by {ways['value'].requests}")
    return {"name": pair.name, "first": pair.first.goal, "second": pair.second.goal, "again": pair.again} | {
        way: asdict(cost) for way, cost in ways.items()
    }


async def _after_first(pair: Pair, goal: str, *, looks: bool = True, keep_leaf: bool = True) -> Cost:
    """What a goal costs in a home that has learned the first one."""
    with tempfile.TemporaryDirectory() as folder:
        await _one(pair, Path(folder), pair.first.goal, pair.first)
        job = pair.first if goal == pair.again else pair.second
        return await _one(pair, Path(folder), goal, job, looks=looks, keep_leaf=keep_leaf)


async def _one(
    pair: Pair, root: Path, goal: str, job: Job, *, mode: str = "auto", looks: bool = True, keep_leaf: bool = True
) -> Cost:
    (root / "workspace").mkdir(exist_ok=True)
    for name, text in pair.files.items():
        path = root / "workspace" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    desk = Desk(root=root, job=job, looks=looks)
    with ScriptedServer(desk.answer) as server:
        result = await desk.run(server, goal, mode=mode, keep_leaf=keep_leaf)
    return cost_of(result, desk.said)


# --------------------------------------------------------------------------------------------------- the tasks


def output(key: str) -> Callable[[Request], str]:
    """A field of the last tool result, as the model read it."""

    def look(request: Request) -> str:
        text = request.tool_results[-1].text.split("<system-reminder>")[0]
        return str(json.loads(text)[key])

    return look


def written(path: str) -> Say:
    """Write what the last tool gave, as it came."""
    return lambda request: call("write", file_path=path, content=output("text")(request))


def script(name: str, path: str, code: str) -> Job:
    return Job(
        goal=f"Create a script for {name} in {path}",
        look=(call("glob", pattern="*.toml"),),
        work=(call("write", file_path=path, content=code),),
        check=(call("read", file_path=path),),
        answer=f"Wrote {path}",
        value=code,
    )


def summary(source: str, target: str, text: str) -> Job:
    return Job(
        goal=f"Summarise {source} into {target}",
        look=(call("glob", pattern="*.txt"),),
        work=(call("read", file_path=source), call("write", file_path=target, content=text)),
        check=(call("read", file_path=target),),
        answer=f"Wrote {target}",
        value=text,
    )


def letter(person: str, subject: str, path: str, text: str) -> Job:
    return Job(
        goal=f"Write a letter to {person} about the {subject} in {path}",
        look=(call("glob", pattern="*.csv"),),
        work=(call("write", file_path=path, content=text),),
        check=(call("read", file_path=path),),
        answer=f"Wrote {path}",
        value=text,
    )


def description(source: str, target: str, text: str) -> Job:
    return Job(
        goal=f"Describe the columns of {source} for new colleagues in {target}",
        look=(call("glob", pattern="*.csv"),),
        work=(call("read", file_path=source), call("write", file_path=target, content=text)),
        check=(call("read", file_path=target),),
        answer=f"Wrote {target}",
        value=text,
    )


def report(word: str, function: str, source: str, target: str) -> Job:
    sql = f"SELECT region, {function}(amount) AS result FROM data GROUP BY region ORDER BY region"
    return Job(
        goal=f"{word} amount by region of {source} into {target}",
        look=(call("glob", pattern="in/*.csv"), call("read", file_path=source, limit=3)),
        work=(call("query_data", sql=sql, files={"data": source}, format="markdown"), written(target)),
        check=(call("read", file_path=target),),
        answer=f"Wrote {target}",
    )


def selection(word: str, sign: str, target: str) -> Job:
    sql = f"SELECT * FROM data WHERE age {sign} 30 ORDER BY name"
    return Job(
        goal=f"Keep the people of people.csv with an age {word} 30 in {target}",
        look=(call("glob", pattern="p*.csv"), call("read", file_path="people.csv", limit=3)),
        work=(call("query_data", sql=sql, files={"data": "people.csv"}, format="csv"), written(target)),
        check=(call("read", file_path=target),),
        answer=f"Wrote {target}",
    )


def joined(how: str, kind: str, target: str) -> Job:
    sql = f"SELECT o.id, c.name, o.total FROM orders o {kind} JOIN customers c ON o.customer = c.id ORDER BY o.id"
    files = {"orders": "orders.csv", "customers": "customers.csv"}
    return Job(
        goal=f"Match orders.csv to customers.csv {how} and list them in {target}",
        look=(
            call("glob", pattern="*s.csv"),
            call("read", file_path="orders.csv", limit=3),
            call("read", file_path="customers.csv", limit=3),
        ),
        work=(call("query_data", sql=sql, files=files, format="csv"), written(target)),
        check=(call("read", file_path=target),),
        answer=f"Wrote {target}",
    )


PRIMES = (
    "def primes(n):\n    return [p for p in range(2, n) if all(p % d for d in range(2, p))]\n\n\nprint(primes(50))\n"
)
FIBONACCI = (
    "def fibonacci(n):\n    numbers = [0, 1]\n    while len(numbers) < n:\n"
    "        numbers.append(numbers[-1] + numbers[-2])\n    return numbers[:n]\n\n\nprint(fibonacci(20))\n"
)
REPORT = "In spring, as every year, the trees grew by some more rings. The gardeners were pleased.\n" * 12
NOTES = "In autumn, as always, most of the boats went into the dock. The harbour master wrote a list.\n" * 12
PEOPLE = "name,age\nAda,36\nBo,28\nCy,41\nDi,19\n"
CUSTOMERS = "id,name,city\n1,Ada,Oslo\n2,Bo,Rome\n"
ORDERS = "id,customer,total\n7,1,20\n8,2,35\n9,5,12\n"
SALES = {
    "in/sales.csv": "region,amount\nNorth,10\nSouth,5\nNorth,2.5\n",
    "in/march.csv": "region,amount\nWest,7\nEast,1\nWest,1\n",
}


def pairs() -> list[Pair]:
    """Seven task pairs as they occur; the first four end in a text that the model writes itself."""
    garden = "Dear Bob,\n\nthe garden is in full bloom. Come and see it soon.\n\nYours, Ann\n"
    harbour = "Dear Eve,\n\nthe harbour is quiet at this time of the year. Come and see it soon.\n\nYours, Ann\n"
    customers = "# The table\n\nEach row is one person who buys from us.\n\n- first: a number\n- then who, and where\n"
    orders = "# The table\n\nEach row is one purchase.\n\n- first: a number\n- then who bought, and for how much\n"
    return [
        Pair(
            name="a script for another subject",
            files={},
            first=script("primes", "primes.py", PRIMES),
            second=script("fibonacci", "fib.py", FIBONACCI),
            again="Create a script for primes in primes.py",
        ),
        Pair(
            name="a summary of another file",
            files={"report.txt": REPORT, "notes.txt": NOTES},
            first=summary("report.txt", "summary.md", "The trees grew, to the joy of those who tend them.\n"),
            second=summary("notes.txt", "notes.md", "The boats are docked and listed.\n"),
            again="Summarise report.txt into summary.md",
        ),
        Pair(
            name="a letter to somebody else",
            files={},
            first=letter("Bob", "garden", "bob.txt", garden),
            second=letter("Eve", "harbour", "eve.txt", harbour),
            again="Write a letter to Bob about the garden in bob.txt",
        ),
        Pair(
            name="a description of another table",
            files={"customers.csv": CUSTOMERS, "orders.csv": ORDERS},
            first=description("customers.csv", "customers.md", customers),
            second=description("orders.csv", "orders.md", orders),
            again="Describe the columns of customers.csv for new colleagues in customers.md",
        ),
        Pair(
            name="another figure in a report",
            files=SALES,
            first=report("Total", "sum", "in/sales.csv", "out/sales.md"),
            second=report("Average", "avg", "in/march.csv", "out/march.md"),
            again="Total amount by region of in/march.csv into out/march.md",
        ),
        Pair(
            name="another condition of a selection",
            files={"people.csv": PEOPLE},
            first=selection("over", ">", "older.csv"),
            second=selection("under", "<", "younger.csv"),
            again="Keep the people of people.csv with an age over 30 in elders.csv",
        ),
        Pair(
            name="another way to join two tables",
            files={"customers.csv": CUSTOMERS, "orders.csv": ORDERS},
            first=joined("strictly", "INNER", "matched.csv"),
            second=joined("leniently", "LEFT", "kept.csv"),
            again="Match orders.csv to customers.csv strictly and list them in joined.csv",
        ),
    ]


# -------------------------------------------------------------------------------------------------- the report


def table(results: Sequence[Mapping[str, Any]]) -> str:
    """Tokens of each way, as Markdown: sent (of these not sent before in the run) + received, in how many requests."""
    lines = ["| task | from nothing | with a plan | one value anew | followed |", "| --- | --- | --- | --- | --- |"]
    for one in results:
        cells = [_cell(one.get(way)) for way in ("learn", "plan", "value", "follow")]
        lines.append(f"| {one['name']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(cost: Mapping[str, Any] | None) -> str:
    if cost is None:
        return "–"
    if not cost["requests"]:
        return "0"
    sent, new, received = cost["sent_tokens"], cost["new_tokens"], cost["received_tokens"]
    return f"{sent:,} ({new:,}) + {received:,} in {cost['requests']}"


async def main(argv: Sequence[str] | None = None) -> int:
    """Measure every pair, print the table and write the JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.guided", description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the figures there too")
    options = parser.parse_args(argv)
    results = []
    for pair in pairs():
        Console(stderr=True).print(f"{pair.name} …")
        results.append(await measured(pair))
    Console(width=200).print(table(results), markup=False, highlight=False)
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        counted = "tokens of all-MiniLM-L6-v2's vocabulary, counted in the bodies of the real client's requests"
        options.json.write_text(json.dumps({"counted": counted, "pairs": results}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
