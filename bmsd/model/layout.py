"""The shape of a rack: how many strings, modules, cells and sensors, and who has which address."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

MAX_STRINGS = 8
MAX_MODULES = 32
MAX_CELLS = 24
MAX_SENSORS = 8
FIRST_MODULE_ADDRESS = 1
FIRST_UNIT_ADDRESS = 65


@dataclass(frozen=True)
class Layout:
    """Shape and addresses of a rack.

    `strings` strings in parallel, each of `modules` modules in series, each of `cells` cells in series
    with `sensors` cell temperature sensors. Addresses are those of the slave protocol, by default
    counted up from 1 (modules, string after string) and from 65 (contactor units).
    """

    strings: int
    modules: int
    cells: int
    sensors: int
    module_addresses: tuple[tuple[int, ...], ...] = field(default=())
    unit_addresses: tuple[int, ...] = field(default=())

    def __post_init__(self) -> None:
        if not self.module_addresses:
            count = range(self.strings)
            rows = tuple(tuple(FIRST_MODULE_ADDRESS + s * self.modules + m for m in range(self.modules)) for s in count)
            object.__setattr__(self, "module_addresses", rows)
        if not self.unit_addresses:
            object.__setattr__(self, "unit_addresses", tuple(FIRST_UNIT_ADDRESS + s for s in range(self.strings)))

    @property
    def module_shape(self) -> tuple[int, int]:
        return (self.strings, self.modules)

    @property
    def cell_shape(self) -> tuple[int, int, int]:
        return (self.strings, self.modules, self.cells)

    @property
    def sensor_shape(self) -> tuple[int, int, int]:
        return (self.strings, self.modules, self.sensors)

    @property
    def cells_in_series(self) -> int:
        """Cells in series of one string."""
        return self.modules * self.cells

    @cached_property
    def module_address_array(self) -> NDArray[np.int64]:
        """Addresses of the module boards, shape (strings, modules)."""
        return np.array(self.module_addresses, dtype=np.int64).reshape(self.module_shape)
