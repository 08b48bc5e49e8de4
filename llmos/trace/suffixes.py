"""What kind of file a name says it is."""

from __future__ import annotations

from pathlib import PurePosixPath

_COMPRESSED = frozenset((".gz", ".bz2", ".xz", ".zst", ".lz4", ".br"))


def suffix_of(path: str) -> str:
    """The suffix of a file's name; with the one before it where the last only says how it is compressed."""
    suffixes = PurePosixPath(path).suffixes
    compressed = len(suffixes) > 1 and suffixes[-1].lower() in _COMPRESSED and suffixes[-2][1:2].isalpha()
    return "".join(suffixes[-2:] if compressed else suffixes[-1:])
