"""The whole rack that is not there: physics, nodes and inverter, moved together. Sans I/O."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np

from bmsd.model.frame import Frame
from bmsd.model.snapshot import CHEMISTRIES, Bools, Floats, Input
from bmsd.sim.boards import Measured, ModuleBoard
from bmsd.sim.cells import Cells
from bmsd.sim.contactor_unit import ContactorUnit, Wires
from bmsd.sim.inverter import Inverter
from bmsd.sim.mishap import Mishap, Mishaps, Readings
from bmsd.sim.node import CONTACTOR_UNIT, MODULE_BOARD, UNADDRESSED, Identity, Node
from bmsd.sim.packing import ADDRESS_MASK, prepare
from bmsd.sim.playback import PlaybackCells, load_series
from bmsd.sim.rack import Rack, Source
from bmsd.sim.scenario import SimSettings
from bmsd.sim.sensors import sensor_cell

LONGEST_STEP_S = 0.05
"""Longest step of the physics; a longer pause is walked in steps of this."""
_TRIP_PRIORITY = 0
_UID_BASE = 0xB5_D0_00_00_00_00


@dataclass(frozen=True)
class Truth:
    """What really is. Arrays (strings, modules, cells), contacts (strings, 3: minus, precharge, plus), V, A, degC.

    Currents are positive when charging. SoC is NaN for measured cells.
    """

    time_s: float
    cell_soc: Floats
    cell_v: Floats
    cell_degc: Floats
    bleeding: Bools
    string_a: Floats
    string_v: Floats
    peak_a: Floats
    bus_v: float
    inverter_a: float
    load_a: float
    contacts: Bools
    coils: Bools
    enable: Bools
    unit_charge_as: Floats
    inverter_cvl_v: float
    inverter_ccl_a: float
    inverter_dcl_a: float
    inverter_charge_enabled: bool
    inverter_discharge_enabled: bool


class SimWorld:
    """A rack with its boards, contactor units and inverter, seen from its two buses."""

    def __init__(self, settings: SimSettings) -> None:
        prepare()
        layout = settings.layout
        self.settings = settings
        self.rack = Rack(_source(settings), settings.bus)
        self.inverter = Inverter(settings.inverter)
        homes = [address for row in layout.module_addresses for address in row]
        self.boards = [
            ModuleBoard(_first_address(settings, address), _board_identity(settings, place), settings.board)
            for place, address in enumerate(homes)
        ]
        self.units = [
            ContactorUnit(_first_address(settings, address), _unit_identity(place), settings.unit)
            for place, address in enumerate(layout.unit_addresses)
        ]
        self._nodes: list[tuple[int, Node]] = list(
            zip((*homes, *layout.unit_addresses), (*self.boards, *self.units), strict=True)
        )
        """Every node with the address of its place in the layout: mishaps go by the place."""
        self._mishaps = Mishaps(settings.mishaps, layout, settings.seed)
        self._sensor_cell = sensor_cell(layout)
        self._readings = Readings(
            np.zeros(layout.cell_shape),
            np.zeros(layout.sensor_shape),
            np.zeros(layout.cell_shape, dtype=np.int64),
            np.zeros(layout.sensor_shape, dtype=np.int64),
        )
        self._wires = [self._board_wires(place) for place in range(len(self.boards))]
        for board, wires in zip(self.boards, self._wires, strict=True):
            board.measure(wires)
        for unit in self.units:
            unit.wires = Wires(feedback_fitted=settings.feedback_fitted, insulation=Input.NOT_FITTED)
        self._bleeding = np.zeros(layout.cell_shape, dtype=np.bool_)
        self._start_s: float | None = None
        self._now_s = 0.0
        self._load_a = 0.0
        self._shunt_offset_a = [0.0] * layout.strings

    @property
    def next_due_s(self) -> float:
        """When the next frame is to be sent, inf when none waits."""
        return min(self.inverter.next_due_s, min(node.next_due_s for _, node in self._nodes))

    def step(
        self, now_s: float, field_frames: Iterable[Frame] = (), inverter_frames: Iterable[Frame] = ()
    ) -> tuple[list[Frame], list[Frame]]:
        """Move on to `now_s`, then take the frames that arrived; return (field frames, inverter frames) to send."""
        if self._start_s is None:
            self._start_s = self._now_s = now_s
        plant = self._mishaps.plant(now_s - self._start_s)
        plant.act(self.rack, self.inverter)
        self._shunt_offset_a = plant.shunt_offset_a.tolist()
        self._move(now_s)
        self._touch(now_s)
        for unit, pressed, pulled, dead, lost in zip(
            self.units, plant.emergency_stop, plant.interlock, plant.coil_lost, plant.feedback_lost, strict=True
        ):
            unit.wires.emergency_stop = Input.ACTIVE if pressed else Input.OK
            unit.wires.interlock = Input.ACTIVE if pulled else Input.OK
            unit.wires.coil_v = 0.0 if dead else 24.0
            unit.wires.feedback_lost = lost
        self._mishaps.nodes(now_s - self._start_s, self._nodes)
        deaf = self._mishaps.deaf(now_s - self._start_s)
        for frame in field_frames:
            self._hear(frame, now_s, deaf)
        for frame in inverter_frames:
            self.inverter.receive(frame, now_s)
        return self._speak(now_s, deaf), self.inverter.frames(now_s)

    def befall(self, mishaps: Sequence[Mishap]) -> None:
        """Put these mishaps in the place of all others: somebody rehearses a failure while the rack runs.

        Their times count from the start of the simulation, as always.
        """
        self._mishaps = Mishaps(mishaps, self.settings.layout, self.settings.seed)

    def truth(self) -> Truth:
        """Return what really is now."""
        rack, inverter = self.rack, self.inverter
        return Truth(
            time_s=0.0 if self._start_s is None else self._now_s - self._start_s,
            cell_soc=rack.cells.soc.copy(),
            cell_v=rack.cells.cell_v.copy(),
            cell_degc=rack.cells.temperature_degc.copy(),
            bleeding=self._bleeding.copy(),
            string_a=rack.string_a.copy(),
            string_v=rack.string_v,
            peak_a=rack.peak_a.copy(),
            bus_v=rack.bus_v,
            inverter_a=inverter.current_a,
            load_a=self._load_a,
            contacts=rack.contactors.closed.copy(),
            coils=rack.contactors.coil.copy(),
            enable=np.array([unit.enable for unit in self.units]),
            unit_charge_as=np.array([unit.charge_as for unit in self.units]),
            inverter_cvl_v=inverter.cvl_v,
            inverter_ccl_a=inverter.ccl_a,
            inverter_dcl_a=inverter.dcl_a,
            inverter_charge_enabled=inverter.charge_enabled,
            inverter_discharge_enabled=inverter.discharge_enabled,
        )

    def _move(self, now_s: float) -> None:
        """Let the physics run up to now."""
        assert self._start_s is not None
        total_s = now_s - self._now_s
        steps = ceil(total_s / LONGEST_STEP_S - 1e-9)
        enable = any(unit.enable for unit in self.units)
        self.rack.contactors.coil = np.array([unit.coil for unit in self.units])
        for number, board in enumerate(self.boards):
            self._bleeding.reshape(len(self.boards), -1)[number] = board.bleeding
        for _ in range(steps):
            dt_s = total_s / steps
            self._now_s += dt_s
            rack, inverter = self.rack, self.inverter
            path = bool(rack.plus_closed.any())
            inverter.step(self._now_s, dt_s, self._now_s - self._start_s, rack.bus_v, path, enable)
            self._load_a = inverter.load_a(rack.bus_v, self._now_s)
            rack.step(dt_s, inverter.current_a, self._load_a, self._bleeding)
            for unit, string_a, offset_a in zip(self.units, rack.string_a.tolist(), self._shunt_offset_a, strict=True):
                unit.measure_current(string_a + offset_a, dt_s)
        self._now_s = max(now_s, self._now_s)

    def _touch(self, now_s: float) -> None:
        """Bring voltages and temperatures to the wires of boards and units."""
        assert self._start_s is not None
        cells, readings = self.rack.cells, self._readings
        np.copyto(readings.cell_v, cells.cell_v)
        np.copyto(readings.sensor_degc, cells.temperature_degc[:, :, self._sensor_cell])
        readings.cell_code[:] = 0
        readings.sensor_code[:] = 0
        module_v = cells.cell_v.sum(axis=2).ravel().tolist()
        self._mishaps.readings(now_s - self._start_s, readings)
        for wires, volts in zip(self._wires, module_v, strict=True):
            wires.module_v = volts
        string_v = self.rack.string_v
        for number, unit in enumerate(self.units):
            unit.wires.bus_v = self.rack.bus_v
            unit.wires.string_v = float(string_v[number])
            unit.wires.closed = self.rack.contactors.closed[number]

    def _hear(self, frame: Frame, now_s: float, deaf: frozenset[int], but: int = -1) -> None:
        for home, node in self._nodes:
            if node.address != but and home not in deaf:
                node.receive(frame, now_s)

    def _speak(self, now_s: float, deaf: frozenset[int]) -> list[Frame]:
        """Let the nodes act; frames between nodes arrive at once."""
        frames: list[Frame] = []
        for _, node in self._nodes:
            frames += node.step(now_s)
        assert self._start_s is not None
        frames = self._mishaps.frames(now_s - self._start_s, frames)
        trips = [frame for frame in frames if frame.can_id >> 26 == _TRIP_PRIORITY]
        for frame in trips:
            self._hear(frame, now_s, deaf, but=frame.can_id & ADDRESS_MASK)
        return frames

    def _board_wires(self, place: int) -> Measured:
        """Views into the readings: what is written there is on the board's wires."""
        string, module = divmod(place, self.settings.layout.modules)
        readings, at = self._readings, (string, module)
        return Measured(
            readings.cell_v[at],
            readings.sensor_degc[at],
            float("nan"),
            self.settings.ambient_degc + 5.0,
            readings.cell_code[at],
            readings.sensor_code[at],
        )


