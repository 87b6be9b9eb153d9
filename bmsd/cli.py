"""The commands: arguments only; every body is imported when it runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from bmsd.errors import CANNOT, CONFIGURATION, USAGE, BmsdError, ConfigError

app = typer.Typer(
    name="bmsd",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _show_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"bmsd {version('bmsd')}")
        raise typer.Exit


Seconds = Annotated[float | None, typer.Option("--for", min=0.0, metavar="SECONDS", help="End after this time.")]
SomeConfig = Annotated[Path | None, typer.Option("--config", "-c", metavar="FILE", help="Configuration.")]
SomeLink = Annotated[Path | None, typer.Option(metavar="SOCKET", help="Link socket of the control process.")]
ConfigFile = Annotated[Path, typer.Option("--config", "-c", metavar="FILE", help="Configuration of the rack (TOML).")]


@app.callback(invoke_without_command=False)
def _all(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Print it.")
    ] = False,
) -> None:
    """Rack BMS daemon: module boards and contactor units on one CAN bus, inverters on the other."""
    del version


def main() -> None:
    """Run a command; what is the installer's or the wire's fault ends with a sentence, not with a traceback."""
    app()


def _explained(command: Callable[..., None], wrong: int = USAGE) -> Callable[..., None]:
    """Turn errors that bmsd explains into lines on stderr and an exit code; `wrong` is that of a ConfigError."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except ConfigError as error:
            for complaint in error.complaints:
                typer.echo(complaint, err=True)
            raise typer.Exit(wrong) from error
        except BmsdError as error:
            typer.echo(str(error), err=True)
            raise typer.Exit(CANNOT) from error
        except BrokenPipeError:
            # nobody reads any more: what is still buffered goes nowhere, without another complaint at the exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(CANNOT) from None

    return run


def _of_file(command: Callable[..., None]) -> Callable[..., None]:
    """As `_explained`, for a command that is about nothing but the configuration."""
    return _explained(command, CONFIGURATION)


@app.command(short_help="Control a rack.")
def run(config: ConfigFile) -> None:
    """Run the control process: poll the boards, protect the cells, tell the inverter its limits.

    Runs until SIGTERM or Ctrl-C: then limits go to zero, contactors open without current, the state is saved. The
    log is on standard error. Exit code 78: the configuration is wrong; 1: the link socket cannot be had; 70: a
    defect of bmsd, limits were set to zero before it left.
    """
    from bmsd.control.daemon import run_file
    from bmsd.serving import serving

    raise typer.Exit(serving(run_file, config))


@app.command(short_help="Serve what control publishes.")
def gateway(config: ConfigFile) -> None:
    """Run the gateway process: Modbus, MQTT, REST and metrics, as the configuration asks for.

    It takes everything from the control process through its link socket, and says so when that does not answer.
    Runs until SIGTERM or Ctrl-C. Exit code 78: its part of the configuration is wrong; 1: a port cannot be had;
    70: a defect of bmsd.
    """
    from bmsd.gateway.app import run_file
    from bmsd.serving import serving

    raise typer.Exit(serving(run_file, config, "bmsd-gateway"))


@app.command(short_help="Control and gateway together.")
def up(config: ConfigFile) -> None:
    """Run control and gateway as two processes, for a container. The end of either ends both.

    SIGTERM or Ctrl-C stops control first, in order. Exit code 78: the configuration is wrong; otherwise that of the
    process that ended first, 1 when it ended by itself without an error.
    """
    from bmsd.serving import serving
    from bmsd.up import run_file

    raise typer.Exit(serving(run_file, config))


@app.command(short_help="Whether control and gateway work now.")
@_explained
def health(config: ConfigFile) -> None:
    """Say in one line whether control and gateway work now. Exit code 0: both do; 1: the line says what does not.

    For whoever watches a container. A fault of the rack is not one of bmsd: it stays healthy.
    """
    from bmsd.health import show_health

    show_health(config)


@app.command(short_help="Check a configuration.")
@_of_file
def check(config: Annotated[Path, typer.Argument(metavar="FILE", help="Configuration of the rack (TOML).")]) -> None:
    """Check a configuration: all complaints at once (exit code 78), or a few lines that say what it describes.

    Notes on standard error do not make a configuration wrong: they are about this computer, or about something that
    is asked for in one table and not allowed in another.
    """
    from bmsd.config.gateway import notes, outlets
    from bmsd.config.load import load_gateway
    from bmsd.control.composition import checked_whole

    rack, gateway = checked_whole(config), load_gateway(config)
    for line in (*rack.summary(), outlets(gateway)):
        typer.echo(line)
    for note in (*rack.notes(), *notes(gateway)):
        typer.echo(f"note: {note}", err=True)


