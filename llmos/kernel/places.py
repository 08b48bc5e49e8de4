"""Paths and hosts as they really are: links followed, and one name for one thing."""

from __future__ import annotations

import os
import socket
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llmos.plugins.touching import Kind, Touch
from llmos.trace.program import Effect

if TYPE_CHECKING:
    import httpx

_MAX_CHARS = 4096


@dataclass(frozen=True, kw_only=True)
class Place:
    """A path from the root with every link followed; `inside` the workspace or not. None: it can't be a path."""

    path: Path | None
    inside: bool
    effect: Effect
    recursive: bool = False
    folds: bool = False

    @property
    def shown(self) -> str:
        return "a path that can't be read" if self.path is None else str(self.path)


@dataclass(frozen=True, kw_only=True)
class Host:
    """A host by its one name (ASCII, small letters, no dot at the end, an address in its usual form) and its port.

    None: two readers of the URL would not agree where it leads.
    """

    name: str | None
    port: int | None
    effect: Effect

    @property
    def shown(self) -> str:
        return self.name or "a host that can't be read"


def place_of(touch: Touch, workspace: Path) -> Place:
    """Where a path in an argument leads now; relative ones count from the workspace."""
    root = workspace.resolve()
    try:
        if "\0" in touch.value:
            raise ValueError("a null byte")
        text = touch.value.removeprefix("file://") if touch.value.startswith("file:///") else touch.value
        if len(text) > _MAX_CHARS:
            raise ValueError("longer than any system takes a path")
        path = _followed(root / (Path(text).expanduser() if text == "~" or text.startswith("~/") else text))
    except (OSError, ValueError, RuntimeError):
        return Place(path=None, inside=False, effect=touch.effect)
    inside = path == root or root in path.parents
    return Place(path=path, inside=inside, effect=touch.effect, recursive=touch.recursive, folds=folds_case(path))


def _followed(path: Path) -> Path:
    """The path with every link followed; one that goes round in circles, which nobody can open, as it is written."""
    try:
        return path.resolve()
    except (OSError, RuntimeError):
        return Path(os.path.abspath(path))  # noqa: PTH100 - resolve() is what failed


def folds_case(path: Path) -> bool:
    """Whether the file system takes `A` and `a` for one name, as far as what exists of the path shows."""
    for here in (path, *path.parents):
        swapped = here.name.swapcase()
        if swapped == here.name or not os.path.lexists(here):
            continue
        try:
            return here.with_name(swapped).samefile(here)
        except OSError:
            return False
    return False


def key(text: str) -> str:
    """A name as a file system that folds case, and forms of Unicode, compares it."""
    return unicodedata.normalize("NFC", text).casefold()


def host_of(touch: Touch) -> Host:
    """The host a URL, or a bare host, leads to, as the HTTP client reads it."""
    import httpx

    text = touch.value if "//" in touch.value else f"//{touch.value}"
    try:
        url = httpx.URL(text)
        name = _one_name(url)
    except (httpx.InvalidURL, UnicodeError, ValueError):
        return Host(name=None, port=None, effect=touch.effect)
    return Host(name=name, port=url.port, effect=touch.effect)


def _one_name(url: httpx.URL) -> str | None:
    from urllib.parse import urlsplit

    said = urlsplit(str(url)).hostname
    name = url.raw_host.decode("ascii").strip("[]").rstrip(".").lower()
    if not name or any(char in name for char in "\\/@ %"):
        return None
    if said is None or said.strip("[]").rstrip(".").lower() not in (name, url.host.rstrip(".").lower()):
        return None
    return _address(name) or name


def _address(name: str) -> str | None:
    """The usual form of an address, also of `2130706433`, `0x7f.1` or `::ffff:127.0.0.1`."""
    import ipaddress

    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        try:
            return socket.inet_ntoa(socket.inet_aton(name)) if set(name) <= set("0123456789abcdefx.") else None
        except OSError:
            return None
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


def resource_of(touch: Touch, workspace: Path) -> Place | Host:
    """What a touch leads to."""
    return place_of(touch, workspace) if touch.kind is Kind.PATH else host_of(touch)
