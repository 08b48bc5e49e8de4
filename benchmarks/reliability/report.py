"""`python -m benchmarks.reliability.report`: the table of docs/reliability.md, made from the committed results."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from benchmarks.reliability.place import ROOT
from benchmarks.reliability.table import table

RESULTS = ROOT / "benchmarks" / "results" / "reliability.json"
PAGE = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- made by python -m benchmarks.reliability.report -->\n", "<!-- end -->"


def shown(results: Mapping[str, Any]) -> str:
    """Conditions and table, as they stand in the page."""
    made = results["conditions"]
    said = (
        f"{made['date']}: seed {made['seed']}, {made['minutes']:g} minutes on {made['cores']} cores, {made['system']}, "
        f"Python {made['python']}, DuckDB {made['duckdb']}; full disk: {made['disk']}."
    )
    return f"{said}\n\n{table(results['scenarios'])}"


def main() -> int:
    """Write the page."""
    text = PAGE.read_text(encoding="utf-8")
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    PAGE.write_text(f"{head}{BEGIN}\n{shown(results)}\n{END}{tail}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
