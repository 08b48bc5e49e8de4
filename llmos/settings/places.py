"""Where the home, the checkout, the plugins and llmos.yaml are looked for."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from llmos import caller
from llmos.errors import SettingsError
from llmos.settings.records import CONFIG_NAME


def absolute(path: Path) -> Path:
    """The path from the root, `~` filled in, symbolic links as the user wrote them."""
    try:
        return Path(os.path.abspath(caller.placed(path.expanduser())))  # noqa: PTH100 (resolve() follows links)
    except RuntimeError:
        raise SettingsError(f"the path {path} names a user that does not exist.") from None


def find_checkout() -> Path | None:
    """The folder that holds both boot.py and this package, unless the package is installed elsewhere."""
    root = Path(__file__).resolve().parents[2]
    return root if (root / "boot.py").is_file() else None


def find_home(home: Path | None, env: Mapping[str, str], checkout: Path | None) -> Path:
    """The folder named, else $LLMOS_HOME, else the checkout's `workspace`, else the user's data folder."""
    if home is None and env.get("LLMOS_HOME"):
        home = Path(env["LLMOS_HOME"])
    if home is None and checkout is not None:
        home = checkout / "workspace"
    if home is None:
        import platformdirs

        home = platformdirs.user_data_path("llmos")
    home = absolute(home)
    try:
        is_file = home.exists() and not home.is_dir()
        if not is_file:
            (home / "memory" / "llmos.duckdb").exists()  # it says whether both folders may be entered
    except OSError as error:
        raise SettingsError(
            f"the home {str(home)[:200]!r} can't be used: {error.strerror}; name a folder with --home or LLMOS_HOME."
        ) from None
    if is_file:
        raise SettingsError(f"the home {home} is a file; name a folder with --home or LLMOS_HOME.")
    return home


def find_plugins(checkout: Path | None, home: Path, named: Sequence[Path]) -> tuple[Path, ...]:
    """The folders to load plugins from: the checkout's and the home's where there are any, and all that are named."""
    usual = [checkout / "plugins"] if checkout is not None else []
    found = [path for path in (*usual, home / "plugins") if path.is_dir()]
    for path in map(absolute, named):
        if not path.is_dir():
            raise SettingsError(f"the plugins folder {path} does not exist; create it or name another with --plugins.")
        found.append(path)
    return tuple(dict.fromkeys(found))


def find_config(env: Mapping[str, str], home: Path, checkout: Path | None) -> tuple[Path, ...]:
    """The llmos.yaml files to read, whether they exist or not; only $LLMOS_CONFIG must."""
    if env.get("LLMOS_CONFIG"):
        path = absolute(Path(env["LLMOS_CONFIG"]))
        if not path.is_file():
            raise SettingsError(f"LLMOS_CONFIG names {path}, which is not a file.")
        return (path,)
    return tuple(folder / CONFIG_NAME for folder in (checkout, home) if folder is not None)
