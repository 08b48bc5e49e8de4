"""`python -m benchmarks`: every figure about speed, size and endurance, one benchmark after the other.

With names only those: any of the benchmarks below. Each has its own options, see `python -m benchmarks.NAME --help`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
USUAL = ("speed", "scale", "scheduling", "soak")
"""What is run without names: an hour and a half on two cores."""

COMMANDS = {
    "speed": ["benchmarks.speed", "--json", str(RESULTS / "speed.json")],
    "scale": ["benchmarks.scale", "--json", str(RESULTS / "scale.json")],
    "scheduling": ["benchmarks.scheduling", "--json", str(RESULTS / "scheduling.json")],
    "soak": ["benchmarks.soak", "--json", str(RESULTS / "soak.json")],
    "matching": ["benchmarks.matching", "--json", str(RESULTS / "matching.json")],
    "guided": ["benchmarks.guided", "--json", str(RESULTS / "guided.json")],
    "context": ["benchmarks.context", "--json", str(RESULTS / "context.json")],
    "reliability": ["benchmarks.reliability", "--json", str(RESULTS / "reliability.json")],
}


def main() -> int:
    """Run them; 1 if one of them failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(COMMANDS))
    names = parser.parse_args().names or list(USUAL)
    if unknown := [name for name in names if name not in COMMANDS]:
        parser.error(f"there is no benchmark {unknown[0]!r}; choose of {', '.join(COMMANDS)}")
    failed = [name for name in names if subprocess.run([sys.executable, "-m", *COMMANDS[name]], check=False).returncode]
    if failed:
        sys.stderr.write(f"failed: {', '.join(failed)}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
