"""State of charge per cell with a standard deviation that says how far to trust it.

Theory of operation. What is common to the cells of a string is kept as many hypotheses (hypotheses.py), what the cells
differ in as a difference with its variance (deltas.py), and what the current does to their voltage as one state per
string (polarisation.py). Every tick counts charge; every PERIOD_S the mean voltage of the time since then weighs the
hypotheses. The first sight counts as a part of a reading; a rest that has settled and a knee that is reached (top and
bottom of the charge, where the voltage tells) as a whole one.

The published sigma is never below what the rest voltage table may be wrong by: FLOOR, times how much worse than the
model admits the voltages of this string are met. docs/estimation.md says what was measured.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bmsd.core.estimation import counting, deltas, electrical, hypotheses, polarisation
from bmsd.core.estimation.counting import Counter
from bmsd.core.estimation.deltas import Deltas
from bmsd.core.estimation.electrical import Tables, at, place
from bmsd.core.estimation.hypotheses import Belief, Hypotheses, Spread
from bmsd.core.estimation.known import mean
from bmsd.core.estimation.polarisation import REST_C, Polarisation
from bmsd.model.history import Singles
from bmsd.model.plant import Plant
from bmsd.model.snapshot import Bools, Floats, Snapshot

AS_PER_AH = 3600.0
PERIOD_S = 10.0
"""Time between two weighings by voltage."""
LARGEST_SIGMA = 0.5
UNKNOWN_SIGMA = 0.3
"""Of cells that nobody has seen before: anything between empty and full."""
FLOOR = 0.015
MODEL_FACTOR = 1.3
"""A cell is met worse than the one that the model was fitted to."""
MISMATCH_TAU_S = 7200.0
MISMATCH_POWER = 0.7
"""An error of the model that is known to be larger is known less well, too: more than in proportion (0.5)."""
POLARISATION_SHARE = 0.05
FIRST_SHARE = 0.3
"""Of a reading, what the first sight is worth: nobody knows what the cell comes from."""
SIZE_SIGMA, LOSS_SIGMA, OFFSET_SIGMA_V, SCALE_SIGMA = 0.04, 0.004, 0.005, 0.15
STORED_TAIL = 0.05
"""Share of the hypotheses that a stored SoC does not bind: boards and cells may have been changed meanwhile."""
KNOWN_SIGMA = 0.08
"""Until the common SoC is known to this, nobody knows the slope that turns the cells' voltages into differences."""
TABLE_DEGC = 0.2
"""Tables are made anew when the temperature has moved by this."""
TABLE_MARGIN_V = 0.3
"""Above the lowest rest voltage no load takes a cell beyond the table."""
REST_S, SETTLE_S, SETTLED_V = 1800.0, 600.0, 0.001
TOP_V, BOTTOM_V, RELEASE_V = 3.45, 3.10, 0.05
"""Rest voltages of LFP at which a knee is reached, and by how much it is left."""


@dataclass(frozen=True, slots=True)
class Readings:
    """Sums since the last weighing: ticks with a voltage, mean cell voltage, current, its magnitude, RC currents."""

    ticks: Floats
    cell_v: Floats
    current_a: Floats
    magnitude_a: Floats
    rc_a: Floats


@dataclass(frozen=True, slots=True)
class Rest:
    """Per string: time at rest in s, voltage at the last look, time since then; whether this rest has been used;
    whether the last weighing was at the top and the bottom knee, and whether these have been used."""

    since_s: Floats
    look_v: Floats
    look_s: Floats
    used: Bools
    top: Bools
    bottom: Bools
    top_used: Bools
    bottom_used: Bools


@dataclass(frozen=True, slots=True)
class SocMemory:
    """All that is carried on.

    `weighed_c`: what hypotheses were moved by in this very tick, net of offset and loss, over `weighed_s`; None: they
    were not. `begun` (strings,): hypotheses stand for something. `stored` (strings,): for what was saved, or
    for other cells than are there now, and no voltage has been met since.
    """

    counter: Counter
    polarisation: Polarisation
    hypotheses: Hypotheses
    belief: Belief
    deltas: Deltas
    tables: Tables
    mismatch: Floats
    readings: Readings
    net_c: Floats
    charged_c: Floats
    since_s: float
    rest: Rest
    weighed_c: Floats | None
    weighed_s: float
    begun: Bools
    stored: Bools

    @property
    def string_soc(self) -> Floats:
        """Common SoC of each string, with what was counted since the last weighing; NaN: unknown."""
        return np.where(self.begun, np.clip(self.belief.soc + self.net_c / self.belief.size, 0.0, 1.0), np.nan)

    @property
    def string_sigma(self) -> Floats:
        """Its standard deviation."""
        admitted = np.hypot(self.belief.soc_sigma, FLOOR * np.maximum(self.mismatch, 1.0) ** MISMATCH_POWER)
        return np.where(self.begun, np.minimum(admitted, LARGEST_SIGMA), np.nan)

    @property
    def soc(self) -> Floats:
        """SoC of each cell (strings, modules, cells), NaN: unknown."""
        return np.clip(self.string_soc[:, None, None] + self.deltas.soc, 0.0, 1.0)

    @property
    def sigma(self) -> Floats:
        """Standard deviation of each cell's."""
        total = np.square(self.string_sigma)[:, None, None] + self.deltas.variance
        return np.minimum(np.sqrt(total), LARGEST_SIGMA)


