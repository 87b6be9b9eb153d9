"""Measured cells as their files have them, read here once more and without the product's own reader."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from recording import Recording

from bmsd.model.published import Published
from tests.reference_data import reference

STEP_V = 0.000625
"""Step of a cell voltage on the bus."""
SCALE = 10.0
"""Rack current per current of the measured cell."""


@dataclass(frozen=True)
class Played:
    """A part of a series: sampled once a second, played from `start_s` on, `speed` times faster than measured."""

    source: str
    file: str
    prefix: str
    start_s: float
    speed: float

    @property
    def table(self) -> str:
        """The [sim] table that plays it."""
        return (
            f'[sim.playback]\nsource = "{self.source}"\nstart_s = {self.start_s}\n'
            f"speed = {self.speed}\nscale = {SCALE}\n"
        )

    @cached_property
    def _data(self) -> dict[str, Any]:
        with np.load(reference(self.file)) as data:
            return {name: np.asarray(data[self.prefix + name], dtype=float) for name in ("t", "i", "v")}

    @property
    def volts(self) -> np.ndarray:
        return self._data["v"]

    @property
    def charging_a(self) -> np.ndarray:
        """Rack current, positive charges; in the file a positive current discharges."""
        return -SCALE * self._data["i"]

    def places(self, polls: list[Published]) -> list[set[int]]:
        """Return for each poll the samples that it may have shown, if it showed the series in its order and speed.

        An empty set: no sample of the series explains this poll.
        """
        steps = np.rint(self.volts / STEP_V).astype(int)
        first = int(self.start_s)
        found: list[set[int]] = []
        reach = set(range(first, first + 3))
        for index, poll in enumerate(polls):
            passed_s = poll_s(poll) - poll_s(polls[index - 1]) if index else 0.0
            most = math.ceil(self.speed * passed_s) + 1
            shown = np.unique(np.rint(poll.snapshot.modules.cell_v / STEP_V))
            assert shown.size == 1, "all cells show the same sample"
            reach = {
                k for k in range(min(reach), max(reach) + most + 1)
                if steps[k] == int(shown[0]) and any(0 <= k - j <= most for j in reach)
            }  # fmt: skip
            found.append(reach)
            if not reach:
                break
        return found


K2 = {
    "overcharge": Played("k2_hppc_20c", "k2_lfp26650/HPPC_20C.npz", "", 188.0, 2.0),
    "glitch": Played("k2_hppc_40c", "k2_lfp26650/HPPC_40C.npz", "", 20270.0, 4.0),
}
PLETT = Played("plett_dyn_25c", "plett_a123/a123_dyn_P25.npz", "s1_", 1960.0, 10.0)


def poll_s(record: Published) -> float:
    """Return when the cells of a record were measured, monotonic s."""
    return record.snapshot.now_s - float(record.snapshot.modules.cell_age_s.max())


def polls(rack: Recording) -> list[Published]:
    """Return the first record of every poll measured while the string is closed, cells and current known."""
    chosen: list[Published] = []
    for record in rack.records:
        modules = record.snapshot.modules
        known = np.isfinite(modules.cell_v).all() and np.isfinite(record.snapshot.units.charge_as).all()
        if record.strings[0].state != "closed" or not known or not np.isfinite(record.snapshot.units.current_a).all():
            continue
        if not chosen or int(modules.cell_sync.max()) != int(chosen[-1].snapshot.modules.cell_sync.max()):
            chosen.append(record)
    return chosen
