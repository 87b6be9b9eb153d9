"""Frames packed by the C sender arrive in the snapshot: raw values in, through the real receive path, arrays out."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from c_codec import frames, payload
from cantools.database.can import Signal
from slave_database import load

from bmsd.fieldbus.drivers.slave.receiver import Receiver
from bmsd.model.frame import RawFrames
from bmsd.model.layout import Layout
from bmsd.model.plant import Timing
from bmsd.model.snapshot import INPUTS, Modules, Reading, Units

DATABASE = load()
LAYOUT = Layout(strings=8, modules=4, cells=24, sensors=8)
TIMING = Timing(tick_s=0.1, poll_s=0.2, current_phases=4)
BOARDS = [address for string in LAYOUT.module_addresses for address in string]
UNITS = list(LAYOUT.unit_addresses)
POLLS = 27
SLOW = {1: ("Temperatures1", "Temperatures2"), 2: ("ModuleState",), 3: ("NodeStatus",)}
CELL_FRAMES = tuple(f"CellVoltages{k}" for k in range(1, 7))
READINGS = {"open_wire": Reading.OPEN, "open": Reading.OPEN, "short": Reading.SHORT, "invalid": Reading.INVALID}

Raw = dict[tuple[str, int], dict[str, int]]
"""Raw values of the signals by (message, address)."""


@dataclass
class Poll:
    """The raw values of one poll, and those of the currents of its four phases."""

    number: int
    group: int
    measured: Raw
    currents: list[Raw] = field(default_factory=list)


def dice_for(signal: Signal, dice: random.Random) -> int:
    """Return a raw value: mostly anything that the bits can carry, often an edge or a code."""
    low, high = (-(1 << signal.length - 1), (1 << signal.length - 1) - 1) if signal.is_signed else (0, None)
    high = (1 << signal.length) - 1 if high is None else high
    ends = [round((end - signal.offset) / signal.scale) for end in (signal.minimum, signal.maximum)]
    edges = [low, high, *ends, min(ends[1] + 1, high), *(signal.choices or {})]
    return dice.choice(edges) if dice.random() < 0.2 else dice.randint(low, high)


def row(name: str, dice: random.Random, **fixed: int) -> dict[str, int]:
    signals = payload(DATABASE.get_message_by_name(name))
    return {signal.name: fixed.get(signal.name, dice_for(signal, dice)) for signal in signals}


def polls() -> list[Poll]:
    """Return the polls of the test: every board and unit answers everything, in all slow groups."""
    dice = random.Random("from C to the snapshot")
    charge = dict.fromkeys(UNITS, 2**32 - 5000)
    made = []
    for k in range(POLLS):
        number, group = (k + 250) % 256, 1 + k % 3
        fixed = {"Counter": number % 16, "BootMode": 0}
        boards = {(name, a): row(name, dice, **fixed) for name in (*CELL_FRAMES, *SLOW[group]) for a in BOARDS}
        names = ("StringVoltages", "ContactorState", *(("NodeStatus",) if group == 3 else ()))
        units = {(name, a): row(name, dice, **fixed) for name in names for a in UNITS}
        poll = Poll(number, group, {**boards, **units})
        for phase in range(4):
            phase_rows = {}
            for address in UNITS:
                charge[address] = (charge[address] + dice.randint(-3000, 9000)) % 2**32
                current = dice.randint(-131071, 131071)
                values = {"Charge": charge[address], "Current": current, "Phase": phase, "Counter": number % 16}
                phase_rows[("Current", address)] = values
            poll.currents.append(phase_rows)
        made.append(poll)
    return made


def by_c(sender: Path, rows: Raw) -> RawFrames:
    return frames(sender, [" ".join([name, str(a), *map(str, row.values())]) for (name, a), row in rows.items()])


def physical(message: str, name: str, raw: int) -> float:
    """Return the value that the DBC gives a raw value; NaN outside the signal's range."""
    signal = DATABASE.get_message_by_name(message).get_signal_by_name(name)
    low, high = (round((end - signal.offset) / signal.scale) for end in (signal.minimum, signal.maximum))
    return raw * signal.scale + signal.offset if low <= raw <= high else np.nan


def reading(message: str, name: str, raw: int) -> int:
    """Return why a value is what it is; reserved raw values are invalid."""
    code = (DATABASE.get_message_by_name(message).get_signal_by_name(name).choices or {}).get(raw)
    if code is not None:
        return int(READINGS[str(code)])
    return int(Reading.INVALID if np.isnan(physical(message, name, raw)) else Reading.OK)


def four_to_a_frame(rows: Raw, stem: str, signal: str, count: int, what: object) -> np.ndarray:
    """Return `what` of every cell or sensor, shape (strings, modules, count)."""
    values = [
        [
            what(f"{stem}{k // 4 + 1}", signal.format(k + 1), rows[(f"{stem}{k // 4 + 1}", a)][signal.format(k + 1)])
            for k in range(count)
        ]
        for a in BOARDS
    ]
    return np.array(values).reshape(*LAYOUT.module_shape, count)


