"""What must fit together, at its edges: on the edge it is right, just beyond it is refused, and by name."""

from __future__ import annotations

from typing import Any

import pytest

from bmsd.config.described import settings
from bmsd.config.known import Known, Order
from bmsd.config.orders import LADDERS, ORDERS, P
from bmsd.model.catalogue import CATALOGUE
from tests.config.config_file import GONE, about, complaints

STEP = 1e-6


def changed(default: tuple[float, ...], place: int, value: float) -> list[float]:
    """The list with one entry changed."""
    entries = list(default)
    entries[place] = value
    return entries


CHARGE_V, CHARGE_SHARE = (3.40, 3.45, 3.50, 3.55), (1.0, 0.25, 0.05, 0.0)
DISCHARGE_V, DISCHARGE_SHARE = (2.90, 3.00, 3.10, 3.20), (0.0, 0.1, 0.5, 1.0)
CHARGE_T, CHARGE_T_SHARE = (1.0, 5.0, 10.0, 40.0, 50.0), (0.0, 0.4, 1.0, 1.0, 0.0)
DISCHARGE_T, DISCHARGE_T_SHARE = (-20.0, -10.0, 0.0, 45.0, 55.0), (0.0, 0.3, 1.0, 1.0, 0.0)

EDGES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    # path of the complaint, changes that are just right, changes that are just wrong
    ("heartbeat_output.feedback_line",
     {"heartbeat_output.chip": "/dev/gpiochip0", "heartbeat_output.line": 17, "heartbeat_output.feedback_line": 18},
     {"heartbeat_output.chip": "/dev/gpiochip0", "heartbeat_output.line": 17, "heartbeat_output.feedback_line": 17}),
    ("heartbeat_output.chip", {"heartbeat_output.chip": "/dev/gpiochip0", "fieldbus.listen_only": False},
     {"heartbeat_output.chip": "/dev/gpiochip0", "fieldbus.listen_only": True}),
    ("protection.cell_over_voltage_alarm_v", {"cell.max_v": 3.60}, {"cell.max_v": 3.60 - STEP}),
    ("protection.cell_over_voltage_trip_v", {"cell.max_v": 3.60}, {"cell.max_v": 3.59}),
    ("protection.cell_over_voltage_critical_v", {"cell.max_v": 3.60}, {"cell.max_v": 3.59}),
    ("protection.cell_under_voltage_trip_v", {"cell.min_v": 2.80}, {"cell.min_v": 2.80 + STEP}),
    ("protection.cell_under_voltage_alarm_v", {"cell.min_v": 2.90}, {"cell.min_v": 2.90 + STEP}),
    ("cell.min_v", {"cell.min_v": 2.8, "cell.max_v": 3.5}, {"cell.min_v": 3.0, "cell.max_v": 3.0}),
    ("protection.temperature_high_alarm_degc", {"cell.discharge_max_degc": 55.0}, {"cell.discharge_max_degc": 54.9}),
    ("protection.temperature_low_alarm_degc",
     {"protection.temperature_low_alarm_degc": 1.0}, {"protection.temperature_low_alarm_degc": 1.1}),
    ("protection.cell_under_voltage_warning_clear_v",
     {"protection.cell_under_voltage_warning_clear_v": 3.49}, {"protection.cell_under_voltage_warning_clear_v": 3.5}),
    ("protection.temperature_low_warning_clear_degc",
     {"protection.temperature_high_warning_clear_degc": 20.0, "protection.temperature_low_warning_clear_degc": 19.9},
     {"protection.temperature_high_warning_clear_degc": 20.0, "protection.temperature_low_warning_clear_degc": 20.0}),
    ("protection.charge_temperature_low_warning_clear_degc",
     {"protection.charge_temperature_high_warning_clear_degc": 7.1 + 5},
     {"protection.charge_temperature_high_warning_clear_degc": 20.0,
      "protection.charge_temperature_low_warning_clear_degc": 20.0}),
    ("charge.discharge_end_v", {"charge.discharge_end_v": 3.374}, {"charge.discharge_end_v": 3.375}),
    ("charge.force_charge_release_soc", {"charge.force_charge_release_soc": 0.59, "limits.max_charge_soc": 0.6},
     {"charge.force_charge_release_soc": 0.6, "limits.max_charge_soc": 0.6}),
    ("link.service_socket", {"link.service_socket": "/" + "a" * 106}, {"link.service_socket": "/" + "a" * 107}),
    ("protection.cell_deep_discharge_v",
     {"protection.cell_deep_discharge_v": 2.0}, {"protection.cell_deep_discharge_v": 1.99}),
    ("protection.charge_temperature_high_trip_degc", {}, {"cell.charge_max_degc": 54.9}),
    ("protection.charge_temperature_high_alarm_degc",
     {"limits.temperature_error_k": 5.0}, {"cell.charge_max_degc": 50.9}),
    ("protection.charge_temperature_low_alarm_degc", {}, {"limits.temperature_error_k": 1.1}),
    ("protection.charge_temperature_low_alarm_degc", {}, {"cell.charge_min_degc": 0.1}),
    ("protection.charge_temperature_low_trip_degc", {}, {"cell.charge_min_degc": 0.1}),
    ("protection.temperature_high_trip_degc", {}, {"cell.discharge_max_degc": 59.9}),
    ("protection.temperature_low_alarm_degc", {}, {"cell.discharge_min_degc": -19.9}),
    ("cell.min_v", {"cell.min_v": 2.0}, {"cell.min_v": 1.99}),
    ("cell.max_v", {"cell.max_v": 3.8}, {"cell.max_v": 3.81}),
    ("charge.absorption_v", {"charge.absorption_v": 3.5499}, {"charge.absorption_v": 3.55}),
    ("charge.float_v", {"charge.float_v": 3.45}, {"charge.float_v": 3.4501}),
    ("charge.discharge_end_v", {"charge.discharge_end_v": 2.9}, {"charge.discharge_end_v": 2.89}),
    ("charge.force_charge_release_soc", {"charge.force_charge_soc": 0.07}, {"charge.force_charge_soc": 0.071}),
    ("limits.min_discharge_soc", {"limits.min_discharge_soc": 0.6, "limits.max_charge_soc": 0.61},
     {"limits.min_discharge_soc": 0.6, "limits.max_charge_soc": 0.6}),
    ("balance.start_v", {"balance.start_v": 3.45}, {"balance.start_v": 3.46}),
    ("layout.modules_per_string", {"layout.modules_per_string": 16}, {"layout.modules_per_string": 17}),
    ("layout.modules_per_string",
     {"layout.strings": 1, "layout.modules_per_string": 25}, {"layout.strings": 1, "layout.modules_per_string": 26}),
    ("layout.module_addresses",
     {"layout.module_addresses": [[32, 2], [4, 3]]}, {"layout.module_addresses": [[32, 2], [4, 2]]}),
    ("layout.module_addresses", {"layout.module_addresses": []}, {"layout.module_addresses": [[1, 2]]}),
    ("layout.module_addresses", {}, {"layout.module_addresses": [[1, 2], [3]]}),
    ("layout.unit_addresses", {"layout.unit_addresses": [72, 65]}, {"layout.unit_addresses": [65, 65]}),
    ("layout.unit_addresses", {}, {"layout.unit_addresses": [65]}),
    ("cell.resistance_ohm", {"cell.resistance_ohm": 0.0017}, {"cell.resistance_ohm": 0.025}),
    ("cell.resistance_ohm", {"cell.resistance_ohm": 1.1e-5}, {"cell.resistance_ohm": 1.0e-5}),
    ("cell.discharge_max_a", {"cell.discharge_max_a": 5.6}, {"cell.discharge_max_a": 5.5}),
    ("cell.charge_max_a", {}, {"cell.capacity_ah": 6.9}),
    ("string.contactor_break_a", {"string.contactor_break_a": 175.0}, {"string.contactor_break_a": 174.0}),
    ("string.contactor_break_a", {"string.contactor_break_a": 175.0, "string.fuse_a": 140.0},
     {"string.contactor_break_a": 175.0, "protection.over_current_trip_factor": 1.3}),
    ("string.contactor_break_charge_a", {"string.contactor_break_charge_a": 175.0},
     {"string.contactor_break_charge_a": 174.0}),
    ("string.precharge_energy_j", {"string.precharge_energy_j": 328.0}, {"string.precharge_energy_j": 327.0}),
    ("string.precharge_ohm", {"string.precharge_ohm": 62.5}, {"string.precharge_ohm": 62.6}),
    ("timing.poll_s", {"timing.poll_s": 0.2166}, {"timing.poll_s": 0.2167}),
    ("timing.poll_s", {}, {"timing.tick_s": 0.16}),
    ("timing.current_phases", {"timing.poll_s": 0.15, "timing.current_phases": 3}, {"timing.poll_s": 0.15}),
    ("timing.poll_s", {"timing.poll_s": 0.19, "timing.current_phases": 3, "layout.cells_per_module": 16},
     {"timing.poll_s": 0.19, "timing.current_phases": 3, "layout.cells_per_module": 17}),
    ("timing.tick_s", {"timing.poll_s": 0.15, "timing.tick_s": 0.15, "timing.current_phases": 3},
     {"timing.poll_s": 0.15, "timing.tick_s": 0.151, "timing.current_phases": 3}),
    ("inverter.channel", {"inverter.channel": "can2"}, {"inverter.channel": "can0"}),
    ("inverter.channel", {"inverter.channel": "can0", "inverter.interface": "unix"}, {"inverter.channel": "a/b"}),
    ("fieldbus.channel", {"fieldbus.channel": "a" * 15}, {"fieldbus.channel": "a" * 16}),
    ("fieldbus.channel", {}, {"fieldbus.channel": "can 0"}),
    ("fieldbus.channel", {"fieldbus.interface": "unix", "fieldbus.channel": "/" + "a" * 106},
     {"fieldbus.interface": "unix", "fieldbus.channel": "/" + "a" * 107}),
    ("link.socket", {"link.socket": "/" + "ä" * 53}, {"link.socket": "/" + "ä" * 54}),
    ("link.service_socket", {"link.service_socket": "/run/x"}, {"link.service_socket": "/run/bmsd/link.sock"}),
    ("link.service_socket", {}, {"link.service_socket": "/run/bmsd/../bmsd/./link.sock"}),
    ("inverter.channel",
     {"inverter.interface": "unix", "fieldbus.interface": "unix", "fieldbus.channel": "/run/a"},
     {"inverter.interface": "unix", "fieldbus.interface": "unix", "fieldbus.channel": "/run//a",
      "inverter.channel": "/run/./a"}),
    ("link.socket", {"fieldbus.interface": "unix", "fieldbus.channel": "/run/bmsd/field.sock"},
     {"fieldbus.interface": "unix", "fieldbus.channel": "/run/bmsd//link.sock"}),
    ("link.service_socket", {"inverter.channel": "can7"},
     {"inverter.interface": "unix", "inverter.channel": "/run/bmsd/service.sock"}),
    # curves
    ("limits.charge_by_cell_v.cell_v",
     {"limits.charge_by_cell_v": {"cell_v": [3.4, 3.52], "share": [1.0, 0.0]}, "cell.resistance_ohm": 0.0003},
     {"limits.charge_by_cell_v": {"cell_v": [3.4, 3.601], "share": [1.0, 0.0]}}),
    # from full current to none: 3.60 V - 0.02 V - 140 A x 0.00025 ohm
    ("limits.charge_by_cell_v.cell_v", {"limits.charge_by_cell_v": {"cell_v": [3.53, 3.545], "share": [1.0, 0.0]}},
     {"limits.charge_by_cell_v": {"cell_v": [3.53, 3.5451], "share": [1.0, 0.0]}}),
    # 0.02 V before the end a fifth flows
    ("limits.charge_by_cell_v.cell_v", {"limits.charge_by_cell_v": {"cell_v": [3.473, 3.573], "share": [1.0, 0.0]}},
     {"limits.charge_by_cell_v": {"cell_v": [3.4731, 3.5731], "share": [1.0, 0.0]}}),
    ("limits.charge_by_cell_v.cell_v", {"protection.cell_over_voltage_alarm_v": 3.571},
     {"protection.cell_over_voltage_alarm_v": 3.57}),
    ("protection.cell_plausible_max_v", {"protection.cell_plausible_max_v": 4.65},
     {"protection.cell_plausible_max_v": 4.64}),
    ("limits.charge_by_cell_v.cell_v", {"limits.charge_by_cell_v": {"cell_v": [3.4, 3.451], "share": [1.0, 0.0]}},
     {"limits.charge_by_cell_v": {"cell_v": [3.4, 3.45], "share": [1.0, 0.0]}}),
    ("limits.discharge_by_cell_v.cell_v", {"protection.cell_under_voltage_alarm_v": 2.81},
     {"protection.cell_under_voltage_alarm_v": 2.91}),
    ("limits.charge_by_temperature.degc", {}, {"limits.charge_by_temperature": {
        "degc": changed(CHARGE_T, 0, 0.9), "share": list(CHARGE_T_SHARE)}}),
    ("limits.charge_by_temperature.degc", {}, {"limits.charge_by_temperature": {
        "degc": changed(CHARGE_T, 4, 50.1), "share": list(CHARGE_T_SHARE)}}),
    ("limits.discharge_by_temperature.degc", {}, {"limits.discharge_by_temperature": {
        "degc": changed(DISCHARGE_T, 0, -20.1), "share": list(DISCHARGE_T_SHARE)}}),
    ("limits.discharge_by_temperature.degc", {}, {"limits.discharge_by_temperature": {
        "degc": changed(DISCHARGE_T, 4, 55.1), "share": list(DISCHARGE_T_SHARE)}}),
    # rest voltage
    ("cell.ocv_v", {"cell.ocv_soc": [0, 0.5, 1], "cell.ocv_v": [2.6, 3.3, 3.5]},
     {"cell.ocv_soc": [0, 0.5, 1], "cell.ocv_v": [2.6, 3.5]}),
    ("cell.ocv_v", {"cell.ocv_soc": [0, 0.5, 1], "cell.ocv_v": [2.0, 3.3, 3.7]},
     {"cell.ocv_soc": [0, 0.5, 1], "cell.ocv_v": [2.0, 3.3, 3.71]}),
    ("cell.ocv_v", {}, {"cell.ocv_soc": [0, 0.5, 1], "cell.ocv_v": [1.99, 3.3, 3.4]}),
    ("cell.ocv_v", {}, {"cell.ocv_soc": [0, 0.5, 1], "cell.ocv_v": [2.6, 3.3, 3.3]}),
    ("cell.ocv_soc", {}, {"cell.ocv_soc": [0, 0.5, 0.99], "cell.ocv_v": [2.6, 3.3, 3.5]}),
    ("cell.ocv_soc", {}, {"cell.ocv_soc": [0.01, 0.5, 1], "cell.ocv_v": [2.6, 3.3, 3.5]}),
    ("cell.ocv_soc", {}, {"cell.ocv_soc": [0, 0.5, 0.5, 1], "cell.ocv_v": [2.6, 3.3, 3.4, 3.5]}),
]  # fmt: skip


