"""A team: one learner begins an architect, a coder and a reviewer, divides its budget among them and waits.

Run it from a folder of your own: `python docs/examples/team.py`. It asks Claude, and costs about a dollar.
"""

from __future__ import annotations

import asyncio
import sys

from llmos.boot import LLMOS, Question, Result

BUDGET_USD = 2.0

GOAL = """\
Have a team build a stack in Python. Begin three child processes with spawn_process, in this order, with 0.5 dollars \
each, and wait for none before all have begun:
1. group reviewers, goal: Review stack.py against design.md and write what you find into review.md; the coder sends \
you a message when stack.py is there, and you send your parent one when review.md is.
2. group coders, goal: Write stack.py as design.md says; the architect sends you a message when it is there, and you \
send one to group:reviewers when you are done.
3. group architects, goal: Design a class Stack: write into design.md what it does, put its methods into the shared \
memory `methods`, and send group:coders a message.
Then wait for all three with wait_for and say what the reviewer found."""


async def allow(question: Question) -> bool:
    """Whoever runs this has agreed to a team; whatever else its members want to do outside is not allowed."""
    return question.call is not None and question.call["tool"] == "spawn_process"


async def build(system: LLMOS) -> Result:
    """Have the team at work in the workspace of a system."""
    return await system.execute(GOAL, confirm=allow, budget_usd=BUDGET_USD)


async def main() -> None:
    """Build the stack here, and say what it came to and who spent what."""
    async with LLMOS() as system:
        result = await build(system)
        sys.stdout.write(f"{result.answer}\n")
        for process in system.home.processes:
            spent = f"${process.spent_usd:.4f} of ${process.budget.allocated_usd}"
            sys.stdout.write(f"process {process.pid} spent {spent} and is {process.why}\n")


if __name__ == "__main__":
    asyncio.run(main())
