"""The traces that come with LLM OS: readable demonstrations, so that it is useful before the first dollar."""

from __future__ import annotations

from pathlib import Path

from llmos.errors import TraceFormatError
from llmos.trace.codec import loads_yaml
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
    files = sorted(path.glob("*.yaml")) if path.is_dir() else [path]
    return [_load_file(file) for file in files]


def _load_file(file: Path) -> Trace:
    try:
        return loads_yaml(file.read_text(encoding="utf-8"), source=str(file))
    except (OSError, UnicodeDecodeError) as error:
        raise TraceFormatError(f"{file} can't be read: {error}") from None
