"""Metrics for Prometheus: one row per metric, and one for each published point.

Names follow Prometheus's conventions: base units in the name, `_total` for counters. What is not known has no series;
neither has anything measured while control's record is too old.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from prometheus_client import CollectorRegistry, Histogram, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from bmsd.codec.plain import CONTACTORS
from bmsd.gateway.feed import Feed
from bmsd.gateway.web import metric_words as words
from bmsd.gateway.web.metric_words import Samples
from bmsd.gateway.web.stream import Streams
from bmsd.model.catalogue import CATALOGUE
from bmsd.model.point import Point
from bmsd.model.points import POINTS, values
from bmsd.model.published import Hello, Published
from bmsd.model.snapshot import Feedback

LOOP_BUCKETS_S = (0.05, 0.09, 0.11, 0.15, 0.2, 0.3, 0.5, 1.0)

UNITS: dict[str, tuple[str, float]] = {
    "1": ("", 1.0),
    "": ("", 1.0),
    "%": ("ratio", 0.01),
    "V": ("volts", 1.0),
    "A": ("amperes", 1.0),
    "mA": ("amperes", 1e-3),
    "W": ("watts", 1.0),
    "kW": ("watts", 1e3),
    "Wh": ("joules", 3.6e3),
    "kWh": ("joules", 3.6e6),
    "Ah": ("coulombs", 3.6e3),
    "ohm": ("ohms", 1.0),
    "degC": ("celsius", 1.0),
    "K": ("kelvins", 1.0),
    "K/min": ("", 1.0),
    "s": ("seconds", 1.0),
    "d": ("seconds", 86400.0),
    "1/a": ("per_year", 1.0),
    "Hz": ("hertz", 1.0),
}
"""Unit of a point -> base unit in the name of its metric, and the factor to it."""

NAMES = {
    "voltage_v": "pack_voltage",
    "current_a": "pack_current",
    "soc": "pack_soc_ratio",
    "soc_sigma": "pack_soc_sigma_ratio",
    "soh": "pack_soh_ratio",
    "charge_limit_a": "charge_current_limit",
    "discharge_limit_a": "discharge_current_limit",
    "cell_max_v": "cell_voltage_max",
    "cell_min_v": "cell_voltage_min",
    "temperature_max_degc": "cell_temperature_max",
    "temperature_min_degc": "cell_temperature_min",
    "oldest_measurement_s": "oldest_measurement_age",
}
"""Points whose metric is not called like the point without its unit."""


@dataclass(frozen=True)
class Family:
    """One metric with its labels. `read` gives the samples of a good record."""

    name: str
    meaning: str
    read: Callable[[Published, Hello], Samples]
    labels: tuple[str, ...] = ()
    per_cell: bool = False

    @property
    def kind(self) -> str:
        return "counter" if self.name.endswith("_total") else "gauge"


def point_name(point: Point) -> str:
    """Return the name of a point's metric."""
    stem = NAMES.get(point.name) or point.name.removesuffix(f"_{point.unit.lower()}")
    unit = UNITS.get(point.unit, ("", 1.0))[0]
    return "bmsd_" + "_".join(filter(None, (stem, unit)))


def _point(point: Point, published: Published, _hello: Hello) -> Samples:
    value = values(published, (point,)).get(point.name)
    if isinstance(value, str):
        return [((value,), 1.0)]
    factor = UNITS.get(point.unit, ("", 1.0))[1]
    return [] if value is None else [((), float(value) * factor)]


def of_point(point: Point) -> Family:
    """The family of a point; a text is a label of a series that is 1."""
    labels = () if point.type.startswith(("int", "uint", "float")) else ("state",)
    return Family(point_name(point), point.meaning, partial(_point, point), labels)


def _array(read: Callable[[Published], np.ndarray]) -> Callable[[Published, Hello], Samples]:
    """Samples of an array, labelled with its indices from 1."""

    def samples(published: Published, _hello: Hello) -> Samples:
        array = np.asarray(read(published), dtype=float)
        return [
            (tuple(i + 1 for i in at), value) for at, value in zip(np.ndindex(array.shape), array.flat, strict=True)
        ]

    return samples