@pytest.mark.parametrize(("path", "right", "wrong"), EDGES, ids=[f"{n}-{edge[0]}" for n, edge in enumerate(EDGES)])
def test_on_the_edge_is_right_and_just_beyond_is_refused(path, right, wrong):
    assert about(path, complaints(right)) == []
    lines = about(path, complaints(wrong))
    assert lines
    assert all("expected" in line for line in lines)


CURVES = [
    ("limits.charge_by_cell_v", "cell_v", CHARGE_V, CHARGE_SHARE),
    ("limits.discharge_by_cell_v", "cell_v", DISCHARGE_V, DISCHARGE_SHARE),
    ("limits.charge_by_temperature", "degc", CHARGE_T, CHARGE_T_SHARE),
    ("limits.discharge_by_temperature", "degc", DISCHARGE_T, DISCHARGE_T_SHARE),
]


@pytest.mark.parametrize(("path", "x_name", "x", "share"), CURVES)
def test_a_curve_must_rise_have_a_share_at_each_point_and_let_something_flow(path, x_name, x, share):
    def lines(x: list[float], share: list[float]) -> list[str]:
        return complaints({path: {x_name: x, "share": share}})

    assert lines(list(x), list(share)) == []
    assert any("as many" in line for line in about(f"{path}.share", lines(list(x), list(share)[:-1])))
    assert any(
        "above the one before" in line for line in about(f"{path}.{x_name}", lines(changed(x, 1, x[0]), list(share)))
    )
    assert any("no current" in line for line in about(f"{path}.share", lines(list(x), [0.0] * len(x))))


