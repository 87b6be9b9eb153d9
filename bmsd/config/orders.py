"""Which setting must be above or below which other: thresholds in order and inside the cell's data sheet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from bmsd.config.known import Order
from bmsd.model.catalogue import CATALOGUE

OVER_VOLTAGE_TRIP_MARGIN_V = 0.05
OVER_VOLTAGE_CRITICAL_MARGIN_V = 0.15
"""How far beyond the data sheet's maximum the trips may lie: boards act by themselves at about 0.1 V above it."""
OVER_CHARGED_V = 0.9
"""A cell this far beyond the critical level is over-charged, not measured wrongly: 4.65 V with LFP. CEL-004 opens at
once and waits for service; a reading that is not believed (CEL-014) opens after 10 s and clears by itself."""
DEEP_DISCHARGE_MARGIN_V = 0.5

P, C, L = "protection.", "cell.", "limits."

LADDERS: tuple[tuple[str, Sequence[str]], ...] = (
    ("<", ("cell_over_voltage_warning_v", "cell_over_voltage_alarm_v", "cell_over_voltage_trip_v",
           "cell_over_voltage_critical_v", "cell_plausible_max_v")),
    (">", ("cell_under_voltage_warning_v", "cell_under_voltage_alarm_v", "cell_under_voltage_trip_v",
           "cell_deep_discharge_v", "cell_plausible_min_v")),
    ("<", ("charge_temperature_high_warning_degc", "charge_temperature_high_alarm_degc",
           "charge_temperature_high_trip_degc")),
    ("<", ("temperature_high_warning_degc", "temperature_high_alarm_degc", "temperature_high_trip_degc")),
    (">", ("charge_temperature_low_warning_degc", "charge_temperature_low_alarm_degc",
           "charge_temperature_low_trip_degc")),
    (">", ("temperature_low_warning_degc", "temperature_low_alarm_degc")),
    ("<", ("over_current_warning_share", "over_current_alarm_share")),
)  # fmt: skip
"""Thresholds of one quantity from the mildest to the most severe."""


def _ladder_orders() -> Iterator[Order]:
    for sign, rungs in LADDERS:
        for mild, severe in pairwise(rungs):
            yield Order(P + mild, sign, P + severe, "the milder must come first")


def _clear_orders() -> Iterator[Order]:
    """Every fault with both thresholds in the settings clears on the good side of its trip."""
    pairs = {
        (row.clear, row.trip, row.below)
        for row in CATALOGUE
        if isinstance(row.trip, str) and isinstance(row.clear, str) and row.trip != row.clear
    }
    for clear, trip, below in sorted(pairs):
        yield Order(P + clear, ">" if below else "<", P + trip, "a fault must clear on the good side of its threshold")


SHEET = "the cell maker's data sheet rules"
ORDERS: tuple[Order, ...] = (
    *_ladder_orders(),
    *_clear_orders(),
    Order(C + "min_v", "<", C + "max_v", "the cell's lowest voltage is below its highest"),
    Order(P + "cell_over_voltage_alarm_v", "<=", C + "max_v", SHEET),
    Order(P + "cell_over_voltage_trip_v", "<=", C + "max_v", SHEET, OVER_VOLTAGE_TRIP_MARGIN_V),
    Order(P + "cell_over_voltage_critical_v", "<=", C + "max_v", SHEET, OVER_VOLTAGE_CRITICAL_MARGIN_V),
    Order(P + "cell_plausible_max_v", ">=", P + "cell_over_voltage_critical_v",
          "an over-charged cell must be seen as one, not as a fault of the measurement", OVER_CHARGED_V),
    Order(P + "cell_under_voltage_alarm_v", ">=", C + "min_v", SHEET),
    Order(P + "cell_under_voltage_trip_v", ">=", C + "min_v", SHEET),
    Order(P + "cell_deep_discharge_v", ">=", C + "min_v", SHEET, -DEEP_DISCHARGE_MARGIN_V),
    Order(P + "cell_under_voltage_warning_clear_v", "<", P + "cell_over_voltage_warning_clear_v",
          "a rack between empty and full must be without both warnings"),
    Order(P + "charge_temperature_high_trip_degc", "<=", C + "charge_max_degc", SHEET),
    Order(P + "temperature_high_alarm_degc", "<=", C + "discharge_max_degc", SHEET),
    Order(P + "temperature_high_trip_degc", "<=", C + "discharge_max_degc", SHEET),
    Order(P + "charge_temperature_low_trip_degc", ">=", C + "charge_min_degc", SHEET),
    Order(P + "temperature_low_alarm_degc", ">=", C + "discharge_min_degc", SHEET),
    *(
        Order(f"{P}charge_temperature_high_{level}_degc", "<=", f"{P}temperature_high_{level}_degc",
              "a cell too hot to be discharged is too hot to be charged")
        for level in ("warning", "alarm", "trip")
    ),
    Order(P + "temperature_low_alarm_degc", "<=", P + "charge_temperature_low_alarm_degc",
          "a cell too cold to be discharged is too cold to be charged"),
    Order(P + "temperature_low_warning_clear_degc", "<", P + "temperature_high_warning_clear_degc",
          "between cold and hot there must be a range without warning"),
    Order(P + "self_discharge_ma", "<=", P + "soft_short_ma", "the milder must come first"),
    Order(P + "charge_temperature_low_warning_clear_degc", "<", P + "charge_temperature_high_warning_clear_degc",
          "between cold and hot there must be a range without warning"),
    Order("charge.absorption_v", "<", P + "cell_over_voltage_warning_v", "a normal charge must not raise a warning"),
    Order("charge.float_v", "<=", "charge.absorption_v", "a full rack is kept below the charge voltage"),
    Order("charge.discharge_end_v", "<", "charge.float_v", "the inverter needs a range to work in"),
    Order("charge.discharge_end_v", ">=", P + "cell_under_voltage_alarm_v",
          "the inverter must stop before the alarm"),
    Order("charge.force_charge_release_soc", ">=", "charge.force_charge_soc",
          "a charge request needs a distance between start and end", 0.01),
    Order("charge.force_charge_release_soc", "<", L + "max_charge_soc", "a requested charge must be able to end"),
    Order(L + "min_discharge_soc", "<", L + "max_charge_soc", "the inverter needs a range to work in"),
    Order("balance.start_v", "<=", "charge.absorption_v", "balancing would never start"),
    Order("balance.least_v", "<=", "balance.start_v", "a cell that is full enough must be bled"),
    Order("timing.tick_s", "<=", "timing.poll_s", "every poll needs a tick"),
)  # fmt: skip
