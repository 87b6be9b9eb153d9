"""The cell specification file: a cell as data. Read, checked against itself, and written.

[cell]        name, chemistry, capacity_ah
[envelope]    what the cell may see: max_v, min_v, and where the maker says so currents (A) and temperatures (degC)
[[ocv]]       degc, charge_v, discharge_v: rest voltages after charging and after discharging, at ocv_soc
[[resistance]] degc, r0_ohm at r0_soc, rc_ohm of each pair, error_v: rms of measured minus modelled at error_soc,
              diffusion_soc_per_c: SoC by which the surface of the particles is ahead of their mean at 1 C
[dynamics]    rc_tau_s, gamma (hysteresis), activation_k (resistance over temperature), error_tau_s, diffusion_tau_s
[entropy]     soc, v_per_k
[ageing]      see Ageing in model/cell.py
[surface]     for simulation only, see Surface
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from bmsd.config.complaints import complaints
from bmsd.config.fields import Section, number, setting
from bmsd.config.schema import Chemistry
from bmsd.errors import ConfigError
from bmsd.model.cell import SOC_GRID, Ageing, CellModel, Floats

WRITTEN_SOC = SOC_GRID[::2]
LARGEST_FILE = 1 << 20
MOST_PAIRS = 6
"""RC pairs of a cell."""


class CellTable(Section):
    """What the cell is."""

    name: str = setting("Name of the cell.", min_length=1, max_length=100)
    chemistry: Chemistry = setting("Kind of cell.")
    capacity_ah: float = number("Capacity.", "Ah", 0.05, 5000.0)


class Envelope(Section):
    """What the cell may see. Currents are magnitudes; 0: not given."""

    max_v: float = number("Highest voltage.", "V", 1.5, 5.0)
    min_v: float = number("Lowest voltage.", "V", 0.5, 4.5)
    charge_max_a: float = number("Highest charge current.", "A", 0.0, 10000.0, 0.0)
    discharge_max_a: float = number("Highest discharge current.", "A", 0.0, 10000.0, 0.0)
    charge_min_degc: float = number("Lowest temperature for charging.", "degC", -60.0, 60.0, 0.0)
    charge_max_degc: float = number("Highest temperature for charging.", "degC", 0.0, 100.0, 55.0)
    discharge_min_degc: float = number("Lowest temperature for discharging.", "degC", -60.0, 60.0, -20.0)
    discharge_max_degc: float = number("Highest temperature for discharging.", "degC", 0.0, 100.0, 60.0)


class Ocv(Section):
    """Rest voltages at one temperature."""

    degc: float = number("Temperature.", "degC", -60.0, 100.0)
    charge_v: list[float] = setting("After charging, at ocv_soc.", unit="V")
    discharge_v: list[float] = setting("After discharging, at ocv_soc.", unit="V")


class Resistance(Section):
    """Resistances at one temperature."""

    degc: float = number("Temperature.", "degC", -60.0, 100.0)
    r0_ohm: list[float] = setting("Ohmic resistance at r0_soc.", unit="ohm")
    rc_ohm: list[float] = setting("Resistance of each RC pair.", unit="ohm")
    error_v: list[float] = setting("Rms of measured minus modelled voltage at error_soc.", unit="V")
    diffusion_soc_per_c: float = number("SoC by which the surface is ahead of the mean at 1 C.", "share", 0.0, 1.0, 0.0)


class Dynamics(Section):
    """What the answers to current have in common at all temperatures."""

    rc_tau_s: list[float] = setting(
        "Time constants of the RC pairs, rising.", unit="s", min_length=1, max_length=MOST_PAIRS
    )
    gamma: float = number("Hysteresis per unit of SoC moved.", "", 0.0, 1000.0)
    activation_k: float = number("Resistance over temperature, exp(B / T).", "K", 0.0, 10000.0)
    error_tau_s: float = number("Correlation time of the model's error.", "s", 10.0, 7200.0, 600.0)
    diffusion_tau_s: float = number("Time in which the surface gets ahead.", "s", 10.0, 20000.0, 900.0)


class Entropy(Section):
    """Rest voltage over temperature."""

    soc: list[float] = setting("States of charge, rising from 0 to 1.", unit="share", min_length=2)
    v_per_k: list[float] = setting("Change of the rest voltage.", unit="V/K", min_length=2)


class AgeingTable(Section):
    """Loss of capacity: calendar_per_sqrt_year * sqrt(years) + cycle_per_efc * cycles ** cycle_power."""

    calendar_per_sqrt_year: float = number("At 25 degC and half charge.", "share", 0.0, 1.0, 0.025)
    cycle_per_efc: float = number("Of the first cycle.", "share", 0.0, 1.0, 2.2e-4)
    cycle_power: float = number("Power of the cycles.", "", 0.1, 2.0, 0.83)
    activation_k: float = number("Calendar part over temperature.", "K", 0.0, 15000.0, 4500.0)
    sigma_share: float = number("Standard deviation of both rates.", "share", 0.05, 2.0, 0.5)
    end_of_life: float = number("Capacity share at which the cell is done.", "share", 0.3, 0.99, 0.8)


class Surface(Section):
    """For simulation, all at 25 degC: resistances beside a rest voltage that is that of the particles' surface.

    The surface is ahead of the mean by sum `soc_per_c` y, y the current in C filtered with `tau_s`. Slow drops then
    grow with the slope of the curve, which decides how cells in parallel share; estimators go by `resistance`.
    """

    r0_ohm: list[float] = setting("Ohmic resistance at r0_soc.", unit="ohm")
    rc_ohm: list[float] = setting("Resistances of the RC pairs.", unit="ohm", max_length=MOST_PAIRS)
    rc_tau_s: list[float] = setting("Their time constants.", unit="s", max_length=MOST_PAIRS)
    soc_per_c: list[float] = setting(
        "How far the surface is ahead after long enough at 1C.", unit="share", max_length=5
    )
    tau_s: list[float] = setting("Time constants of that.", unit="s", max_length=5)


class CellFile(Section):
    """The whole file."""

    cell: CellTable
    envelope: Envelope
    ocv_soc: list[float] = setting("States of charge of the rest voltages, rising from 0 to 1.", min_length=11)
    ocv: list[Ocv] = setting("Rest voltages by temperature.", min_length=1)
    r0_soc: list[float] = setting("States of charge of the ohmic resistances, rising from 0 to 1.", min_length=1)
    error_soc: list[float] = setting("States of charge of the errors, rising from 0 to 1.", min_length=1)
    resistance: list[Resistance] = setting("Resistances by temperature.", min_length=1)
    dynamics: Dynamics
    entropy: Entropy | None = setting("Rest voltage over temperature; without it none is assumed.", None)
    ageing: AgeingTable = setting("Loss of capacity.", AgeingTable())
    surface: Surface | None = setting("For simulation; without it cells are simulated with `resistance`.", None)


@dataclass(frozen=True)
class Specification:
    """A cell as the file describes it."""

    model: CellModel
    envelope: Envelope
    surface: Surface | None = None
    """As in the file, with `r0_ohm` on SOC_GRID."""


def load(path: Path | str) -> Specification:
    """Return the cell of this file. ConfigError lists everything that is wrong or contradicts itself."""
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror or error}"]) from None
    if len(data) > LARGEST_FILE:
        raise ConfigError([f"{path}: more than {LARGEST_FILE} bytes: not a cell specification"])
    try:
        tables = tomllib.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ConfigError([f"{path}: not TOML: {error}"]) from None
    return parse(tables, path.name)


def parse(data: dict[str, Any], name: str = "cell specification") -> Specification:
    """Return the cell of these tables, otherwise as `load`."""
    try:
        file = CellFile.model_validate(data)
    except ValidationError as invalid:
        raise ConfigError([f"{name}: {line}" for line in complaints(invalid, data, CellFile)]) from None
    lines = [f"{name}: {line}" for line in _contradictions(file)]
    if lines:
        raise ConfigError(lines)
    return Specification(_model(file), file.envelope, _surface(file))


def _contradictions(file: CellFile) -> Iterator[str]:
    yield from _envelope(file.envelope)
    yield from _soc_axis("ocv_soc", file.ocv_soc)
    if len(file.r0_soc) > 1:
        yield from _soc_axis("r0_soc", file.r0_soc)
    if len(file.error_soc) > 1:
        yield from _soc_axis("error_soc", file.error_soc)
    yield from _temperatures("ocv", [row.degc for row in file.ocv])
    yield from _temperatures("resistance", [row.degc for row in file.resistance])
    for k, row in enumerate(file.ocv, start=1):
        yield from _rest_voltages(f"ocv {k} ({row.degc:g} degC)", row, file)
    for k, ohms in enumerate(file.resistance, start=1):
        yield from _resistances(f"resistance {k} ({ohms.degc:g} degC)", ohms, file)
    if not _rising(file.dynamics.rc_tau_s) or file.dynamics.rc_tau_s[0] <= 0.0:
        yield f"dynamics.rc_tau_s: {file.dynamics.rc_tau_s}; expected rising, above 0 s"
    if file.entropy is not None:
        yield from _soc_axis("entropy.soc", file.entropy.soc)
        if len(file.entropy.v_per_k) != len(file.entropy.soc):
            yield f"entropy.v_per_k: {len(file.entropy.v_per_k)} entries; expected {len(file.entropy.soc)}"
        if max(map(abs, file.entropy.v_per_k)) > 0.01:
            yield "entropy.v_per_k: beyond 10 mV/K; expected V per K, not mV"
    if file.surface is not None:
        yield from _surface_wrong(file.surface, len(file.r0_soc))


def _envelope(envelope: Envelope) -> Iterator[str]:
    for low, high, unit in (
        ("min_v", "max_v", "V"),
        ("charge_min_degc", "charge_max_degc", "degC"),
        ("discharge_min_degc", "discharge_max_degc", "degC"),
    ):
        below, above = getattr(envelope, low), getattr(envelope, high)
        if not below < above:
            yield f"envelope.{low}: {below:g} {unit}; expected below envelope.{high} ({above:g} {unit})"


def _soc_axis(path: str, soc: Sequence[float]) -> Iterator[str]:
    if not _rising(soc) or abs(soc[0]) > 1e-9 or abs(soc[-1] - 1.0) > 1e-9:
        yield f"{path}: expected each entry above the one before, 0 first and 1 last"


def _temperatures(path: str, degc: Sequence[float]) -> Iterator[str]:
    if not _rising(degc):
        yield f"{path}: temperatures {list(degc)}; expected each above the one before"


def _rest_voltages(path: str, row: Ocv, file: CellFile) -> Iterator[str]:
    count = len(file.ocv_soc)
    for name, volts in (("charge_v", row.charge_v), ("discharge_v", row.discharge_v)):
        if len(volts) != count:
            yield f"{path}.{name}: {len(volts)} entries; expected as many as ocv_soc ({count})"
        for k, (low, high) in enumerate(pairwise(volts)):
            if not low < high:
                at = f"{file.ocv_soc[k + 1]:g}" if k + 1 < count else "its end"
                yield f"{path}.{name}: not rising: {low:g} V, then {high:g} V at SoC {at}"
                break
        if volts and (min(volts) < file.envelope.min_v - 1.0 or max(volts) > file.envelope.max_v + 0.25):
            span = f"{min(volts):g}..{max(volts):g} V"
            yield f"{path}.{name}: {span} does not fit envelope {file.envelope.min_v:g}..{file.envelope.max_v:g} V"
    if len(row.charge_v) == len(row.discharge_v) and any(
        charge < discharge - 0.002 for charge, discharge in zip(row.charge_v, row.discharge_v, strict=True)
    ):
        yield f"{path}: charge_v below discharge_v; expected the voltage after charging to be the higher one"


def _resistances(path: str, row: Resistance, file: CellFile) -> Iterator[str]:
    for name, values, count, of in (
        ("r0_ohm", row.r0_ohm, len(file.r0_soc), "r0_soc"),
        ("rc_ohm", row.rc_ohm, len(file.dynamics.rc_tau_s), "dynamics.rc_tau_s"),
        ("error_v", row.error_v, len(file.error_soc), "error_soc"),
    ):
        if len(values) != count:
            yield f"{path}.{name}: {len(values)} entries; expected as many as {of} ({count})"
        if any(not value > 0.0 for value in values):
            yield f"{path}.{name}: {min(values):g}; expected above 0"
    if row.r0_ohm and max(row.r0_ohm) * file.cell.capacity_ah > 10.0:
        size = f"a {file.cell.capacity_ah:g} Ah cell"
        yield f"{path}.r0_ohm: {max(row.r0_ohm):g} ohm; expected ohm (not milliohm) of {size}"


def _surface_wrong(surface: Surface, count: int) -> Iterator[str]:
    for name, values, expected, of in (
        ("r0_ohm", surface.r0_ohm, count, "r0_soc"),
        ("rc_ohm", surface.rc_ohm, len(surface.rc_tau_s), "surface.rc_tau_s"),
        ("soc_per_c", surface.soc_per_c, len(surface.tau_s), "surface.tau_s"),
    ):
        if len(values) != expected:
            yield f"surface.{name}: {len(values)} entries; expected as many as {of} ({expected})"
        if any(not value >= 0.0 for value in values):
            yield f"surface.{name}: {min(values):g}; expected at least 0"
    for name in ("rc_tau_s", "tau_s"):
        if any(not value > 0.0 for value in getattr(surface, name)):
            yield f"surface.{name}: {getattr(surface, name)}; expected above 0 s"
    if not any(value > 0.0 for value in surface.r0_ohm):
        yield "surface.r0_ohm: nothing above 0"


def _rising(values: Sequence[float]) -> bool:
    return all(low < high for low, high in pairwise(values))


def _model(file: CellFile) -> CellModel:
    charge = np.array([np.interp(SOC_GRID, file.ocv_soc, row.charge_v) for row in file.ocv])
    discharge = np.array([np.interp(SOC_GRID, file.ocv_soc, row.discharge_v) for row in file.ocv])
    entropy = np.zeros_like(SOC_GRID)
    if file.entropy is not None:
        entropy = np.interp(SOC_GRID, file.entropy.soc, file.entropy.v_per_k)
    return CellModel(
        name=file.cell.name,
        chemistry=file.cell.chemistry,
        capacity_ah=file.cell.capacity_ah,
        ocv_degc=np.array([row.degc for row in file.ocv], dtype=np.float64),
        mid_v=0.5 * (charge + discharge),
        half_v=np.maximum(0.5 * (charge - discharge), 0.0),
        entropy_v_per_k=entropy,
        resistance_degc=np.array([row.degc for row in file.resistance], dtype=np.float64),
        r0_ohm=np.array([np.interp(SOC_GRID, file.r0_soc, row.r0_ohm) for row in file.resistance]),
        rc_tau_s=np.array(file.dynamics.rc_tau_s, dtype=np.float64),
        rc_ohm=np.array([row.rc_ohm for row in file.resistance], dtype=np.float64),
        activation_k=file.dynamics.activation_k,
        gamma=file.dynamics.gamma,
        error_v=np.array([np.interp(SOC_GRID, file.error_soc, row.error_v) for row in file.resistance]),
        error_tau_s=file.dynamics.error_tau_s,
        diffusion_soc_per_c=np.array([row.diffusion_soc_per_c for row in file.resistance], dtype=np.float64),
        diffusion_tau_s=file.dynamics.diffusion_tau_s,
        ageing=Ageing(**file.ageing.model_dump()),
    )


def _surface(file: CellFile) -> Surface | None:
    if file.surface is None:
        return None
    r0_ohm = np.interp(SOC_GRID, file.r0_soc, file.surface.r0_ohm)
    return file.surface.model_copy(update={"r0_ohm": r0_ohm.tolist()})


def dump(model: CellModel, envelope: Envelope, heading: Sequence[str] = (), surface: Surface | None = None) -> str:
    """Return the file of this cell; `heading` becomes comment lines."""
    soc = WRITTEN_SOC
    lines = [f"# {line}" for line in heading]
    lines += [_row("ocv_soc", soc, 3), _row("r0_soc", SOC_GRID[::10], 3), _row("error_soc", SOC_GRID[::20], 3)]
    lines += ["", "[cell]", f'name = "{_escaped(model.name)}"', f'chemistry = "{model.chemistry}"']
    lines += [f"capacity_ah = {model.capacity_ah:.5g}", "", "[envelope]"]
    lines += [f"{name} = {float(value)!r}" for name, value in envelope.model_dump().items()]
    lines += ["", "[dynamics]", _row("rc_tau_s", model.rc_tau_s, 1), f"gamma = {float(model.gamma)!r}"]
    lines += [f"activation_k = {float(round(model.activation_k, 1))!r}", f"error_tau_s = {float(model.error_tau_s)!r}"]
    lines += [f"diffusion_tau_s = {float(model.diffusion_tau_s)!r}"]
    for k, degc in enumerate(model.ocv_degc):
        charge, discharge = model.mid_v[k] + model.half_v[k], model.mid_v[k] - model.half_v[k]
        lines += ["", "[[ocv]]", f"degc = {float(round(degc, 2))!r}"]
        lines += [_row("charge_v", _strictly(charge[::2])), _row("discharge_v", _strictly(discharge[::2]))]
    for k, degc in enumerate(model.resistance_degc):
        lines += ["", "[[resistance]]", f"degc = {float(round(degc, 2))!r}"]
        lines += [_row("r0_ohm", model.r0_ohm[k][::10], 8), _row("rc_ohm", model.rc_ohm[k], 8)]
        lines += [_row("error_v", model.error_v[k][::20], 5)]
        lines += [f"diffusion_soc_per_c = {float(round(model.diffusion_soc_per_c[k], 4))!r}"]
    lines += ["", "[entropy]", _row("soc", SOC_GRID[::20], 3), _row("v_per_k", model.entropy_v_per_k[::20], 7)]
    lines += ["", "[ageing]", *(f"{name} = {float(value)!r}" for name, value in asdict(model.ageing).items())]
    if surface is not None:
        lines += ["", "[surface]", *(_row(name, np.array(values), 8) for name, values in surface.model_dump().items())]
    return "\n".join(lines) + "\n"


def _strictly(volts: Floats) -> Floats:
    """Rising by at least 10 uV from point to point, as the file asks for."""
    step = 1e-5 * np.arange(len(volts))
    return np.asarray(np.maximum.accumulate(volts - step) + step)


def _row(name: str, values: Floats, digits: int = 6) -> str:
    texts = [repr(float(round(float(value), digits))) for value in values]
    rows = [", ".join(texts[k : k + 12]) for k in range(0, len(texts), 12)]
    return f"{name} = [{rows[0]}]" if len(rows) == 1 else f"{name} = [\n  " + ",\n  ".join(rows) + ",\n]"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
