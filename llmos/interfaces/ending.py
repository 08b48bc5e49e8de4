"""How the process of a command ends."""

import atexit
import os
import sys


class Ending:
    """Ends the process with `exit_code`, if there is one, when all that was asked to be done at its end is done.

    The interpreter would take everything apart first: a tenth of the time of a command.
    """

    def __init__(self) -> None:
        self.exit_code: int | None = None
        atexit.register(self._end)  # before anybody else: who is registered first is called last

    def _end(self) -> None:
        if self.exit_code is None:
            return
        try:
            for stream in (sys.stdout, sys.stderr):
                if stream is not None:
                    stream.flush()
        except (OSError, ValueError):
            return  # the interpreter says it, and has an exit code for it
        os._exit(self.exit_code)
