"""Words to describe a dashboard with, and Grafana's JSON model of it: the classic one, as Grafana 11 writes it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

SCHEMA_VERSION = 39
COLUMNS = 24
SOURCE = {"type": "prometheus", "uid": "${datasource}"}

GOOD, NOTE, BAD, WORST, PLAIN, ABSENT = "green", "yellow", "orange", "red", "blue", "gray"
Steps = Sequence[tuple[float | None, str]]
"""Thresholds: from this value on this colour; the first has no value."""
CALM: Steps = ((None, PLAIN),)
NONE_IS_GOOD: Steps = ((None, GOOD), (1, WORST))
ALL_IS_GOOD: Steps = ((None, WORST), (1, GOOD))


@dataclass(frozen=True)
class Query:
    """A query with the name of its series. `now`: only its newest value; `table`: its labels as columns."""

    expr: str
    legend: str = "__auto"
    now: bool = False
    table: bool = False

    def model(self, number: int) -> dict[str, Any]:
        """Return the target of a panel."""
        instant = self.now or self.table
        return {
            "refId": chr(ord("A") + number), "datasource": SOURCE, "editorMode": "code", "expr": self.expr,
            "legendFormat": self.legend, "format": "table" if self.table else "time_series",
            "instant": instant, "range": not instant,
        }  # fmt: skip


@dataclass(frozen=True)
class Panel:
    """One panel. `about` is what somebody who sees it for the first time wants to know."""

    kind: str
    title: str
    about: str
    queries: tuple[Query, ...]
    width: int
    height: int
    unit: str = "none"
    decimals: int | None = None
    steps: Steps = CALM
    nothing: str = "-"
    """What is shown when there is no data."""
    low: float | None = None
    high: float | None = None
    mappings: list[dict[str, Any]] = field(default_factory=list)
    overrides: list[dict[str, Any]] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
    custom: dict[str, Any] = field(default_factory=dict)
    colour: str = "thresholds"
    transformations: list[dict[str, Any]] = field(default_factory=list)
    links: list[dict[str, Any]] = field(default_factory=list)

    def model(self, number: int, x: int, y: int) -> dict[str, Any]:
        """Return the panel at this place of the grid."""
        defaults: dict[str, Any] = {
            "unit": self.unit, "noValue": self.nothing, "color": {"mode": self.colour}, "mappings": self.mappings,
            "thresholds": {"mode": "absolute", "steps": [{"value": v, "color": c} for v, c in self.steps]},
            "custom": self.custom, "links": self.links,
        }  # fmt: skip
        given = {"decimals": self.decimals, "min": self.low, "max": self.high}
        defaults |= {name: value for name, value in given.items() if value is not None}
        return {
            "id": number, "type": self.kind, "title": self.title, "description": self.about, "datasource": SOURCE,
            "gridPos": {"x": x, "y": y, "w": self.width, "h": self.height},
            "fieldConfig": {"defaults": defaults, "overrides": self.overrides},
            "options": self.options, "transformations": self.transformations,
            "targets": [query.model(place) for place, query in enumerate(self.queries)],
        }  # fmt: skip


_NEWEST = {"calcs": ["lastNotNull"], "fields": "", "values": False}


def stat(title: str, about: str, expr: str, width: int = 3, *, name: str = "", height: int = 4, **more: Any) -> Panel:
    """One number now, on its colour. With `name`, this text of a label is shown instead of the number."""
    options = {
        "reduceOptions": _NEWEST, "textMode": "name" if name else "value", "colorMode": "background",
        "graphMode": "none", "justifyMode": "center", "orientation": "auto", "wideLayout": True,
        "showPercentChange": False,
    }  # fmt: skip
    return Panel(
        "stat", title, about, (Query(expr, name or "__auto", now=True),), width, height, options=options, **more
    )


def lines(
    title: str,
    about: str,
    *queries: tuple[str, str],
    width: int = 12,
    height: int = 8,
    limits: bool = False,
    **more: Any,
) -> Panel:
    """Values over time, each query with the name of its series. `limits` draws the thresholds."""
    custom = {
        "drawStyle": "line", "lineInterpolation": "linear", "lineWidth": 1, "fillOpacity": 0, "showPoints": "never",
        "spanNulls": False, "thresholdsStyle": {"mode": "dashed" if limits else "off"},
    }  # fmt: skip
    options = {
        "legend": {"showLegend": True, "displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "max"]},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    targets = tuple(Query(expr, legend) for expr, legend in queries)
    more = {"colour": "palette-classic", **more}
    return Panel("timeseries", title, about, targets, width, height, custom=custom, options=options, **more)


def timeline(title: str, about: str, expr: str, legend: str, width: int = 24, height: int = 6, **more: Any) -> Panel:
    """States over time, a row per series."""
    options = {
        "mergeValues": True, "showValue": "never", "alignValue": "left", "rowHeight": 0.9,
        "legend": {"showLegend": False, "displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "single"},
    }  # fmt: skip
    custom = {"fillOpacity": 80, "lineWidth": 0}
    return Panel(
        "state-timeline", title, about, (Query(expr, legend),), width, height, options=options, custom=custom, **more
    )


def bars(title: str, about: str, expr: str, legend: str, width: int = 24, height: int = 8, **more: Any) -> Panel:
    """A bar per series, now."""
    options = {
        "reduceOptions": _NEWEST, "displayMode": "basic", "orientation": "vertical", "showUnfilled": False,
        "valueMode": "color", "namePlacement": "auto", "sizing": "auto", "minVizWidth": 8, "minVizHeight": 16,
        "maxVizHeight": 300,
    }  # fmt: skip
    return Panel("bargauge", title, about, (Query(expr, legend, now=True),), width, height, options=options, **more)


def table(
    title: str,
    about: str,
    queries: Sequence[str],
    columns: dict[str, str],
    sort: tuple[str, bool],
    width: int = 12,
    height: int = 8,
    **more: Any,
) -> Panel:
    """Labels and values now, rows that are alike of all queries merged. `columns`: field -> heading, in this order.

    The value of the first query is the field `Value #A`, of one alone `Value`. `sort` is a heading, and whether the
    greatest comes first.
    """
    only = {"id": "filterFieldsByName", "options": {"include": {"names": list(columns)}}}
    ordered = {
        "id": "organize",
        "options": {
            "excludeByName": {}, "indexByName": {name: place for place, name in enumerate(columns)},
            "renameByName": columns,
        },
    }  # fmt: skip
    merged = [{"id": "merge", "options": {}}] if len(queries) > 1 else []
    return Panel(
        "table", title, about, tuple(Query(expr, table=True) for expr in queries), width, height,
        custom={"align": "auto", "cellOptions": {"type": "auto"}, "inspect": False, "filterable": False},
        options={
            "showHeader": True, "cellHeight": "sm", "footer": {"show": False, "reducer": ["sum"], "fields": ""},
            "sortBy": [{"displayName": sort[0], "desc": sort[1]}],
        },
        transformations=[*merged, only, ordered], **more,
    )  # fmt: skip


def column(heading: str, unit: str = "", decimals: int | None = None, steps: Steps = (), **more: Any) -> dict[str, Any]:
    """How one column of a table is shown: its unit, and its colour by these thresholds."""
    properties: list[dict[str, Any]] = []
    if unit:
        properties.append({"id": "unit", "value": unit})
    if decimals is not None:
        properties.append({"id": "decimals", "value": decimals})
    if steps:
        properties += [
            {"id": "custom.cellOptions", "value": {"type": "color-background", "mode": "basic"}},
            {
                "id": "thresholds",
                "value": {"mode": "absolute", "steps": [{"value": v, "color": c} for v, c in steps]},
            },
        ]
    properties += [{"id": name, "value": value} for name, value in more.items()]
    return {"matcher": {"id": "byName", "options": heading}, "properties": properties}


def coloured(name: str, colour: str) -> dict[str, Any]:
    """Give the series of this name a colour of its own."""
    return {
        "matcher": {"id": "byName", "options": name},
        "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": colour}}],
    }


def words(*texts: tuple[float, str, str]) -> list[dict[str, Any]]:
    """Show these values as texts in colours."""
    options = {f"{value:g}": {"text": text, "color": colour} for value, text, colour in texts}
    return [{"type": "value", "options": options}]


@dataclass(frozen=True)
class Variable:
    """A choice at the top of the page: the values of a label. `several`: more than one, or all."""

    name: str
    label: str
    query: str
    several: bool = False

    def model(self) -> dict[str, Any]:
        """Return the template variable; without a choice made, everything or the first."""
        current = {"text": ["All"], "value": ["$__all"]} if self.several else {}
        return {
            "type": "query", "name": self.name, "label": self.label, "datasource": SOURCE,
            "query": {"query": self.query, "refId": "variable"}, "definition": self.query, "refresh": 2, "sort": 3,
            "multi": self.several, "includeAll": self.several, "allValue": ".*" if self.several else None,
            "current": current, "options": [], "hide": 0, "regex": "", "skipUrlSync": False,
        }  # fmt: skip


@dataclass(frozen=True)
class Dashboard:
    """A page: rows of panels, each with its heading; panels go from left to right, and on where a line is full."""

    uid: str
    title: str
    about: str
    variables: tuple[Variable, ...]
    rows: tuple[tuple[str, tuple[Panel, ...]], ...]
    period: str = "now-1h"

    def model(self) -> dict[str, Any]:
        """Return the dashboard for a file that Grafana reads."""
        source = {
            "type": "datasource", "name": "datasource", "label": "Data source", "query": "prometheus", "current": {},
            "hide": 2, "includeAll": False, "multi": False, "options": [], "refresh": 1, "regex": "",
            "skipUrlSync": False,
        }  # fmt: skip
        others = {
            "type": "dashboards", "title": "bmsd", "tags": ["bmsd"], "asDropdown": False, "icon": "external link",
            "includeVars": True, "keepTime": True, "targetBlank": False, "tooltip": "", "url": "",
        }  # fmt: skip
        return {
            "id": None, "uid": self.uid, "title": self.title, "description": self.about, "tags": ["bmsd"],
            "schemaVersion": SCHEMA_VERSION, "version": 1, "editable": True, "graphTooltip": 1, "timezone": "browser",
            "refresh": "10s", "time": {"from": self.period, "to": "now"}, "timepicker": {}, "fiscalYearStartMonth": 0,
            "annotations": {"list": []}, "links": [others],
            "templating": {"list": [source, *(variable.model() for variable in self.variables)]},
            "panels": list(self._panels()),
        }  # fmt: skip

    def _panels(self) -> Iterator[dict[str, Any]]:
        number, y = 1, 0
        for heading, panels in self.rows:
            if heading:
                place = {"x": 0, "y": y, "w": COLUMNS, "h": 1}
                yield {
                    "id": number,
                    "type": "row",
                    "title": heading,
                    "collapsed": False,
                    "gridPos": place,
                    "panels": [],
                }
                number, y = number + 1, y + 1
            x = tallest = 0
            for panel in panels:
                if x + panel.width > COLUMNS:
                    x, y, tallest = 0, y + tallest, 0
                yield panel.model(number, x, y)
                number, x, tallest = number + 1, x + panel.width, max(tallest, panel.height)
            y += tallest
