"""Shapes of the answers, for the OpenAPI document: what each value means, its unit, its sign."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model

from bmsd.model.host import ClockQuality
from bmsd.model.points import POINTS

Utc = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
Value = float | int | str | bool | None
Level = Literal["info", "warning", "alarm", "trip"]
PerModule = list[list[float | None]]
"""[string][module]"""
PerItem = list[list[list[float | None]]]
"""[string][module][cell or sensor]"""
NamePerItem = list[list[list[str | None]]]


class Shape(BaseModel):
    """Base of all shapes."""

    model_config = ConfigDict(frozen=True)


def known(meaning: str, unit: str = "") -> Any:
    """A field; `unit` is told in the schema."""
    return Field(description=meaning, json_schema_extra={"unit": unit} if unit else None)


class Instant(Shape):
    """Which record of control this is, and how old."""

    age_s: float | None = known("Age of the record, from its measurement on; null: there never was one.", "s")
    sequence: int | None = known("Number of the record since control's start.")
    boot_id: str | None = known("Changes with every start of control.")
    utc: Utc | None = known("Wall time of the measurement; null: the clock was not set.")
    utc_quality: ClockQuality | None = known("Whether it may be believed; null: there never was a record.")


Points: type[Shape] = create_model(
    "Points",
    __base__=Shape,
    __doc__="Every published point of the rack by name; null: not known.",
    **{point.name: (Value, known(point.meaning, point.unit)) for point in POINTS},
)  # type: ignore[call-overload]


class Cells(Shape):
    """Arrays [string][module][cell]."""

    voltage_v: PerItem = known("Cell voltage; null: not known, `reading` says why.", "V")
    reading: NamePerItem = known("ok, open, short, invalid or missing.")
    soc: PerItem = known("State of charge, 0..1.", "1")
    soc_sigma: PerItem = known("Its standard deviation.", "1")
    balancing: list[list[list[bool]]] = known("Whether the cell is told to bleed.")
    balance_todo_ah: PerItem = known("Charge above the emptiest cell of the string, counted from full.", "Ah")
    balance_todo_sigma_ah: PerItem = known("Its standard deviation.", "Ah")
    balance_moved_ah: PerItem = known("Charge that went through its bleeder so far.", "Ah")
    leak_ma: PerItem = known("What it drains itself by, above the median of its string.", "mA")
    leak_sigma_ma: PerItem = known("Its standard deviation.", "mA")


class Contactors(Shape):
    """Auxiliary contacts: open, closed, not_fitted; null: not known."""

    minus: str | None
    plus: str | None
    precharge: str | None


class String(Shape):
    """One string; numbers count from 1."""

    string: int = known("Number of the string.")
    state: str = known("State of its contactors, such as open, precharge, closed, locked.")
    since_s: float = known("Time in this state.", "s")
    reason: str = known("Why it is not closed; empty: it is, or may.")
    current_a: float | None = known("Current, positive charges.", "A")
    string_v: float | None = known("Voltage on the cells' side of the contactors.", "V")
    bus_v: float | None = known("Voltage on the inverter's side of the contactors.", "V")
    soc: float | None = known("State of charge of the weakest cell, 0..1.", "1")
    current_age_s: float | None = known("Age of the current; null: never measured.", "s")
    voltage_age_s: float | None = known("Age of the voltages; null: never measured.", "s")
    state_age_s: float | None = known("Age of contacts and inputs; null: never reported.", "s")
    contactors: Contactors
    inputs: dict[str, str | None] = known(
        "Inputs of the contactor unit: ok, active (fault), not_fitted; null: unknown."
    )


class Bound(Shape):
    """A proposal for a current limit."""

    amps: float | None = known("Magnitude, of the string or of the whole rack.", "A")
    reason: str = known("Why no more.")
    source: str = known("Code of the fault, or name of the curve.")
    string: int | None = known("Number of the string that it is for; null: the whole rack.")


class Fault(Shape):
    """A fault that is raised, with its worst subject. Numbers count from 1; null: not of one."""

    code: str = known("Code in the catalogue.")
    name: str = known("Name in the catalogue.")
    level: Level = known("warning: limits reduced. alarm: limits zero. trip: the string opens.")
    string: int | None
    module: int | None
    item: int | None = known("Cell, sensor or bus.")
    value: float | None = known("What was measured; null: not known.")
    since_s: float = known("Time for which it has been raised.", "s")
    count: int = known("How many subjects have it.")
    latched: bool = known("Whether it waits to be acknowledged.")


class Bus(Shape):
    """Counters of a CAN bus since control's start."""

    name: str
    channel: str
    received: int = known("Frames received.", "1")
    sent: int = known("Frames sent.", "1")
    dropped: dict[str, int] = known("Frames dropped, by reason.", "1")
    errors: dict[str, int] = known("What the controller reported, by kind.", "1")


