"""The door of a checkout: `python boot.py "goal"`, `python boot.py interactive`, or any command of `--help`."""

import os
import sys

ROOT = os.path.dirname(os.path.realpath(__file__))


def run() -> int:
    """Hand the command line to `llmos.door`."""
    if sys.version_info < (3, 11):  # noqa: UP036 (a checkout is run with whatever `python` is)
        here = ".".join(str(part) for part in sys.version_info[:3])
        sys.stderr.write(f"llmos: Python 3.11 or newer is needed, and this is {here} ({sys.executable})\n")
        return 2
    if ROOT not in sys.path:
        sys.path.insert(0, ROOT)
    from llmos.door import main

    return main()


if __name__ == "__main__":
    sys.exit(run())
