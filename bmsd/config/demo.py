"""The configuration of the demo: a small rack on the socket hub, as a file that the real programs read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

CELLS = 16
"""Cells of a module."""
HIGHEST_V = 3.65
"""Of a cell."""


@dataclass(frozen=True)
class Outlets:
    """Where the demo's gateway can be looked at: ports on this computer; broker None: no MQTT."""

    web: int = 8080
    modbus: int = 1502
    broker: tuple[str, int] | None = None
    mqtt_version: str = "5"


def demo_toml(
    strings: int,
    modules: int,
    field_channel: str,
    inverter_channel: str,
    state_dir: Path | str,
    outlets: Outlets | None = None,
) -> str:
    """Return the configuration of a simulated rack of `modules` modules of `CELLS` cells in each of `strings` strings.

    The channels are paths of the hub's sockets; state file and link sockets are in `state_dir` (absolute).
    The counts are not checked here: `parse` does that.
    """
    outlets = outlets or Outlets()
    return (
        _rack(strings, modules)
        + _edges(modules, (field_channel, inverter_channel), Path(state_dir), outlets)
        + _sim(strings)
    )


def _rack(strings: int, modules: int) -> str:
    return f"""\
# A simulated rack: this file is read by the daemon and by the simulator.
[rack]
name = "demo"

[layout]
strings = {strings}
modules_per_string = {modules}
cells_per_module = {CELLS}
sensors_per_module = 4

[cell]
chemistry = "lfp"
capacity_ah = 280.0
max_v = {HIGHEST_V}
min_v = 2.5
charge_max_a = 140.0
discharge_max_a = 140.0
charge_min_degc = 0.0
charge_max_degc = 55.0
discharge_min_degc = -20.0
discharge_max_degc = 60.0
resistance_ohm = 0.00025

[string]
fuse_a = 200.0
contactor_a = 250.0
contactor_break_a = 1000.0
precharge_ohm = 10.0

# Quicker than a real rack should be: in a demo nobody waits for minutes.
[limits]
rise_a_per_s_per_100a = 5.0
hold_after_zero_s = 1.0

"""


def _edges(modules: int, channels: tuple[str, str], folder: Path, outlets: Outlets) -> str:
    host, port = outlets.broker or ("127.0.0.1", 1883)
    scale = 0.01 if modules * CELLS * HIGHEST_V <= 327.67 else 0.1
    return f"""\
[fieldbus]
interface = "unix"
channel = {json.dumps(channels[0])}

[inverter]
interface = "unix"
channel = {json.dumps(channels[1])}
profile = "pylontech_lv"
options = {{ voltage_scale = {scale} }}

[state]
directory = {json.dumps(str(folder))}

[link]
socket = {json.dumps(str(folder / "link.sock"))}
service_socket = {json.dumps(str(folder / "service.sock"))}

[modbus]
port = {outlets.modbus}

[mqtt]
enabled = {json.dumps(outlets.broker is not None)}
host = {json.dumps(host)}
port = {port}
version = {json.dumps(outlets.mqtt_version)}
period_s = 1.0

[web]
port = {outlets.web}

"""


def _sim(strings: int) -> str:
    return f"""\
# Nearly full and not well balanced, so that the top is reached within seconds.
[sim]
soc0 = 0.972
soc0_spread = 0.007

[sim.bus]
precharge_ohm = 10.0

[sim.inverter]
profile = "square"
charge_a = {100.0 * strings}
discharge_a = {100.0 * strings}
period_s = 32.0
boot_s = 3.0
"""