def spread(plant: Plant) -> Spread:
    """How far the constants of a string may be from what is configured."""
    return Spread(plant.estimation.current_sigma_c, SIZE_SIGMA, LOSS_SIGMA, OFFSET_SIGMA_V, SCALE_SIGMA)


def start(plant: Plant) -> SocMemory:
    """Nothing known."""
    unknown = np.full(plant.layout.cell_shape, np.nan)
    return stored(plant, unknown, unknown)


def stored(plant: Plant, soc: Floats, sigma: Floats, variance: Floats | Singles | None = None) -> SocMemory:
    """A memory that knows what was saved of each cell (strings, modules, cells; NaN: unknown).

    `variance`: the part of it that is of the cell's difference to its string. Where nobody knows it (None), the surest
    cell is taken to differ by just what was saved.
    """
    strings, model = plant.layout.strings, plant.cell.model
    known = np.isfinite(soc) & np.isfinite(sigma)
    begun: Bools = np.logical_or.reduce(known, axis=(1, 2))
    counts = np.maximum(known.sum(axis=(1, 2)), 1)
    common = np.where(begun, np.where(known, soc, 0.0).sum(axis=(1, 2)) / counts, np.nan)
    apart_variance = np.zeros_like(sigma) if variance is None else np.fmin(np.nan_to_num(variance), np.square(sigma))
    of_string = np.sqrt(np.square(sigma) - apart_variance)
    surest = np.where(begun, np.where(known, of_string, np.inf).min(axis=(1, 2)), np.nan)
    loss = 1.0 - plant.estimation.charge_efficiency
    guesses = hypotheses.start(common, surest, STORED_TAIL, spread(plant), loss)
    apart = np.where(known, soc - common[:, None, None], np.nan)
    left = np.where(known, np.maximum(np.square(sigma) - np.square(surest)[:, None, None], 0.0), np.nan)
    zero, no = np.zeros(strings), np.zeros(strings, dtype=bool)
    return SocMemory(
        counter=counting.start(strings),
        polarisation=polarisation.start(model, strings),
        hypotheses=guesses,
        belief=hypotheses.belief(guesses),
        deltas=Deltas(apart, left),
        tables=electrical.tables(model, np.full(strings, 25.0)),
        mismatch=np.ones(strings),
        readings=_no_readings(strings, len(model.rc_tau_s)),
        net_c=zero,
        charged_c=zero,
        since_s=0.0,
        rest=Rest(zero, np.full(strings, np.nan), zero, no, no, no, no, no),
        weighed_c=None,
        weighed_s=0.0,
        begun=begun,
        stored=begun,
    )


def with_bias(was: SocMemory, bias_c: Floats, sigma_c: Floats, hysteresis: Floats) -> SocMemory:
    """The memory with this offset of the current sensors and this hysteresis (strings,); NaN: as it was."""
    states = was.hypotheses.states.copy()
    known = (np.isfinite(bias_c) & np.isfinite(sigma_c))[:, None]
    now, now_sigma = was.belief.bias_c[:, None], np.maximum(was.belief.bias_sigma_c, 1e-9)[:, None]
    scaled = bias_c[:, None] + (states[:, hypotheses.BIAS] - now) * sigma_c[:, None] / now_sigma
    states[:, hypotheses.BIAS] = np.where(known, scaled, states[:, hypotheses.BIAS])
    guesses = replace(was.hypotheses, states=states)
    seen = np.isfinite(hysteresis)
    polarised = replace(was.polarisation, h=np.where(seen, np.clip(hysteresis, -1.0, 1.0), was.polarisation.h))
    return replace(was, hypotheses=guesses, belief=hypotheses.belief(guesses), polarisation=polarised)