@pytest.mark.parametrize(
    ("path", "x_name", "x", "share", "place", "value", "why"),
    [
        (*CURVES[0], 3, 0.01, "the last entry"),
        (*CURVES[0], 2, 0.3, "never rising"),
        (*CURVES[1], 0, 0.01, "the first entry"),
        (*CURVES[1], 2, 0.05, "never falling"),
        (*CURVES[2], 0, 0.01, "the first entry"),
        (*CURVES[2], 4, 0.01, "the last entry"),
        (*CURVES[2], 2, 0.3, "rising, then falling"),
        (*CURVES[3], 0, 0.01, "the first entry"),
        (*CURVES[3], 4, 0.01, "the last entry"),
        (*CURVES[3], 2, 0.2, "rising, then falling"),
    ],
)
def test_a_curve_reaches_zero_and_has_its_shape(path, x_name, x, share, place, value, why):
    lines = about(f"{path}.share", complaints({path: {x_name: list(x), "share": changed(share, place, value)}}))
    assert any(why in line for line in lines)


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: f"{order.path}{order.sign}{order.other}")
def test_every_order_holds_on_its_good_side_only(order: Order):
    bound = 1.0
    on = bound + order.offset
    inside, beyond = (on - STEP, on + STEP) if order.sign.startswith("<") else (on + STEP, on - STEP)
    said = {
        value: list(order.complaints(Known(_nested({order.path: value, order.other: bound}), ())))
        for value in (inside, on, beyond)
    }
    assert said[inside] == []
    assert (said[on] == []) == order.sign.endswith("=")
    assert len(said[beyond]) == 1
    assert order.path in said[beyond][0]
    assert order.other in said[beyond][0]


