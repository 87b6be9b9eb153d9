"""The cell file that a configuration names: it must be of the cell that its data sheet describes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bmsd.config import cell_file
from bmsd.config.known import Known
from bmsd.errors import ConfigError
from bmsd.model.cell import CellModel

MOST_CAPACITY_RATIO = 1.25


class NamedCell:
    """`fit` is a check of `config.load`; `model` is the cell then, None where no file is named."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.model: CellModel | None = None

    def fit(self, get: Known) -> Iterator[str]:
        """The file must be a cell of this chemistry and about this capacity."""
        name = get("cell.specification")
        if not name:
            return
        try:
            self.model = cell_file.load(self._folder / name).model
        except ConfigError as error:
            yield from (f"cell.specification: {line}" for line in error.complaints)
            return
        if self.model.chemistry != get("cell.chemistry"):
            yield f"cell.specification: of {self.model.chemistry}; expected {get('cell.chemistry')} (cell.chemistry)"
        ratio = self.model.capacity_ah / get("cell.capacity_ah")
        if not 1.0 / MOST_CAPACITY_RATIO <= ratio <= MOST_CAPACITY_RATIO:
            yield (
                f"cell.specification: of {self.model.capacity_ah:g} Ah; expected within 25 % of cell.capacity_ah "
                f"({get('cell.capacity_ah'):g} Ah): resistances are those of its size"
            )
