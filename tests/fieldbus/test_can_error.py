from __future__ import annotations

import errno

import numpy as np
import pytest

from bmsd.fieldbus.can_error import ControllerHealth
from bmsd.fieldbus.can_socket import Filter, remedy
from bmsd.model.frame import RAW_FRAME, RawFrames
from bmsd.model.snapshot import Controller

ERROR = 0x20000000


def error(classes: int, *data: int) -> tuple[int, int, bytes, int]:
    """A row of RAW_FRAME as linux/can/error.h describes it; data from byte 0 on."""
    return (ERROR | classes, 8, b"", int.from_bytes(bytes(data).ljust(8, b"\0"), "little"))


def frames(*rows: tuple[int, int, bytes, int]) -> RawFrames:
    built = np.zeros(len(rows), dtype=RAW_FRAME)
    for place, (can_id, length, _, data) in enumerate(rows):
        built[place] = (can_id, length, (0, 0, 0), data)
    return built


def told(*rows: tuple[int, int, bytes, int]) -> ControllerHealth:
    health = ControllerHealth()
    health.take(frames(*rows))
    return health


@pytest.mark.parametrize(
    ("status", "state"),
    [
        (0x04, Controller.WARNING),
        (0x08, Controller.WARNING),
        (0x10, Controller.PASSIVE),
        (0x20, Controller.PASSIVE),
        (0x24, Controller.PASSIVE),
        (0x40, Controller.ACTIVE),
        (0x01, Controller.NOT_REPORTED),
    ],
)
def test_the_controller_is_in_the_worst_state_that_it_reports(status: int, state: Controller) -> None:
    assert told(error(0x04, 0, status)).state is state


def test_the_last_report_counts_and_bus_off_ends_only_with_a_restart() -> None:
    passive, active, off, restarted = error(0x04, 0, 0x20), error(0x04, 0, 0x40), error(0x40), error(0x100)
    assert told(passive, active).state is Controller.ACTIVE
    health = told(active, off, passive, active)
    assert (health.state, health.bus_offs, health.restarts) == (Controller.BUS_OFF, 1, 0)
    health.take(frames(restarted))
    assert (health.state, health.bus_offs, health.restarts) == (Controller.ACTIVE, 1, 1)
    health.take(frames(off, off, restarted, off))
    assert health.bus_offs == 3, "twice said without a restart between them is one"


def test_data_or_a_carrier_end_bus_off_and_nothing_else() -> None:
    health = told(error(0x40))
    health.works()
    assert health.state is Controller.NOT_REPORTED
    health = told(error(0x04, 0, 0x20))
    health.works()
    assert health.state is Controller.PASSIVE, "a passive controller receives, too"
    health.lost_carrier()
    health.lost_carrier()
    assert (health.state, health.bus_offs) == (Controller.BUS_OFF, 1)


def test_errors_are_counted_by_kind() -> None:
    health = told(
        error(0x88, 0, 0, 0x04),  # stuff error
        error(0x08, 0, 0, 0x00, 0x19),  # in the acknowledgement slot
        error(0x20),  # no acknowledgement
        error(0x04, 0, 0x02),  # transmit buffer full
        error(0x04, 0, 0x01),
        error(0x10, 0, 0, 0, 0, 0x04),
        error(0x01),
        error(0x04, 0, 0, 0, 0x19),  # byte 3 means a place only in protocol errors
    )
    assert (health.bus_errors, health.no_ack, health.overflows) == (3, 2, 2)
    assert (health.transceiver, health.transmit_timeouts, health.bus_offs) == (1, 1, 0)


def test_error_counters_are_the_newest_told_and_unknown_before() -> None:
    health = told(error(0x80))
    assert (health.transmit_errors, health.receive_errors) == (None, None)
    health.take(frames(error(0x204, 0, 0x20, 0, 0, 0, 0, 136, 3), error(0x80)))
    assert (health.transmit_errors, health.receive_errors) == (136, 3)
    health.take(frames(error(0x204, 0, 0x40, 0, 0, 0, 0, 0, 0)))
    assert (health.transmit_errors, health.receive_errors) == (0, 0)
    health.take(frames(error(0x04, 0, 0x08, 0, 0, 0, 0, 97, 0)))
    assert health.transmit_errors == 97, "drivers before Linux 6.0 set no flag"
    health.opened()
    assert health.state is Controller.NOT_REPORTED
    assert health.transmit_errors is None


def test_a_filter_is_packed_as_the_kernel_wants_it() -> None:
    assert Filter(0x1B51000, 0x3FFF000, extended=True).packed() == bytes.fromhex("0010b58100f0ff83")
    assert Filter(0x305, 0x7FF, extended=False).packed() == bytes.fromhex("05030000ff070080"), "remote frames pass"


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENETDOWN, "ip link set can0 up type can bitrate 250000 restart-ms 100"),
        (errno.ENODEV, "no CAN interface of this name"),
        (errno.EAFNOSUPPORT, "sandbox"),
        (errno.EPERM, "sandbox"),
    ],
)
def test_each_obstacle_has_its_remedy(number: int, words: str) -> None:
    assert words in remedy(OSError(number, ""), "can0", 250_000)
    assert remedy(OSError(errno.EIO, ""), "can0", 250_000) == ""