def test_an_order_tells_both_settings_the_margin_and_the_reason():
    (line,) = about("protection.cell_over_voltage_trip_v", complaints({"cell.max_v": 3.55}))
    assert line == (
        "protection.cell_over_voltage_trip_v: 3.65 V; expected at most 3.6 V (cell.max_v + 0.05): "
        "the cell maker's data sheet rules"
    )
    (line,) = about("protection.cell_deep_discharge_v", complaints({"protection.cell_deep_discharge_v": 1.5}))
    assert "at least 2 V (cell.min_v - 0.5)" in line


def _nested(values: dict[str, float]) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for path, value in values.items():
        home, name = path.split(".")
        data.setdefault(home, {})[name] = value
    return data


def test_every_threshold_with_severities_is_on_a_ladder():
    on_ladders = {name for _, rungs in LADDERS for name in rungs}
    levels = ("_warning", "_alarm", "_trip", "_critical")
    for row in CATALOGUE:
        if isinstance(row.trip, str) and any(level in row.trip for level in levels) and "factor" not in row.trip:
            assert row.trip in on_ladders, row.code


def test_every_named_clear_is_compared_with_its_threshold():
    pairs = {(order.path, order.other, order.sign) for order in ORDERS}
    named = [
        row for row in CATALOGUE if isinstance(row.trip, str) and isinstance(row.clear, str) and row.trip != row.clear
    ]
    assert len(named) >= 19
    for row in named:
        assert (f"{P}{row.clear}", f"{P}{row.trip}", ">" if row.below else "<") in pairs, row.code


