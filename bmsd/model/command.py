"""What the rack tells its boards and its inverter."""

from __future__ import annotations

from dataclasses import dataclass, field

from bmsd.model.row import Alarm
from bmsd.model.snapshot import Bools


@dataclass(frozen=True, slots=True)
class Command:
    """The decision of one tick. Limits are rack totals: voltages in V, currents as magnitudes in A.

    `cvl_v`, `dvl_v` None: not known, nothing may be sent to the inverter. Contactor arrays are (strings,),
    `balance` is (strings, modules, cells). `heartbeat` False withholds the heartbeat. `measured_*` are what
    the inverter is shown; None is never sent as 0.
    """

    cvl_v: float | None
    dvl_v: float | None
    ccl_a: float
    dcl_a: float
    charge_enabled: bool
    discharge_enabled: bool
    close_minus: Bools
    close_precharge: Bools
    close_plus: Bools
    inverter_enable: Bools
    commanded: Bools
    """(strings,): whose unit is told. Where contactors are not known yet, any command could open them under load."""
    balance: Bools
    heartbeat: bool
    force_charge: bool = False
    full_charge_requested: bool = False
    alarms: frozenset[Alarm] = frozenset()
    warnings: frozenset[Alarm] = frozenset()
    voltage_v: float | None = None
    current_a: float | None = None
    temperature_degc: float | None = None
    soc: float | None = None
    soh: float | None = None
    modules_online: int = 0
    fresh: bool = False
    """Whether limits may be based on this tick's data; False: zero limits, and silence after a while."""
    trip_resets: tuple[tuple[int, int], ...] = field(default=())
    """(address, trip code) of nodes whose own trip is to be released."""
