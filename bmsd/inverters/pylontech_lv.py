"""Pylontech low-voltage CAN V1.2: the protocol that most low-voltage hybrid inverters understand.

11-bit identifiers, 500 kbit/s, little-endian, the whole set once per second in the order 351, 355, 356, 359,
35C, 35E. Sources: Pylontech's protocol V1.2, the Deye and Sol-Ark copies of it, and captures of real batteries.

Rounding: a value becomes whole mV, mA, thousandths (half to even), then an integer division to the raw value:
CVL, CCL, DCL down, DVL up, SoC down, measured values half to even. Limits beyond the signal's range are held at
its end on the safe side. A measured value beyond its range is treated as unknown: a voltage held at 327.67 V
would be a false one. A frame that needs an unknown value is not sent; filling in zero would be read as 0 V, 0 %.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import ClassVar

from bmsd.inverters.profile import (
    Limits,
    Option,
    OptionValue,
    Profile,
    TransmitRule,
    half_even,
    known_value,
    micro,
    milli,
)
from bmsd.inverters.signals import Value
from bmsd.model.command import Command
from bmsd.model.frame import Frame
from bmsd.model.row import Alarm

KEEP_ALIVE = 0x305
LIMITS = 0x351
STATE_OF_CHARGE = 0x355
MEASUREMENTS = 0x356
ALARMS = 0x359
REQUESTS = 0x35C
MANUFACTURER = 0x35E

BITS: Mapping[str, tuple[Alarm, ...]] = {
    "high_voltage": (Alarm.HIGH_VOLTAGE,),
    "low_voltage": (Alarm.LOW_VOLTAGE,),
    "high_temperature": (Alarm.HIGH_TEMPERATURE, Alarm.HIGH_TEMPERATURE_CHARGE),
    "low_temperature": (Alarm.LOW_TEMPERATURE, Alarm.LOW_TEMPERATURE_CHARGE),
    "high_discharge_current": (Alarm.HIGH_DISCHARGE_CURRENT,),
    "high_charge_current": (Alarm.HIGH_CHARGE_CURRENT,),
    "internal": (Alarm.INTERNAL, Alarm.GENERAL, Alarm.CONTACTOR, Alarm.SHORT_CIRCUIT, Alarm.IMBALANCE),
}
"""Bit of 0x359 -> what raises it; the protocol has no other bits, so `internal` takes all the rest."""

MARK = int.from_bytes(b"PN", "little")
PAD = 8


class PylontechLv(Profile):
    """Pylontech low-voltage CAN V1.2."""

    name: ClassVar[str] = "pylontech_lv"
    title: ClassVar[str] = "Pylontech low-voltage CAN V1.2 (US2000, US3000, US5000)"
    options_known: ClassVar[tuple[Option, ...]] = (
        Option("dlc", "pad8", "Frame lengths: as a real battery sends them, or eight bytes.", ("pad8", "exact")),
        Option("zero_current_raw", 0, "Raw value that says zero current; 1 (0.1 A) where 0 is ignored.", (0, 1)),
        Option("manufacturer", "PYLON", "Name in 0x35E; many inverters look for PYLON.", text_max=8),
        Option(
            "voltage_scale",
            0.01,
            "Volts per bit of the measured voltage in 0x356; 0.1 above 327.67 V.",
            (0.01, 0.1),
            most_v=(327.67, 3276.7),
        ),
    )
    needs: ClassVar[Mapping[int, tuple[str, ...]]] = {
        LIMITS: ("cvl_v", "ccl_a", "dcl_a", "dvl_v"),
        STATE_OF_CHARGE: ("soc", "soh"),
        MEASUREMENTS: ("voltage_v", "current_a", "temperature_degc"),
        ALARMS: ("modules_online",),
        REQUESTS: ("charge_enabled", "discharge_enabled"),
        MANUFACTURER: ("manufacturer",),
    }
    limit_ids: ClassVar[tuple[int, ...]] = (LIMITS, REQUESTS)

    def __init__(self, options: Mapping[str, OptionValue]) -> None:
        super().__init__(options)
        self._zero_raw = int(self.options["zero_current_raw"])
        self._volt_milli = 100 if self.options["voltage_scale"] == 0.1 else 10
        self._manufacturer = str(self.options["manufacturer"]).ljust(8).encode("ascii")
        self._range = {
            name: self.table.raw_range(can_id, name)
            for can_id in (LIMITS, STATE_OF_CHARGE, MEASUREMENTS, ALARMS)
            for name in self.needs[can_id]
        }

    def scales(self) -> Mapping[str, Decimal]:
        return {"voltage_v": Decimal(str(self.options["voltage_scale"]))}

    def frames(self, command: Command) -> list[Frame]:
        """Return 351, 355, 356, 359, 35C, 35E; 351, 355, 356 only when their values are known."""
        ccl_raw = self._current_raw("ccl_a", command.ccl_a, command.charge_enabled)
        dcl_raw = self._current_raw("dcl_a", command.dcl_a, command.discharge_enabled)
        content = {
            LIMITS: self._limits(command, ccl_raw, dcl_raw),
            STATE_OF_CHARGE: self._state_of_charge(command),
            MEASUREMENTS: self._measurements(command),
            ALARMS: self._alarms(command),
            REQUESTS: self._requests(command, ccl_raw > self._zero_raw, dcl_raw > self._zero_raw),
            MANUFACTURER: {"manufacturer": int.from_bytes(self._manufacturer, "little")},
        }
        return [self._frame(can_id, raw) for can_id, raw in content.items() if raw is not None]

    def decode_limits(self, frame: Frame) -> Limits:
        """Return CVL, CCL, DCL, DVL of 351 or the enable flags of 35C.

        A current of `zero_current_raw` reads as 0: with that option it is how zero is said. Against the
        command, a decoded current is at most 0.5 uA higher (whole uA before rounding down).
        """
        if frame.extended or frame.can_id not in self.limit_ids:
            return Limits()
        raw = self.table.raw(frame.can_id, frame.data)
        if frame.can_id == REQUESTS:
            return Limits(charge_enabled=bool(raw["charge_enabled"]), discharge_enabled=bool(raw["discharge_enabled"]))
        ccl, dcl = (0 if raw[name] == self._zero_raw else raw[name] for name in ("ccl_a", "dcl_a"))
        return Limits(cvl_v=raw["cvl_v"] / 10, dvl_v=raw["dvl_v"] / 10, ccl_a=ccl / 10, dcl_a=dcl / 10)

    def is_keepalive(self, frame: Frame) -> bool:
        """0x305 of 11 bits, whatever it carries: brands differ in its bytes."""
        return frame.can_id == KEEP_ALIVE and not frame.extended

    @property
    def receive_ids(self) -> tuple[tuple[int, bool], ...]:
        return ((KEEP_ALIVE, False),)

    @property
    def transmit_rules(self) -> tuple[TransmitRule, ...]:
        return tuple(
            TransmitRule(can_id, False, frozenset({self._length(can_id)}), self.table.min_interval_s(can_id))
            for can_id in self.needs
        )

    def remarks(self, can_id: int, signals: Mapping[str, Value]) -> dict[str, Value]:
        """Return the names of raised alarms and warnings (359), and the force charge of both bits (35C)."""
        if can_id == ALARMS:
            return {
                kind + "s": [name for name in BITS if signals[f"{kind}_{name}"]]
                for kind in ("alarm", "warning")
                if all(f"{kind}_{name}" in signals for name in BITS)
            }
        if can_id == REQUESTS and "force_charge_1" in signals:
            return {"force_charge": bool(signals["force_charge_1"] or signals["force_charge_2"])}
        return {}

    def _length(self, can_id: int) -> int:
        return PAD if self.options["dlc"] == "pad8" else int(self.table.messages[can_id, False].length)

    def _frame(self, can_id: int, raw: Mapping[str, int]) -> Frame:
        return Frame(can_id, self.table.pack(can_id, raw).ljust(self._length(can_id), b"\0"), False)

    def _current_raw(self, name: str, amps: float, enabled: bool) -> int:
        """Return the limit in tenths of an ampere; what is disabled, unknown or negative may not flow."""
        known = known_value(amps)
        if not enabled or known is None or not known > 0.0:
            return self._zero_raw
        return max(self._zero_raw, min(micro(known) // 100_000, self._range[name].greatest))

    def _limits(self, command: Command, ccl_raw: int, dcl_raw: int) -> dict[str, int] | None:
        """Return 351; None without sane voltages: a CVL of 0 makes inverters dump, or keep the last current."""
        cvl_v, dvl_v = known_value(command.cvl_v), known_value(command.dvl_v)
        if cvl_v is None or dvl_v is None:
            return None
        cvl_raw = min(micro(cvl_v) // 100_000, self._range["cvl_v"].greatest)
        dvl_raw = -(-micro(dvl_v) // 100_000)
        # A DVL held at the end of its range would allow a deeper discharge than commanded: not sent instead.
        if cvl_raw not in self._range["cvl_v"] or dvl_raw not in self._range["dvl_v"]:
            return None
        return {"cvl_v": cvl_raw, "ccl_a": ccl_raw, "dcl_a": dcl_raw, "dvl_v": dvl_raw}

    def _state_of_charge(self, command: Command) -> dict[str, int] | None:
        soc, soh = known_value(command.soc), known_value(command.soh)
        if soc is None or soh is None:
            return None
        return {"soc": soc_percent(soc), "soh": min(max(half_even(milli(soh), 10), 0), 100)}

    def _measurements(self, command: Command) -> dict[str, int] | None:
        scales = {"voltage_v": self._volt_milli, "current_a": 100, "temperature_degc": 100}
        raw = {}
        for name, divisor in scales.items():
            value = known_value(getattr(command, name))
            if value is None:
                return None
            raw[name] = half_even(milli(value), divisor)
            if raw[name] not in self._range[name]:
                return None
        return raw

    def _alarms(self, command: Command) -> dict[str, int]:
        raw = {f"alarm_{name}": int(not command.alarms.isdisjoint(raising)) for name, raising in BITS.items()}
        raw |= {f"warning_{name}": int(not command.warnings.isdisjoint(raising)) for name, raising in BITS.items()}
        modules = self._range["modules_online"]
        return raw | {
            "modules_online": min(max(command.modules_online, modules.least), modules.greatest),
            "mark": MARK,
        }

    def _requests(self, command: Command, charge: bool, discharge: bool) -> dict[str, int]:
        """Return 35C from the flags that agree with 351.

        Requests to charge are raised only while charging is allowed; a force charge never with a voltage that is
        too high. It raises both bits: brands number them differently.
        """
        force = charge and command.force_charge and Alarm.HIGH_VOLTAGE not in command.alarms
        return {
            "charge_enabled": int(charge),
            "discharge_enabled": int(discharge),
            "force_charge_1": int(force),
            "force_charge_2": int(force),
            "full_charge_requested": int(charge and command.full_charge_requested),
        }


def soc_percent(soc: float) -> int:
    """Return whole percent, rounded down; 0 only when empty, 100 only when full. `soc` is 0..1."""
    if soc <= 0.0:
        return 0
    if soc >= 1.0:
        return 100
    return min(max(round(soc * 1_000_000) // 10_000, 1), 99)


PROFILE = PylontechLv