@pytest.mark.parametrize(
    "path", [path for path, one in settings().items() if one.unit == "V" and path.startswith(P) and one.lfp]
)
def test_every_voltage_threshold_is_compared_with_something(path):
    assert any(path in (order.path, order.other) for order in ORDERS)


def test_other_cells_than_lfp_must_give_what_is_only_right_for_lfp():
    lines = complaints({"cell.chemistry": "nmc", "cell.max_v": 4.2, "cell.min_v": 2.8})
    asked = {line.split(":")[0] for line in lines if "missing; its default is for lfp cells" in line}
    assert asked == {path for path, one in settings().items() if one.lfp}
    assert "protection.cell_over_voltage_trip_v" in asked
    assert len(lines) == len(asked), "LFP defaults must not be judged against another cell"


NMC: dict[str, Any] = {
    "cell.chemistry": "nmc", "cell.max_v": 4.2, "cell.min_v": 2.8, "cell.charge_max_degc": 55.0,
    "cell.ocv_soc": [0.0, 0.5, 1.0], "cell.ocv_v": [3.0, 3.7, 4.15], "cell.ocv_half_gap_v": 0.005,
    "protection.cell_over_voltage_warning_v": 4.15, "protection.cell_over_voltage_warning_clear_v": 4.1,
    "protection.cell_over_voltage_alarm_v": 4.18, "protection.cell_over_voltage_alarm_clear_v": 4.1,
    "protection.cell_over_voltage_trip_v": 4.22, "protection.cell_over_voltage_trip_clear_v": 4.05,
    "protection.cell_over_voltage_critical_v": 4.3, "protection.cell_over_voltage_critical_clear_v": 4.05,
    "protection.cell_under_voltage_warning_v": 3.2, "protection.cell_under_voltage_warning_clear_v": 3.3,
    "protection.cell_under_voltage_alarm_v": 3.0, "protection.cell_under_voltage_alarm_clear_v": 3.2,
    "protection.cell_under_voltage_trip_v": 2.9, "protection.cell_under_voltage_trip_clear_v": 3.1,
    "protection.cell_deep_discharge_v": 2.5, "protection.cell_deep_discharge_clear_v": 2.8,
    "protection.cell_plausible_max_v": 5.2,
    "limits.charge_by_cell_v": {"cell_v": [4.0, 4.15], "share": [1.0, 0.0]},
    "limits.discharge_by_cell_v": {"cell_v": [3.0, 3.3], "share": [0.0, 1.0]},
    "charge.absorption_v": 4.1, "charge.float_v": 4.0, "charge.discharge_end_v": 3.1, "balance.start_v": 4.0,
}  # fmt: skip


