"""Rows of numbers into a CSV file, or a Parquet file where pyarrow is installed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path

import numpy as np

from bmsd.errors import BmsdError, ConfigError

TABLES = {".csv": None, ".parquet": ("Parquet", "pyarrow.parquet")}
"""Kinds of files by their suffix, with their name and the module that they need."""
LAB_EXTRA = "it is in the extra `lab`: in a checkout .venv/bin/python -m pip install -e '.[lab]'"


class Table:
    """Rows for one file. What is not known (NaN) is an empty field of CSV, a null of Parquet."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self._path = path
        self._columns = list(columns)
        self._rows: list[list[float]] = []

    def add(self, row: list[float]) -> None:
        """Take one row, values in the order of the columns."""
        self._rows.append(row)

    def write(self) -> None:
        """Write the file."""
        try:
            if self._path.suffix == ".parquet":
                self._write_parquet()
            else:
                self._write_csv()
        except OSError as error:
            raise BmsdError(f"{self._path}: cannot be written: {error.strerror or error}") from error

    def _write_csv(self) -> None:
        with self._path.open("w", encoding="utf-8", newline="") as file:
            file.write(",".join(self._columns) + "\n")
            file.writelines(",".join(map(_text, row)) + "\n" for row in self._rows)

    def _write_parquet(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        columns = np.array(self._rows, dtype=np.float64).reshape(-1, len(self._columns)).T
        arrays = [pa.array(column, from_pandas=True) for column in columns]
        pq.write_table(pa.table(dict(zip(self._columns, arrays, strict=True))), self._path)


def check_output(path: Path, kinds: Mapping[str, tuple[str, str] | None] = TABLES) -> list[str]:
    """Return what is against writing this file, of one of these kinds; nothing is written."""
    if path.suffix not in kinds:
        return [f"{path}: expected a name that ends with {' or '.join(kinds)}"]
    if not path.parent.is_dir():
        return [f"{path}: its folder does not exist"]
    if needs := kinds[path.suffix]:
        name, module = needs
        try:
            import_module(module)
        except ImportError:
            library = module.partition(".")[0]
            return [f"{path}: {name} needs {library}, which is not installed; {LAB_EXTRA}, or write .csv"]
    return []


def check_place(path: Path, inputs: Iterable[Path]) -> list[str]:
    """Return what is against writing here, where none of the inputs may be lost; nothing is written."""
    if path.is_dir():
        return [f"{path}: is a folder; expected a file to write"]
    if not path.parent.is_dir():
        return [f"{path}: its folder does not exist"]
    if any(path.resolve() == one.resolve() for one in inputs):
        return [f"{path}: is read, too; expected another file to write"]
    return []


def refuse(complaints: list[str]) -> None:
    """Raise ConfigError when there is something to complain about."""
    if complaints:
        raise ConfigError(complaints)


def _text(value: float) -> str:
    return "" if value != value else f"{value:.9g}"