def of_boards(rows: Raw, message: str, name: str) -> np.ndarray:
    return np.array([rows[(message, a)][name] for a in BOARDS]).reshape(LAYOUT.module_shape)


def of_units(rows: Raw, message: str, name: str) -> np.ndarray:
    return np.array([rows[(message, a)][name] for a in UNITS])


def converted(message: str, name: str, raw: np.ndarray) -> np.ndarray:
    """Return the physical values of an array of raw values."""
    return np.array([physical(message, name, value) for value in raw.ravel()]).reshape(raw.shape)


class Rack:
    """The receive path with the C sender on the other end; the clock is moved by hand."""

    def __init__(self, sender: Path) -> None:
        self.receiver = Receiver(LAYOUT, TIMING)
        self.now_s = 100.0
        self._dice = np.random.default_rng(7)
        self.polls = polls()
        every = [rows for poll in self.polls for rows in (poll.measured, *poll.currents)]
        packed = frames(sender, [self._line(key, row) for rows in every for key, row in rows.items()])
        self._frames = np.split(packed, np.cumsum([len(rows) for rows in every])[:-1])

    @staticmethod
    def _line(key: tuple[str, int], row: dict[str, int]) -> str:
        return " ".join([key[0], str(key[1]), *map(str, row.values())])

    def play(self, k: int) -> Poll:
        """Send poll k: four SYNCs, the answers in any order and in drains of any size."""
        poll = self.polls[k]
        measured, *currents = self._frames[5 * k : 5 * k + 5]
        for phase in range(4):
            self.receiver.sync_sent(poll.number, phase, poll.group, self.now_s)
            answers = np.concatenate([measured, currents[0]]) if phase == 0 else currents[phase]
            for drain in np.array_split(self._dice.permutation(answers), 5):
                self.receiver.feed(drain, self.now_s + 0.015)
            self.now_s += 0.05
        return poll


@pytest.fixture(scope="module")
def rack(sender: Path) -> Rack:
    return Rack(sender)


def check_boards(modules: Modules, poll: Poll) -> None:
    """Compare what the poll brought of the boards."""
    rows = poll.measured
    cells = partial(four_to_a_frame, rows, "CellVoltages", "Cell{}Voltage", 24)
    np.testing.assert_allclose(modules.cell_v, cells(physical), rtol=0, atol=1e-12)
    np.testing.assert_array_equal(modules.cell_reading, cells(reading))
    if poll.group == 1:
        sensors = partial(four_to_a_frame, rows, "Temperatures", "Sensor{}Temperature", 8)
        np.testing.assert_allclose(modules.temperature_degc, sensors(physical), rtol=0, atol=1e-9)
        np.testing.assert_array_equal(modules.temperature_reading, sensors(reading))
    if poll.group == 2:
        state = partial(of_boards, rows, "ModuleState")
        module_v = converted("ModuleState", "ModuleVoltage", state("ModuleVoltage"))
        np.testing.assert_allclose(modules.module_v, module_v, rtol=0, atol=1e-9)
        np.testing.assert_array_equal(modules.balancing, state("BalanceActive")[..., None] >> np.arange(24) & 1 != 0)
        np.testing.assert_array_equal(modules.cell_count, state("CellCount"))
        np.testing.assert_array_equal(modules.trip_active, state("TripActive") != 0)
        np.testing.assert_array_equal(modules.heartbeat_lost, state("HeartbeatLost") != 0)
    if poll.group == 3:
        status = partial(of_boards, rows, "NodeStatus")
        degc = converted("NodeStatus", "BoardTemperature", status("BoardTemperature"))
        np.testing.assert_allclose(modules.board_degc, degc, rtol=0, atol=1e-9)
        np.testing.assert_array_equal(modules.self_test, np.where(status("SelfTestDone") != 0, status("SelfTest"), -1))


def check_units(units: Units, poll: Poll) -> None:
    """Compare what the poll brought of the contactor units."""
    rows = poll.measured
    for name, got in (("BusVoltage", units.bus_v), ("StringVoltage", units.string_v), ("CoilSupply", units.coil_v)):
        raw = of_units(rows, "StringVoltages", name)
        np.testing.assert_allclose(got, converted("StringVoltages", name, raw), rtol=0, atol=1e-9, err_msg=name)
    states = {
        "MinusFeedback": units.minus, "PlusFeedback": units.plus, "PrechargeFeedback": units.precharge,
        "MinusOutput": units.minus_output, "PlusOutput": units.plus_output,
        "PrechargeOutput": units.precharge_output, "InverterEnableOutput": units.enable_output,
        "HeartbeatLost": units.heartbeat_lost, "TripCode": units.trip_code, "OpenReason": units.open_reason,
    }  # fmt: skip
    states |= {name.title().replace("_", ""): units.inputs[:, column] for column, name in enumerate(INPUTS)}
    for name, state in states.items():
        np.testing.assert_array_equal(state, of_units(rows, "ContactorState", name), err_msg=name)
    current_a = of_units(poll.currents[3], "Current", "Current") * 0.02
    np.testing.assert_allclose(units.current_a, current_a, rtol=0, atol=1e-9)