def interrupted(plant: Plant, was: SocMemory, unknown: Floats) -> SocMemory:
    """The memory after a time in which nothing was seen: `unknown` (strings,) capacities may have flowed (sigma)."""
    moved = hypotheses.moved(was.hypotheses, was.net_c, was.charged_c, was.since_s / 3600.0)
    guesses = hypotheses.spread_out(moved, unknown)
    zero = np.zeros_like(was.net_c)
    return replace(
        was,
        polarisation=polarisation.start(plant.cell.model, len(unknown)),
        hypotheses=guesses,
        belief=hypotheses.belief(guesses),
        readings=_no_readings(len(unknown), was.readings.rc_a.shape[1]),
        net_c=zero,
        charged_c=zero,
        since_s=0.0,
        stored=was.begun,
    )


def forgotten(was: SocMemory, modules: Bools) -> SocMemory:
    """The memory without the cells of these modules (strings, modules): others are there now.

    The mean cell of a string is the less known, the more of its modules are others.
    """
    doubted = _doubted(was, UNKNOWN_SIGMA * modules.mean(axis=1))
    return replace(
        doubted,
        deltas=deltas.forgotten(was.deltas, modules),
        readings=_no_readings(len(was.begun), was.readings.rc_a.shape[1]),
        stored=was.stored | modules.all(axis=1),
    )


def bled(was: SocMemory, share: Floats) -> SocMemory:
    """The memory after this much was bled from each cell beside the string's current, in capacities."""
    if not share.any():
        return was
    mean = share.mean(axis=(1, 2))
    apart = replace(was.deltas, soc=was.deltas.soc - (share - mean[:, None, None]))
    return replace(was, deltas=apart, net_c=was.net_c - mean)


def step(plant: Plant, was: SocMemory, snapshot: Snapshot, dt_s: float, in_circuit: Bools) -> SocMemory:
    """Return the memory after this tick; `in_circuit` (strings,): those that may carry current."""
    model = plant.cell.model
    counter, counted, unknown_as = counting.counted_as(plant, was.counter, snapshot, dt_s, in_circuit)
    capacity_as = plant.cell.capacity_ah * AS_PER_AH
    amps = snapshot.units.current_a
    polarised = polarisation.step(model, was.polarisation, amps, dt_s)
    net = counted / capacity_as
    cell_v = _within_table(was, polarised, snapshot)
    mean_v = mean(cell_v.reshape(len(amps), -1))
    memory = replace(
        was,
        counter=counter,
        polarisation=polarised,
        readings=_added(was.readings, mean_v, amps, polarised.rc_a),
        net_c=was.net_c + net,
        charged_c=was.charged_c + np.maximum(net, 0.0),
        since_s=was.since_s + dt_s,
        weighed_c=None,
    )
    if unknown_as.any():
        memory = _doubted(memory, unknown_as / capacity_as)
    first = np.isfinite(mean_v) & (~was.begun | was.stored)
    if first.any() or memory.since_s >= PERIOD_S - 1e-9 or _newly_seen(was, cell_v):
        memory = _weighed(plant, memory, snapshot, cell_v, mean_v, first)
    return memory


def _within_table(was: SocMemory, polarised: Polarisation, snapshot: Snapshot) -> Floats:
    """Cell voltages, those beyond the ends of the rest voltage table at the end: a cell that is overfull by the table
    says no more than that it is full, and must not make the others look emptier."""
    cell_v, tables = snapshot.modules.cell_v, was.tables
    if TABLE_MARGIN_V + tables.mid_v[:, 0].max() < cell_v.min() and cell_v.max() < tables.mid_v[:, -1].min():
        return cell_v
    lost_v = (tables.rc_ohm * polarised.rc_a).sum(axis=1)
    low_v, high_v = (
        (
            tables.mid_v[:, end] + polarised.h * tables.half_v[:, end] + lost_v
            + snapshot.units.current_a * tables.r0_ohm[:, end]
        )[:, None, None]
        for end in (0, -1)
    )  # fmt: skip
    return np.where(cell_v > high_v, high_v, np.where(cell_v < low_v, low_v, cell_v))


def _newly_seen(was: SocMemory, cell_v: Floats) -> bool:
    return bool((np.isnan(was.deltas.soc) & np.isfinite(cell_v)).any())


def _no_readings(strings: int, pairs: int) -> Readings:
    zero = np.zeros(strings)
    return Readings(zero, zero, zero, zero, np.zeros((strings, pairs)))


