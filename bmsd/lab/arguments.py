"""Arguments of commands whose options take several files, as a shell's wildcards give them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path


def fit_cell_arguments(given: Sequence[str], explained: str) -> argparse.Namespace:
    """Return ocv, dynamic, output, capacity_ah, min_v, max_v, no_plots. SystemExit: wrong, or only help was wanted."""
    parser = argparse.ArgumentParser(
        prog="bmsd fit-cell", description=explained, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    files = {"nargs": "+", "action": "extend", "type": Path, "metavar": "FILE", "required": True}
    parser.add_argument("--ocv", help="Slow charges and discharges.", **files)  # type: ignore[arg-type]
    parser.add_argument("--dynamic", help="Series with changing current.", **files)  # type: ignore[arg-type]
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="The cell specification.")
    parser.add_argument(
        "--capacity-ah", type=float, metavar="AH", help="Capacity, where the slow series do not tell it."
    )
    parser.add_argument("--max-v", type=float, default=3.65, metavar="V", help="Highest voltage by the maker (3.65).")
    parser.add_argument("--min-v", type=float, default=2.5, metavar="V", help="Lowest voltage by the maker (2.5).")
    parser.add_argument("--no-plots", action="store_true", help="Only the file and the report.")
    return parser.parse_args(list(given))
