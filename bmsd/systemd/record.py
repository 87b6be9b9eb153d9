"""A record of the log as fields of the journal; the page that lists them is printed from here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from bmsd.systemd.message_ids import MESSAGES

Identifier = Literal["bmsd", "bmsd-gateway"]

OWN = {
    "number": ("BMSD_EVENT", "Number of the event since the start of control, as on the link"),
    "code": ("BMSD_FAULT", "Code of the fault, such as CEL-003"),
    "fault": ("BMSD_FAULT_NAME", "Its name, such as cell_over_voltage_trip"),
    "severity": ("BMSD_LEVEL", "info, warning, alarm or trip"),
    "string": ("BMSD_STRING", "String, from 1"),
    "module": ("BMSD_MODULE", "Module of the string, from 1"),
    "item": ("BMSD_ITEM", "Cell, sensor or bus, from 1"),
    "value": ("BMSD_VALUE", "What was measured"),
    "state": ("BMSD_STATE", "New state of the rack or of the string"),
}
"""Fields of what happened, and what they are; any other entry of a record is BMSD_ and its name."""
PRIORITIES = {"trip": "2", "alarm": "3", "warning": "4", "info": "6"}
_OF_METHOD = {"debug": "7", "info": "6", "warning": "4"}
_TEXT, _TRACEBACK = "text", "exception"


def of_event(identifier: Identifier, method: str, event: Mapping[str, Any]) -> dict[str, str]:
    """Return the fields of what structlog logged with this method."""
    kind = str(event["event"])
    more = {name: value for name, value in event.items() if name not in ("event", "level", _TEXT, _TRACEBACK)}
    priority = PRIORITIES.get(str(event.get("severity")), _OF_METHOD.get(method, "3"))
    fields = _head(identifier, kind, priority, _message(kind, event, more))
    for name, value in more.items():
        fields[OWN[name][0] if name in OWN else f"BMSD_{name.upper()}"] = _shown(value)
    return fields


def of_drops(identifier: Identifier, count: int) -> dict[str, str]:
    """Return the fields of a record that says how many were dropped since start."""
    return _head(identifier, "log.dropped", "4", f"records dropped since start: {count}") | {"BMSD_COUNT": str(count)}


def of_failure(identifier: Identifier, kind: str, text: str) -> dict[str, str]:
    """Return the fields of a record that says why a process ends."""
    return _head(identifier, kind, "3", text)


def _head(identifier: Identifier, kind: str, priority: str, message: str) -> dict[str, str]:
    fields = {"MESSAGE": message, "PRIORITY": priority, "SYSLOG_IDENTIFIER": identifier, "BMSD_KIND": kind}
    return fields | ({"MESSAGE_ID": MESSAGES[kind].id} if kind in MESSAGES else {})


def _message(kind: str, event: Mapping[str, Any], more: Mapping[str, Any]) -> str:
    """Return the sentence of an event, else the kind with what belongs to it; a traceback follows."""
    words = event.get(_TEXT) or " ".join([kind, *(f"{name}={_shown(value)}" for name, value in more.items())])
    return "\n".join(filter(None, (str(words), event.get(_TRACEBACK))))


def _shown(value: Any) -> str:
    return "\n".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
