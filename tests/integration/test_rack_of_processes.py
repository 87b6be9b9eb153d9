"""Daemon and simulator as processes: what goes wrong in the rack reaches the inverter, and the end is orderly."""

from __future__ import annotations

import json
import subprocess

import numpy as np
from recording import Recording


def test_the_demo_prints_its_last_snapshot_as_json(demo: subprocess.CompletedProcess[str]) -> None:
    assert demo.returncode == 0, demo.stderr
    shown = json.loads(demo.stdout)
    assert demo.stderr == ""
    assert (shown["missing"], shown["vetoes"]) == ([], [])
    assert [fault["code"] for fault in shown["faults"]] == ["MOD-015"], "its first start"
    assert np.array(shown["cells"]["voltage_v"], dtype=float).shape == (2, 2, 16)
    assert np.array(shown["temperature_degc"], dtype=float).shape == (2, 2, 4)
    assert [string["state"] for string in shown["strings"]] == ["closed", "closed"]
    assert shown["points"]["charge_limit_a"] > 0.0
    assert shown["points"]["modules_online"] == 4
    assert shown["lifecycle"] in ("charging", "discharging", "idle")
    assert abs(shown["points"]["soc"] - 0.95) < 2.0 * shown["points"]["soc_sigma"], "not known yet, and it says so"
    assert shown["charge_bounds"][0]["reason"]


def test_nothing_is_told_before_the_rack_is_known_and_limits_rise_from_zero(any_rack: Recording) -> None:
    assert any_rack.told[0].ccl_a == 0.0
    assert any_rack.told[0].dcl_a == 0.0
    assert min(told.cvl_v for told in any_rack.told) > 40.0


def test_every_rack_ends_in_order(any_rack: Recording) -> None:
    assert any_rack.exit_codes == {"run": 0, "sim": 0}, any_rack.run.err
    last = any_rack.records[-1]
    assert last.lifecycle == "stopping"
    assert not last.command.close_plus.any()
    assert (any_rack.told[-1].ccl_a, any_rack.told[-1].dcl_a) == (0.0, 0.0)
    assert (any_rack.flags[-1].charge, any_rack.flags[-1].discharge) == (False, False)
    assert not any(record.vetoes for record in any_rack.records)
    left = sorted(path.name for path in any_rack.folder.iterdir() if path.suffix == ".sock")
    assert left == [], "sockets are removed"
    assert (any_rack.folder / "state" / "state.bin").stat().st_size > 100


def test_a_cell_over_its_alarm_forbids_the_charge_on_the_inverters_bus(mishaps: Recording) -> None:
    alarm = mishaps.first("CEL-002")
    fault = next(fault for fault in alarm.faults if fault.code == "CEL-002")
    assert (fault.string, fault.module, fault.item) == (1, 1, 3)
    assert fault.value > 3.6
    zero_s = alarm.snapshot.now_s - 0.3
    assert mishaps.between(0.0, zero_s - 1.0)[-1].ccl_a > 10.0, "before it, a charge was allowed"
    after = mishaps.between(zero_s, alarm.snapshot.now_s + 3.0)
    assert len(after) >= 3
    assert all(told.ccl_a == 0.0 for told in after)
    assert after[0].dcl_a > 0.0, "a discharge stays allowed"
    assert not any(f.charge for f in mishaps.flags if zero_s + 0.3 < f.at_s < zero_s + 3.0)
    assert alarm.strings[0].state == "closed"


def test_a_hot_cell_lowers_the_limits_and_raises_its_row(mishaps: Recording) -> None:
    warning = mishaps.first("TMP-004")
    fault = next(fault for fault in warning.faults if fault.code == "TMP-004")
    assert fault.value > 50.0
    assert (fault.string, fault.module, fault.item) == (1, 1, 2), "the second sensor sits on the seventh cell"
    warm = [r for r in mishaps.records if float(np.nanmax(r.snapshot.modules.temperature_degc, initial=0.0)) > 50.0]
    assert 5.0 <= warning.snapshot.now_s - warm[0].snapshot.now_s <= 6.0, "five seconds above 50 degC"
    # a reading that fell by its noise raises that bound, and a limit rises slowly
    standing = [bound for bound in warning.discharge_bounds if bound.reason != "rising slowly"]
    assert standing[0].reason == "temperature for discharging"
    hottest = float(np.nanmax(warning.snapshot.modules.temperature_degc))
    share = float(np.interp(hottest, (45.0, 55.0), (1.0, 0.0)))
    told = mishaps.between(warning.snapshot.now_s - 1.5, warning.snapshot.now_s + 0.5)
    assert len(told) >= 2
    assert all(0.0 < one.dcl_a <= 140.0 * share + 0.1 for one in told)
    assert max(one.dcl_a for one in mishaps.told) > told[-1].dcl_a, "before it got hot, more was allowed"
    assert warning.strings[0].state == "closed"


def test_a_silent_board_stops_the_current_and_is_named(losses: Recording) -> None:
    lost = losses.first("MOD-001")
    fault = next(fault for fault in lost.faults if fault.code == "MOD-001")
    assert (fault.string, fault.module) == (2, 2)
    assert any("module 2 of string 2" in sentence for sentence in lost.missing)
    age_s = float(lost.snapshot.modules.cell_age_s[1, 1])
    assert 3.0 <= age_s <= 3.5, "0.6 s hold and 2.4 s delay"
    assert [string.state for string in lost.strings] == ["closed", "closed"], "contactors stay for now"
    silent_s = lost.snapshot.now_s - age_s
    assert losses.between(0.0, silent_s)[-1].dcl_a > 10.0
    zero = [told for told in losses.told if told.at_s > silent_s + 0.6 + 0.4]
    assert len(zero) > 3
    assert all((told.ccl_a, told.dcl_a) == (0.0, 0.0) for told in zero), "0.6 s hold, a tick, the next 0x351"


def test_an_emergency_stop_at_one_unit_opens_the_whole_rack(losses: Recording) -> None:
    pressed = losses.first("CON-012")
    assert pressed.snapshot.now_s > losses.first("MOD-001").snapshot.now_s
    later = [r for r in losses.records if r.snapshot.now_s > pressed.snapshot.now_s + 0.5]
    assert {fault.count for fault in later[-1].faults if fault.code == "CON-012"} == {2}, "one for each string"
    before_the_stop = [r for r in later if r.lifecycle != "stopping"]
    assert "emergency stop" in before_the_stop[-1].strings[0].reason
    assert not any(r.command.close_plus.any() for r in later)
    assert not later[-1].snapshot.units.plus_output.any()
    assert (later[-1].snapshot.units.trip_code > 0).all(), "both units have latched it"
