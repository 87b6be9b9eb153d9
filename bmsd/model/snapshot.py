"""Everything measured and requested at one instant."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from bmsd.model.host import ClockQuality
from bmsd.model.host import Host as Host
from bmsd.model.request import Request

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


class Reading(IntEnum):
    """Why a cell or temperature reading is what it is."""

    OK = 0
    OPEN = 1
    SHORT = 2
    INVALID = 3
    MISSING = 4


class Feedback(IntEnum):
    """Auxiliary contact of a contactor."""

    OPEN = 0
    CLOSED = 1
    NOT_FITTED = 2
    UNKNOWN = 3


class Input(IntEnum):
    """Digital input of a contactor unit; active means that the fault is present."""

    OK = 0
    ACTIVE = 1
    NOT_FITTED = 2
    UNKNOWN = 3


TRIP_CODES = (
    "none", "cell over voltage", "cell under voltage", "over temperature", "self test", "over current", "interlock",
    "emergency stop", "smoke", "insulation", "fuse",
)  # fmt: skip
"""What a node's trip code means; the position is the code of the slave protocol."""

OPEN_REASONS = (
    "commanded", "heartbeat lost", "trip frame", "over current", "interlock", "emergency stop", "coil supply",
    "lease expired", "power on",
)  # fmt: skip
"""Why a unit opened its contactors last; the position is the code of the slave protocol."""


BOARD_TYPES = ("unknown", "module board", "contactor unit")
CHEMISTRIES = ("unknown", "lfp", "nmc", "lto", "sodium_ion")
"""What a node says that it is, and for which cells; the position is the code of the slave protocol."""
MODULE_BOARD = BOARD_TYPES.index("module board")


def named(code: int, names: tuple[str, ...]) -> str:
    """Return the name of a code, or the code itself where none is known."""
    return names[code] if 0 <= code < len(names) else f"code {code}"


CURRENT_SENSOR_TEST = 1 << 8
"""Bit of a unit's self-test word: its current sensor."""


class Controller(IntEnum):
    """What a CAN controller said of itself; an error counter over 95 is a warning, over 127 passive, over 255 bus-off.

    It says so when it changes: nothing was reported of one that has worked without trouble since its bus was opened.
    """

    NOT_REPORTED = 0
    ACTIVE = 1
    WARNING = 2
    PASSIVE = 3
    BUS_OFF = 4


BUSES = ("field", "inverter")
"""Names of the CAN buses: that of boards and contactor units, and that of the inverter."""
INPUTS = ("interlock", "fuse", "insulation", "smoke", "door", "emergency_stop")


@dataclass(frozen=True, slots=True)
class Modules:
    """What the module boards measured. Arrays (strings, modules[, cells or sensors]).

    Unknown is NaN with its reason in `*_reading` and its age beside it; ages count from the instant of the
    SYNC, in s, inf when never measured. `*_sync` is the running number of the SYNC that latched the values,
    -1 when never: a value is new when it differs from the last tick's.
    """

    cell_v: Floats
    cell_reading: Ints
    cell_age_s: Floats
    cell_sync: Ints
    temperature_degc: Floats
    temperature_reading: Ints
    temperature_age_s: Floats
    temperature_sync: Ints
    module_v: Floats
    balancing: Bools
    state_age_s: Floats
    board_degc: Floats
    self_test: Ints
    """Failed self-tests as a bit word; -1 when not reported."""
    trip_active: Bools
    trip_code: Ints
    """Code of the board's own latched trip, 0: none, -1: latched, but no Trip frame was heard."""
    heartbeat_lost: Bools
    identified: Bools
    cell_count: Ints
    """Cells that the board says it has; -1 when not reported."""
    uid: Ints
    """Unique number of the board; -1 when not reported, 0 when it has none."""
    board_type: Ints
    """What the board says it is, position in BOARD_TYPES; -1 when not reported."""
    chemistry: Ints
    """Cells that the board is made for, position in CHEMISTRIES; -1 when not reported."""
    frames: Ints
    """Frames received from the board since start, good or bad."""
    crc_errors: Ints
    """Frames with a wrong CRC since start."""
    counter_errors: Ints
    """Frames whose counter was not that of the open SYNC, since start."""
    duplicates: Ints
    """Polls since start in which two boards were heard under one address."""


