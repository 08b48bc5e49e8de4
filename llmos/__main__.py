"""`python -m llmos`: the same door as the `llmos` command."""

import sys

from llmos.door import main

if __name__ == "__main__":
    sys.exit(main("llmos"))