def _one(read: Callable[[Published], float]) -> Callable[[Published, Hello], Samples]:
    return lambda published, _hello: [((), read(published))]


def _info(_published: Published, hello: Hello) -> Samples:
    yield (hello.name, hello.version, hello.configuration, hello.catalogue), 1.0


def _faults(published: Published, _hello: Hello) -> Samples:
    """Every row that this gateway knows, and raised ones of a newer catalogue."""
    raised = {(fault.code, fault.level.name.lower()) for fault in published.faults}
    known = {(row.code, row.level.name.lower()) for row in CATALOGUE}
    return [(labels, float(labels in raised)) for labels in sorted(known | raised)]


def _contactors(published: Published, _hello: Hello) -> Samples:
    units = published.snapshot.units
    for name in CONTACTORS:
        for index, feedback in enumerate(getattr(units, name).tolist()):
            if feedback in (Feedback.OPEN, Feedback.CLOSED):
                yield (index + 1, name), float(feedback == Feedback.CLOSED)


def _states(published: Published, _hello: Hello) -> Samples:
    return [((index + 1, string.state), 1.0) for index, string in enumerate(published.strings)]


def _frames(published: Published, _hello: Hello) -> Samples:
    for bus in published.buses:
        yield (bus.name, "received"), bus.received
        yield (bus.name, "sent"), bus.sent


def _by_kind(name: str) -> Callable[[Published, Hello], Samples]:
    return lambda published, _hello: [
        ((bus.name, kind), count) for bus in published.buses for kind, count in getattr(bus, name).items()
    ]


def _buses_up(published: Published, _hello: Hello) -> Samples:
    buses = published.snapshot.buses
    return [
        ((name,), float(up and not off)) for name, up, off in zip(buses.names, buses.up, buses.bus_off, strict=True)
    ]


def _buses(name: str) -> Callable[[Published, Hello], Samples]:
    return lambda published, _hello: [
        ((bus,), float(value))
        for bus, value in zip(published.snapshot.buses.names, getattr(published.snapshot.buses, name), strict=True)
    ]


def _modules(name: str) -> Callable[[Published, Hello], Samples]:
    return _array(lambda published: getattr(published.snapshot.modules, name))


def _units(name: str) -> Callable[[Published, Hello], Samples]:
    return _array(lambda published: getattr(published.snapshot.units, name))


_S, _SM, _SMC, _SMT = ("string",), ("string", "module"), ("string", "module", "cell"), ("string", "module", "sensor")
_WHY = ("direction", "source", "string", "reason")