@dataclass(frozen=True, slots=True)
class Units:
    """What the contactor units measured. Arrays (strings,); inputs (strings, len(INPUTS)).

    Current in A, positive charges. `charge_as` is the unit's charge counter in As, free of wraps since
    bmsd's start. Voltages in V: `bus_v` on the inverter's side of the contactors, `string_v` on the cells'.
    """

    current_a: Floats
    charge_as: Floats
    current_age_s: Floats
    current_sync: Ints
    bus_v: Floats
    string_v: Floats
    coil_v: Floats
    voltage_age_s: Floats
    minus: Ints
    plus: Ints
    precharge: Ints
    minus_output: Bools
    plus_output: Bools
    precharge_output: Bools
    enable_output: Bools
    inputs: Ints
    heartbeat_lost: Bools
    trip_code: Ints
    open_reason: Ints
    state_age_s: Floats
    state_sync: Ints
    identified: Bools
    crc_errors: Ints
    self_test: Ints
    """Failed self-tests as a bit word; -1 when not reported."""


@dataclass(frozen=True, slots=True)
class Buses:
    """State of the CAN buses, arrays (buses,) in the order of `names`."""

    names: tuple[str, ...]
    up: Bools
    bus_off: Bools
    send_stalled_s: Floats
    """Time since which frames could not be sent; 0 when sending works."""
    foreign_frames: Ints
    """Frames received since start with an identifier that only bmsd may send; 0 where bmsd only listens."""
    controller: Ints
    """A `Controller` each."""
    transmit_errors: Ints
    receive_errors: Ints
    """The controller's error counters; -1 while it has not told them."""
    bus_errors: Ints
    """Protocol errors and missing acknowledgements since start, where the interface reports them."""
    no_ack: Ints
    """Missing acknowledgements among them."""
    bus_offs: Ints
    lost_frames: Ints
    """Frames since start that the kernel or the controller had no room for."""
    malformed_frames: Ints
    """Frames since start with an identifier that is listened to, and a kind or length that none of ours has."""
    unheard_s: Floats
    """Time for which the bus is open without a single frame received; 0 from the first one on, and while it is down."""

    @property
    def are_field(self) -> Bools:
        """(buses,): that of boards and contactor units."""
        return np.array([name == BUSES[0] for name in self.names], dtype=bool)

    @classmethod
    def well(cls, *names: str) -> Buses:
        """Buses of which nothing bad is known, for those who have none."""
        none = np.zeros(len(names), dtype=np.int64)
        return cls(
            names=names,
            up=none == 0,
            bus_off=none > 0,
            send_stalled_s=none.astype(float),
            foreign_frames=none,
            controller=none,
            transmit_errors=none - 1,
            receive_errors=none - 1,
            bus_errors=none,
            no_ack=none,
            bus_offs=none,
            lost_frames=none,
            malformed_frames=none,
            unheard_s=none.astype(float),
        )


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One instant of the rack. `now_s` is monotonic; `utc_s` is wall time for records only, None if unknown.

    `utc_quality` tells whether it may be believed.
    """

    now_s: float
    modules: Modules
    units: Units
    buses: Buses
    host: Host
    inverter_age_s: float
    """Time since the inverter's last keep-alive, inf when never heard."""
    requests: tuple[Request, ...] = ()
    utc_s: float | None = None
    utc_quality: ClockQuality = ClockQuality.UNKNOWN

    @property
    def missing(self) -> bool:
        """Whether a board or unit has never been measured completely."""
        return bool((self.modules.cell_sync < 0).any() or (self.units.current_sync < 0).any())
