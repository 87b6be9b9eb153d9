"""The registers that are served now: one record of control, or that there is none."""

from __future__ import annotations

from struct import Struct

from bmsd.codec.registers import Encoder, blank, put, shape_of
from bmsd.gateway.feed import Feed
from bmsd.gateway.modbus.writes import Writes
from bmsd.model.points import CONTROLS, STALE_QUALITY, STATUS
from bmsd.model.published import Published

_POINT = {point.name: point for point in STATUS}
_AGE = Struct(">f")
_AGE_BYTE = 2 * _POINT["record_age_s"].address


class Image:
    """Encodes each record once, when somebody reads it. What is too old to be good is not served."""

    def __init__(self, feed: Feed, writes: Writes) -> None:
        self._feed = feed
        self._writes = writes
        self._record: Published | None = None
        self._encoder: Encoder | None = None
        self._controls: tuple[int | None, ...] = ()
        self._registers = self._silent()

    def current(self) -> bytearray:
        """Return all registers, 2 bytes each, as they are at this instant."""
        record = self._feed.good()
        if record is not self._record:
            self._registers = self._silent() if record is None else self._of(record)
            self._record, self._controls = record, ()
        _AGE.pack_into(self._registers, _AGE_BYTE, self._age_s())
        if record is not None and (controls := self._writes.in_force(record)) != self._controls:
            for point, value in zip(CONTROLS, controls, strict=True):
                put(self._registers, point, value)
            self._controls = controls
        return self._registers

    def _of(self, record: Published) -> bytearray:
        if self._encoder is None or self._encoder.shape != shape_of(record):
            self._encoder = Encoder(record)
        return self._encoder.encode(record)

    def _silent(self) -> bytearray:
        registers = blank()
        put(registers, _POINT["quality"], STALE_QUALITY)
        return registers

    def _age_s(self) -> float:
        age_s = self._feed.age_s()
        return age_s if age_s < float("inf") else float("nan")
