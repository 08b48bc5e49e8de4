"""The commands that are about models: which does what, at what price, and which goes on with a process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmos.errors import NoLearnerError
from llmos.interfaces import render
from llmos.interfaces.model_names import doubt
from llmos.interfaces.prices import Tokens
from llmos.interfaces.process_commands import data_of
from llmos.interfaces.session import Action, Session
from llmos.settings import GUIDED, JUDGE, TASKS

if TYPE_CHECKING:
    from llmos.interfaces.models import Models

COLUMNS = ("task", "class", "model", "in / Mtok", "out / Mtok", "state")
_MILLION = 1_000_000


async def models(session: Session) -> None:
    """Show which models do what, first the wanted one, with their prices and whether they are down."""
    router = (await session.system()).models
    found = [_entry(router, task, kind, name) for task, kind, name in _asked(router)]
    session.screen.data({"models": found})
    rows = [[one["task"], one["class"] or "", one["model"], *_priced(one), _state(one)] for one in found]
    session.screen.table(COLUMNS, rows, empty="no model is named")


def model(pid: int, name: str) -> Action:
    """Have another model go on with a process; what nobody can know of its name yet is said."""

    async def action(session: Session) -> None:
        system = await session.system()
        process = system.home.processes.change_model(pid, name)
        await system.home.keep(process)
        session.screen.data(
            {"processes": [data_of(process) | {"model": process.model, "next_model": process.next_model}]}
        )
        if process.next_model:
            session.screen.show(f"process {pid} goes on with {name} at the end of its turn")
            if unsure := doubt(name, system.settings):
                session.screen.note(f"llmos: {unsure}")
        else:
            session.screen.show(f"process {pid} is worked on by {name} already")

    return action


def _asked(router: Models) -> list[tuple[str, str, str]]:
    """Task, class ('' for all) and model, of those that are asked and those that stand in."""
    settings = router.settings.models
    found = [(task, "", name) for task in TASKS for name in settings.wanted(task) or ("off",)]
    for kind, own in settings.classes.items():
        found += [(task, kind, name) for task, names in own.items() for name in names]
    return found


def _entry(router: Models, task: str, kind: str, name: str) -> dict[str, Any]:
    is_off = name == "off" and task in (GUIDED, JUDGE)
    price = None if is_off else _price(router, name)
    left_s = None if is_off else router.down.left_s(name)
    return {
        "task": task,
        "class": kind or None,
        "model": name,
        "input_usd_per_mtok": price[0] if price else None,
        "output_usd_per_mtok": price[1] if price else None,
        "state": "off" if is_off else "ok" if left_s is None else "down",
        "down_s": None if left_s is None else round(left_s, 1),
        "why": router.down.why(name) or None,
    }


def _price(router: Models, name: str) -> tuple[float, float] | None:
    try:
        price = router.price(name)
    except NoLearnerError:
        return None
    return price.cost_usd(Tokens(input=_MILLION, output=0)), price.cost_usd(Tokens(input=0, output=_MILLION))


def _priced(one: dict[str, Any]) -> list[str]:
    if one["state"] == "off":
        return ["", ""]
    rates = one["input_usd_per_mtok"], one["output_usd_per_mtok"]
    return ["unknown" if rate is None else f"${rate:.2f}" for rate in rates]


def _state(one: dict[str, Any]) -> str:
    return str(one["state"]) if one["state"] != "down" else f"down, tried again in {render.duration(one['down_s'])}"
