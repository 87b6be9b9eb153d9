"""`bmsd health`: whether control and gateway do their work now, for whoever watches a container."""

from __future__ import annotations

import http.client
import json
import time
from contextlib import closing
from pathlib import Path

import typer

from bmsd.config.gateway import LOCAL, GatewaySettings, Web
from bmsd.config.load import load_gateway
from bmsd.errors import BmsdError, BusError, ConfigError
from bmsd.link.client import LinkClient

ANSWER_S = 2.0
"""Patience with each of both; control sends ten records in a second."""
OLDEST_S = 2.0
"""An older record is no sign that control works."""
LOOPBACK = {"0.0.0.0": LOCAL, "::": "::1"}
"""Where to ask one that listens on all addresses."""


def show_health(config: Path) -> None:
    """Print one line when both work; BusError with all that does not."""
    try:
        settings = load_gateway(config)
    except ConfigError as error:
        raise BusError(f"unhealthy: {error.complaints[0]}") from error
    said, wrong = [], []
    for name, ask in (("control", _control), ("gateway", _gateway)):
        try:
            said.append(f"{name}: {ask(settings)}")
        except BmsdError as error:
            wrong.append(f"{name}: {error}")
    if wrong:
        raise BusError(f"unhealthy: {'; '.join(wrong)}")
    typer.echo(f"healthy: {'; '.join(said)}")


def _control(settings: GatewaySettings) -> str:
    """Wait for a record of control, made now. What the rack is at does not make control unhealthy."""
    with closing(LinkClient(Path(settings.link.socket), ANSWER_S)) as client:
        newest = client.newest(ANSWER_S)
    age_s = time.monotonic() - newest.snapshot.now_s
    if not age_s <= OLDEST_S:
        raise BusError(f"its newest record is {age_s:.1f} s old")
    missing = f", {len(newest.missing)} things missing: {newest.missing[0]}" if newest.missing else ""
    return f"{newest.lifecycle}{missing}"


def _gateway(settings: GatewaySettings) -> str:
    """Ask the gateway over HTTP, the one way in that says whether it has control's record."""
    if not settings.web.enabled:
        return "not asked, [web] is disabled"
    status, body = _get(settings.web)
    if status != http.HTTPStatus.OK:
        raise BusError(_detail(body) or f"answers with status {status}")
    return "serves its records"


def _get(web: Web) -> tuple[int, bytes]:
    host = LOOPBACK.get(web.host, web.host)
    with closing(http.client.HTTPConnection(host, web.port, timeout=ANSWER_S)) as connection:
        try:
            connection.request("GET", "/health")
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise BusError(f"no answer from {host} port {web.port}: {error}") from error


def _detail(body: bytes) -> str:
    try:
        return str(json.loads(body)["detail"])
    except (ValueError, KeyError, TypeError):
        return ""
