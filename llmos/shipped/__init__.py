"""The traces that come with LLM OS: readable demonstrations, so that it is useful before the first dollar."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from llmos.errors import TraceFormatError

if TYPE_CHECKING:
    from llmos.trace.program import Trace

FOLDER = Path(__file__).parent


def load() -> list[Trace]:
    """Every shipped trace, by file name."""
    return load_from(FOLDER)


def load_from(path: Path) -> list[Trace]:
    """The traces of a YAML file or of a folder of them.

    Raises:
        TraceFormatError: a file that is no trace, named with what is wrong in it.
    """
    from llmos.trace.codec import loads_yaml

    def load_file(file: Path) -> Trace:
        try:
            return loads_yaml(file.read_text(encoding="utf-8"), source=str(file))
        except (OSError, UnicodeDecodeError) as error:
            raise TraceFormatError(f"{file} can't be read: {error}") from None

    return [load_file(file) for file in files_of(path)]


def files_of(path: Path) -> list[Path]:
    """The file itself, or the YAML files of a folder by name."""
    return sorted(path.glob("*.yaml")) if path.is_dir() else [path]
