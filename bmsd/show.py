"""`bmsd status`, `why`, `events` and `reset`: what a person at the rack sees of control, and acknowledges."""

from __future__ import annotations

import json
import select
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import typer
from rich.console import Console

from bmsd.codec.plain import as_object, plain
from bmsd.config.load import load
from bmsd.errors import BusError, ConfigError
from bmsd.link.client import LinkClient
from bmsd.link.wire import GROUPS, Ack, Asked
from bmsd.model.catalogue import CATALOGUE
from bmsd.model.event import Event
from bmsd.model.fault import place
from bmsd.model.published import Published
from bmsd.reasons import reasons_object, reasons_view
from bmsd.screen import screen
from bmsd.status import table

DEFAULT_LINK = Path("/run/bmsd/link.sock")
ANSWER_S = 3.0
"""Patience with control; it sends ten records in a second."""
RECORDS_WITHOUT_EVENTS = 3
"""After so many all events that were kept have come."""
RESETS = ("all", *GROUPS)
NO_EVENTS = (
    "no events are kept: the gateway has taken all; it serves them at /api/v1/events, --follow shows the next ones"
)


def show_status(config: Path | None, link: Path | None, *, as_json: bool, watch: bool) -> None:
    """Print one record as a table or as JSON, or go on showing. BusError when control does not answer."""
    with closing(_reader(config, link)) as client, suppress(KeyboardInterrupt):
        newest = client.newest(ANSWER_S)
        if as_json:
            typer.echo(json.dumps(as_object(newest), allow_nan=False))
        elif not watch:
            Console().print(table(client.hello.name, newest))
        else:
            with closing(screen(client.hello.name)) as shown:
                while True:
                    shown.show(newest)
                    newest = client.newest(ANSWER_S)


def show_reasons(config: Path | None, link: Path | None, *, as_json: bool) -> None:
    """Print why no more current may flow now. BusError when control does not answer."""
    with closing(_reader(config, link)) as client:
        newest = client.newest(ANSWER_S)
    if as_json:
        typer.echo(json.dumps(reasons_object(newest), allow_nan=False))
    else:
        Console().print(reasons_view(client.hello.name, newest))


def show_events(config: Path | None, link: Path | None, *, as_json: bool, follow: bool) -> None:
    """Print the events that control still keeps, and those that come when asked to. Acknowledges none of them."""
    with closing(_reader(config, link)) as client, suppress(KeyboardInterrupt):
        none = True
        for event in _events(client, follow=follow):
            none = False
            typer.echo(json.dumps(plain(asdict(event)), allow_nan=False) if as_json else event_line(event))
        if none:
            typer.echo(NO_EVENTS, err=True)


def event_line(event: Event) -> str:
    """Return an event as a line: number, UTC, severity, sentence."""
    when = datetime.fromtimestamp(event.utc_s, UTC).strftime("%Y-%m-%d %H:%M:%S") if event.utc_s else "-" * 19
    return f"{event.number:5d}  {when}  {event.severity:<7}  {event.text}"


def _events(client: LinkClient, *, follow: bool) -> Iterator[Event]:
    """Yield events; when not to follow, until some records have come without one."""
    client.send(Ack(0))
    quiet = 0
    while follow or quiet < RECORDS_WITHOUT_EVENTS:
        if not select.select([client], [], [], ANSWER_S)[0]:
            raise BusError("bmsd sends nothing")
        for message in client.drain():
            if isinstance(message, Event):
                quiet = 0
                yield message
            else:
                quiet += 1


def _reader(config: Path | None, link: Path | None) -> LinkClient:
    return LinkClient(link or (Path(load(config).link.socket) if config else DEFAULT_LINK))


def ask_reset(config: Path, code: str, reason: str) -> None:
    """Ask control to acknowledge a fault, and say what came of it.

    ConfigError for a code that is not known, BusError when it is refused or the cause is still there.
    """
    known = [row.code for row in CATALOGUE]
    wanted = code.lower() if code.lower() in RESETS else code.upper()
    if wanted not in (*known, *RESETS):
        raise ConfigError([f"fault {code}: unknown; expected {', '.join(RESETS)} or a code of `bmsd faults`"])
    with closing(_service(config)) as client:
        before = client.newest(ANSWER_S)
        _ask(client, Asked("reset", wanted, reason, source="bmsd reset"))
        after = client.next(ANSWER_S)  # of the tick that has decided
    done, still = acknowledged(wanted, before, after)
    typer.echo(f"reset {wanted}: taken; acknowledged: {', '.join(done) or 'nothing'}")
    if still:
        raise BusError(f"still latched, for the cause is there: {', '.join(still)}; ask again when it is gone")


def acknowledged(wanted: str, before: Published, after: Published) -> tuple[list[str], list[str]]:
    """Return which faults that were latched before are so no more, and which of those that were meant still are."""
    was = {fault.code: fault for fault in before.faults if fault.latched}
    now = {fault.code: fault for fault in after.faults if fault.latched}
    meant = now if wanted == "all" else {wanted}
    done = [code for code in was if code not in now]
    still = [f"{code} {now[code].name.replace('_', ' ')} at {place(now[code])}" for code in now if code in meant]
    return done, still


def ask_connect(config: Path, *, closed: bool) -> None:
    """Ask control to close or open the strings in order. BusError when it is refused or not there."""
    what = "connect" if closed else "disconnect"
    with closing(_service(config)) as client:
        _ask(client, Asked(what, source=f"bmsd {what}"))
    typer.echo(f"{what}: taken; watch it with bmsd status")


def _service(config: Path) -> LinkClient:
    return LinkClient(Path(load(config).link.service_socket))


def _ask(client: LinkClient, asked: Asked) -> None:
    answer = client.ask(asked)
    if not answer.taken:
        raise BusError(f"{asked.what}: refused: {answer.text}")