# fmt: off
FAMILIES: tuple[Family, ...] = (
    Family("bmsd_info", "Who controls the rack; always 1.", _info, ("rack", "version", "configuration", "catalogue")),
    Family("bmsd_lifecycle", "1 for what the rack does now.", lambda p, _: [((p.lifecycle,), 1.0)], ("state",)),
    *(of_point(point) for point in POINTS),
    Family("bmsd_fault_active", "1 while the fault is raised.", _faults, ("code", "level")),
    Family("bmsd_fault_seconds", "How long a fault has been raised; place: of its worst subject.", words.faults,
           ("code", "level", "fault", "place")),
    Family("bmsd_faults_latched", "Faults that wait for an acknowledgement.",
           _one(lambda p: sum(fault.latched for fault in p.faults))),
    Family("bmsd_limit_binding", "1 for what binds the limit now: why no more may flow.", words.binding, _WHY),
    Family("bmsd_limit_bound_amperes", "What every cause would let flow, rack total; the lowest binds.", words.bounds,
           _WHY),
    Family("bmsd_vetoes", "Parts of the command that an independent check took back.", _one(lambda p: len(p.vetoes))),
    Family("bmsd_missing", "Things that are not there.", _one(lambda p: len(p.missing))),
    Family("bmsd_missing_part", "1 for each thing that is not there.", words.missing, ("part",)),
    Family("bmsd_loop_lateness_seconds", "How much later than planned control's newest tick began.",
           _one(lambda p: p.lateness_s)),
    Family("bmsd_events_forgotten_total", "Events that control forgot before its readers had them, or without any.",
           _one(lambda p: p.events_forgotten)),
    Family("bmsd_blocked_frames_total", "Frames that control's transmit gate blocked.",
           _one(lambda p: p.snapshot.host.blocked_frames)),
    Family("bmsd_string_state", "1 for the state of the string's contactors.", _states, ("string", "state")),
    Family("bmsd_string_waiting", "1 while the string is not closed, with the reason.", words.waiting,
           ("string", "reason")),
    Family("bmsd_contactor_closed", "Auxiliary contact: 1 closed, 0 open.", _contactors, ("string", "contactor")),
    Family("bmsd_string_current_amperes", "Current, positive charges.", _units("current_a"), _S),
    Family("bmsd_string_current_age_seconds", "Age of the current.", _units("current_age_s"), _S),
    Family("bmsd_string_voltage_volts", "Voltage on the cells' side of the contactors.", _units("string_v"), _S),
    Family("bmsd_string_bus_voltage_volts", "Voltage on the inverter's side of the contactors.", _units("bus_v"), _S),
    Family("bmsd_string_soc_ratio", "State of charge of the weakest cell.",
           _array(lambda p: p.estimate.string_soc), _S),
    Family("bmsd_unit_crc_errors_total", "Frames of a contactor unit with a wrong CRC.", _units("crc_errors"), _S),
    Family("bmsd_module_voltage_volts", "Voltage that the board measures.", _modules("module_v"), _SM),
    Family("bmsd_module_age_seconds", "Age of the cell voltages.", _modules("cell_age_s"), _SM),
    Family("bmsd_module_temperature_age_seconds", "Age of the temperatures.", _modules("temperature_age_s"), _SM),
    Family("bmsd_board_temperature_celsius", "Temperature of the board.", _modules("board_degc"), _SM),
    Family("bmsd_module_cells_balancing", "Cells of the module told to bleed.",
           _array(lambda p: p.command.balance.sum(axis=2)), _SM),
    Family("bmsd_module_frames_total", "Frames received from a board, good or bad.", _modules("frames"), _SM),
    Family("bmsd_module_crc_errors_total", "Frames of a board with a wrong CRC.", _modules("crc_errors"), _SM),
    Family("bmsd_module_stale_frames_total", "Frames of a board with the number of another SYNC.",
           _modules("counter_errors"), _SM),
    Family("bmsd_cell_voltage_volts", "Cell voltage.", _modules("cell_v"), _SMC, per_cell=True),
    Family("bmsd_cell_temperature_celsius", "Cell temperature.", _modules("temperature_degc"), _SMT, per_cell=True),
    Family("bmsd_can_up", "1 while the bus works.", _buses_up, ("bus",)),
    Family("bmsd_can_bus_off", "1 while the controller of the bus is off.", _buses("bus_off"), ("bus",)),
    Family("bmsd_can_send_stalled_seconds", "Time for which frames could not be sent; 0 while they are.",
           _buses("send_stalled_s"), ("bus",)),
    Family("bmsd_can_foreign_frames_total", "Frames that only bmsd may send, sent by somebody else.",
           _buses("foreign_frames"), ("bus",)),
    Family("bmsd_can_frames_total", "Frames on the bus.", _frames, ("bus", "direction")),
    Family("bmsd_can_dropped_frames_total", "Frames that were dropped.", _by_kind("dropped"), ("bus", "reason")),
    Family("bmsd_can_errors_total", "What the CAN controller reported.", _by_kind("errors"), ("bus", "kind")),
    Family("bmsd_can_controller_state", "0 not reported, 1 error active, 2 warning, 3 error passive, 4 bus-off.",
           _buses("controller"), ("bus",)),
)
# fmt: on


@dataclass(frozen=True)
class Own:
    """A metric of the gateway itself: there with and without control."""

    name: str
    meaning: str
    read: Callable[[Feed, Streams], float]

    @property
    def kind(self) -> str:
        return "counter" if self.name.endswith("_total") else "gauge"


