"""What a simulation needs to know: the rack, its inverter, what happens to it, and the [sim] table that says so."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from bmsd.errors import ConfigError
from bmsd.model.layout import MAX_CELLS, MAX_MODULES, MAX_SENSORS, MAX_STRINGS, Layout
from bmsd.sim.boards import ModuleBoardSettings
from bmsd.sim.cell import CellParameters
from bmsd.sim.contactor_unit import ContactorUnitSettings
from bmsd.sim.inverter import InverterSettings, Profile
from bmsd.sim.mishap import KINDS, Mishap
from bmsd.sim.rack import BusParameters


@dataclass(frozen=True)
class PlaybackSettings:
    """Measured cells in place of computed ones; see `playback.PlaybackCells` and `playback.load_series`."""

    source: str
    capacity_ah: float | None = None
    speed: float = 1.0
    scale: float | None = None
    """Rack current per current of the measured cell; None: the ratio of the capacities."""
    start_s: float = 0.0
    phase_spread_s: float = 0.0
    """Cells are set apart in the series by this standard deviation, s of the series."""
    offset_spread_v: float = 0.0
    waits: bool = True
    repeats: bool = False


@dataclass(frozen=True)
class SimSettings:
    """Everything about a simulated rack; `default_settings` gives one that fits together."""

    layout: Layout
    cell: CellParameters
    bus: BusParameters
    board: ModuleBoardSettings
    unit: ContactorUnitSettings
    inverter: InverterSettings
    seed: int = 1
    soc0: float = 0.5
    soc0_spread: float = 0.005
    soc0_by_string: tuple[float, ...] = ()
    """Mean state of charge of each string; empty: `soc0` for all."""
    ambient_degc: float = 25.0
    addressed: bool = True
    """False: no node has an address yet, as on the day of delivery."""
    feedback_fitted: bool = True
    chemistry: str = "lfp"
    """What the boards say that they are made for."""
    mishaps: tuple[Mishap, ...] = field(default=())
    playback: PlaybackSettings | None = None


def default_settings(layout: Layout, capacity_ah: float = 280.0, **changes: Any) -> SimSettings:
    """Return a healthy rack of this layout and capacity; `changes` replace fields of SimSettings."""
    return SimSettings(**{**_fitting(layout, _SimTable(capacity_ah=capacity_ah)), **changes})


def load_settings(
    table: Mapping[str, Any],
    layout: Layout | None = None,
    capacity_ah: float | None = None,
    *,
    capacitance_f: float | None = None,
    precharge_ohm: float | None = None,
) -> SimSettings:
    """Return the settings of a [sim] table. Raises ConfigError with every complaint.

    What the daemon's configuration says of the rack is taken unless the table has its own: `layout`,
    `capacity_ah`, `capacitance_f` of the bus and `precharge_ohm`.
    """
    try:
        checked = _SimTable.model_validate_json(json.dumps(dict(table), default=str), strict=True)
    except ValidationError as error:
        raise ConfigError(_complaint(one) for one in error.errors()) from error
    complaints: list[str] = []
    shape = _layout(checked, layout, complaints)
    if checked.capacity_ah is None:
        if capacity_ah is None:
            complaints.append("sim.capacity_ah: missing: capacity of a cell, Ah")
        checked = checked.model_copy(update={"capacity_ah": capacity_ah})
    known = {"capacitance_f": capacitance_f, "precharge_ohm": precharge_ohm}
    own = {name: value for name, value in known.items() if getattr(checked.bus, name) is None}
    checked = checked.model_copy(update={"bus": checked.bus.model_copy(update=own)})
    if shape is not None:
        complaints += _places(checked, shape)
    if complaints or shape is None:
        raise ConfigError(complaints)
    return SimSettings(**_fitting(shape, checked))


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of the [sim] table: every setting with default and meaning, its tables in `$defs`."""
    return _SimTable.model_json_schema()


def _complaint(error: Any) -> str:
    path = ".".join(["sim", *(str(part + 1) if isinstance(part, int) else str(part) for part in error["loc"])])
    if error["type"] == "extra_forbidden":
        return f"{path}: unknown setting"
    if error["type"] == "missing":
        return f"{path}: missing"
    return f"{path}: {error['msg']} (is {error['input']!r})"


def _layout(table: _SimTable, layout: Layout | None, complaints: list[str]) -> Layout | None:
    given = {name: getattr(table, name) for name in ("strings", "modules", "cells", "sensors")}
    named = {name: value for name, value in given.items() if value is not None}
    if not named and layout is not None:
        return layout
    base = {} if layout is None else {name: getattr(layout, name) for name in given}
    shape = {**base, **named}
    missing = [name for name in given if name not in shape]
    complaints += [f"sim.{name}: missing: the shape of the rack is not given elsewhere" for name in missing]
    if missing:
        return None
    if shape["strings"] * shape["modules"] > MAX_MODULES:
        count = shape["strings"] * shape["modules"]
        complaints.append(f"sim.modules: {count} modules in all, at most {MAX_MODULES} have an address")
        return None
    return Layout(**shape)


