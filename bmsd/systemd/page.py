"""The page of the manual that lists what is in the journal, printed from the tables."""

from __future__ import annotations

from bmsd.systemd.message_ids import MESSAGES
from bmsd.systemd.record import OWN, PRIORITIES

INTRODUCTION = """\
# The journal

Where standard error of `bmsd run` or `bmsd gateway` goes to journald, as in a unit of systemd, or with
`[log] format = "journal"`, each event is a record with fields. Their names and the MESSAGE_IDs never change; the
sentences may.

```sh
journalctl -t bmsd -p err -b                        # alarms, trips and defects since this boot
journalctl BMSD_FAULT=CEL-003 -o verbose            # every field of one kind of trip
journalctl BMSD_STRING=2 BMSD_MODULE=7              # one module
journalctl BMSD_KIND=fault.raised + BMSD_KIND=fault.cleared
journalctl -t bmsd -t bmsd-gateway -f -o json       # for machines
```

The process hands records to a thread of its own and never waits. At most 2000 wait there; what journald does not take
is counted, and `log.dropped` says how many. Of a value that is longer than 16 KiB the rest is cut off.

## Fields

| field | |
|---|---|
| `MESSAGE` | What happened, in a sentence; after a defect the traceback follows |
| `MESSAGE_ID` | Class of the record, see below |
| `SYSLOG_IDENTIFIER` | `bmsd` (control) or `bmsd-gateway` |
"""


def journal_markdown() -> str:
    """Return the page."""
    levels = ", ".join(f"{number} {level}" for level, number in PRIORITIES.items())
    lines = [
        f"{INTRODUCTION}| `PRIORITY` | {levels}; 3 an error, 7 for debugging |",
        "| `BMSD_KIND` | Class of the record in words, as below |",
        *(f"| `{name}` | {meaning} |" for name, meaning in OWN.values()),
        "| `BMSD_...` | Whatever else belongs to it, by its name: `BMSD_ERROR`, `BMSD_REMEDY`, `BMSD_COMPLAINTS` |",
        "\n## Classes\n",
        "| `BMSD_KIND` | `MESSAGE_ID` | |",
        "|---|---|---|",
        *(f"| {kind} | `{message.id}` | {message.meaning} |" for kind, message in MESSAGES.items()),
        "\nThis page is printed from the program; `python -m bmsd.manual .` renews it.\n",
    ]
    return "\n".join(lines)
