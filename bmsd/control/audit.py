"""Requests as events: who asked what, and whether it was taken. A flood of them does not crowd out what matters."""

from __future__ import annotations

from collections.abc import Sequence

from bmsd.control.journal import Journal
from bmsd.link.wire import Answered
from bmsd.model.request import Lease

BURST = 10
EVERY_S = 10.0
"""Of each kind of request of a role so many are listed at once, then one in this time; the others are counted."""
LONGEST = 600
"""Characters of one of them; reason and source of one that was taken always fit."""


class Audit:
    """Writes requests into the journal."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._allowances: dict[tuple[str, str], _Allowance] = {}

    def take(self, answered: Answered, leases: Sequence[Lease], now_s: float) -> None:
        """Write down one answered request, or count it when there were too many of its kind.

        What renews one of the `leases` and changes nothing is not written down.
        """
        taken = answered.answer.taken
        if taken and _renews(answered, leases):
            return
        kind = answered.asked.what if taken and answered.asked else "refused"
        allowance = self._allowances.setdefault((answered.role, kind), _Allowance(now_s))
        if not allowance.lists(now_s):
            return
        text = f"{answered.who} asks: {answered.what}"
        if not taken:
            text += f": refused: {answered.answer.text}"
        text = text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
        if allowance.unlisted:
            text += f" (and {allowance.unlisted} such requests before, not listed)"
            allowance.unlisted = 0
        self._journal.say(*(("request.taken", "info") if taken else ("request.refused", "warning")), text)


def _renews(answered: Answered, leases: Sequence[Lease]) -> bool:
    asked = answered.asked
    return asked is not None and (asked.what, asked.value, asked.source) in [
        (lease.what, lease.value, lease.source) for lease in leases
    ]


class _Allowance:
    """How many requests of one kind may still be listed."""

    def __init__(self, now_s: float) -> None:
        self._left = float(BURST)
        self._since_s = now_s
        self.unlisted = 0

    def lists(self, now_s: float) -> bool:
        """Whether one more may be listed now; counts it when not."""
        self._left = min(self._left + (now_s - self._since_s) / EVERY_S, float(BURST))
        self._since_s = now_s
        if self._left < 1.0:
            self.unlisted += 1
            return False
        self._left -= 1.0
        return True