def _added(was: Readings, mean_v: Floats, amps: Floats, rc_a: Floats) -> Readings:
    usable = np.isfinite(mean_v + amps)
    if usable.all():
        return Readings(
            was.ticks + 1.0, was.cell_v + mean_v, was.current_a + amps, was.magnitude_a + np.abs(amps), was.rc_a + rc_a
        )
    volts, current = np.where(usable, mean_v, 0.0), np.where(usable, amps, 0.0)
    return Readings(
        was.ticks + usable,
        was.cell_v + volts,
        was.current_a + current,
        was.magnitude_a + np.abs(current),
        was.rc_a + rc_a * usable[:, None],
    )


def _doubted(was: SocMemory, unknown: Floats) -> SocMemory:
    """Spread all hypotheses by a charge that nobody counted (strings,), in capacities."""
    spread_out = hypotheses.spread_out(was.hypotheses, unknown)
    return replace(was, hypotheses=spread_out, belief=hypotheses.belief(spread_out))


def _weighed(
    plant: Plant, was: SocMemory, snapshot: Snapshot, cell_v: Floats, mean_v: Floats, first: Bools
) -> SocMemory:
    """Move the hypotheses by what was counted, and weigh them and the cells' differences by the voltage."""
    tables = _tables(plant, was, snapshot)
    hours = was.since_s / 3600.0
    moved = hypotheses.moved(was.hypotheses, was.net_c, was.charged_c, hours)
    soc = np.clip(was.belief.soc + was.net_c / was.belief.size, 0.0, 1.0)
    ahead = surface_ahead(plant, tables, was.polarisation)
    seen_v, amps, slow_v, noise_v = _observed(plant, was, tables, soc, ahead)
    rest, moments = _moments(plant, was, seen_v - slow_v, amps, mean_v)
    share = np.where(first, FIRST_SHARE, was.since_s / (2.0 * plant.cell.model.error_tau_s))
    share = np.where(moments, 1.0, share)
    factor = MODEL_FACTOR * np.sqrt(np.maximum(was.mismatch, 1.0))
    admitted = replace(tables, error_v=tables.error_v * factor[:, None])
    weighed = hypotheses.drawn(
        hypotheses.seen(
            moved, admitted, seen_v, amps, slow_v, was.polarisation.h, ahead, noise_v, np.minimum(share, 1.0)
        )
    )
    belief = hypotheses.belief(weighed)
    cells = deltas.step(
        was.deltas, tables, belief.soc, ahead, cell_v,
        lost_v(tables, belief.soc, snapshot.units.current_a, was.polarisation), was.net_c,
        plant.estimation.voltage_sigma_v, was.since_s, belief.soc_sigma <= KNOWN_SIGMA,
    )  # fmt: skip
    centre = deltas.centre(cells)
    return replace(
        was,
        hypotheses=hypotheses.shifted(weighed, centre),
        belief=replace(belief, soc=np.clip(belief.soc + centre, 0.0, 1.0)),
        deltas=replace(cells, soc=cells.soc - centre[:, None, None]),
        tables=tables,
        mismatch=_mismatch(was, tables, soc, ahead, (seen_v, amps, slow_v, noise_v)),
        readings=_no_readings(len(soc), was.readings.rc_a.shape[1]),
        net_c=np.zeros_like(was.net_c),
        charged_c=np.zeros_like(was.net_c),
        since_s=0.0,
        rest=rest,
        weighed_c=was.net_c - was.belief.bias_c * hours - was.belief.loss * was.charged_c,
        weighed_s=was.since_s,
        begun=was.begun | np.isfinite(mean_v),
        stored=was.stored & ~np.isfinite(mean_v),
    )


def _tables(plant: Plant, was: SocMemory, snapshot: Snapshot) -> Tables:
    """The model at the mean temperature of each string; one that is not known stays as it was."""
    seen_degc = mean(snapshot.modules.temperature_degc.reshape(len(was.begun), -1))
    degc = np.where(np.isnan(seen_degc), was.tables.degc, seen_degc)
    if np.abs(degc - was.tables.degc).max() <= TABLE_DEGC:
        return was.tables
    return electrical.tables(plant.cell.model, degc)


def surface_ahead(plant: Plant, tables: Tables, polarised: Polarisation) -> Floats:
    """SoC by which the surface of the particles, whose rest voltage shows, is ahead of their mean (strings,)."""
    return tables.ahead_per_c * polarised.diffusing_a / plant.cell.capacity_ah


