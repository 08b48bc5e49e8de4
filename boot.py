"""The door of a checkout: `python boot.py "goal"`, `python boot.py interactive`, or any command of `--help`."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent


def run() -> int:
    """Hand the command line to `llmos.interfaces.cli`, or say in one sentence what is missing to do so."""
    if sys.version_info < (3, 11):  # noqa: UP036 (a checkout is run with whatever `python` is)
        here = ".".join(str(part) for part in sys.version_info[:3])
        sys.stderr.write(f"llmos: Python 3.11 or newer is needed, and this is {here} ({sys.executable})\n")
        return 2
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    from llmos.interfaces.install import how_to_install, is_ours_to_install

    try:
        from llmos.interfaces.cli import main
    except ModuleNotFoundError as missing:
        if not is_ours_to_install(missing):
            raise
        sys.stderr.write(f"llmos: {how_to_install(missing)}\n")
        return 2
    return main()


if __name__ == "__main__":
    sys.exit(run())
