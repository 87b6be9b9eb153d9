"""The safety relay follows finished ticks, or it is a fault.

The relay is a charge pump as a text book has it. Lines are those of a double of the kernel's GPIO device at the level
of its ioctls, whose sizes and numbers are held to the C header; tests/gpio/run drives a real kernel's.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import subprocess
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest

from bmsd.config.schema import HeartbeatOutput
from bmsd.control import gpio
from bmsd.control.gpio import Line
from bmsd.control.heartbeat_output import DAY_S, RETRY_S, Beat, Output, step
from bmsd.errors import BusError

TICK_S = 0.1
DROP_S = 1.0


@dataclass
class Relay:
    """Is in while the line has moved within 0.4 s; `stuck`: True welded, False dead."""

    stuck: bool | None = None
    level: bool = False
    moved_s: float = -1e9
    holds_s: float = 0.4

    def sees(self, level: bool, now_s: float) -> None:
        self.moved_s = now_s if level != self.level else self.moved_s
        self.level = level

    def is_in(self, now_s: float) -> bool:
        return now_s - self.moved_s < self.holds_s if self.stuck is None else self.stuck


@dataclass
class Story:
    """Ticks with a relay; `idle` and `wanted` as they are told."""

    relay: Relay = field(default_factory=Relay)
    now_s: float = 100.0
    beat: Beat = field(default_factory=Beat)
    idle: bool = True
    wanted: bool = True

    def run(self, seconds: float, tick_s: float = TICK_S) -> list[Beat]:
        beats = []
        for _ in range(round(seconds / tick_s)):
            self.now_s += tick_s
            relay_in = self.relay.is_in(self.now_s)
            self.beat = step(
                self.beat, self.now_s, wanted=self.wanted, idle=self.idle, relay_in=relay_in, drop_s=DROP_S
            )
            self.relay.sees(self.beat.level, self.now_s)
            beats.append(self.beat)
        return beats


def failed(beats: list[Beat]) -> set[float]:
    return {beat.failed for beat in beats}


def test_the_line_moves_with_every_tick_and_the_relay_comes_in() -> None:
    story = Story()
    beats = story.run(3.0)
    assert failed(beats[-20:]) == {0.0}
    assert story.relay.is_in(story.now_s)
    levels = [beat.level for beat in beats[5:]]
    assert all(one != other for one, other in pairwise(levels))


def test_without_finished_ticks_the_line_stands_still_whatever_else_happens() -> None:
    story = Story(wanted=False)
    assert {beat.level for beat in story.run(5.0)} == {False}
    story.wanted = True
    story.run(2.0)
    story.wanted = False
    assert len({beat.level for beat in story.run(2.0)}) == 1
    assert not story.relay.is_in(story.now_s)
    assert story.beat.failed == 0.0, "it dropped out as it should"


def test_a_welded_relay_is_found_before_the_first_beat() -> None:
    story = Story(Relay(stuck=True))
    beats = story.run(10.0)
    assert failed(beats) == {1.0}
    assert {beat.level for beat in beats} == {False}


def test_a_relay_that_is_still_in_from_before_is_waited_for() -> None:
    story = Story(Relay(moved_s=100.0, holds_s=0.8))
    beats = story.run(3.0)
    assert beats[0].failed == 1.0, "nothing is closed before it is known that the relay can drop out"
    assert not beats[5].moving
    assert failed(beats[-10:]) == {0.0}
    assert beats[-1].moving


def test_strings_that_are_closed_already_are_not_dropped_for_a_test() -> None:
    story = Story(Relay(moved_s=100.0, holds_s=0.8), idle=False)
    assert all(beat.moving for beat in story.run(3.0))
    assert story.beat.failed == 0.0


def test_a_dead_relay_is_a_failed_path_from_the_first_beat_on() -> None:
    story = Story(Relay(stuck=False))
    beats = story.run(3.0)
    assert failed(beats[3:]) == {1.0}


@pytest.mark.parametrize("stuck", [True, False])
def test_a_relay_that_breaks_later_is_found(stuck: bool) -> None:
    story = Story(idle=False)
    story.run(3.0)
    story.relay.stuck = stuck
    if stuck:  # only seen when the line stands still
        assert failed(story.run(3.0)) == {0.0}
        story.wanted = False
    beats = story.run(3.0)
    assert failed(beats[15:]) == {1.0}


def test_it_is_proved_again_every_day_when_nothing_is_closed() -> None:
    story = Story(idle=False)
    story.idle = True
    story.run(3.0)
    story.idle = False
    story.now_s += DAY_S
    story.relay.moved_s += DAY_S
    assert all(beat.moving for beat in story.run(5.0)), "not while strings are closed"
    story.idle = True
    beats = story.run(3.0)
    assert any(not beat.moving for beat in beats)
    assert not story.relay.is_in(story.now_s - 3.0) or any(beat.dropped_s > DAY_S for beat in beats)
    assert beats[-1].moving
    assert beats[-1].failed == 0.0
    assert all(beat.moving for beat in story.run(5.0)), "once a day"


def test_a_string_that_closes_ends_the_proof_at_once() -> None:
    story = Story()
    story.run(3.0)
    story.now_s += DAY_S
    story.relay.moved_s += DAY_S
    assert not story.run(0.1)[-1].moving
    story.idle = False
    assert story.run(0.1)[-1].moving
    assert failed(story.run(2.0)) == {0.0}


# --- the lines


class Chip:
    """A double of the kernel's GPIO device: what it answers to the ioctls that are used, bit by bit."""

    def __init__(self, lines: int = 54) -> None:
        self.lines = lines
        self.levels: dict[int, int] = {}
        self.flags: dict[int, int] = {}
        self.taken: dict[int, int] = {}
        self.fails: int | None = None

    def ioctl(self, handle: int, number: int, data: bytearray | bytes) -> int:
        if self.fails is not None:
            raise OSError(self.fails, os.strerror(self.fails))
        if number == gpio.GET_LINE:
            self._request(data)
            return 0
        line = self.taken[handle]
        bits, mask = struct.unpack("=QQ", data)
        assert mask == 1
        low = bool(self.flags[line] & gpio.ACTIVE_LOW)
        if number == gpio.SET_VALUES:
            assert self.flags[line] & gpio.OUTPUT
            self.levels[line] = (bits & 1) ^ low
        else:
            data[:] = struct.pack("=QQ", self.levels.get(line, 0) ^ low, 1)  # type: ignore[index]
        return 0

    def _request(self, data: bytearray | bytes) -> None:
        assert len(data) == 592
        (line,) = struct.unpack_from("=I", data, 0)
        (flags,) = struct.unpack_from("=Q", data, 288)
        assert struct.unpack_from("=I", data, 560) == (1,)
        assert data[256:260] == b"bmsd"
        if line >= self.lines:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        if line in self.taken.values():
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        handle = os.open("/dev/null", os.O_RDWR)
        self.taken[handle], self.flags[line] = line, flags
        if flags & gpio.OUTPUT:
            self.levels[line] = 0
        struct.pack_into("=i", data, 588, handle)  # type: ignore[arg-type]


