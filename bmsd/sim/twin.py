"""A whole rack that is not there, without its buses: physics, inverter, switchgear, sensors, on simulated time.

It is driven by what a battery management decides (`obey`) and shows what that would be told (`measure`). Boards and
contactor units are reduced to what they do by themselves: a board trips at its own limits after a delay, every unit
opens on any trip, on over-current and on its own inputs, and closes only what it is told to close. Their frames,
leases and clocks are in `world`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from bmsd.model.layout import Layout
from bmsd.model.snapshot import Bools, Floats, Ints
from bmsd.sim.ageing import AgeingParameters
from bmsd.sim.balancer import BalancerParameters, Balancers
from bmsd.sim.boards import ModuleBoardSettings
from bmsd.sim.cell import CellParameters
from bmsd.sim.cells import Cells
from bmsd.sim.heat import Enclosure
from bmsd.sim.inverter import Inverter, InverterSettings
from bmsd.sim.mishap import Mishap, Mishaps, Plant, Readings
from bmsd.sim.own_limits import OwnLimits
from bmsd.sim.rack import MINUS, PLUS, BusParameters, Rack
from bmsd.sim.sensors import SensorParameters, Sensors, sensor_cell

SLOW_S = 10.0
"""Temperatures and what follows from them are renewed this often."""


@dataclass(frozen=True)
class StringParameters:
    """One string where the scenario names them: None is that of all."""

    soc0: float | None = None
    capacity_ah: float | None = None
    series_resistance_ohm: float | None = None
    """Cables, fuse and busbars beside the cells."""


@dataclass(frozen=True)
class TwinSettings:
    """Everything about a rack of the twin."""

    layout: Layout
    cell: CellParameters
    bus: BusParameters
    inverter: InverterSettings
    ambient_degc: Callable[[float], float]
    """Temperature of the room by time since start, degC."""
    enclosure: Enclosure | None = None
    ageing: AgeingParameters | None = None
    balancer: BalancerParameters = field(default_factory=BalancerParameters)
    sensors: SensorParameters = field(default_factory=SensorParameters)
    board: ModuleBoardSettings = field(default_factory=ModuleBoardSettings)
    over_current_a: float = 300.0
    """Own trip of the contactor units, magnitude, A."""
    soc0: float = 0.5
    soc0_spread: float = 0.005
    seed: int = 1
    strings: tuple[StringParameters, ...] = ()
    mishaps: tuple[Mishap, ...] = ()


@dataclass
class Orders:
    """What the rack was told last. Contacts (strings, 3: minus, precharge, plus), cells to bleed; A, V of the rack."""

    contacts: Bools
    enable: Bools
    bleed: Bools
    cvl_v: float = 0.0
    ccl_a: float = 0.0
    dcl_a: float = 0.0
    dvl_v: float = 0.0
    force_charge: bool = False
    reset_trips: bool = False
    """Boards and units are told to release their trips."""


@dataclass
class Measured:
    """What sensors say now. Arrays by cell, by sensor, by module, by string; codes as in `boards.Measured`."""

    cell_v: Floats
    sensor_degc: Floats
    cell_code: Ints
    sensor_code: Ints
    module_v: Floats
    bus_v: Floats
    string_v: Floats


@dataclass
class Twin:
    """The rack."""

    settings: TwinSettings
    time_s: float = 0.0
    """Since start."""
    charge_as: Floats = field(init=False)
    """What the units have counted, As by string, with the errors of their sensors."""

    def __post_init__(self) -> None:
        s, layout = self.settings, self.settings.layout
        ambient_degc = s.ambient_degc(0.0)
        self.cells = Cells(
            layout.cell_shape,
            s.cell,
            _by_string(s, "soc0", s.soc0),
            s.soc0_spread,
            ambient_degc,
            s.seed,
            capacity_ah=_by_string(s, "capacity_ah", s.cell.capacity_ah),
            enclosure=s.enclosure,
            ageing=s.ageing,
            slow_s=SLOW_S,
        )
        self.rack = Rack(self.cells, s.bus, _by_string(s, "series_resistance_ohm", s.bus.cable_ohm).ravel())
        self.inverter = Inverter(s.inverter)
        self.balancers = Balancers(layout.cell_shape, s.balancer, ambient_degc)
        self.sensors = Sensors(layout.cell_shape, layout.sensor_shape, s.sensors, s.seed)
        self.own = OwnLimits(layout, s.board, s.over_current_a)
        off = np.zeros((layout.strings, 3), dtype=np.bool_)
        self.orders = Orders(off, off[:, 0], np.zeros(layout.cell_shape, dtype=np.bool_))
        self.bleeding = self.orders.bleed
        self.current_a = np.zeros(layout.strings)
        """What the units measured in the last step, A by string, positive charges."""
        self.charge_as = np.zeros(layout.strings)
        self.load_a = 0.0
        self.inverter_j = 0.0
        """What the inverter has put into the bus so far, J; its own consumption is taken off."""
        self._mishaps = Mishaps(s.mishaps, layout, s.seed)
        self.mishap: Plant = self._mishaps.plant(0.0)
        self.silent = np.zeros(layout.module_shape, dtype=np.bool_)
        """Boards that do not answer."""
        self.silent_units = np.zeros(layout.strings, dtype=np.bool_)
        self._sensor_cell = sensor_cell(layout)
        self._told = False

    def obey(self, orders: Orders) -> None:
        """Take what boards, units and inverter are told from now on."""
        was, will = (told.contacts[:, MINUS] | told.contacts[:, PLUS] for told in (self.orders, orders))
        self.own.commanded(np.asarray(was & ~will))
        if orders.reset_trips:
            self.own.reset()
        self.orders, self._told = orders, True

    def connect(self) -> None:
        """Put every string on a charged bus at once: for a circuit that nobody manages."""
        contactors, cells = self.rack.contactors, self.cells
        contactors.coil[:] = contactors.closed[:] = True
        conductance = 1.0 / (cells.string_ohm + self.rack.path_ohm)
        self.rack.bus_v = float(conductance @ cells.string_emf_v / conductance.sum())

    def step(self, dt_s: float) -> None:
        """Let `dt_s` pass, 0.1 ms to 60 s."""
        self.cells.ambient_degc = self.settings.ambient_degc(self.time_s)
        if self.settings.mishaps:
            self._befall()
        self._switch()
        self._balance(dt_s)
        self._drive(dt_s)
        rack = self.rack
        rack.step(dt_s, self.inverter.current_a, self.load_a, self.bleeding)
        self.inverter_j += dt_s * (self.inverter.current_a - self.load_a) * rack.mean_v
        self.current_a = self.sensors.current.read(rack.string_a) + self.mishap.shunt_offset_a
        self.charge_as = self.charge_as + self.current_a * dt_s
        self.time_s += dt_s
        self.own.step(dt_s, self.cells.cell_v, self.cells.temperature_degc[:, :, self._sensor_cell], rack.string_a)

    def measure(self) -> Measured:
        """Read all slow sensors now."""
        layout, sensors, rack = self.settings.layout, self.sensors, self.rack
        true_v = self.cells.cell_v
        readings = Readings(
            sensors.cell.read(true_v),
            sensors.temperature.read(self.cells.temperature_degc[:, :, self._sensor_cell]),
            np.zeros(layout.cell_shape, dtype=np.int64),
            np.zeros(layout.sensor_shape, dtype=np.int64),
        )
        if self.settings.mishaps:
            self._mishaps.readings(self.time_s, readings)
        return Measured(
            readings.cell_v,
            readings.sensor_degc,
            readings.cell_code,
            readings.sensor_code,
            sensors.module.read(true_v.sum(axis=2)),
            sensors.bus.read(np.full(layout.strings, rack.bus_v)),
            sensors.string.read(rack.string_v),
        )

    def _befall(self) -> None:
        """Let the mishaps of now happen."""
        layout = self.settings.layout
        self.mishap = self._mishaps.plant(self.time_s)
        self.mishap.act(self.rack, self.inverter)
        self.cells.warmth.fan_lost = self.mishap.fan_lost
        deaf = self._mishaps.deaf(self.time_s)
        self.silent = np.isin(layout.module_address_array, list(deaf))
        self.silent_units = np.isin(layout.unit_addresses, list(deaf))

    def _switch(self) -> None:
        """Units drive what they are told, unless something of their own is against it."""
        self.own.inputs(self.mishap.emergency_stop, self.mishap.interlock)
        may = ~(self.own.open | self.mishap.coil_lost)
        self.rack.contactors.coil = self.orders.contacts & may[:, None]
        self.enable = bool((self.orders.enable & may).any())

    def _balance(self, dt_s: float) -> None:
        cells, boards = self.cells, self.balancers
        self.bleeding = boards.bleeding(self.orders.bleed)
        bleed_w = np.where(self.bleeding, cells.cell_v**2 / self.settings.cell.bleeder_ohm, 0.0).sum(axis=2)
        moved_a = boards.moved_a(cells.cell_v)
        cells.move(moved_a)
        boards.step(dt_s, cells.cell_v, bleed_w, moved_a, cells.warmth.air_degc)

    def _drive(self, dt_s: float) -> None:
        """The inverter moves its current; while it hears nothing it stops by itself."""
        told, inverter, rack = self.orders, self.inverter, self.rack
        if self._told:
            inverter.take(told.cvl_v, told.ccl_a, told.dcl_a, told.dvl_v, self.time_s, force_charge=told.force_charge)
        path = bool(rack.plus_closed.any())
        seen = rack.equivalent(dt_s) if path else None
        inverter.step(self.time_s, dt_s, self.time_s, rack.bus_v, path, self.enable, seen)
        self.load_a = inverter.load_a(rack.bus_v, self.time_s)

    @property
    def outputs(self) -> Bools:
        """Driven coils, (strings, 3: minus, precharge, plus)."""
        return self.rack.contactors.coil

    @property
    def on_bus(self) -> Bools:
        """Strings on the bus, (strings,)."""
        closed = self.rack.contactors.closed
        return np.asarray(closed[:, MINUS] & closed[:, PLUS])


def _by_string(settings: TwinSettings, name: str, default: float) -> Floats:
    """A value of every string, (strings, 1, 1)."""
    named = [getattr(string, name) for string in settings.strings] or [None] * settings.layout.strings
    return np.array([default if value is None else value for value in named], dtype=np.float64).reshape(-1, 1, 1)
