"""The commands: arguments only; every body is imported when it runs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from bmsd.errors import BmsdError, ConfigError

app = typer.Typer(
    name="bmsd",
    help="Rack BMS daemon: module boards and contactor units on one CAN bus, inverters on the other.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

CONFIG_EXIT = 2
BUS_EXIT = 1

ConfigFile = Annotated[Path, typer.Option("--config", "-c", metavar="FILE", help="Configuration of the rack (TOML).")]


def main() -> None:
    """Run a command; what is the installer's or the wire's fault ends with a sentence, not with a traceback."""
    app()


def _explained(command: Callable[..., None]) -> Callable[..., None]:
    """Turn errors that bmsd explains into lines on stderr and an exit code."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except ConfigError as error:
            for complaint in error.complaints:
                typer.echo(complaint, err=True)
            raise typer.Exit(CONFIG_EXIT) from error
        except BmsdError as error:
            typer.echo(str(error), err=True)
            raise typer.Exit(BUS_EXIT) from error
        except BrokenPipeError:
            sys.stderr.close()
            raise typer.Exit(BUS_EXIT) from None

    return run


@app.command()
@_explained
def run(config: ConfigFile) -> None:
    """Run the control process: poll the boards, protect the cells, tell the inverter its limits."""
    from bmsd.control.daemon import run_file

    raise typer.Exit(run_file(config))


@app.command()
@_explained
def check(config: Annotated[Path, typer.Argument(metavar="FILE", help="Configuration of the rack (TOML).")]) -> None:
    """Check a configuration: all complaints at once (exit code 2), or one line that says what it describes."""
    from bmsd.control.composition import checked

    for line in checked(config).summary():
        typer.echo(line)


@app.command()
@_explained
def sim(
    config: ConfigFile,
    seconds: Annotated[float | None, typer.Option("--for", metavar="SECONDS", help="End after this time.")] = None,
) -> None:
    """Simulate the rack of a configuration on its own buses: boards, contactor units, inverter."""
    from bmsd.simulate import run_file

    run_file(config, seconds)


@app.command()
@_explained
def demo(
    seconds: Annotated[float | None, typer.Option("--for", metavar="SECONDS", help="End after this time.")] = None,
    strings: Annotated[int, typer.Option(min=1, max=8, help="Strings in parallel.")] = 1,
    modules: Annotated[int, typer.Option(min=1, max=32, help="Modules in series in each string.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print the final snapshot as JSON, and no table.")] = False,
) -> None:
    """Run a simulated rack and the real control process on this computer, and show what happens."""
    from bmsd.demo import run_demo

    run_demo(strings=strings, modules=modules, seconds=seconds, as_json=as_json)


@app.command()
@_explained
def status(
    config: Annotated[Path | None, typer.Option("--config", "-c", metavar="FILE", help="Configuration.")] = None,
    link: Annotated[Path | None, typer.Option(metavar="SOCKET", help="Link socket of the control process.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one snapshot as JSON.")] = False,
    watch: Annotated[bool, typer.Option(help="Go on showing until Ctrl-C.")] = False,
) -> None:
    """Show what the control process does now: rack, limits with their reasons, strings, faults, buses."""
    from bmsd.show import show_status

    show_status(config, link, as_json=as_json, watch=watch)


@app.command()
@_explained
def reset(
    code: Annotated[str, typer.Argument(help="Fault to acknowledge, such as CEL-003; trip; contactors; or all.")],
    config: ConfigFile,
    reason: Annotated[str, typer.Option(help="Why; faults of level service need it.")] = "",
) -> None:
    """Acknowledge a latched fault through the service socket. It clears only when its cause is gone."""
    from bmsd.show import ask_reset

    ask_reset(config, code, reason)


@app.command()
@_explained
def faults(
    code: Annotated[str | None, typer.Argument(help="One fault, such as CEL-003; all when left out.")] = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", metavar="FILE", help="Show its thresholds instead of their names.")
    ] = None,
    markdown: Annotated[bool, typer.Option(help="Print the table of the manual.")] = False,
) -> None:
    """List the faults that bmsd knows: what each means, what bmsd does, what clears it."""
    from bmsd.manual import fault_lines

    for line in fault_lines(code, config, markdown=markdown):
        typer.echo(line)


@app.command()
@_explained
def schema() -> None:
    """Print the JSON schema of the configuration, for editors."""
    from bmsd.config.export import json_schema

    typer.echo(json_schema(), nl=False)


DECODE_HELP = """Read candump lines on standard input, write one JSON object per frame.

Lines may be of `candump -L` or of the screen. Example:

  candump can1 | bmsd decode --profile pylontech_lv
"""


@app.command(help=DECODE_HELP)
@_explained
def decode(
    profile: Annotated[
        str | None, typer.Option(metavar="NAME", help="Inverter protocol, such as pylontech_lv.")
    ] = None,
    dbc: Annotated[Path | None, typer.Option(metavar="FILE", help="Any DBC file instead.")] = None,
    id_mask: Annotated[
        str | None,
        typer.Option(metavar="HEX", help="With --dbc: bits of the identifier that count (J1939, slave.dbc)."),
    ] = None,
    option: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="Option of the profile.")] = None,
) -> None:
    from bmsd.traces import decode_stream

    decode_stream(sys.stdin, profile, dbc, id_mask, option or [])


ENCODE_HELP = """Read one JSON object of physical values on standard input, write `candump -L` lines.

{keys}

  echo '{{"cvl_v": 55.2, "ccl_a": 100, "dcl_a": 100, "dvl_v": 48}}' | bmsd encode --profile pylontech_lv
"""
ENCODE_KEYS = """Keys: cvl_v ccl_a dcl_a dvl_v (V, A, positive), soc soh (0..1), voltage_v current_a (positive charges)
temperature_degc modules_online manufacturer, charge_enabled discharge_enabled force_charge full_charge_requested
(true, false), alarms warnings (lists of names). A key that is missing is not known: frames that need it are not
written.

Names: general high_voltage low_voltage high_temperature low_temperature high_temperature_charge
low_temperature_charge high_charge_current high_discharge_current contactor short_circuit internal imbalance."""


@app.command(help=ENCODE_HELP.format(keys=ENCODE_KEYS))
@_explained
def encode(
    profile: Annotated[str, typer.Option(metavar="NAME", help="Inverter protocol, such as pylontech_lv.")],
    option: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Option of the profile, such as dlc=exact.")
    ] = None,
) -> None:
    from bmsd.traces import encode_stream

    encode_stream(sys.stdin, profile, option or [])
