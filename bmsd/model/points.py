"""Every published value: one row each. An address, once given, never moves."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from bmsd.model.catalogue import Level
from bmsd.model.published import Published
from bmsd.model.snapshot import Floats

Value = float | int | str | bool | None


class Type(StrEnum):
    """How a value lies in registers."""

    UINT16 = "uint16"
    INT16 = "int16"
    UINT32 = "uint32"
    INT32 = "int32"
    FLOAT32 = "float32"


REGISTERS = {Type.UINT16: 1, Type.INT16: 1, Type.UINT32: 2, Type.INT32: 2, Type.FLOAT32: 2}


@dataclass(frozen=True, slots=True)
class Point:
    """One published value. `read` gives it from a record, None when unknown."""

    name: str
    unit: str
    address: int
    type: Type
    meaning: str
    read: Callable[[Published], Value]

    @property
    def registers(self) -> int:
        return REGISTERS[self.type]


def _known(values: Floats, pick: Callable[[Floats], float]) -> float | None:
    known = values[np.isfinite(values)]
    return float(pick(known)) if known.size else None


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _float(address: int, name: str, unit: str, meaning: str, read: Callable[[Published], Value]) -> Point:
    return Point(name, unit, address, Type.FLOAT32, meaning, read)


def _count(address: int, name: str, meaning: str, read: Callable[[Published], Value]) -> Point:
    return Point(name, "1", address, Type.UINT16, meaning, read)


# fmt: off
POINTS: tuple[Point, ...] = (
    _float(100, "voltage_v", "V", "Rack voltage on the inverter's side.", lambda p: p.command.voltage_v),
    _float(102, "current_a", "A", "Rack current, positive charges.", lambda p: p.command.current_a),
    _float(104, "soc", "1", "State of charge of the weakest cell's rack.", lambda p: p.estimate.soc),
    _float(106, "soc_sigma", "1", "Standard deviation of the least certain cell.", lambda p: p.estimate.soc_sigma),
    _float(108, "soh", "1", "State of health.", lambda p: p.estimate.soh),
    _float(110, "charge_limit_a", "A", "Charge current limit sent to the inverter.", lambda p: p.command.ccl_a),
    _float(112, "discharge_limit_a", "A", "Discharge current limit sent to the inverter.", lambda p: p.command.dcl_a),
    _float(114, "charge_voltage_limit_v", "V", "Charge voltage limit sent.", lambda p: p.command.cvl_v),
    _float(116, "discharge_voltage_limit_v", "V", "Discharge voltage limit sent.", lambda p: p.command.dvl_v),
    _float(
        118, "cell_max_v", "V", "Highest known cell voltage.", lambda p: _known(p.snapshot.modules.cell_v, np.max)
    ),
    _float(120, "cell_min_v", "V", "Lowest known cell voltage.", lambda p: _known(p.snapshot.modules.cell_v, np.min)),
    _float(
        122, "temperature_max_degc", "degC", "Highest known cell temperature.",
        lambda p: _known(p.snapshot.modules.temperature_degc, np.max),
    ),
    _float(
        124, "temperature_min_degc", "degC", "Lowest known cell temperature.",
        lambda p: _known(p.snapshot.modules.temperature_degc, np.min),
    ),
    _float(
        126, "oldest_measurement_s", "s", "Age of the oldest module measurement; not known while one never answered.",
        lambda p: _finite(float(p.snapshot.modules.cell_age_s.max())),
    ),
    _count(
        128, "cells_unknown", "Cells whose voltage is not known.",
        lambda p: int(np.isnan(p.snapshot.modules.cell_v).sum()),
    ),
    _count(129, "modules_online", "Modules with a fresh measurement.", lambda p: p.command.modules_online),
    _count(130, "strings_connected", "Closed strings.", lambda p: sum(s.state == "closed" for s in p.strings)),
    _count(131, "faults", "Faults of any level.", lambda p: len(p.faults)),
    _count(
        132, "fault_level", "Highest level: 0 none or info, 1 warning, 2 alarm, 3 trip.",
        lambda p: max((int(f.level) for f in p.faults), default=int(Level.INFO)),
    ),
    _count(133, "charge_enabled", "1: the inverter may charge.", lambda p: int(p.command.charge_enabled)),
    _count(134, "discharge_enabled", "1: the inverter may discharge.", lambda p: int(p.command.discharge_enabled)),
    _count(135, "cells_balancing", "Cells told to bleed.", lambda p: int(p.command.balance.sum())),
)
# fmt: on


def values(published: Published, points: Iterable[Point] = POINTS) -> dict[str, Value]:
    """Return all points of one record by name."""
    return {point.name: point.read(published) for point in points}