def _places(table: _SimTable, layout: Layout) -> list[str]:
    """Complain about mishaps at places that the rack does not have."""
    complaints = []
    if table.soc0_by_string and len(table.soc0_by_string) != layout.strings:
        complaints.append(f"sim.soc0_by_string: has {len(table.soc0_by_string)}, the rack has {layout.strings} strings")
    most = {"string": layout.strings, "module": layout.modules, "cell": max(layout.cells, layout.sensors)}
    for number, mishap in enumerate(table.mishap, start=1):
        for name, highest in most.items():
            if getattr(mishap, name) > highest:
                complaints.append(f"sim.mishap.{number}.{name}: is {getattr(mishap, name)}, the rack has {highest}")
    return complaints


def _fitting(layout: Layout, table: _SimTable) -> dict[str, Any]:
    """Return the fields of SimSettings; what the table leaves open follows from layout and capacity."""
    capacity_ah = table.capacity_ah or CellParameters.capacity_ah
    cell = CellParameters.scaled(capacity_ah, table.capacity_spread, table.resistance_spread)
    bus = BusParameters(**table.bus.model_dump(exclude_none=True))
    series_ohm = layout.cells_in_series * cell.r0_ohm + bus.cable_ohm + bus.contactor_ohm
    inverter = table.inverter.model_dump()
    profile = Profile(*(inverter.pop(name) for name in ("profile", "charge_a", "discharge_a", "period_s")))
    wake_v = inverter.pop("wake_v") or 2.9 * layout.cells_in_series
    sleep_v = inverter.pop("sleep_v") or 2.5 * layout.cells_in_series
    unit = table.unit.model_dump()
    unit["over_current_a"] = unit["over_current_a"] or 1.1 * capacity_ah
    feedback_fitted = unit.pop("feedback_fitted")
    return {
        "layout": layout,
        "cell": cell,
        "bus": bus,
        "board": ModuleBoardSettings(**table.board.model_dump()),
        "unit": ContactorUnitSettings(**unit),
        "inverter": InverterSettings(
            profile=profile,
            wake_v=wake_v,
            sleep_v=sleep_v,
            source_ohm=series_ohm / layout.strings,
            **inverter,
        ),
        "feedback_fitted": feedback_fitted,
        "mishaps": tuple(Mishap(**mishap.model_dump()) for mishap in table.mishap),
        "playback": None if table.playback is None else PlaybackSettings(**table.playback.model_dump()),
        **{
            name: getattr(table, name)
            for name in ("seed", "soc0", "soc0_spread", "soc0_by_string", "ambient_degc", "addressed")
        },
    }


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class _BusTable(_Table):
    capacitance_f: Positive | None = Field(default=None, description="capacitor of the inverter, F; default 0.048")
    precharge_ohm: Positive | None = Field(default=None, description="precharge resistor, ohm; default 50")
    cable_ohm: NotNegative = Field(default=0.8e-3, description="cables and fuse of a string, ohm")
    contactor_ohm: Positive = Field(default=0.2e-3, description="closed contactors, ohm")
    ripple_a: NotNegative = Field(default=0.0, description="amplitude of the inverter's ripple, A")
    ripple_hz: Positive = Field(default=100.0, description="frequency of the ripple, Hz")


class _BoardTable(_Table):
    over_voltage_v: Positive = Field(default=3.75, description="own trip, V")
    under_voltage_v: NotNegative = Field(default=2.40, description="own trip, V")
    over_temperature_degc: float = Field(default=65.0, description="own trip, degC")
    trip_delay_s: NotNegative = Field(default=1.0, description="time beyond the limit before the trip, s")


class _UnitTable(_Table):
    over_current_a: Positive | None = Field(default=None, description="own trip, A; default 1.1C")
    over_current_s: NotNegative = Field(default=0.15, description="time above it before the trip, s")
    enable_fitted: bool = Field(default=True, description="whether the inverter enable contact is wired")
    feedback_fitted: bool = Field(default=True, description="whether contactors have auxiliary contacts")
    shunt_offset_a: float = Field(default=0.0, description="offset of the current measurement, A")
    shunt_gain: Positive = Field(default=1.0, description="gain of the current measurement")