@app.command(short_help="Simulate the rack of a configuration.")
@_of_file
def sim(
    config: ConfigFile,
    seconds: Seconds = None,
) -> None:
    """Simulate the rack of a configuration on its own buses: boards, contactor units, inverter.

    The table [sim] says what the simulated rack is like and what goes wrong: docs/simulator.md. Runs until SIGTERM
    or Ctrl-C.
    """
    from bmsd.simulate import run_file

    run_file(config, seconds)


@app.command(short_help="Rack and core on simulated time.")
@_explained
def simulate(
    scenario: Annotated[Path, typer.Option("--scenario", "-s", metavar="FILE", help="Scenario (TOML).")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write rows to this .csv or .parquet file.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Run a scenario: a simulated rack and the core that decides, in one process, faster than the clock.

    No bus, no hardware. Scenarios and the columns of the output: docs/simulation.md, deploy/scenarios. It prints how
    long was simulated and how fast, and how the rack was at the end.
    """
    from bmsd.lab.simulate import run_file

    for line in run_file(scenario, output, as_json=as_json):
        typer.echo(line)


study = typer.Typer(name="study", no_args_is_help=True, help="Answer a question by simulation.", rich_markup_mode=None)
app.add_typer(study, short_help="Answer a question by simulation.")


@study.command(short_help="What is balancing worth?")
@_explained
def balancing(
    years: Annotated[float, typer.Option(metavar="N", help="Years of daily solar cycling.")] = 2.0,
    capacity_ah: Annotated[float, typer.Option("--capacity-ah", metavar="AH", help="Capacity of a cell.")] = 100.0,
    strategy: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="none, passive, active, hybrid; may be repeated; left out: all."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Seed of cells and weather.")] = 1,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="A plot (.png) or every day (.csv).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Compare no, passive, active (1 A and 2 A) and hybrid balancing of a string of 8 modules of 16 cells.

    Usable capacity, lost energy, spread, early ends of charge and discharge, and how long until it is balanced.
    Two years of all strategies take a few minutes. What is assumed: docs/simulation.md.
    """
    from bmsd.lab.study import run_balancing

    def told(share: float) -> None:
        if sys.stderr.isatty():
            typer.echo(f"\r{100.0 * share:.0f} %", err=True, nl=share >= 1.0)

    for line in run_balancing(
        years=years,
        capacity_ah=capacity_ah,
        names=strategy or [],
        seed=seed,
        output=output,
        as_json=as_json,
        told=told,
    ):
        typer.echo(line)


@app.command(short_help="Simulated rack and real control on this computer.")
@_explained
def demo(
    seconds: Seconds = None,
    strings: Annotated[int, typer.Option(min=1, max=8, metavar="N", help="Strings in parallel, 1..8.")] = 1,
    modules: Annotated[
        int, typer.Option(min=1, max=32, metavar="N", help="Modules in series in each string; 32 in the whole rack.")
    ] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Show nothing; print the last snapshot as JSON.")] = False,
    port_base: Annotated[
        int | None,
        typer.Option(
            "--port-base",
            min=1,
            max=65533,
            metavar="N",
            help="REST on port N, Modbus on N+1, MQTT on N+2; left out: the first that are free from 8480 on.",
        ),
    ] = None,
    mqtt: Annotated[
        str | None, typer.Option(metavar="HOST[:PORT]", help="Report to this MQTT broker instead of an embedded one.")
    ] = None,
) -> None:
    """Run a simulated rack and the real control and gateway on this computer, and show what happens.

    No hardware, no root, nothing is left behind. Ctrl-C ends it in order.
    """
    from bmsd.demo import run_demo

    run_demo(strings=strings, modules=modules, seconds=seconds, as_json=as_json, port_base=port_base, mqtt=mqtt)


@app.command(short_help="Show what control does now.")
@_explained
def status(
    config: SomeConfig = None,
    link: SomeLink = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one snapshot as JSON.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Go on showing until Ctrl-C.")] = False,
) -> None:
    """Show what control does now: rack, worst cells, limits with their reasons, strings, faults, buses.

    Without --config and --link it asks at /run/bmsd/link.sock.
    """
    from bmsd.show import show_status

    show_status(config, link, as_json=as_json, watch=watch)


@app.command(short_help="Why no more current may flow.")
@_explained
def why(
    config: SomeConfig = None,
    link: SomeLink = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Show every bound of the charge and of the discharge, the tightest first, and what the guard vetoed.

    Without --config and --link it asks at /run/bmsd/link.sock.
    """
    from bmsd.show import show_reasons

    show_reasons(config, link, as_json=as_json)


@app.command(short_help="What happened to the rack.")
@_explained
def events(
    config: SomeConfig = None,
    link: SomeLink = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per event.")] = False,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until Ctrl-C.")] = False,
) -> None:
    """Show the events that control still keeps: those that no gateway has acknowledged, at most 1024.

    Without --config and --link it asks at /run/bmsd/link.sock.
    """
    from bmsd.show import show_events

    show_events(config, link, as_json=as_json, follow=follow)


@app.command(short_help="Acknowledge a latched fault.")
@_explained
def reset(
    code: Annotated[
        str,
        typer.Argument(
            metavar="CODE",
            help="The fault, such as CEL-003; trip: of a board or unit; contactors: locked strings; or all.",
        ),
    ],
    config: ConfigFile,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why; faults that service acknowledges need it.")] = "",
) -> None:
    """Acknowledge a latched fault through the service socket. It clears only if its cause is gone by then."""
    from bmsd.show import ask_reset

    ask_reset(config, code, reason)


@app.command(short_help="Close the strings.")
@_explained
def connect(config: ConfigFile) -> None:
    """Ask for closed strings: after `disconnect`, or after bmsd was interrupted and found them open."""
    from bmsd.show import ask_connect

    ask_connect(config, closed=True)


@app.command(short_help="Open the strings in order.")
@_explained
def disconnect(config: ConfigFile) -> None:
    """Open all strings in order: limits to zero, wait for the current, open. They stay open, also after a restart."""
    from bmsd.show import ask_connect

    ask_connect(config, closed=False)


@app.command(short_help="List the faults that bmsd knows.")
@_explained
def faults(
    code: Annotated[
        str | None, typer.Argument(metavar="CODE", help="One fault, such as CEL-003; all when left out.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", metavar="FILE", help="Show its thresholds instead of their names.")
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the table of the manual.")] = False,
) -> None:
    """List the faults that bmsd knows: what each means, what bmsd does, what clears it."""
    from bmsd.manual import fault_lines

    for line in fault_lines(code, config, markdown=markdown):
        typer.echo(line)


@app.command(short_help="List the Modbus registers.")
@_explained
def points(
    config: Annotated[
        Path | None, typer.Option("--config", "-c", metavar="FILE", help="Only what the rack of this file has.")
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Every register as CSV.")] = False,
    as_html: Annotated[bool, typer.Option("--html", help="Every register as a page.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Every register as JSON.")] = False,
) -> None:
    """List the Modbus registers: address from 0, holding register, type, w: may be written, unit, name, meaning.

    An address never moves. Without --csv, --html or --json, places that are alike are listed once.
    """
    from bmsd.register_map import show

    for text in show(config, {"csv": as_csv, "html": as_html, "json": as_json}):
        typer.echo(text)


@app.command(short_help="Print the JSON schema of the configuration.")
@_explained
def schema() -> None:
    """Print the JSON schema of the configuration, for editors."""
    from bmsd.config.export import json_schema

    typer.echo(json_schema(), nl=False)


FIT_CELL_HELP = """Fit a cell specification from measured series.

Series are CSV with a header: t_s,current_a,voltage_v,temperature_degc and, where it is known, soc; current positive
charges, any further columns are left alone. --ocv are slow charges and discharges over the whole capacity, --dynamic
anything with changing current. Several files follow each option. Beside the output a report and plots are written.

  bmsd fit-cell --ocv slow-25.csv slow-5.csv --dynamic drive-25.csv -o cell.toml
"""


@app.command(
    "fit-cell",
    help=FIT_CELL_HELP,
    short_help="Fit a cell to measured series.",
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    add_help_option=False,
)
@_explained
def fit_cell(context: typer.Context) -> None:
    from bmsd.lab.arguments import fit_cell_arguments
    from bmsd.lab.fit_cell import fit_cell as fitted

    given = fit_cell_arguments(context.args, FIT_CELL_HELP)
    volts = (given.min_v, given.max_v)
    for line in fitted(given.ocv, given.dynamic, given.output, given.capacity_ah, volts, plots=not given.no_plots):
        typer.echo(line)


@app.command(short_help="Estimate SoC, resistance and power of a measured series.")
@_explained
def estimate(
    series: Annotated[Path, typer.Argument(metavar="IN.csv", help="t_s,current_a,voltage_v,temperature_degc.")],
    cell: Annotated[Path, typer.Option(metavar="FILE", help="Cell specification, such as fit-cell writes.")],
    capacity_ah: Annotated[float, typer.Option(min=0.01, metavar="AH", help="Capacity of this cell.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="OUT.csv", help="Where to write.")],
    soc0: Annotated[float | None, typer.Option(min=0.0, max=1.0, help="State of charge at the start.")] = None,
    soc0_sigma: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="Its standard deviation; 0.1 when left out.")
    ] = None,
    current_bias_a: Annotated[
        float, typer.Option(metavar="A", help="Known offset of the current: reading minus truth, positive charges.")
    ] = 0.0,
) -> None:
    """Run a measured series of one cell through the estimators of the control loop.

    Current positive charges. The output has a line for every one that was taken: t_s, soc and soc_sigma (0..1),
    r10_ohm at the SoC and temperature of then, bias_a (reading minus truth of the current), and the currents that could
    flow for 10 s, sop10_charge_a and sop10_discharge_a. What was rejected is told, and why.
    """
    from bmsd.lab.estimate import Start, run_file

    start = Start(soc0, soc0_sigma, current_bias_a)
    for line in run_file(series, cell, capacity_ah, output, start, lambda told: typer.echo(told, err=True)):
        typer.echo(line)


@app.command(short_help="Remaining life of a cell from a log of its capacity.")
@_explained
def life(
    log: Annotated[Path, typer.Argument(metavar="LOG.csv", help="capacity_ah, and days or date.")],
    capacity_ah: Annotated[float, typer.Option(min=0.01, metavar="AH", help="Nominal capacity of this cell.")],
    cell: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Cell specification with [ageing]; else what LFP cells do.")
    ] = None,
    end: Annotated[
        float | None, typer.Option(min=0.4, max=0.95, help="End of life, share; else that of the cell: 0.8.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="The forecast, .csv or .png.")
    ] = None,
) -> None:
    """Tell how long a cell will last, from a log of its capacity, by the law that the control loop uses.

    Columns: capacity_ah, and days since the first use or date (2026-11-26); where they are known cycles (equivalent
    full ones so far), temperature_degc (mean since the row before), resistance_ohm, capacity_sigma_ah. Four rows over
    91 days at least. The cell is taken to be used on as in its last year. Without cycles all loss counts as one of
    time, which slows down: tell them of a cell that is used.
    """
    from bmsd.config.cell_file import load
    from bmsd.lab import life as lab
    from bmsd.lab.capacity_log import read
    from bmsd.lab.table import check_output, refuse
    from bmsd.model.cell import Ageing

    refuse([] if output is None else check_output(output, lab.OUTPUTS))
    ageing = Ageing() if cell is None else load(cell).model.ageing
    taken, threshold = read(log, capacity_ah), end or ageing.end_of_life
    for line in lab.answer(taken, capacity_ah, ageing, threshold):
        typer.echo(line)
    if output is not None:
        lab.write(taken, capacity_ah, ageing, threshold, output)


DECODE_HELP = """Read candump lines on standard input, write one JSON object per frame.

Lines may be of `candump -L` or of the screen. Lines that are no frame are told at the end (exit code 2); all others
are decoded. Example:

  candump can1 | bmsd decode --profile pylontech_lv
"""


@app.command(help=DECODE_HELP, short_help="CAN trace to JSON.")
@_explained
def decode(
    profile: Annotated[
        str | None, typer.Option(metavar="NAME", help="Inverter protocol, such as pylontech_lv.")
    ] = None,
    dbc: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Any DBC file, such as dbc/slave.dbc, instead.")
    ] = None,
    id_mask: Annotated[
        str | None,
        typer.Option(metavar="HEX", help="With --dbc: bits of 29-bit identifiers that count (J1939: 3FFFF00)."),
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


@app.command(help=ENCODE_HELP.format(keys=ENCODE_KEYS), short_help="JSON to CAN frames for an inverter.")
@_explained
def encode(
    profile: Annotated[str, typer.Option(metavar="NAME", help="Inverter protocol, such as pylontech_lv.")],
    option: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Option of the profile, such as dlc=exact.")
    ] = None,
) -> None:
    from bmsd.traces import encode_stream

    encode_stream(sys.stdin, profile, option or [])
