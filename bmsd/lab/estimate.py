"""`bmsd estimate`: a measured series of one cell through the very estimators of the tick."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bmsd.config.cell_file import Specification, load
from bmsd.core.estimation import estimators, hypotheses, soc
from bmsd.core.estimation.power import HORIZONS_S
from bmsd.errors import BmsdError, ConfigError
from bmsd.lab.cell_plant import SAME_SIZE
from bmsd.lab.cell_plant import plant as plant_of
from bmsd.lab.observe import calm
from bmsd.lab.series import LARGEST_AH, Series, read
from bmsd.lab.table import check_place, refuse
from bmsd.model.cell import Floats
from bmsd.model.plant import Plant
from bmsd.model.snapshot import Snapshot

COLUMNS = ("t_s", "soc", "soc_sigma", "r10_ohm", "bias_a", "sop10_charge_a", "sop10_discharge_a")
SOC0_SIGMA = 0.10
"""Of a start that comes without one."""
TEN_SECONDS = HORIZONS_S.index(10.0)
ALL = np.array([True])


@dataclass(frozen=True)
class Start:
    """What is known before the first row: SoC with sigma (None: nothing), offset of the current sensor in A."""

    soc: float | None = None
    sigma: float | None = None
    current_bias_a: float = 0.0


def estimates(specification: Specification, capacity_ah: float, series: Series, start: Start = Start()) -> Floats:
    """Return one row of COLUMNS for every row of the series; NaN: not known."""
    rack = plant_of(specification, capacity_ah)
    memory = estimators.of(rack, begin(rack, start))
    rows = np.empty((len(series.t_s), len(COLUMNS)))
    for k, (snapshot, dt_s, unknown) in enumerate(snapshots(rack, series)):
        if unknown is not None:
            memory = estimators.interrupted(rack, memory, unknown)
        memory, known = estimators.step(rack, memory, snapshot, dt_s, ALL)
        rows[k] = (
            series.t_s[k],
            np.nan if known.soc is None else known.soc,
            np.nan if known.soc_sigma is None else known.soc_sigma,
            known.cell_r10_ohm[0, 0, 0],
            known.current_bias_a[0],
            known.power_charge_a[0, TEN_SECONDS],
            known.power_discharge_a[0, TEN_SECONDS],
        )
    return rows


def snapshots(rack: Plant, series: Series) -> Iterator[tuple[Snapshot, float, Floats | None]]:
    """Yield a snapshot of every row, the time since the one before, and, after a gap, what may have flowed in it."""
    blank, moved_as = calm(rack, np.zeros(rack.layout.cell_shape)), _moved_as(series)
    gaps = {gap.t_s for gap in series.gaps}
    for k in range(len(series.t_s)):
        dt_s, unknown = (float(series.t_s[k] - series.t_s[k - 1]) if k else 0.0), None
        if k and series.t_s[k - 1] in gaps:
            unknown, dt_s = _in_gap(rack, series, dt_s), 0.0
        yield _snapshot(blank, series, k, float(series.t_s[k] - series.t_s[0]), float(moved_as[k])), dt_s, unknown


def begin(rack: Plant, start: Start) -> soc.SocMemory:
    """What is known of the charge before the first row."""
    shape = rack.layout.cell_shape
    charge = soc.start(rack)
    if start.soc is not None:
        sigma = SOC0_SIGMA if start.sigma is None else start.sigma
        charge = soc.stored(rack, np.full(shape, start.soc), np.full(shape, max(sigma, 1e-4)))
    if start.current_bias_a:
        states = charge.hypotheses.states.copy()
        states[:, hypotheses.BIAS] += start.current_bias_a / rack.cell.capacity_ah
        moved = replace(charge.hypotheses, states=states)
        charge = replace(charge, hypotheses=moved, belief=hypotheses.belief(moved))
    return charge


def _moved_as(series: Series) -> Floats:
    """Charge counter in As. What flowed in a gap is not known: the counter stands still over it."""
    return np.concatenate([[0.0], np.cumsum(series.counted_as)])


def _in_gap(rack: Plant, series: Series, length_s: float) -> Floats:
    """As after a power-off: nothing was counted; the usual current of this series may have flowed, in capacities."""
    hours = length_s / 3600.0
    usual_a = float(np.sqrt(np.mean(np.square(series.current_a))))
    unknown = usual_a * hours / rack.cell.capacity_ah + rack.estimation.self_discharge_sigma_per_day * hours / 24.0
    return np.array([min(unknown, soc.LARGEST_SIGMA)])


def _snapshot(blank: Snapshot, series: Series, row: int, now_s: float, moved_as: float) -> Snapshot:
    modules = replace(
        blank.modules,
        cell_v=np.full((1, 1, 1), series.voltage_v[row]),
        temperature_degc=np.full((1, 1, 1), series.temperature_degc[row]),
    )
    units = replace(blank.units, current_a=series.current_a[row : row + 1], charge_as=np.array([moved_as]))
    return replace(blank, now_s=now_s, modules=modules, units=units)


def write(path: Path, rows: Floats) -> None:
    """Write the rows as CSV; what is not known is empty."""
    digits = (3, 6, 6, 8, 6, 4, 4)
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(COLUMNS)
    for row in rows.tolist():
        table.writerow(
            [round(value, places) if value == value else "" for value, places in zip(row, digits, strict=True)]
        )
    try:
        path.write_text(text.getvalue(), encoding="utf-8", newline="")
    except OSError as error:
        raise BmsdError(f"{path}: cannot be written: {error.strerror or error}") from error


def run_file(
    series: Path, cell: Path, capacity_ah: float, output: Path, start: Start, told: Callable[[str], None]
) -> list[str]:
    """Estimate a series of a file into another; return what to print. ConfigError lists everything that is wrong.

    `told` gets what was rejected of the series, before it takes its time.
    """
    complaints = [*_wrong(capacity_ah, start), *check_place(output, (series, cell))]
    specification, taken = None, None
    try:
        specification = load(cell)
    except ConfigError as error:
        complaints += error.complaints
    try:
        taken = read(series, capacity_ah if capacity_ah < LARGEST_AH else None)
    except ConfigError as error:
        complaints += error.complaints
    refuse(complaints)
    assert specification is not None
    assert taken is not None
    for line in taken.report():
        told(line)
    fitted_ah = specification.model.capacity_ah
    if not 1.0 / SAME_SIZE <= capacity_ah / fitted_ah <= SAME_SIZE:
        told(
            f"--capacity-ah: {capacity_ah:g} Ah; {cell.name} is of a cell of {fitted_ah:g} Ah: is it this one? "
            "Of another size errors may be far beyond the sigma"
        )
    rows = estimates(specification, capacity_ah, taken, start)
    write(output, rows)
    return list(summary(taken, rows))


def _wrong(capacity_ah: float, start: Start) -> Iterator[str]:
    if not 0.0 < capacity_ah <= LARGEST_AH:
        yield f"--capacity-ah: {capacity_ah:g} Ah; expected at most {LARGEST_AH:g} Ah"
    if not abs(start.current_bias_a) <= capacity_ah:
        yield f"--current-bias-a: {start.current_bias_a:g} A; expected at most 1C ({capacity_ah:g} A), in A"


def summary(series: Series, rows: Floats) -> Iterator[str]:
    """Yield what the end looks like, and how it fits the SoC of the file where it has one."""
    last = dict(zip(COLUMNS, rows[-1], strict=True))
    yield f"end: SoC {100 * last['soc']:.1f} % +- {100 * last['soc_sigma']:.1f} %, r10 {1e3 * last['r10_ohm']:.3g} mohm"
    yield f"current sensor: reads {last['bias_a']:+.4g} A too much towards charge"
    if series.soc is not None and np.isfinite(series.soc).any():
        error = rows[:, 1] - series.soc
        inside = np.abs(error) <= 2.0 * rows[:, 2]
        known = np.isfinite(error)
        yield (
            f"against soc of the file: rms {100 * np.sqrt(np.mean(np.square(error[known]))):.2f} %, "
            f"most {100 * np.abs(error[known]).max():.2f} %, inside 2 sigma {100 * inside[known].mean():.1f} % of rows"
        )
