"""What a confined child sees of the files: a plan, which each kind of wall carries out in its own way."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path

import llmos

SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/opt", "/nix", "/gnu")
"""What programs are made of; all of it may be read, as far as everybody may."""

TEMPORARY = ("/tmp", "/var/tmp", "/run")
_NAME_SERVERS = Path("/etc/resolv.conf")
_PACKAGE = Path(llmos.__file__).resolve().parent


class Access(StrEnum):
    """How a path stands in the sandbox; of two paths the deeper one counts."""

    READ = "read"
    WRITE = "write"
    HIDDEN = "hidden"
    TEMPORARY = "temporary"


@dataclass(frozen=True, kw_only=True)
class Place:
    """One path and its access; `is_folder` says what stands there."""

    path: str
    access: Access
    is_folder: bool = True


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The whole view: `places` from the top down, `links` by their paths, `missing` what must not come to be.

    Missing paths are in `places` as hidden ones; they stand there only for as long as the child runs.
    """

    places: tuple[Place, ...]
    links: Mapping[str, str]
    missing: tuple[Place, ...] = ()

    def of(self, access: Access) -> list[str]:
        return [place.path for place in self.places if place.access is access]

    def holes(self) -> list[str]:
        """Hidden and read-only paths below writable ones: what only a mount view can keep."""
        shut = [*self.of(Access.HIDDEN), *self.of(Access.READ)]
        return [path for path in shut if _is_in(path, self.of(Access.WRITE))]


@dataclass(frozen=True, kw_only=True)
class View:
    """What is wanted: folders to write and to read, and what of LLM OS itself must stay out of reach.

    What does not exist of `write` and `read` is left out. `names` are paths by which a command may call what it sees:
    links on the way are there too. `hidden` and `sealed`
    paths count only where they lie inside something readable or writable; those that do not exist yet must not come to
    be either.
    """

    write: tuple[Path, ...] = ()
    read: tuple[Path, ...] = ()
    hidden: tuple[Path, ...] = ()
    sealed: tuple[Path, ...] = ()
    names: tuple[Path, ...] = ()
    home: Path | None = None
    network: bool = False

    def plan(self) -> Plan:
        """The view laid out, with what every program needs."""
        found: dict[str, Place] = {}
        links = {name: str(Path(name).readlink()) for name in SYSTEM if Path(name).is_symlink()}
        system = [name for name in SYSTEM if name not in links and Path(name).is_dir()]
        _put(found, system, Access.READ)
        _put(found, private_files(), Access.HIDDEN)
        _put(found, self._temporary(system), Access.TEMPORARY)
        _put(found, self._name_servers(), Access.READ)
        _put(found, [path for path in self.read if _is_there(path)], Access.READ)
        _put(found, [path for path in self.write if _is_there(path)], Access.WRITE)
        _put(found, own_code(), Access.READ)
        missing = self._shut(found)
        for name in (*self.names, Path(sys.prefix), Path(sys.executable)):
            links |= {link: target for link, target in _links_on(name) if _can_stand(link, found)}
        places = sorted(found.values(), key=lambda place: (place.path.count("/"), place.path))
        return Plan(places=tuple(places), links=links, missing=tuple(missing))

    def _temporary(self, system: list[str]) -> Iterator[str]:
        """Places with a new, empty folder: those of temporary files, and the user's own home."""
        home = str(self.home) if self.home is not None and self.home.is_absolute() else "/"
        can_be = Path(home).is_dir() or not _is_in(home, system)  # nothing can be made in what is read-only
        named = [*TEMPORARY, *([home] if can_be and not any(_is_in(one, [home]) for one in system) else [])]
        yield from (path for path in named if not _is_in(path, map(str, self.write)))

    def _name_servers(self) -> Iterator[Path]:
        if self.network and _NAME_SERVERS.is_symlink():
            yield _NAME_SERVERS.resolve()

    def _shut(self, found: dict[str, Place]) -> list[Place]:
        """Close what belongs to LLM OS; gives what is closed before it exists.

        A folder on the way to a closed place is made a place of its own, so that it can't be renamed away.
        """
        missing = []
        for path, access in self._closed():
            folder = next((one for one in _above(path) if found.get(one)), None)
            if folder is None or found[folder].access not in (Access.WRITE, Access.READ):
                continue
            is_writable = found[folder].access is Access.WRITE
            if path.exists():
                found[str(path)] = Place(path=str(path), access=access, is_folder=path.is_dir())
            elif is_writable and path.parent.is_dir():
                place = Place(path=str(path), access=Access.HIDDEN, is_folder=not path.suffix)
                found[str(path)] = place
                missing.append(place)
            else:
                continue
            for between in _above(path) if is_writable else ():
                if between == folder:
                    break
                found.setdefault(between, Place(path=between, access=Access.WRITE))
        return missing

    def _closed(self) -> list[tuple[Path, Access]]:
        own = [(path, Access.READ) for path in own_code()]
        own += [(path, Access.READ) for path in self.sealed]
        own += [(path, Access.HIDDEN) for path in self.hidden]
        return sorted(own, key=lambda one: len(one[0].parts))


