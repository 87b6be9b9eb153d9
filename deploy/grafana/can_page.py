"""Both buses, the boards on them, and whether bmsd itself is in time."""

from __future__ import annotations

from panels import (
    ALL_IS_GOOD,
    BAD,
    GOOD,
    NONE_IS_GOOD,
    NOTE,
    WORST,
    Dashboard,
    lines,
    stat,
    table,
    timeline,
    words,
)  # fmt: skip
from shared import RACK, SILENT, of


def rate(metric: str, more: str = "") -> str:
    """How fast a counter of the rack rises, per second."""
    return f"rate({of(metric, more)}[$__rate_interval])"


def _loop(share: float) -> str:
    return f"histogram_quantile({share}, sum by (le) ({rate('bmsd_loop_duration_seconds_bucket')}))"


PAGE = Dashboard(
    "bmsd-can", "bmsd CAN health",
    "Both buses, the boards on them, and whether bmsd itself is in time.",
    (RACK,),
    (
        ("", (
            stat("Field bus", "To the module boards and contactor units.", of("bmsd_can_up", 'bus="field"'), 4,
                 mappings=words((0, "down", WORST), (1, "up", GOOD)), steps=ALL_IS_GOOD, nothing=SILENT),
            stat("Inverter bus", "To the inverter.", of("bmsd_can_up", 'bus="inverter"'), 4,
                 mappings=words((0, "down", WORST), (1, "up", GOOD)), steps=ALL_IS_GOOD, nothing=SILENT),
            stat("Inverter heard", "Since its last keep-alive; some inverters send none.",
                 of("bmsd_inverter_age_seconds"), 4, unit="s", decimals=1, nothing="never",
                 steps=((None, GOOD), (3, NOTE), (60, WORST))),
            stat("Bus off", "Buses whose controller has left after too many errors: a wire is cut or shorted, or the"
                 " bit rate is wrong.", f"sum({of('bmsd_can_bus_off')})", 4, steps=NONE_IS_GOOD, nothing=SILENT),
            stat("Cannot send for", "Longest time for which a bus has taken no frame: nobody acknowledges.",
                 f"max({of('bmsd_can_send_stalled_seconds')})", 4, unit="s", decimals=1,
                 steps=((None, GOOD), (0.3, WORST)), nothing=SILENT),
            stat("Things missing", "Buses, boards and contactor units that are not there.", of("bmsd_missing"), 4,
                 steps=NONE_IS_GOOD, nothing=SILENT),
        )),
        ("Buses", (
            lines("Frames", "500 kbit/s carry about 4000 frames of 8 bytes per second; a bus that is always above half"
                  " of that has no room for repetitions.",
                  (rate("bmsd_can_frames_total"), "{{bus}} {{direction}}"), unit="suffix:/s", decimals=0, low=0),
            lines("Dropped frames", "By what was wrong with them. A few after a start are normal; `overrun`: this"
                  " computer was held up, `not_sent`: nobody acknowledged.",
                  (rate("bmsd_can_dropped_frames_total"), "{{bus}} {{reason}}"), unit="suffix:/s", decimals=2, low=0),
            timeline("Buses up", "Red: the interface was down or off.", of("bmsd_can_up"), "{{bus}}", 12, 5,
                     mappings=words((0, "down", WORST), (1, "up", GOOD)), steps=ALL_IS_GOOD),
            timeline("Controllers", "What each CAN controller says of itself; not all interfaces report it.",
                     of("bmsd_can_controller_state"), "{{bus}}", 12, 5,
                     mappings=words((0, "not reported", NOTE), (1, "active", GOOD), (2, "warning", NOTE),
                                    (3, "passive", BAD), (4, "bus off", WORST)),
                     steps=((None, NOTE), (1, GOOD), (2, NOTE), (3, BAD), (4, WORST))),
            lines("Errors on the wire", "As the controllers report them: bits, stuffing, CRC, nobody acknowledges.",
                  (rate("bmsd_can_errors_total"), "{{bus}} {{kind}}"), unit="suffix:/s", decimals=2, low=0, height=5),
            lines("Somebody else speaks as bmsd", "Frames that only bmsd may send: a second controller is on the bus.",
                  (rate("bmsd_can_foreign_frames_total"), "{{bus}}"), unit="suffix:/s", decimals=2, low=0, height=5),
        )),
        ("Boards", (
            table("What is missing", "Buses, boards and contactor units that are not there; `bmsd status` says why.",
                  [of("bmsd_missing_part")], {"part": "missing"}, ("missing", False), 8, 8, nothing="nothing"),
            lines("Frames with a wrong CRC, share by module", "Many at one board: its stub or its supply. At all:"
                  " termination, shield, or an inverter's noise.",
                  (f"{rate('bmsd_module_crc_errors_total')} / ({rate('bmsd_module_frames_total')} > 0)",
                   "string {{string}} module {{module}}"), width=8, unit="percentunit", decimals=2, low=0),
            lines("Frames of another SYNC, by module", "Answers that came too late for their poll: the bus is full, or"
                  " the board is slow.",
                  (rate("bmsd_module_stale_frames_total"), "string {{string}} module {{module}}"), width=8,
                  unit="suffix:/s", decimals=2, low=0),
            lines("Age of the measurements", "Cells of each module, and current of each string. Above 0.6 s unknown.",
                  (of("bmsd_module_age_seconds"), "string {{string}} module {{module}}"),
                  (of("bmsd_string_current_age_seconds"), "string {{string}} current"), unit="s", decimals=2,
                  steps=((None, GOOD), (0.6, WORST)), limits=True),
            lines("Frames of contactor units with a wrong CRC", "As above.",
                  (rate("bmsd_unit_crc_errors_total"), "string {{string}}"), unit="suffix:/s", decimals=2, low=0),
        )),
        ("bmsd itself", (
            lines("Time from tick to tick", "Nominal 0.1 s. 99 of 100 should be below 0.2 s: else this computer is too"
                  " busy.",
                  (_loop(0.5), "half of them below"), (_loop(0.99), "99 of 100 below"), unit="s", decimals=3,
                  steps=((None, GOOD), (0.2, BAD)), limits=True),
            lines("Lateness of the newest tick", "How much later than planned it began.",
                  (of("bmsd_loop_lateness_seconds"), "lateness"), unit="s", decimals=4,
                  steps=((None, GOOD), (0.05, BAD)), limits=True),
            lines("Age of control's record", "What the gateway has. Above 2 s nothing of the rack is shown.",
                  (of("bmsd_record_age_seconds"), "age"), width=8, unit="s", decimals=2,
                  steps=((None, GOOD), (2, WORST)), limits=True),
            lines("Memory of the gateway", "It should stay where it is.",
                  (of("process_resident_memory_bytes", 'job="bmsd"'), "resident"), width=8, unit="bytes", low=0),
            lines("Blocked frames, vetoes", "Frames that the transmit gate did not let out, and parts of the command"
                  " that the guard took back. Any is a defect: keep the log and report it.",
                  (rate("bmsd_blocked_frames_total"), "blocked per second"), (of("bmsd_vetoes"), "vetoes"), width=8,
                  decimals=2, low=0, steps=NONE_IS_GOOD),
        )),
    ),
)  # fmt: skip