# fmt: off
OWN: tuple[Own, ...] = (
    Own("bmsd_up", "1 while control's record is good, 0 when it is too old.", lambda f, _: f.good() is not None),
    Own("bmsd_record_age_seconds", "Age of control's newest record; +Inf: there was none.", lambda f, _: f.age_s()),
    Own("bmsd_link_connected", "1 while the link to control is open.", lambda f, _: f.connected),
    Own("bmsd_link_records_total", "Records taken from the link.", lambda f, _: f.records),
    Own("bmsd_link_opens_total", "Times that the link was opened.", lambda f, _: f.connects),
    Own("bmsd_events_lost_total", "Events that control forgot before we took them.", lambda f, _: f.lost_events),
    Own("bmsd_stream_readers", "Readers of the WebSocket stream.", lambda _, s: s.readers),
    Own("bmsd_stream_refused_total", "Readers refused because there were too many.", lambda _, s: s.refused),
)
# fmt: on
MOST_AT_ONCE = 64
"""Series written in one turn of the loop."""
OPEN_METRICS_END = b"# EOF\n"
LOOP = ("bmsd_loop_duration_seconds", "Time from one tick of control to the next, of the records that were taken.")


class Metrics(Collector):
    """All metrics in a registry of their own. `cells`: with a series per cell and temperature sensor."""

    def __init__(self, feed: Feed, streams: Streams, *, cells: bool) -> None:
        self._feed = feed
        self._streams = streams
        self._families = [family for family in FAMILIES if cells or not family.per_cell]
        self._registry = CollectorRegistry()
        self._loop = Histogram(*LOOP, buckets=LOOP_BUCKETS_S, registry=self._registry)
        ProcessCollector(registry=self._registry)
        self._registry.register(self)
        self._writing = asyncio.Lock()

    async def watch(self) -> None:
        """Take every record into the distribution, until cancelled."""
        while True:
            period_s = (await self._feed.next()).snapshot.host.period_s
            if math.isfinite(period_s):
                self._loop.observe(period_s)

    async def text(self, accept: str) -> tuple[bytes, str]:
        """Return all metrics and their media type, in the format that this Accept header asks for.

        Writing a series per cell takes a while: others get their turn in between.
        """
        open_metrics = "application/openmetrics-text" in accept
        parts = []
        async with self._writing:
            for metric in list(self._registry.collect()):
                for part in _parts(metric):
                    parts.append(_written(part, open_metrics, headed=part is metric))
                    await asyncio.sleep(0)
        if open_metrics:
            return b"".join((*parts, OPEN_METRICS_END)), openmetrics.CONTENT_TYPE_LATEST
        return b"".join(parts), CONTENT_TYPE_PLAIN_0_0_4

    def describe(self) -> Iterable[Metric]:
        """Nothing: the registry need not collect to learn our names."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the gateway's own metrics, and those of control's record when it is good."""
        for own in OWN:
            yield _metric(own, (), [((), own.read(self._feed, self._streams))])
        published, hello = self._feed.good(), self._feed.hello
        if published is not None and hello is not None:
            for family in self._families:
                yield _metric(family, family.labels, family.read(published, hello))


def _metric(row: Family | Own, labels: tuple[str, ...], samples: Samples) -> Metric:
    kind = CounterMetricFamily if row.kind == "counter" else GaugeMetricFamily
    metric = kind(row.name, row.meaning, labels=labels)
    for places, value in samples:
        if math.isfinite(value) or isinstance(row, Own):
            metric.add_metric([str(place) for place in places], float(value))
    return metric


def _parts(metric: Metric) -> Iterator[Metric]:
    """Yield the metric with its first samples, then the others in metrics of their own."""
    samples, metric.samples = metric.samples, metric.samples[:MOST_AT_ONCE]
    yield metric
    for start in range(MOST_AT_ONCE, len(samples), MOST_AT_ONCE):
        rest = Metric(metric.name, metric.documentation, metric.type)
        rest.samples = samples[start : start + MOST_AT_ONCE]
        yield rest


@dataclass(frozen=True)
class _Only(Collector):
    """One metric, as the writers of prometheus_client want it."""

    metric: Metric

    def collect(self) -> Iterable[Metric]:
        return (self.metric,)


def _written(part: Metric, open_metrics: bool, *, headed: bool) -> bytes:
    write: Callable[[Collector], bytes] = openmetrics.generate_latest if open_metrics else generate_latest
    text = write(_Only(part))
    lines = text.removesuffix(OPEN_METRICS_END).splitlines(keepends=True)
    return b"".join(lines if headed else [line for line in lines if not line.startswith(b"#")])
