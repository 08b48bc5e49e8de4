"""The way in, for `boot.py`, `llmos` and `python -m llmos`: through a resident kernel, or in this process."""

import gc
import os
import sys
import time

from llmos import thin

_PATIENCE_S, _FAILURES = 20.0, 2


def main(prog_name: str | None = None) -> int:
    """Do this process's command line; its exit code."""
    args = sys.argv[1:]
    if prog_name is None:
        prog_name = "python boot.py" if os.path.basename(sys.argv[0]) == "boot.py" else "llmos"
    if thin.is_for_kernel(args, os.environ):
        code = _by_kernel(args, prog_name)
        if code is not None:
            return code
    return _here(args, prog_name)


def _by_kernel(args: list[str], prog_name: str) -> int | None:
    """The exit code of a command that the resident kernel did; None if it must be done here.

    A kernel that can't do it ends, and another is started; whoever else wanted one meanwhile may have been faster, so
    that is tried for a while.
    """
    memory = thin.memory_of(args, os.environ)
    until, failures = time.monotonic() + _PATIENCE_S, 0
    while True:
        if memory is not None:
            try:
                return thin.ask(args, memory, prog_name)
            except thin.NoKernelError:
                pass
        if time.monotonic() > until:
            return None
        try:
            from llmos.resident.starting import started

            memory, is_started = started(args)
        except ModuleNotFoundError:
            return None  # said where the command is done
        failures += not is_started
        if memory is None or failures > _FAILURES:
            return None
        time.sleep(0 if is_started else 0.2)  # one that ends may hold the memory a moment longer


def _here(args: list[str], prog_name: str) -> int:
    """Do it in this process, or say in one sentence what is missing to do so."""
    from llmos.interfaces.ending import Ending
    from llmos.interfaces.install import how_to_install, is_ours_to_install

    ending = Ending()
    gc.disable()  # what is loaded stays
    try:
        if thin.asks_for_help(args):
            from llmos.interfaces.helping import helped

            if helped(args, prog_name):
                return 0
        from llmos.interfaces.cli import main as cli
    except ModuleNotFoundError as missing:
        if not is_ours_to_install(missing):
            raise
        sys.stderr.write(f"llmos: {how_to_install(missing)}\n")
        return 2
    finally:
        gc.enable()
    ending.exit_code = cli(args, prog_name=prog_name)
    return ending.exit_code