@cache
def own_code() -> tuple[Path, ...]:
    """The interpreter and the package: what the sandbox itself runs, and nobody in it may change."""
    python = [Path(prefix).resolve() for prefix in (sys.prefix, sys.base_prefix)]
    outside = [path for path in python if not _is_in(str(path), SYSTEM)]
    door = _PACKAGE.parent / "boot.py"
    return tuple(dict.fromkeys([*outside, _PACKAGE, *([door] if door.is_file() else [])]))


@cache
def interpreter() -> str:
    """This Python by a path without links in its folders, since those may not lead anywhere in a sandbox."""
    program = Path(sys.executable)
    return str(program.parent.resolve() / program.name)


@cache
def private_files() -> tuple[Path, ...]:
    """What below /etc this user may read and not everybody: as root the system's keys and password hashes."""
    return tuple(path for path in _not_for_all(Path("/etc")) if os.access(path, os.R_OK))


def _not_for_all(folder: Path) -> Iterator[Path]:
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    for entry in entries:
        try:
            mode = entry.stat(follow_symlinks=False).st_mode
        except OSError:
            continue
        if stat.S_ISLNK(mode):
            continue
        if not mode & (stat.S_IXOTH if stat.S_ISDIR(mode) else stat.S_IROTH):
            yield Path(entry.path)
        elif stat.S_ISDIR(mode):
            yield from _not_for_all(Path(entry.path))


def _links_on(path: Path) -> Iterator[tuple[str, str]]:
    """Every link among the folders of an absolute path, and itself if it is one, with where it leads."""
    here, waiting = Path("/"), list(reversed(path.parts[1:]))
    while waiting:
        here = here / waiting.pop()
        if here.is_symlink():
            target = here.readlink()
            yield str(here), str(target)
            waiting += reversed((here.parent / target).resolve().parts[1:])
            here = Path("/")


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that is too long, a folder that is closed to us
        return False


def _can_stand(link: str, found: Mapping[str, Place]) -> bool:
    """Whether a link has to be made: its folder is not one of the host's, which has it already."""
    nearest = next((found[one] for one in _above(Path(link)) if one in found), None)
    return link not in found and (nearest is None or nearest.access is Access.TEMPORARY)


def _put(found: dict[str, Place], paths: Iterable[str | Path], access: Access) -> None:
    for path in map(Path, paths):
        is_folder = access is Access.TEMPORARY or path.is_dir()
        found[str(path)] = Place(path=str(path), access=access, is_folder=is_folder)


def _above(path: Path) -> Iterator[str]:
    """The folders a path lies in, the nearest first."""
    return map(str, path.parents)


def _is_below(path: str, folder: str) -> bool:
    return path != folder and path.startswith(folder.rstrip("/") + "/")


def _is_in(path: str, folders: Iterable[str]) -> bool:
    return any(path == folder or _is_below(path, folder) for folder in folders)