class Snapshot(Instant):
    """One instant of the rack. Unknown is null; arrays are [string][module][item]; currents: positive charges."""

    lifecycle: str = known("What the rack does, such as starting, idle, charging, fault.")
    missing: list[str] = known("What is not there, in sentences.")
    points: Points  # type: ignore[valid-type]
    cells: Cells
    temperature_degc: PerItem = known("Cell temperatures [string][module][sensor]; null: not known.", "degC")
    temperature_reading: NamePerItem = known("ok, open, short, invalid or missing.")
    module_v: PerModule = known("Voltage of the module as its board measures it.", "V")
    board_degc: PerModule = known("Temperature of the board.", "degC")
    module_age_s: PerModule = known("Age of the module's cell voltages; null: never measured.", "s")
    temperature_age_s: PerModule = known("Age of the module's temperatures; null: never measured.", "s")
    strings: list[String]
    charge_bounds: list[Bound] = known("All proposals for the charge limit, the binding one first.")
    discharge_bounds: list[Bound] = known("All proposals for the discharge limit, the binding one first.")
    charge_enabled: bool = known("Whether the inverter may charge.")
    discharge_enabled: bool = known("Whether the inverter may discharge.")
    faults: list[Fault]
    vetoes: list[str] = known("Why an independent check took back a part of the command.")
    buses: list[Bus]
    inverter_age_s: float | None = known("Time since the inverter was heard; null: never.", "s")
    lateness_s: float | None = known("How much later than planned control's tick began.", "s")


class Limit(Shape):
    """A current limit and all that bounds it."""

    limit_a: float | None = known("The limit sent to the inverter, a magnitude.", "A")
    enabled: bool = known("Whether the inverter may charge or discharge at all.")
    bounds: list[Bound] = known("All proposals, the binding one first.")


class Limits(Instant):
    """What the inverter is told it may do, and why no more."""

    charge: Limit
    discharge: Limit
    charge_voltage_limit_v: float | None = known("Charge voltage limit (CVL); null: none is sent.", "V")
    discharge_voltage_limit_v: float | None = known("Discharge voltage limit (DVL); null: none is sent.", "V")
    vetoes: list[str] = known("Why an independent check took back a part of the command.")


class Explained(Fault):
    """A fault with what the catalogue says of it; null: this gateway's catalogue does not have the code."""

    means: str | None = known("What it means.")
    does: str | None = known("What bmsd did.")
    remedy: str | None = known("What to do, and what clears it.")
    latch: Literal["auto", "operator", "service"] | None = known("Who may clear it once its condition is gone.")


class Faults(Instant):
    """All faults that are raised now."""

    faults: list[Explained]


class Row(Shape):
    """One row of the catalogue."""

    code: str
    name: str
    level: Level
    scope: str = known("What it is about: cell, sensor, module, string, bus or rack.")
    means: str = known("What it means.")
    does: str = known("What bmsd does.")
    remedy: str = known("What to do, and what clears it.")
    latch: Literal["auto", "operator", "service"] = known("Who may clear it once its condition is gone.")


class Catalogue(Shape):
    """Every fault that this gateway knows."""

    rows: list[Row]


class Point(Shape):
    """One published value."""

    name: str
    unit: str = known("Unit of the value; 1: a number, a share or a count.")
    address: int = known("First register in the native Modbus map.")
    type: str = known("How it lies in the registers.")
    meaning: str
    value: Value = known("null: not known.")


class PointList(Instant):
    """Every published point with its value."""

    points: list[Point]


class Layout(Instant):
    """The shape of the rack and who controls it, as control said when the link was opened."""

    rack: str = known("Name of the rack.")
    strings: int = known("Strings in parallel.")
    modules: int = known("Modules of a string, in series.")
    cells: int = known("Cells of a module, in series.")
    sensors: int = known("Temperature sensors of a module.")
    tick_s: float = known("Period of control.", "s")
    version: str = known("Version of control.")
    gateway_version: str = known("Version of this gateway.")
    configuration: str = known("Hash of all settings.")
    catalogue: str = known("Hash of the catalogue.")


class Event(Shape):
    """Something that happened. String, module and item count from 1; null: not of one."""

    boot_id: str = known("Start of control that it belongs to.")
    number: int = known("Counts from 1 since that start, without gaps.")
    utc: Utc | None = known("Wall time; null: the clock was not set.")
    utc_quality: ClockQuality = known("Whether it may be believed.")
    kind: str = known("Such as fault.raised, rack.state, request.taken.")
    severity: Level
    text: str
    code: str = known("Code of the fault; empty: not of one.")
    string: int | None
    module: int | None
    item: int | None
    value: float | None


class Events(Instant):
    """Recent events, oldest first. They stay what they are when control is lost; `stale` says whether it is."""

    stale: bool = known("Whether control is lost.")
    dropped: int = known("Events that this gateway has missed or forgotten since its start.")
    more: bool = known("Whether there are more after the last of these.")
    events: list[Event]


class Health(Instant):
    """Control's record is good."""

    status: Literal["good"]


class Live(Shape):
    """This process answers."""

    status: Literal["live"]


class Problem(Shape):
    """What is wrong, as in RFC 9457."""

    type: str = known("Always about:blank.")
    title: str = known("Phrase of the status.")
    status: int = known("HTTP status.")
    detail: str = known("What is wrong, and what was expected, in sentences.")


class Stale(Problem):
    """There is no record that may be shown: control is not there, or its newest record is too old."""

    cause: Literal["never_reached", "link_lost", "silent"] = known("Why.")
    age_s: float | None = known("Age of the newest record; null: there never was one.", "s")
    sequence: int | None = known("Number of the newest record.")
    boot_id: str | None = known("Start of control that it belongs to.")
    utc: Utc | None = known("Wall time of the newest record.")
    utc_quality: ClockQuality | None = known("Whether it may be believed.")
