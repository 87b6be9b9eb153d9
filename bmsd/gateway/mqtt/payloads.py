"""What each message says, in JSON: unknown is null, and a reader can tell duplicates and gaps by itself."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np

from bmsd.clock import iso, utc
from bmsd.codec.plain import as_object, plain
from bmsd.model.event import Event
from bmsd.model.host import ClockQuality
from bmsd.model.points import POINTS
from bmsd.model.published import Hello, Published
from bmsd.model.snapshot import Floats

SCHEMA = 1
"""Of all payloads. Keys may be added under the same number; a key that changes its meaning gets another number."""
CELL_DECIMALS, TEMPERATURE_DECIMALS = 4, 1


def encode(payload: dict[str, Any]) -> bytes:
    """Return the bytes of a payload."""
    return json.dumps(plain(payload), allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode()


def status(rack: str, state: str, reason: str, boot_id: str | None) -> dict[str, Any]:
    """`state` is online, control_lost or offline."""
    head = {"schema": SCHEMA, "rack": rack, "state": state, "reason": reason, "boot_id": boot_id}
    return head | _time(*utc())


def _time(utc_s: float | None, quality: ClockQuality) -> dict[str, Any]:
    """Wall time, null when the clock was never set, and whether it may be believed."""
    return {"utc": None if utc_s is None else iso(utc_s), "utc_quality": quality.value}


def will(rack: str) -> dict[str, Any]:
    """The status that the broker says for us: written long before, it does not know when."""
    unknown = {"boot_id": None, "utc": None, "utc_quality": "unknown"}
    return {**status(rack, "offline", "the gateway is gone without a word", None), **unknown}


def meta(rack: str, hello: Hello, period_s: float) -> dict[str, Any]:
    """What changes with a restart at most: who this is, its shape, what its points mean."""
    return {
        "schema": SCHEMA,
        "rack": rack,
        "name": hello.name,
        "boot_id": hello.boot_id,
        "version": hello.version,
        "configuration": hello.configuration,
        "catalogue": hello.catalogue,
        "layout": {
            "strings": hello.strings,
            "modules_per_string": hello.modules,
            "cells_per_module": hello.cells,
            "sensors_per_module": hello.sensors,
        },
        "tick_s": hello.tick_s,
        "period_s": period_s,
        "points": {point.name: {"unit": point.unit, "meaning": point.meaning} for point in POINTS},
    }


def telemetry(
    rack: str, boot_id: str, published: Published, age_s: float, *, cells: bool, gap: int, dropped_events: int
) -> dict[str, Any]:
    """One record. `gap` is how many messages before it were due and did not arrive; `age_s` that of the record."""
    record = as_object(published)
    payload = {
        "schema": SCHEMA,
        "rack": rack,
        "boot_id": boot_id,
        "sequence": published.sequence,
        **_time(published.snapshot.utc_s, published.snapshot.utc_quality),
        "age_s": age_s,
        "gap": gap,
        "dropped_events": dropped_events,
        "lifecycle": published.lifecycle,
        "points": record["points"],
        "strings": record["strings"],
        "faults": [fault.code for fault in published.faults],
    }
    return payload | _cells(published) if cells else payload


def _cells(published: Published) -> dict[str, Any]:
    modules = published.snapshot.modules
    return {
        "cell_v": _short(modules.cell_v, CELL_DECIMALS),
        "temperature_degc": _short(modules.temperature_degc, TEMPERATURE_DECIMALS),
    }


def _short(values: Floats, decimals: int) -> Any:
    return np.round(values.astype(np.float64), decimals).tolist()


def event(rack: str, boot_id: str, happened: Event, dropped_events: int) -> dict[str, Any]:
    """One event; (boot_id, number) is the same in a duplicate, numbers of a boot have no gaps."""
    return {
        "schema": SCHEMA,
        "rack": rack,
        "boot_id": boot_id,
        "number": happened.number,
        **_time(happened.utc_s, happened.utc_quality),
        "age_s": time.monotonic() - happened.now_s,
        "dropped_events": dropped_events,
        "kind": happened.kind,
        "severity": happened.severity,
        "text": happened.text,
        "code": happened.code,
        "string": happened.string,
        "module": happened.module,
        "item": happened.item,
        "value": happened.value,
    }
