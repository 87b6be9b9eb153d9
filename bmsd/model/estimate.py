"""What is thought of the cells, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass

from bmsd.model.balancing import Balancing
from bmsd.model.history import Singles
from bmsd.model.snapshot import Floats, Ints


@dataclass(frozen=True, slots=True)
class Estimate:
    """State of charge 0..1 and its standard deviation per cell (strings, modules, cells), capacity in Ah.

    `string_soc` follows the weakest cell (shape (strings,)); `soc` is the rack's, None when unknown.
    `current_bias_a` (strings,): reading minus truth of the current sensor, positive towards charge.
    `cell_r1_ohm`, `cell_r10_ohm`: dv/di of a step of the current over 1 s and 10 s at the temperature and SoC of now;
    `cell_resistance_factor`: what of it is lost over what the model loses, so at whatever temperature, with its sigma.
    `power_charge_a`, `power_discharge_a` (strings, horizons of 2, 10, 30, 3600 s): magnitudes that a string can carry
    for so long, NaN: unknown, and which of its cells, counted through the string from 0, ends it.
    `soh`: capacity of the weakest cell over the nominal one. `string_left_ah`, `string_room_ah`: until the first cell
    of the string is empty, and until the first is full; the times are those at the mean current of the last minutes.
    `cell_resistance_trend`: change of the factor per year. Life is what remains until the end of life, in days: 9, 5
    and 1 of 10 cells like this one last for low, median, high; that of the rack is its weakest cell's. NaN, None: its
    capacity was not followed for long enough, see `life_followed_days`, or (date) the time is not known.
    `cell_residual_v`: measured minus predicted; `cell_sag_v`: fall of a cell that nothing explains. By sensor (strings,
    modules, sensors): `sensor_residual_k` that nothing explains, `sensor_heating_k_per_min`. NaN: unknown.
    """

    cell_soc: Floats
    cell_soc_sigma: Floats
    cell_capacity_ah: Floats
    string_soc: Floats
    soc: float | None
    soc_sigma: float | None
    soh: float | None
    string_soc_sigma: Floats
    current_bias_a: Floats
    current_bias_sigma_a: Floats
    cell_r1_ohm: Floats
    cell_r10_ohm: Floats
    cell_resistance_factor: Floats
    cell_resistance_sigma: Floats
    power_charge_a: Floats
    power_discharge_a: Floats
    power_charge_cell: Ints
    power_discharge_cell: Ints
    soh_sigma: float | None
    cell_capacity_sigma_ah: Floats
    string_left_ah: Floats
    string_room_ah: Floats
    time_to_empty_s: float | None
    time_to_full_s: float | None
    cell_resistance_trend: Singles
    cell_resistance_trend_sigma: Singles
    cell_life_low_days: Singles
    cell_life_days: Singles
    cell_life_high_days: Singles
    life_low_days: float | None
    life_days: float | None
    life_high_days: float | None
    life_end_utc_s: float | None
    life_followed_days: float
    string_cycles: Floats
    age_days: float
    balancing: Balancing
    cell_residual_v: Floats
    cell_sag_v: Floats
    sensor_residual_k: Floats
    sensor_heating_k_per_min: Floats

    @property
    def soc_edge(self) -> Floats:
        """How empty each string may well be (strings,): one standard deviation below its SoC. NaN: unknown."""
        return self.string_soc - self.string_soc_sigma