@pytest.fixture
def chip(monkeypatch: pytest.MonkeyPatch) -> Chip:
    double = Chip()
    monkeypatch.setattr(fcntl, "ioctl", double.ioctl)
    return double


def test_a_line_is_driven_and_read(chip: Chip) -> None:
    out, back = Line(Path("/dev/null"), 17, output=True), Line(Path("/dev/null"), 27, output=False, active_low=True)
    for active in (True, False, True):
        out.set(active)
        assert chip.levels[17] == active
        chip.levels[27] = int(active)
        assert back.get() is not active
    out.close()
    back.close()


@pytest.mark.parametrize(
    ("path", "line", "words"),
    [("/dev/no-such-chip", 1, "there is no such chip"), ("/dev/null", 99, "no such line"), ("/dev/null", 5, "used by")],
)
def test_what_cannot_be_had_is_named_with_what_to_do(chip: Chip, path: str, line: int, words: str) -> None:
    taken = Line(Path("/dev/null"), 5, output=True)
    with pytest.raises(BusError, match=words) as caught:
        Line(Path(path), line, output=True)
    assert f"{path} line {line}: " in str(caught.value)
    taken.close()
    assert chip.taken


def test_a_device_that_is_no_chip_is_named_by_the_kernel_itself() -> None:
    with pytest.raises(BusError, match="this is no GPIO chip"):
        Line(Path("/dev/null"), 1, output=True)


def test_a_chip_that_goes_and_comes_back_is_a_failed_path_in_between(chip: Chip) -> None:
    output = Output(HeartbeatOutput(chip="/dev/null", line=17, feedback_line=27))
    relay, now_s = Relay(), 100.0

    def run(seconds: float) -> None:
        nonlocal now_s
        for _ in range(round(seconds / TICK_S)):
            now_s += TICK_S
            chip.levels[27] = int(relay.is_in(now_s))
            output.tick(now_s, wanted=True, idle=True)
            relay.sees(bool(chip.levels.get(17)), now_s)

    run(3.0)
    assert (output.failed, output.error) == (0.0, "")
    chip.fails = errno.ENODEV
    run(0.1)
    assert output.failed == 1.0
    assert "/dev/null" in output.error
    chip.fails = None
    chip.taken.clear()
    run(RETRY_S + 2.0)
    assert (output.failed, output.error) == (0.0, "")
    output.close()
    assert chip.levels[17] == 0


HEADER = r"""
#include <stdio.h>
#include <stddef.h>
#include <linux/gpio.h>
typedef struct gpio_v2_line_request R;
typedef struct gpio_v2_line_values V;
int main(void) {
    size_t flags = offsetof(R, config) + offsetof(struct gpio_v2_line_config, flags);
    printf("%zu %zu %zu %zu %zu ", sizeof(R), offsetof(R, consumer), flags, offsetof(R, num_lines), offsetof(R, fd));
    printf("%zu %zu %zu ", sizeof(V), offsetof(V, bits), offsetof(V, mask));
    printf("%lu %lu ", (long)GPIO_V2_GET_LINE_IOCTL, (long)GPIO_V2_LINE_GET_VALUES_IOCTL);
    printf("%lu %d ", (long)GPIO_V2_LINE_SET_VALUES_IOCTL, GPIO_V2_LINE_FLAG_ACTIVE_LOW);
    printf("%d %d", GPIO_V2_LINE_FLAG_INPUT, GPIO_V2_LINE_FLAG_OUTPUT);
}
"""


def test_numbers_and_offsets_are_those_of_the_kernels_header(tmp_path: Path) -> None:
    source = tmp_path / "header.c"
    source.write_text(HEADER)
    subprocess.run(["cc", "-o", tmp_path / "header", source], check=True)
    told = subprocess.run([tmp_path / "header"], check=True, capture_output=True, text=True).stdout.split()
    assert [int(word) for word in told] == [
        gpio.REQUEST.size, 256, 288, 560, 588, gpio.VALUES.size, 0, 8, gpio.GET_LINE, gpio.GET_VALUES, gpio.SET_VALUES,
        gpio.ACTIVE_LOW, gpio.INPUT, gpio.OUTPUT,
    ]  # fmt: skip
