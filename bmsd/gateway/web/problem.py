"""Errors in one shape, application/problem+json (RFC 9457)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError, WebSocketRequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.websockets import WebSocket

from bmsd.gateway.feed import STALE_S, Feed
from bmsd.gateway.web.instant import instant

MOST_SHOWN = 60


class ProblemResponse(JSONResponse):
    media_type = "application/problem+json"


class NoGoodRecord(Exception):  # noqa: N818 - the answer is what happened, not our error
    """There is no record that may be shown."""


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None, **more: Any) -> ProblemResponse:
    """Return the answer that says what is wrong."""
    title = HTTPStatus(status).phrase
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail, **more}
    return ProblemResponse(body, status, headers)


def stale(feed: Feed) -> dict[str, Any]:
    """Return why there is no good record, and how old the newest is, for JSON."""
    if feed.newest is None and not feed.connected:
        cause, detail = "never_reached", "bmsd run has not been reached since this gateway started; check that it runs"
    elif not feed.connected:
        cause, detail = "link_lost", "the link to bmsd run is lost; check that it runs"
    else:
        cause, detail = "silent", f"bmsd run has sent no record for more than {STALE_S:g} s; check its log"
    return {"cause": cause, "detail": detail, **instant(feed)}


def answer_with_problems(app: FastAPI, feed: Feed) -> None:
    """Give every error of this application the one shape."""

    @app.exception_handler(NoGoodRecord)
    async def _(_request: Request, _error: Exception) -> ProblemResponse:
        why = stale(feed)
        return problem(503, why.pop("detail"), {"retry-after": "1"}, **why)

    @app.exception_handler(HTTPException)
    async def _(request: Request, error: HTTPException) -> ProblemResponse:
        return problem(error.status_code, _detail(request, error), error.headers)

    @app.exception_handler(RequestValidationError)
    async def _(_request: Request, error: RequestValidationError) -> ProblemResponse:
        return problem(422, complaints(error.errors()))

    @app.exception_handler(WebSocketRequestValidationError)
    async def _(websocket: WebSocket, error: WebSocketRequestValidationError) -> None:
        await websocket.send_denial_response(problem(422, complaints(error.errors())))

    @app.exception_handler(Exception)
    async def _(_request: Request, _error: Exception) -> ProblemResponse:
        return problem(500, "a defect of bmsd; its log has more", {"connection": "close"})


def _detail(request: Request, error: HTTPException) -> str:
    path = request.url.path[:MOST_SHOWN]
    if error.status_code == 404:
        return f"nothing is at {path}; what there is: /openapi.json"
    if error.status_code == 405:
        return f"{request.method[:MOST_SHOWN]} is not for {path}; GET is"
    return str(error.detail)


def complaints(errors: Iterable[Mapping[str, Any]]) -> str:
    """Return what is wrong with the parameters: `every: 'often'; input should be a valid number`."""
    return ". ".join(
        f"{'.'.join(map(str, error['loc'][1:]))}: {str(error['input'])[:MOST_SHOWN]!r}; {error['msg'].lower()}"
        for error in errors
    )
