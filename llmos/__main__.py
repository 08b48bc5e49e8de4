"""`python -m llmos`: the same door as the `llmos` command."""

import sys

from llmos.interfaces.cli import main

if __name__ == "__main__":
    sys.exit(main(prog_name="llmos"))
