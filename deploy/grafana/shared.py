"""What the pages have in common: choices, thresholds, colours."""

from __future__ import annotations

from panels import BAD, GOOD, NOTE, PLAIN, WORST, Variable

RACK = Variable("instance", "Rack", "label_values(bmsd_up, instance)")

LEVEL_STEPS = ((None, GOOD), (1, NOTE), (2, BAD), (3, WORST))
SILENT = "control silent"
LOW_LIMIT = ((None, WORST), (0.001, GOOD))
DEGC_STEPS = ((None, PLAIN), (0, GOOD), (45, NOTE), (55, WORST))
SPREAD_STEPS = ((None, GOOD), (0.05, NOTE), (0.15, WORST))


def of(metric: str, more: str = "", choice: str = 'instance="$instance"') -> str:
    """The series of a metric of the rack that is chosen."""
    return f"{metric}{{{choice}{', ' if more else ''}{more}}}"
