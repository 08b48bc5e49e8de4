"""What a program needs to see of the files to start: itself, and what it was installed with."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

_SIGNS = ("pyvenv.cfg", "conda-meta", "lib/node_modules")
"""What only the folder of an installation holds: a Python environment, a conda one, Node."""


def program(command: str, env: Mapping[str, str]) -> str:
    """The program's path without links in its folders; the command itself where there is no such program."""
    found = shutil.which(command, path=env.get("PATH"))
    return str(Path(found).parent.resolve() / Path(found).name) if found else command


def seen_by(argv: Sequence[str], cwd: Path) -> tuple[Path, ...]:
    """The paths a command must be able to read: its program's installation, and files that its arguments name."""
    found = list(_installed_with(Path(argv[0])))
    for argument in argv[1:]:
        path = cwd / argument
        try:
            if path.is_file():
                found += [path.resolve(), path]
        except (OSError, ValueError):
            continue  # too long for a path, or no path at all
    return tuple(dict.fromkeys(found))


def _installed_with(path: Path) -> Iterator[Path]:
    """A program, what it is a link to, and the folders of the environments they lie in."""
    for one in dict.fromkeys([path, path.resolve()]):
        if not one.is_file():
            continue
        yield one
        prefix = one.parent.parent
        if any((prefix / sign).exists() for sign in _SIGNS):
            yield prefix
        base = _base_of(prefix / "pyvenv.cfg")
        if base is not None:
            yield base


def _base_of(config: Path) -> Path | None:
    """The installation of Python that a virtual environment stands on."""
    try:
        lines = config.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    values = dict(line.split(" = ", 1) for line in lines if " = " in line)
    return Path(values["home"]).resolve().parent if "home" in values else None
