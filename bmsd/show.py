"""`bmsd status` and `bmsd reset`: what a person at the rack sees of the control process, and acknowledges."""

from __future__ import annotations

import json
from pathlib import Path

import typer
from rich.console import Console

from bmsd.codec.plain import as_object
from bmsd.config.load import load
from bmsd.errors import BusError, ConfigError
from bmsd.link.client import LinkClient
from bmsd.link.wire import GROUPS, Asked
from bmsd.model.catalogue import CATALOGUE
from bmsd.screen import screen
from bmsd.status import table

DEFAULT_LINK = Path("/run/bmsd/link.sock")
RESETS = ("all", *GROUPS)


def show_status(config: Path | None, link: Path | None, *, as_json: bool, watch: bool) -> None:
    """Print one record as a table or as JSON, or go on showing. BusError when control does not answer."""
    path = link or (Path(load(config).link.socket) if config else DEFAULT_LINK)
    client = LinkClient(path)
    try:
        newest = client.newest(timeout_s=3.0)
        if as_json:
            typer.echo(json.dumps(as_object(newest), allow_nan=False))
            return
        if not watch:
            Console().print(table(client.hello.name, newest))
            return
        shown = screen(client.hello.name)
        try:
            while True:
                shown.show(newest)
                newest = client.newest(timeout_s=3.0)
        finally:
            shown.close()
    except KeyboardInterrupt:
        return
    finally:
        client.close()


def ask_reset(config: Path, code: str, reason: str) -> None:
    """Ask control to acknowledge a fault. ConfigError for a code that is not known, BusError when it is refused."""
    known = [row.code for row in CATALOGUE]
    wanted = code.lower() if code.lower() in RESETS else code.upper()
    if wanted not in (*known, *RESETS):
        raise ConfigError([f"fault {code}: unknown; expected {', '.join(RESETS)} or a code of `bmsd faults`"])
    _ask(config, Asked("reset", wanted, reason, source="bmsd reset"))
    typer.echo(f"reset {wanted}: taken; it clears when its cause is gone (bmsd status)")


def ask_connect(config: Path, *, closed: bool) -> None:
    """Ask control to close or open the strings in order. BusError when it is refused or not there."""
    what = "connect" if closed else "disconnect"
    _ask(config, Asked(what, source=f"bmsd {what}"))
    typer.echo(f"{what}: taken; watch it with bmsd status")


def _ask(config: Path, asked: Asked) -> None:
    client = LinkClient(Path(load(config).link.service_socket))
    try:
        answer = client.ask(asked)
    finally:
        client.close()
    if not answer.taken:
        raise BusError(f"{asked.what}: refused: {answer.text}")