def lost_v(tables: Tables, soc: Floats, amps: Floats, polarised: Polarisation) -> Floats:
    """What the resistances take at this instant by the model (strings,), V, positive when charging."""
    ohmic = amps * at(tables.r0_ohm, place(soc))
    return np.asarray(ohmic + (tables.rc_ohm * polarised.rc_a).sum(axis=1))


def _observed(
    plant: Plant, was: SocMemory, tables: Tables, soc: Floats, ahead: Floats
) -> tuple[Floats, Floats, Floats, Floats]:
    """Means since the last weighing: voltage at the common SoC (NaN: none), current, RC voltage, and the noise in V."""
    sums = was.readings
    with np.errstate(invalid="ignore", divide="ignore"):
        ticks = np.where(sums.ticks > 0.0, sums.ticks, np.nan)
        seen_v, amps = sums.cell_v / ticks, sums.current_a / ticks
        rc_v = tables.rc_ohm * sums.rc_a / ticks[:, None]
        magnitude_a = sums.magnitude_a / ticks
    above, _ = deltas.rest_v(tables, soc + ahead, was.deltas)
    seen_v = seen_v - above.mean(axis=(1, 2))
    where = place(soc)
    lost_v = np.abs(rc_v).sum(axis=1) + magnitude_a * at(tables.r0_ohm, where)
    doubt = was.polarisation
    noise_v = np.sqrt(
        plant.estimation.voltage_sigma_v**2
        + np.square(at(tables.half_v, where) * doubt.h_sigma)
        + np.square(doubt.doubt_v)
        + np.square(POLARISATION_SHARE * lost_v)
    )
    return seen_v, amps, rc_v.sum(axis=1), noise_v


def _mismatch(was: SocMemory, tables: Tables, soc: Floats, ahead: Floats, observed: tuple[Floats, ...]) -> Floats:
    """Mean square of voltage error over what is admitted, over the last hours, by the best guess; 1 is as admitted."""
    seen_v, amps, slow_v, noise_v = observed
    where = place(soc)
    surface = place(soc + ahead)
    model_v = at(tables.mid_v, surface) + was.polarisation.h * at(tables.half_v, where)
    model_v = model_v + amps * at(tables.r0_ohm, where) + slow_v
    doubt_v = at(tables.slope_v, surface) * np.sqrt(hypotheses.along(ahead))
    admitted = np.square(MODEL_FACTOR * at(tables.error_v, where)) + np.square(noise_v) + np.square(doubt_v)
    square = np.minimum(np.square(seen_v - model_v) / admitted, 25.0)
    part = 1.0 - np.exp(-was.since_s / MISMATCH_TAU_S)
    usable = was.begun & np.isfinite(square)
    return np.where(usable, was.mismatch + part * (np.where(usable, square, 0.0) - was.mismatch), was.mismatch)


def _moments(plant: Plant, was: SocMemory, still_v: Floats, amps: Floats, mean_v: Floats) -> tuple[Rest, Bools]:
    """Whether this is a moment whose voltage counts in full: a settled rest, a knee that was just reached.

    A knee is one that two weighings in a row have met: a single wrong voltage is none.
    """
    rest, since_s = was.rest, was.since_s
    with np.errstate(invalid="ignore"):
        resting = np.abs(amps) < REST_C * plant.cell.capacity_ah
        rest_s = np.where(resting, rest.since_s + since_s, 0.0)
        look = ~resting | (rest.look_s + since_s >= SETTLE_S)
        settled = (rest_s >= REST_S) & look & (np.abs(mean_v - rest.look_v) < SETTLED_V) & ~rest.used
        still_v = still_v - amps * at(was.tables.r0_ohm, place(np.clip(was.belief.soc, 0.0, 1.0)))
        top = (still_v >= TOP_V) | (rest.top & (still_v > TOP_V - RELEASE_V))
        bottom = (still_v <= BOTTOM_V) | (rest.bottom & (still_v < BOTTOM_V + RELEASE_V))
    if plant.cell.chemistry != "lfp":
        top, bottom = np.zeros_like(top), np.zeros_like(bottom)
    top_used, bottom_used = top & rest.top, bottom & rest.bottom
    moments = settled | (top_used & ~rest.top_used) | (bottom_used & ~rest.bottom_used)
    now = Rest(
        since_s=rest_s,
        look_v=np.where(look, mean_v, rest.look_v),
        look_s=np.where(look, 0.0, rest.look_s + since_s),
        used=(rest.used | settled) & resting,
        top=top,
        bottom=bottom,
        top_used=top_used,
        bottom_used=bottom_used,
    )
    return now, moments