def _source(settings: SimSettings) -> Source:
    shape = settings.layout.cell_shape
    play = settings.playback
    if play is None:
        soc0 = np.array(settings.soc0_by_string or (settings.soc0,) * shape[0]).reshape(-1, 1, 1)
        return Cells(shape, settings.cell, soc0, settings.soc0_spread, settings.ambient_degc, settings.seed)
    series = load_series(play.source, play.capacity_ah)
    draw = np.random.default_rng(settings.seed)
    return PlaybackCells(
        shape,
        series,
        speed=play.speed,
        scale=settings.cell.capacity_ah / series.capacity_ah if play.scale is None else play.scale,
        start_s=play.start_s,
        phase_s=play.phase_spread_s * draw.standard_normal(shape),
        offset_v=play.offset_spread_v * draw.standard_normal(shape),
        waits=play.waits,
        repeats=play.repeats,
    )


def _first_address(settings: SimSettings, address: int) -> int:
    return address if settings.addressed else UNADDRESSED


def _board_identity(settings: SimSettings, place: int) -> Identity:
    layout = settings.layout
    chemistry = CHEMISTRIES.index(settings.chemistry)
    return Identity(_UID_BASE | MODULE_BOARD << 16 | place + 1, MODULE_BOARD, layout.cells, layout.sensors, chemistry)


def _unit_identity(place: int) -> Identity:
    return Identity(_UID_BASE | CONTACTOR_UNIT << 16 | place + 1, CONTACTOR_UNIT)
