"""What the port sends for a stop passes the real transmit gate, whatever voltages the command has lost."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from inverter_builders import a_command, settings

from bmsd.fieldbus.transmit_gate import Envelope, Rule, TransmitGate
from bmsd.inverters.port import InverterPort
from bmsd.inverters.profile import load_profile
from bmsd.model.command import Command
from bmsd.model.frame import Frame

STOPPED: dict[str, Any] = {"ccl_a": 0.0, "dcl_a": 0.0, "charge_enabled": False, "discharge_enabled": False}


class Wire:
    """A bus that takes everything."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []

    def send(self, frame: Frame) -> bool:
        self.frames.append(frame)
        return True


class Side:
    """The inverter's side of control: a finished tick goes to the gate first, then to the port."""

    def __init__(self) -> None:
        self.profile = load_profile("pylontech_lv")
        self.port = InverterPort(self.profile, settings())
        self.wire = Wire()
        self.gate = TransmitGate(
            self.wire,
            [Rule(*rule) for rule in self.profile.transmit_rules],
            decode_limits=self.profile.decode_limits,
            envelope=Envelope(cvl_v=58.4, dvl_v=40.0, ccl_a=140.0, dcl_a=200.0),
        )
        self.now_s = 0.0

    def tick(self, command: Command) -> None:
        """A tick and the 100 ms after it."""
        self.gate.allow(command, self.now_s)
        end_s, given = self.now_s + 0.1, command
        step: Command | None = given
        while self.now_s < end_s:
            for frame in self.port.step(self.now_s, step, ()):
                if not self.gate.send(frame, self.now_s):
                    self.port.not_sent()
            step = None
            self.now_s = min(max(self.port.due_s, self.now_s), end_s)

    def told(self) -> list[tuple[float | None, float | None, float | None]]:
        """(CVL, DVL, CCL) of every 351."""
        limits = [self.profile.decode_limits(frame) for frame in self.wire.frames if frame.can_id == 0x351]
        return [(one.cvl_v, one.dvl_v, one.ccl_a) for one in limits]


@pytest.mark.parametrize(
    ("now", "told"),
    [
        ({"cvl_v": None, "dvl_v": 46.0}, (56.0, 46.0, 0.0)),
        ({"cvl_v": None, "dvl_v": 44.0}, (56.0, 44.0, 0.0)),
        ({"cvl_v": 54.0, "dvl_v": None}, (54.0, 44.8, 0.0)),
        ({"cvl_v": None, "dvl_v": None}, (56.0, 44.8, 0.0)),
        ({"cvl_v": 54.0, "dvl_v": 46.0}, (54.0, 46.0, 0.0)),
    ],
)
@pytest.mark.parametrize("fresh", [True, False])
def test_a_stop_has_the_voltages_that_the_command_has_and_the_last_good_ones_for_the_rest(
    now: dict[str, float | None], told: tuple[float, float, float], fresh: bool
) -> None:
    side = Side()
    side.tick(a_command())
    for _ in range(3):
        side.tick(a_command(**STOPPED, **now, fresh=fresh))
    assert side.told() == [(56.0, 44.8, 100.0), told]
    assert side.gate.blocked == 0


volts = st.one_of(st.none(), st.floats(40.0, 58.4))


@hypothesis_settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(volts, volts, st.booleans()), min_size=1, max_size=8))
def test_no_story_of_lost_and_moved_voltages_is_blocked(story: list[tuple[float | None, float | None, bool]]) -> None:
    side = Side()
    side.tick(a_command(cvl_v=56.1, dvl_v=44.7))
    for cvl_v, dvl_v, fresh in story:
        flows: dict[str, Any] = {} if fresh and cvl_v is not None and dvl_v is not None else STOPPED
        for _ in range(3):
            side.tick(a_command(cvl_v=cvl_v, dvl_v=dvl_v, fresh=fresh, **flows))
    assert side.gate.blocked == 0, side.gate.reasons
    last_cvl_v, _, flow = story[-1]
    if not flow or last_cvl_v is None:
        assert side.told()[-1][2] == 0.0