def test_every_value_that_the_c_sender_packed_is_in_the_snapshot(rack: Rack) -> None:
    counts = np.zeros(len(UNITS), dtype=np.int64)
    last = of_units(rack.polls[0].currents[0], "Current", "Charge")
    for k in range(POLLS):
        poll = rack.play(k)
        modules, units = rack.receiver.modules(rack.now_s), rack.receiver.units(rack.now_s)
        check_boards(modules, poll)
        check_units(units, poll)
        for rows in poll.currents:
            charge = of_units(rows, "Current", "Charge")
            counts += (charge - last + 2**31) % 2**32 - 2**31
            last = charge
        np.testing.assert_allclose(units.charge_as, counts * 0.01, rtol=0, atol=1e-6)
    assert rack.receiver.counts.sum() == 0, "no frame was dropped"
    assert modules.crc_errors.sum() == modules.counter_errors.sum() == units.crc_errors.sum() == 0
    assert counts.min() > 5000, "the charge counters have wrapped"


def test_the_polls_hold_at_least_200_frames_of_every_measurement(rack: Rack) -> None:
    names = [name for poll in rack.polls for rows in (poll.measured, *poll.currents) for name, _ in rows]
    fast_and_slow = {*CELL_FRAMES, *(name for group in SLOW.values() for name in group)}
    for name in fast_and_slow | {"Current", "StringVoltages", "ContactorState"}:
        assert names.count(name) >= 200, name


def test_identification_trips_and_discovery_arrive(sender: Path) -> None:
    dice = random.Random("identification")
    receiver = Receiver(LAYOUT, TIMING)
    receiver.sync_sent(0, 0, 0, 0.9)
    for _ in range(5):
        uids = {("IdentityUid", a): row("IdentityUid", dice) for a in (*BOARDS, *UNITS)}
        versions = {
            ("IdentityVersion", a): row("IdentityVersion", dice, BoardType=1 if a in BOARDS else 2)
            for a in (*BOARDS, *UNITS)
        }
        receiver.feed(by_c(sender, {**uids, **versions}), 1.0)
        for node, address in enumerate((*BOARDS, *UNITS)):
            assert receiver.identities.uid[node] == uids[("IdentityUid", address)]["Uid"]
            for name in ("FirmwareMajor", "FirmwareMinor", "BootCounter", "HardwareRevision", "SensorCount"):
                assert receiver.identities.field(name)[node] == versions[("IdentityVersion", address)][name]
        assert receiver.modules(1.0).identified.all()
        assert receiver.units(1.0).identified.all()
    trips = {("Trip", a): row("Trip", dice) for a in BOARDS}
    receiver.feed(by_c(sender, trips), 2.0)
    for (_, address), values in trips.items():
        assert (receiver.trips[address].code, receiver.trips[address].cell) == (
            values["TripCode"],
            values["CellNumber"],
        )
    assert receiver.modules(2.0).trip_active.all()
    found = {("Discovery", a): row("Discovery", dice) for a in range(40)}
    receiver.feed(by_c(sender, found), 3.0)
    assert receiver.discovered == {values["Uid"]: values["BoardType"] for values in found.values()}


def test_an_invalid_current_of_the_c_sender_is_unknown_not_zero(sender: Path) -> None:
    receiver = Receiver(LAYOUT, TIMING)
    receiver.sync_sent(1, 1, 0, 10.0)
    rows = {("Current", a): {"Charge": 7, "Current": -131072, "Phase": 1, "Counter": 1} for a in UNITS}
    receiver.feed(by_c(sender, rows), 10.01)
    assert np.isnan(receiver.units(10.02).current_a).all()


def test_frames_of_the_poll_before_and_damaged_ones_change_nothing(sender: Path) -> None:
    receiver = Receiver(LAYOUT, TIMING)
    dice = random.Random("late")
    old = {(name, a): row(name, dice, Counter=1) for name in CELL_FRAMES for a in BOARDS}
    late = by_c(sender, old)
    damaged = by_c(sender, {key: {**values, "Counter": 2} for key, values in old.items()}).copy()
    damaged["data"] ^= np.uint64(1 << 20)
    receiver.sync_sent(2, 0, 0, 10.0)
    receiver.feed(late, 10.02)
    receiver.feed(damaged, 10.03)
    modules = receiver.modules(10.15)
    assert np.isnan(modules.cell_v).all()
    assert (modules.counter_errors == 6).all()
    assert (modules.crc_errors == 6).all()
