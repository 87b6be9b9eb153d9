"""The rack in one sentence, for who looks at the service: what it does, and what is missing."""

from __future__ import annotations

from collections.abc import Sequence

from bmsd.model.published import Published

MOST_NAMED = 3


def status_line(now: Published, wrong_file: str = "") -> str:
    """Return the sentence; it changes with whole per cent and whole amperes. `wrong_file` is told after the state."""
    words = [now.lifecycle]
    if now.estimate.soc is not None:
        words.append(f"SoC {100.0 * now.estimate.soc:.0f} %")
    words.append(f"limits: charge {now.command.ccl_a:.0f} A, discharge {now.command.dcl_a:.0f} A")
    faults = [fault.code for fault in now.faults]
    words.append(f"faults: {' '.join(first(faults))}" if faults else "no fault")
    missing = [f"missing: {'; '.join(first(now.missing))}"] if now.missing else []
    return "; ".join(filter(None, (", ".join(words), wrong_file, *missing)))


def first(names: Sequence[str], most: int = MOST_NAMED) -> list[str]:
    """Return the first of these names, and the number of the others."""
    more = len(names) - most
    return [*names[:most], *([f"and {more} more"] if more > 0 else [])]
