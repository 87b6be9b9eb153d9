"""Where each message goes: one topic per kind, not one per value."""

from __future__ import annotations

from dataclasses import dataclass

from bmsd.config.gateway import Mqtt

ROOT = "bmsd/v1"


@dataclass(frozen=True, slots=True)
class Topics:
    """Topics of one rack. `status` and `meta` are retained."""

    status: str
    meta: str
    tel: str
    evt: str

    @staticmethod
    def of(mqtt: Mqtt) -> Topics:
        rack = f"{ROOT}/{mqtt.tenant}/{mqtt.site}/{mqtt.rack}"
        return Topics(f"{rack}/status", f"{rack}/meta", f"{rack}/tel", f"{rack}/evt")
