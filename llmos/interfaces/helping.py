"""`--help` and `--version`, without all that only a goal needs."""

from __future__ import annotations

import click

from llmos.interfaces.commands import parse
from llmos.interfaces.options import Options
from llmos.interfaces.parsing import Line


def helped(args: list[str], prog_name: str) -> bool:
    """Answer a command line that asks for help; False, with nothing said, if it can't be answered so."""
    try:
        return parse(["--help"] if args == ["help"] else args, Line(options=Options()), prog_name=prog_name) is None
    except (click.ClickException, OSError, ValueError):
        return False
