"""The checked configuration of a rack, as the core reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bmsd.model.cell import CellSpec
from bmsd.model.layout import Layout


@dataclass(frozen=True)
class StringRatings:
    """Ratings of one string's fuse and contactors and of its precharge circuit. Currents in A, magnitudes.

    `contactor_break_charge_a`, `precharge_energy_j` None: not given. `cable_ohm`: cables, fuse and contactors.
    """

    fuse_a: float
    contactor_a: float
    contactor_break_a: float
    precharge_ohm: float
    bus_capacitance_f: float
    contactor_break_charge_a: float | None = None
    cable_ohm: float = 0.0
    precharge_energy_j: float | None = None

    def break_a(self, *, charging: bool) -> float:
        """Highest current that the contactors may open in this direction, A."""
        if charging and self.contactor_break_charge_a is not None:
            return self.contactor_break_charge_a
        return self.contactor_break_a


@dataclass(frozen=True)
class Timing:
    """Periods of the control process, in s."""

    tick_s: float
    poll_s: float
    current_phases: int
    slow_groups: int = 5

    @property
    def hold_s(self) -> float:
        """Longest time for which a fast value is held."""
        return 3.0 * self.poll_s

    @property
    def slow_hold_s(self) -> float:
        """Longest time for which a value of a slow group is held."""
        return 3.0 * self.poll_s * self.slow_groups


@dataclass(frozen=True)
class Curve:
    """Piecewise linear share of the rated current (0..1) over a voltage (V) or a temperature (degC), x rising."""

    x: tuple[float, ...]
    share: tuple[float, ...]


@dataclass(frozen=True)
class LimitSettings:
    """How limits are shaped. Rates in A/s per 100 A of the rated current; shares 0..1."""

    charge_by_cell_v: Curve
    discharge_by_cell_v: Curve
    charge_by_temperature: Curve
    discharge_by_temperature: Curve
    rise_a_per_s_per_100a: float
    hold_after_zero_s: float
    leave_zero_share: float
    max_charge_soc: float
    min_discharge_soc: float


@dataclass(frozen=True)
class ChargeSettings:
    """Charge and discharge voltages in V per cell, CVL slew in V/s per cell, force charge by SoC (0..1)."""

    absorption_v: float
    float_v: float
    discharge_end_v: float
    cvl_slew_v_per_s: float
    force_charge_soc: float
    force_charge_release_soc: float


@dataclass(frozen=True)
class BalanceSettings:
    """By voltage: start above `start_v`, bleed cells more than `band_v` above the lowest, in V; lease in s.

    By the ledger: the dead band is the lesser of both; no cell below `least_soc` or `least_v` is bled.
    """

    enabled: bool
    start_v: float
    band_v: float
    min_charge_a: float
    lease_s: float
    bleed_ohm: float = 33.0
    dead_band_share: float = 0.005
    dead_band_ah: float = 1.0
    idle: bool = True
    discharging: bool = True
    least_soc: float = 0.2
    least_v: float = 3.2


@dataclass(frozen=True)
class EstimationSettings:
    """Coulomb counter: noise of the current sensor (share of 1C), efficiency, sigma of a stored SoC per day.

    `years_before`, `cycles_before`: age of the cells when bmsd first saw them. `end_of_life_capacity`: over the nominal
    one, 0: as the cell file says.
    Predictor: whether it runs, heat capacity of a cell (0: by its Ah), time in which it cools.
    """

    current_sigma_c: float
    charge_efficiency: float
    voltage_sigma_v: float
    self_discharge_sigma_per_day: float
    years_before: float = 0.0
    cycles_before: float = 0.0
    end_of_life_capacity: float = 0.0
    predictor: bool = True
    cell_heat_capacity_j_per_k: float = 0.0
    cooling_s: float = 7200.0


@dataclass(frozen=True)
class InverterSettings:
    """The inverter's side: profile, its options, and how long zero limits are sent before silence, in s."""

    profile: str
    options: Mapping[str, str | float | int | bool]
    period_s: float
    zero_before_silence_s: float
    keepalive_required: bool
    keepalive_timeout_s: float


@dataclass(frozen=True)
class Plant:
    """Everything the core knows about the rack that does not change while it runs."""

    name: str
    layout: Layout
    cell: CellSpec
    ratings: StringRatings
    timing: Timing
    limits: LimitSettings
    charge: ChargeSettings
    balance: BalanceSettings
    estimation: EstimationSettings
    inverter: InverterSettings
    thresholds: Mapping[str, float]
    """Thresholds and times of the protections by the name of their setting; see model/catalogue.py."""
    switches: bool = True
    """Contactor units are commanded; False: contacts belong to boards that obey nobody here."""
    monitor_only: bool = False
    """Nothing would enforce a limit: limits are computed, and zero is told."""

    @property
    def string_charge_max_a(self) -> float:
        """Highest charge current of one string, A."""
        return min(self.cell.charge_max_a, self.ratings.fuse_a, self.ratings.contactor_a)

    @property
    def string_discharge_max_a(self) -> float:
        """Highest discharge current of one string, magnitude, A."""
        return min(self.cell.discharge_max_a, self.ratings.fuse_a, self.ratings.contactor_a)

    @property
    def string_max_a(self) -> float:
        """Highest current of one string, whichever way, A."""
        return max(self.string_charge_max_a, self.string_discharge_max_a)

    @property
    def current_floor_a(self) -> float:
        """Below this current a string neither charges nor discharges, A."""
        return self.thresholds["over_current_floor_c"] * self.cell.capacity_ah