class _InverterTable(_Table):
    profile: Literal["constant", "square", "solar"] = Field(default="constant", description="shape of the current")
    charge_a: float = Field(default=0.0, description="wanted charge current, A")
    discharge_a: NotNegative = Field(default=0.0, description="wanted discharge current, A")
    period_s: Positive = Field(default=600.0, description="period of the shape, s")
    lag_s: NotNegative = Field(default=1.0, description="time constant with which it obeys, s")
    silence_s: Positive = Field(default=3.0, description="it stops without limits for this long, s")
    standby_w: NotNegative = Field(default=50.0, description="power from the DC bus once booted, W")
    wake_v: Positive | None = Field(default=None, description="boots above, V; default 2.9 V per cell")
    sleep_v: Positive | None = Field(default=None, description="off below, V; default 2.5 V per cell")
    boot_s: NotNegative = Field(default=6.0, description="time to boot, s")
    enable_wired: bool = Field(default=True, description="runs only with its enable contact held")
    keepalive: bool = Field(default=True, description="sends its keep-alive")
    force_charge_a: NotNegative = Field(default=20.0, description="current when asked to force charge, A")


class _MishapTable(_Table):
    kind: str = Field(description="what happens: a function of sim/mishap.py")
    start_s: NotNegative = Field(default=0.0, description="begin, s since start")
    end_s: Annotated[float, Field(gt=0, allow_inf_nan=True)] = Field(default=inf, description="end, s since start")
    string: int = Field(default=0, ge=0, le=MAX_STRINGS, description="string, 1 is the first, 0: all")
    module: int = Field(default=0, ge=0, le=MAX_MODULES, description="module, 1 is the first, 0: all")
    cell: int = Field(default=0, ge=0, le=MAX_CELLS, description="cell or sensor, 1 is the first, 0: all")
    value: float = Field(default=0.0, description="size of the mishap, see its function")
    share: Share = Field(default=1.0, description="share of frames hit")
    contact: Literal["minus", "precharge", "plus"] = Field(default="plus", description="contactor")
    node: Literal["module", "unit"] = Field(default="module", description="whose frames, or which node")

    @model_validator(mode="after")
    def _check(self) -> _MishapTable:
        if self.kind not in KINDS:
            raise ValueError(f"unknown kind {self.kind!r}, known: {', '.join(KINDS)}")
        if not self.end_s > self.start_s:
            raise ValueError(f"end_s {self.end_s} is not after start_s {self.start_s}")
        return self


class _PlaybackTable(_Table):
    source: str = Field(description="reference name, .npz or .csv")
    capacity_ah: Positive | None = Field(default=None, description="capacity of the measured cell, Ah")
    speed: Positive = Field(default=1.0, description="times faster than measured")
    scale: float | None = Field(default=None, description="rack current per measured current")
    start_s: NotNegative = Field(default=0.0, description="place in the series to begin at, s")
    phase_spread_s: NotNegative = Field(default=0.0, description="scatter of the cells' places in the series, s")
    offset_spread_v: NotNegative = Field(default=0.0, description="scatter of the cells' voltages, V")
    waits: bool = Field(default=True, description="runs only while the string is on the bus")
    repeats: bool = Field(default=False, description="begins anew at its end")


class _SimTable(_Table):
    strings: Annotated[int, Field(ge=1, le=MAX_STRINGS)] | None = Field(default=None, description="strings in parallel")
    modules: Annotated[int, Field(ge=1, le=MAX_MODULES)] | None = Field(default=None, description="modules of a string")
    cells: Annotated[int, Field(ge=1, le=MAX_CELLS)] | None = Field(default=None, description="cells of a module")
    sensors: Annotated[int, Field(ge=1, le=MAX_SENSORS)] | None = Field(default=None, description="sensors of a module")
    capacity_ah: Positive | None = Field(default=None, description="capacity of a cell, Ah")
    seed: int = Field(default=1, ge=0, description="seed of all scatter")
    soc0: Share = Field(default=0.5, description="mean state of charge at start, 0..1")
    soc0_spread: NotNegative = Field(default=0.005, description="scatter of it, standard deviation")
    soc0_by_string: tuple[Share, ...] = Field(default=(), description="mean of each string; empty: soc0 for all")
    capacity_spread: NotNegative = Field(default=0.005, description="scatter of capacities, relative")
    resistance_spread: NotNegative = Field(default=0.03, description="scatter of resistances, relative")
    ambient_degc: float = Field(default=25.0, ge=-60, le=100, description="ambient temperature, degC")
    addressed: bool = Field(default=True, description="whether nodes have their addresses")
    bus: _BusTable = _BusTable()
    board: _BoardTable = _BoardTable()
    unit: _UnitTable = _UnitTable()
    inverter: _InverterTable = _InverterTable()
    mishap: tuple[_MishapTable, ...] = ()
    playback: _PlaybackTable | None = None
