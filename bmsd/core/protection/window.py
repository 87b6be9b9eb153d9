"""How much running totals have grown lately."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bmsd.model.snapshot import Ints

WINDOW_S = 10


@dataclass(frozen=True, slots=True)
class Window:
    """Totals at the start of each of the last seconds, newest last."""

    second: int
    totals: Ints

    def moved(self, total: Ints, now_s: float) -> Window:
        """Return the window of this second."""
        steps = min(max(int(now_s) - self.second, 0), WINDOW_S)
        if not steps:
            return self
        return Window(int(now_s), np.concatenate([self.totals[steps:], np.stack([total] * steps)]))


def lately(total: Ints, now_s: float, was: Window | None) -> tuple[Ints, Window]:
    """Return how much each of the totals has grown in the last 10 s; at first: not at all."""
    was = was or Window(int(now_s), np.stack([total] * WINDOW_S))
    window = was.moved(total, now_s)
    return total - window.totals[0], window