def test_another_chemistry_with_all_its_numbers_is_right():
    assert complaints(NMC) == []


@pytest.mark.parametrize("path", [path for path in NMC if settings()[path].lfp])
def test_another_chemistry_lacks_each_of_its_numbers_by_name(path):
    lines = about(path, complaints({**NMC, path: GONE}))
    assert any("missing" in line for line in lines)


def test_an_empty_rest_voltage_table_means_lfp_only():
    lines = complaints({**NMC, "cell.ocv_soc": [], "cell.ocv_v": []})
    assert [line.split(":")[0] for line in lines] == ["cell.ocv_soc", "cell.ocv_v"]


def test_a_check_whose_setting_is_wrong_is_silent_and_all_others_speak():
    lines = complaints({
        "protection.cell_over_voltage_trip_v": "3.65", "protection.cell_under_voltage_alarm_v": 2.4,
        "layout.strings": "2", "inverter.channel": "can0", "timing.poll_s": 0.25,
    })  # fmt: skip
    assert about("protection.cell_over_voltage_trip_v", lines) == [lines[1]]
    assert len(about("protection.cell_under_voltage_alarm_v", lines)) >= 1
    assert about("layout.strings", lines)
    assert about("inverter.channel", lines)
    assert about("timing.poll_s", lines)
    assert not about("layout.modules_per_string", lines)
    assert len(lines) == len(set(lines))
    assert all("\n" not in line for line in lines)
