"""`bmsd fit-cell`: a cell specification from measured series, with a report and plots."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from bmsd.config.cell_file import Envelope, dump, parse
from bmsd.config.complaints import complaints as complaints_of
from bmsd.errors import ConfigError
from bmsd.lab import series as measured
from bmsd.lab.fit import SLOW_C, Fit, fit
from bmsd.lab.fit_branches import Branches, degc_of, moved_ah
from bmsd.lab.fit_surface import surface
from bmsd.lab.series import LARGEST_AH, Series
from bmsd.lab.table import LAB_EXTRA, check_place, refuse
from bmsd.model.cell import SOC_GRID, CellModel

MOST_PLOTTED = 5000
LEAST_SHARE = 0.8
"""Of the capacity, that one of the slow series moves."""
POOR_V = 0.03
"""A model that misses by more is not one of this cell."""


def fit_cell(
    ocv: Sequence[Path], dynamic: Sequence[Path], output: Path, capacity_ah: float | None = None,
    volts: tuple[float, float] = (2.5, 3.65), *, plots: bool = True,
) -> Iterator[str]:  # fmt: skip
    """Fit, write the file and its report, and yield the report's lines. ConfigError: the series do not tell a cell."""
    envelope = _envelope(*volts)
    slow, driven = _read(ocv, dynamic, output, capacity_ah)
    model, fits, groups = fit(slow, driven, output.stem, capacity_ah)
    diffusion, diffusion_v = surface(model, fits)
    heading = [
        f"Fitted by bmsd fit-cell on {datetime.now(UTC):%Y-%m-%d} from",
        f"ocv: {', '.join(one.name for one in slow)}",
        f"dynamic: {', '.join(one.name for one in driven)}",
        "[envelope] is what was asked for, not what was measured: set it by the maker's sheet.",
    ]
    text = dump(model, envelope, heading, diffusion)
    parse(tomllib.loads(text), output.name)  # what is written can be read
    output.write_text(text, encoding="utf-8")
    lines = [line for one in (*slow, *driven) for line in one.report()]
    lines += [line for one in slow for line in _fast(one, model.capacity_ah)]
    lines += list(_small(slow, model.capacity_ah))
    lines += list(_report(model, fits, groups))
    if diffusion is not None:
        lines.append(f"for simulation: diffusion instead of slow pairs meets them with {1e3 * diffusion_v:.1f} mV rms")
    if plots:
        lines += _plots(output, model, fits)
    output.with_suffix(".report.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    yield from lines
    yield f"written: {output}, {output.with_suffix('.report.txt')}"


def _envelope(min_v: float, max_v: float) -> Envelope:
    """The envelope that was asked for. ConfigError: no cell has such voltages."""
    given = {"min_v": min_v, "max_v": max_v}
    try:
        return Envelope.model_validate(given)
    except ValidationError as invalid:
        lines = complaints_of(invalid, given, Envelope)
    raise ConfigError([f"--{line.replace('_v:', '-v:', 1)}" for line in lines])


def _read(
    ocv: Sequence[Path], dynamic: Sequence[Path], output: Path, capacity_ah: float | None
) -> tuple[list[Series], list[Series]]:
    """The slow and the dynamic series. ConfigError lists what is wrong with any of them."""
    complaints = check_place(output, (*ocv, *dynamic))
    if capacity_ah is not None and not 0.0 < capacity_ah <= LARGEST_AH:
        complaints.append(f"--capacity-ah: {capacity_ah:g} Ah; expected a number above 0, at most {LARGEST_AH:g} Ah")
    slow, driven = (list(_each(paths, complaints)) for paths in (ocv, dynamic))
    refuse(complaints)
    known_ah = capacity_ah or max(float(np.ptp(moved_ah(one))) for one in slow)
    for one in (*slow, *driven):
        try:
            measured.refuse_of_another_size(one, known_ah)
        except ConfigError as error:
            complaints += error.complaints
    complaints += [
        f"{one.name}: current_a: never changes; expected steps, from which resistances are told"
        for one in driven
        if not np.ptp(one.current_a) > 0.02 * known_ah
    ]
    refuse(complaints)
    return slow, driven


def _each(paths: Sequence[Path], complaints: list[str]) -> Iterator[Series]:
    for path in paths:
        try:
            yield measured.read(path)
        except ConfigError as error:
            complaints += error.complaints


def _fast(series: Series, capacity_ah: float) -> Iterator[str]:
    flows_a = np.abs(series.current_a[np.abs(series.current_a) > 0.05 * np.abs(series.current_a).max()])
    rate = float(np.median(flows_a)) / capacity_ah
    if rate > SLOW_C:
        yield (
            f"{series.name}: {rate:.2g}C is not slow, expected C/20 or less: what resistance and diffusion take "
            "counts as rest voltage and is missing from the resistances"
        )


def _small(slow: Sequence[Series], capacity_ah: float) -> Iterator[str]:
    """A capacity that was told and that the slow series do not come near."""
    most_ah = max(float(np.ptp(moved_ah(one))) for one in slow)
    if most_ah < LEAST_SHARE * capacity_ah:
        yield (
            f"--capacity-ah: {capacity_ah:g} Ah; no slow series moves more than {most_ah:.3g} Ah, "
            "expected the whole capacity: is it this cell?"
        )


def _report(model: CellModel, fits: Sequence[Fit], groups: Sequence[Branches]) -> Iterator[str]:
    yield f"capacity {model.capacity_ah:.4g} Ah"
    for k, group in enumerate(groups):
        missing = [name for name, v in (("charge", group.charge_v), ("discharge", group.discharge_v)) if v is None]
        note = f"; no {' and no '.join(missing)} branch, taken from the others" if missing else ""
        half_mv = 1e3 * model.half_v[k][[40, 100, 160]]
        yield (
            f"rest voltage at {group.degc:g} degC: half gap {half_mv[0]:.0f}, {half_mv[1]:.0f}, {half_mv[2]:.0f} mV at "
            f"20, 50, 80 %{note}"
        )
    taus = ", ".join(f"{tau:g}" for tau in model.rc_tau_s)
    yield f"RC time constants {taus} s, hysteresis {model.gamma:g} per unit of SoC, exp({model.activation_k:.0f} K / T)"
    for k, degc in enumerate(model.resistance_degc):
        pairs = ", ".join(f"{1e3 * ohm:.3g}" for ohm in model.rc_ohm[k])
        yield f"at {degc:g} degC: R0 {1e3 * model.r0_ohm[k][100]:.3g} mohm at 50 %, pairs {pairs} mohm"
    for one in fits:
        hours = (one.series.t_s[-1] - one.series.t_s[0]) / 3600.0
        yield (
            f"{one.series.name}: {hours:.1f} h at {degc_of(one.series):.1f} degC, SoC {one.soc.min():.2f}.."
            f"{one.soc.max():.2f}, met with {1e3 * one.rms_v:.1f} mV rms (5..98 %)"
        )
        if not one.rms_v < POOR_V:
            yield (
                f"{one.series.name}: a poor fit, expected below {1e3 * POOR_V:g} mV: is it the same cell, is the slow "
                "series slow, is the capacity right? What the estimators say with this cell is as poor"
            )


def _plots(output: Path, model: CellModel, fits: Sequence[Fit]) -> list[str]:
    """PNG files beside the output. Without matplotlib a line says so."""
    try:
        import matplotlib
    except ImportError:
        return [f"plots: not made, matplotlib is not installed; {LAB_EXTRA}"]
    matplotlib.use("Agg")
    from matplotlib import pyplot

    made = []
    figure, axes = pyplot.subplots(1, 3, figsize=(15, 4.5), constrained_layout=True)
    for k, degc in enumerate(model.ocv_degc):
        axes[0].plot(SOC_GRID, model.mid_v[k], label=f"{degc:g} degC")
        axes[1].plot(SOC_GRID, 2e3 * model.half_v[k], label=f"{degc:g} degC")
    for k, degc in enumerate(model.resistance_degc):
        axes[2].plot(SOC_GRID, 1e3 * model.r0_ohm[k], label=f"R0, {degc:g} degC")
    for axis, title, unit in zip(
        axes, ("rest voltage, mean of both branches", "gap between the branches", "ohmic resistance"),
        ("V", "mV", "mohm"), strict=True,
    ):  # fmt: skip
        axis.set(title=title, xlabel="SoC", ylabel=unit)
        axis.legend()
    axes[0].set_ylim(2.9, None)
    axes[1].set_ylim(0.0, 150.0)
    made.append(_saved(figure, output.with_suffix(".ocv.png")))
    for k, one in enumerate(fits, start=1):
        every = max(1, len(one.soc) // MOST_PLOTTED)
        hours = one.series.t_s[::every] / 3600.0
        figure, axes = pyplot.subplots(2, 1, figsize=(12, 7), sharex=True, constrained_layout=True)
        axes[0].plot(hours, one.series.voltage_v[::every], linewidth=0.6, label="measured")
        axes[0].plot(hours, one.model_v[::every], linewidth=0.6, label="model")
        axes[0].set(title=one.series.name, ylabel="V")
        axes[0].legend()
        error_mv = 1e3 * (one.series.voltage_v - one.model_v)[::every]
        axes[1].plot(hours, error_mv, linewidth=0.6)
        axes[1].set(xlabel="h", ylabel="measured - model, mV", ylim=tuple(np.percentile(error_mv, [0.5, 99.5]) * 1.5))
        made.append(_saved(figure, output.with_suffix(f".dynamic{k}.png")))
    return [f"plot: {path}" for path in made]


def _saved(figure: object, path: Path) -> Path:
    from matplotlib import pyplot

    figure.savefig(path, dpi=110)  # type: ignore[attr-defined]
    pyplot.close(figure)  # type: ignore[arg-type]
    return path
