"""REST: what control knows, and why, at one instant with its age."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response, WebSocket
from pydantic import BaseModel, ConfigDict, Field

from bmsd.codec import plain
from bmsd.gateway.feed import Feed
from bmsd.gateway.web import shapes
from bmsd.gateway.web.gate import Gate
from bmsd.gateway.web.instant import instant
from bmsd.gateway.web.metrics import Metrics
from bmsd.gateway.web.problem import NoGoodRecord, answer_with_problems
from bmsd.gateway.web.recent import MOST_KEPT, Recent
from bmsd.gateway.web.stream import StreamQuery, Streams
from bmsd.model.catalogue import CATALOGUE, row
from bmsd.model.fault import Fault
from bmsd.model.points import POINTS
from bmsd.model.published import Hello, Published
from bmsd.model.row import Row

VERSION = version("bmsd")
DESCRIPTION = """\
What `bmsd run` knows of a battery rack. Read-only. Every answer shows one instant and its age; a record older than 2 s
is never shown: the answer is 503 then. Unknown is null. Numbers of strings, modules and items count from 1; in arrays
the first has index 0. Currents are positive when charging. The stream of snapshots is a WebSocket at `/api/v1/stream`.
"""
_PROBLEM = {"content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}}
_STALE = {"content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Stale"}}}}
STALE: dict[int | str, dict[str, Any]] = {503: {"description": "No record that may be shown.", **_STALE}}
WRONG: dict[int | str, dict[str, Any]] = {422: {"description": "A parameter is wrong.", **_PROBLEM}}


class EventsQuery(BaseModel):
    """What of the events is wanted."""

    model_config = ConfigDict(extra="forbid")

    since: int | None = Field(
        None,
        ge=0,
        description="Only events of control's present start with a greater number, the oldest of them first.",
    )
    most: int = Field(100, ge=1, le=MOST_KEPT, description="At most this many.")


def application(feed: Feed, recent: Recent, metrics: Metrics, streams: Streams) -> FastAPI:
    """Return the application that answers from this feed. No page of it loads anything from elsewhere."""
    app = FastAPI(
        title="bmsd", version=VERSION, description=DESCRIPTION, docs_url=None, redoc_url=None,
        redirect_slashes=False,
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )  # fmt: skip
    app.add_middleware(Gate)
    answer_with_problems(app, feed)
    _measured(app, feed)
    _always(app, feed, recent)
    _health(app, feed)

    @app.get("/metrics", response_class=Response, summary="All metrics, for Prometheus")
    async def _metrics(request: Request) -> Response:
        text, media_type = await metrics.text(request.headers.get("accept", ""))
        return Response(text, media_type=media_type)

    @app.websocket("/api/v1/stream")
    async def _stream(websocket: WebSocket, query: Annotated[StreamQuery, Query()]) -> None:
        await streams.serve(websocket, query)

    _describe_problems(app)
    return app


def _good(feed: Feed) -> tuple[Published, Hello]:
    published = feed.good()
    if published is None or feed.hello is None:
        raise NoGoodRecord
    return published, feed.hello


def _measured(app: FastAPI, feed: Feed) -> None:
    """What control measures and decides: only from a good record."""

    @app.get("/api/v1/snapshot", response_model=shapes.Snapshot, responses=STALE, summary="The whole rack")
    async def _snapshot() -> dict[str, Any]:
        published, _ = _good(feed)
        return {**plain.as_object(published), **instant(feed)}

    @app.get("/api/v1/limits", response_model=shapes.Limits, responses=STALE, summary="What may flow, and why no more")
    async def _limits() -> dict[str, Any]:
        published, _ = _good(feed)
        return {**limits(published), **instant(feed)}

    @app.get("/api/v1/faults", response_model=shapes.Faults, responses=STALE, summary="Faults that are raised now")
    async def _faults() -> dict[str, Any]:
        published, _ = _good(feed)
        return {"faults": [explained(fault) for fault in published.faults], **instant(feed)}

    @app.get("/api/v1/points", response_model=shapes.PointList, responses=STALE, summary="Every published value")
    async def _points() -> dict[str, Any]:
        published, _ = _good(feed)
        values = plain.points(published)
        rows = [
            {**{name: getattr(point, name) for name in ("name", "unit", "address", "type", "meaning")},
             "value": values[point.name]}
            for point in POINTS
        ]  # fmt: skip
        return {"points": rows, **instant(feed)}

    @app.get("/api/v1/layout", response_model=shapes.Layout, responses=STALE, summary="Shape, versions and hashes")
    async def _layout() -> dict[str, Any]:
        _, hello = _good(feed)
        same = ("strings", "modules", "cells", "sensors", "tick_s", "version", "configuration", "catalogue")
        return {
            "rack": hello.name, "gateway_version": VERSION, **{name: getattr(hello, name) for name in same},
            **instant(feed),
        }  # fmt: skip


def _always(app: FastAPI, feed: Feed, recent: Recent) -> None:
    """What stays true without control."""

    @app.get("/api/v1/catalogue", response_model=shapes.Catalogue, summary="Every fault that bmsd knows")
    async def _catalogue() -> dict[str, Any]:
        return {"rows": [{"code": one.code, "name": one.name, "scope": one.scope, **_words(one)} for one in CATALOGUE]}

    @app.get("/api/v1/events", response_model=shapes.Events, responses=WRONG, summary="Recent events")
    async def _events(query: Annotated[EventsQuery, Query()]) -> dict[str, Any]:
        if query.since is None:
            events, more = recent.newest(query.most), False
        else:
            events, more = recent.after(query.since, query.most)
        stale = feed.good() is None
        return {"stale": stale, "dropped": recent.dropped, "more": more, "events": events, **instant(feed)}


def _health(app: FastAPI, feed: Feed) -> None:
    @app.get("/health", response_model=shapes.Health, responses=STALE, summary="Whether control's record is good")
    async def _good_health() -> dict[str, Any]:
        _good(feed)
        return {"status": "good", **instant(feed)}

    @app.get("/health/live", response_model=shapes.Live, summary="Whether this process answers")
    async def _live() -> dict[str, Any]:
        return {"status": "live"}


def limits(published: Published) -> dict[str, Any]:
    """Return the limits with all that bounds them."""
    command = published.command
    return {
        "charge": {
            "limit_a": plain.plain(command.ccl_a),
            "enabled": command.charge_enabled,
            "bounds": plain.bounds(published.charge_bounds),
        },
        "discharge": {
            "limit_a": plain.plain(command.dcl_a),
            "enabled": command.discharge_enabled,
            "bounds": plain.bounds(published.discharge_bounds),
        },
        "charge_voltage_limit_v": plain.plain(command.cvl_v),
        "discharge_voltage_limit_v": plain.plain(command.dvl_v),
        "vetoes": list(published.vetoes),
    }


def explained(fault: Fault) -> dict[str, Any]:
    """Return a fault with the catalogue's words; null when control has a newer catalogue than this gateway."""
    try:
        words = _words(row(fault.code))
    except KeyError:
        words = dict.fromkeys(("means", "does", "remedy", "latch"))
    return {**words, **plain.fault(fault)}


def _words(one: Row) -> dict[str, Any]:
    return {
        "means": one.means, "does": one.does, "remedy": one.remedy, "latch": one.latch, "level": one.level.name.lower(),
    }  # fmt: skip


def _describe_problems(app: FastAPI) -> None:
    """Add the shapes of errors to the OpenAPI document, which FastAPI keeps from now on."""
    document = app.openapi()
    for shape in (shapes.Problem, shapes.Stale):
        document["components"]["schemas"][shape.__name__] = shape.model_json_schema()
