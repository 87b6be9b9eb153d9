"""The heartbeat output on a simulated chip of a real kernel.

python -m tests.gpio.story /dev/gpiochip0 FOLDER     (what `run` beside this does in its guest)

The folder of gpio-sim says what a line is driven to, and drives what is read (Documentation/admin-guide/gpio).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from bmsd.config.schema import HeartbeatOutput
from bmsd.control.gpio import Line
from bmsd.control.heartbeat_output import Output
from bmsd.errors import BusError

BEAT, FEEDBACK, LOW = 17, 27, 5
TICK_S = 0.1
REFUSED = ((None, BEAT, "used by"), (None, 99, "no such line"), (Path("/dev/none"), 1, "no such chip"))


class Simulated:
    """The other side of the lines."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def driven(self, line: int) -> bool:
        return (self._folder / f"sim_gpio{line}/value").read_text().strip() == "1"

    def pull(self, line: int, up: bool) -> None:
        (self._folder / f"sim_gpio{line}/pull").write_text("pull-up" if up else "pull-down")


def lines(chip: Path, other: Simulated) -> None:
    """Lines are driven, read, and refused by name."""
    out, back = Line(chip, BEAT, output=True), Line(chip, FEEDBACK, output=False)
    low = Line(chip, LOW, output=False, active_low=True)
    for active in (True, False, True, True, False):
        out.set(active)
        assert other.driven(BEAT) is active
        other.pull(FEEDBACK, active)
        other.pull(LOW, active)
        assert (back.get(), low.get()) == (active, not active)
    for path, number, words in REFUSED:
        with pytest.raises(BusError, match=words):
            Line(path or chip, number, output=True)
    for line in (out, back, low):
        line.close()


class Relay:
    """A relay on the line that holds for 0.25 s, and the output that beats for it."""

    def __init__(self, chip: Path, other: Simulated) -> None:
        self._other = other
        self._now_s, self._moved_s, self._level = 0.0, -1.0, False
        self.edges = 0
        self.output = Output(HeartbeatOutput(chip=str(chip), line=BEAT, feedback_line=FEEDBACK, drop_s=0.3))

    def run(self, seconds: float, *, wanted: bool = True, stuck: bool | None = None) -> float:
        """Tick for so long and return whether the path has failed; `stuck`: the relay stays in or out."""
        for _ in range(round(seconds / TICK_S)):
            self._now_s += TICK_S
            self._other.pull(FEEDBACK, self._now_s - self._moved_s < 0.25 if stuck is None else stuck)
            self.output.tick(self._now_s, wanted=wanted, idle=True)
            if self._other.driven(BEAT) != self._level:
                self._level, self._moved_s, self.edges = not self._level, self._now_s, self.edges + 1
        return self.output.failed


def heartbeat(chip: Path, other: Simulated) -> None:
    """The line moves with ticks only, and a relay that does not follow is a failed path."""
    relay = Relay(chip, other)
    assert relay.run(2.0) == 0.0
    assert relay.edges >= 17
    before = relay.edges
    assert relay.run(2.0, wanted=False) == 0.0
    assert relay.edges == before
    assert relay.run(1.0, wanted=False, stuck=True) == 1.0
    assert relay.run(2.0) == 0.0
    assert relay.run(1.0, stuck=False) == 1.0
    relay.output.close()
    assert not other.driven(BEAT)


if __name__ == "__main__":
    device, folder = map(Path, sys.argv[1:])
    lines(device, Simulated(folder))
    heartbeat(device, Simulated(folder))
    sys.stdout.write(f"gpio: all as it should be, on Linux {os.uname().release}\n")
