"""What must fit together: a rack that can be wired, timed, precharged and switched, in the right units.

Each check reads settings by their path. One that needs a setting which is itself wrong says nothing; all others
still speak, so that a file is repaired in one go.
"""

from __future__ import annotations

from collections.abc import Iterator
from posixpath import normpath

from bmsd.config import curves, mapping
from bmsd.config.complaints import shown
from bmsd.config.described import settings
from bmsd.config.known import CLOSE, Check, Known, UnknownSettingError
from bmsd.config.orders import ORDERS, P
from bmsd.config.schema import MAX_SOCKET_PATH
from bmsd.model.layout import MAX_MODULES

LONGEST_PRECHARGE_S = 15.0
LONGEST_REACTION_S = 1.0
"""No limit may rest on data older than this when it is on the wire."""
INVERTER_PACING_S = 0.25
SHORTEST_PHASE_S = 0.05
LARGE_MODULE_CELLS = 16
LARGE_MODULE_POLL_S = 0.2
"""dbc/README.md, bus-time budget: 20 currents/s; boards of more than 16 cells need 0.2 s at 50 % bus load."""
HIGHEST_STRING_V = 1500.0
"""Low voltage by IEC 60038 ends here; contactor units measure up to 2097 V."""
MOST_C_RATE, LEAST_C_RATE = 20.0, 0.02
LEAST_DROP_AT_1C_V, MOST_DROP_AT_1C_V = 0.003, 0.5


def _lfp_defaults(get: Known) -> Iterator[str]:
    if get("cell.chemistry") == "lfp":
        return
    for path, found in settings().items():
        if found.lfp and not get.given(path):
            yield f"{path}: missing; its default is for lfp cells; expected {found.expected}: {found.meaning}"


def _lfp_sheet(get: Known) -> Iterator[str]:
    if get("cell.chemistry") != "lfp":
        return
    for path, low, high in (("cell.max_v", 3.5, 3.8), ("cell.min_v", 2.0, 3.0)):
        try:
            value = get(path)
        except UnknownSettingError:
            continue
        if not low <= value <= high:
            yield f"{path}: {value:g} V; expected {low:g}..{high:g} V: lfp cells have no other range"


def _modules(get: Known) -> Iterator[str]:
    strings, modules = get("layout.strings"), get("layout.modules_per_string")
    if strings * modules > MAX_MODULES:
        product = f"{modules} in each of {strings} strings are {strings * modules} boards"
        yield f"layout.modules_per_string: {product}; expected at most {MAX_MODULES} in all"


def _string_voltage(get: Known) -> Iterator[str]:
    series = get("layout.modules_per_string") * get("layout.cells_per_module")
    highest_v = series * get("cell.max_v")
    if highest_v > HIGHEST_STRING_V:
        many = f"{series} cells in series reach {highest_v:.0f} V"
        yield f"layout.modules_per_string: {many}; expected at most {HIGHEST_STRING_V:.0f} V"


def _module_addresses(get: Known) -> Iterator[str]:
    path = "layout.module_addresses"
    rows = get(path)
    if not rows:
        return
    flat = [address for row in rows for address in row]
    twice = sorted({address for address in flat if flat.count(address) > 1})
    if twice:
        yield f"{path}: {', '.join(map(str, twice))} given twice; expected every address once"
    strings, modules = get("layout.strings"), get("layout.modules_per_string")
    if len(rows) != strings or any(len(row) != modules for row in rows):
        shape = "lists of " + ", ".join(str(len(row)) for row in rows)
        yield f"{path}: {len(rows)} {shape}; expected {strings} lists (layout.strings) of {modules} each"


def _unit_addresses(get: Known) -> Iterator[str]:
    path = "layout.unit_addresses"
    addresses = get(path)
    if not addresses:
        return
    if len(set(addresses)) != len(addresses):
        yield f"{path}: {addresses}; expected every address once"
    if len(addresses) != get("layout.strings"):
        yield f"{path}: {len(addresses)} addresses; expected {get('layout.strings')} (layout.strings)"


def _cold_charge_alarm(get: Known) -> Iterator[str]:
    path = P + "charge_temperature_low_alarm_degc"
    error, sheet = get("limits.temperature_error_k"), get("cell.charge_min_degc")
    if get(path) < sheet + error - CLOSE:
        bound = f"{sheet + error:g} degC (cell.charge_min_degc {sheet:g} + limits.temperature_error_k {error:g})"
        yield f"{path}: {get(path):g} degC; expected at least {bound}: charging a frozen cell plates lithium"


def _hot_charge_alarm(get: Known) -> Iterator[str]:
    path = P + "charge_temperature_high_alarm_degc"
    error, sheet = get("limits.temperature_error_k"), get("cell.charge_max_degc")
    if get(path) > sheet - error + CLOSE:
        bound = f"{sheet - error:g} degC (cell.charge_max_degc {sheet:g} - limits.temperature_error_k {error:g})"
        yield f"{path}: {get(path):g} degC; expected at most {bound}"


def _c_rate(path: str) -> Check:
    def rate(get: Known) -> Iterator[str]:
        amps, capacity_ah = get(path), get("cell.capacity_ah")
        if not LEAST_C_RATE <= amps / capacity_ah <= MOST_C_RATE:
            bounds = f"{LEAST_C_RATE * capacity_ah:g}..{MOST_C_RATE * capacity_ah:g} A"
            yield (
                f"{path}: {amps:g} A; expected {bounds} for cell.capacity_ah {capacity_ah:g} Ah "
                f"({LEAST_C_RATE:g}..{MOST_C_RATE:g} C): is one of both in another unit?"
            )

    return rate


def _resistance(get: Known) -> Iterator[str]:
    ohm, capacity_ah = get("cell.resistance_ohm"), get("cell.capacity_ah")
    if not LEAST_DROP_AT_1C_V <= ohm * capacity_ah <= MOST_DROP_AT_1C_V:
        low, high = LEAST_DROP_AT_1C_V / capacity_ah, MOST_DROP_AT_1C_V / capacity_ah
        yield (
            f"cell.resistance_ohm: {ohm:g} ohm; expected {low:.2g}..{high:.2g} ohm for a cell of {capacity_ah:g} Ah: "
            "the sheet's mohm must be divided by 1000"
        )


def _breaking(get: Known) -> Iterator[str]:
    carried_a = min(get("string.fuse_a"), get("string.contactor_a"))
    highest_a = min(max(get("cell.charge_max_a"), get("cell.discharge_max_a")), carried_a)
    factor = get(P + "over_current_trip_factor")
    for name in ("contactor_break_a", "contactor_break_charge_a"):
        break_a = get(f"string.{name}")
        if break_a >= factor * highest_a - CLOSE or (break_a == 0.0 and name == "contactor_break_charge_a"):
            continue
        yield (
            f"string.{name}: {break_a:g} A; expected at least {factor * highest_a:g} A: the string opens at "
            f"{factor:g} (protection.over_current_trip_factor) times its highest current of {highest_a:g} A"
        )


def _precharge(get: Known) -> Iterator[str]:
    ohm, farad = get("string.precharge_ohm"), get("string.bus_capacitance_f")
    takes_s = 5.0 * ohm * farad
    if takes_s > LONGEST_PRECHARGE_S + CLOSE:
        most_ohm = LONGEST_PRECHARGE_S / (5.0 * farad)
        yield (
            f"string.precharge_ohm: {ohm:g} ohm with string.bus_capacitance_f {farad:g} F takes {takes_s:.3g} s (5RC); "
            f"expected at most {LONGEST_PRECHARGE_S:g} s: at most {most_ohm:.3g} ohm"
        )


def _precharge_energy(get: Known) -> Iterator[str]:
    farad, stands_j = get("string.bus_capacitance_f"), get("string.precharge_energy_j")
    highest_v = get("layout.modules_per_string") * get("layout.cells_per_module") * get("cell.max_v")
    takes_j = 0.5 * farad * highest_v**2
    if 0.0 < stands_j < takes_j:
        yield (
            f"string.precharge_energy_j: {stands_j:g} J; expected at least {takes_j:.0f} J: what charging "
            f"string.bus_capacitance_f {farad:g} F to {highest_v:.1f} V takes"
        )


def _reaction(get: Known) -> Iterator[str]:
    poll_s, tick_s = get("timing.poll_s"), get("timing.tick_s")
    total_s = 3.0 * poll_s + tick_s + INVERTER_PACING_S
    if total_s > LONGEST_REACTION_S + CLOSE:
        longest_s = (LONGEST_REACTION_S - INVERTER_PACING_S - tick_s) / 3.0
        yield (
            f"timing.poll_s: {poll_s:g} s with timing.tick_s {tick_s:g} s; expected at most {longest_s:.3g} s: a "
            f"silent board must mean zero limits on the wire within {LONGEST_REACTION_S:g} s, now {total_s:.3g} s"
        )


def _bus_time(get: Known) -> Iterator[str]:
    poll_s, phases = get("timing.poll_s"), get("timing.current_phases")
    if poll_s / phases < SHORTEST_PHASE_S - CLOSE:
        most = int(poll_s / SHORTEST_PHASE_S + CLOSE)
        yield f"timing.current_phases: {phases}; expected at most {most} in timing.poll_s {poll_s:g} s (20 currents/s)"


def _large_modules(get: Known) -> Iterator[str]:
    poll_s, cells = get("timing.poll_s"), get("layout.cells_per_module")
    if cells > LARGE_MODULE_CELLS and poll_s < LARGE_MODULE_POLL_S - CLOSE:
        yield (
            f"timing.poll_s: {poll_s:g} s; expected at least {LARGE_MODULE_POLL_S:g} s with {cells} cells per module: "
            "the bus would be taken for more than half of its time"
        )


def _channel(section: str) -> Check:
    def channel(get: Known) -> Iterator[str]:
        path = f"{section}.channel"
        kind, name = get(f"{section}.interface"), get(path)
        if kind == "socketcan" and (len(name) > 15 or "/" in name or any(c.isspace() for c in name)):
            yield f"{path}: {shown(name)}; expected the name of a network interface, for example can0"
        if kind == "unix" and len(name.encode()) > MAX_SOCKET_PATH:
            yield f"{path}: {len(name.encode())} bytes; expected a path of at most {MAX_SOCKET_PATH} bytes"

    return channel


def _two_buses(get: Known) -> Iterator[str]:
    field = (get("fieldbus.interface"), get("fieldbus.channel"))
    if field[0] == get("inverter.interface") and normpath(field[1]) == normpath(get("inverter.channel")):
        yield (
            f"inverter.channel: {shown(field[1])} is the field bus (fieldbus.channel), too; expected a bus of its own: "
            "the inverter's load must not delay the boards"
        )


def _socket(path: str) -> Check:
    def socket(get: Known) -> Iterator[str]:
        if len(get(path).encode()) > MAX_SOCKET_PATH:
            yield f"{path}: {len(get(path).encode())} bytes; expected a path of at most {MAX_SOCKET_PATH} bytes"

    return socket


def _two_sockets(get: Known) -> Iterator[str]:
    if normpath(get("link.socket")) == normpath(get("link.service_socket")):
        yield "link.service_socket: the same as link.socket; expected a path of its own: its group may reset faults"


def _socket_of_a_bus(path: str, section: str) -> Check:
    def taken(get: Known) -> Iterator[str]:
        hub = get(f"{section}.interface") == "unix" and normpath(get(f"{section}.channel"))
        if hub == normpath(get(path)):
            yield f"{path}: {shown(get(path))} is the socket of {section}.channel, too; expected a path of its own"

    return taken


def _heartbeat_output(get: Known) -> Iterator[str]:
    chip, line = get("heartbeat_output.chip"), get("heartbeat_output.line")
    if chip and get("heartbeat_output.feedback_line") == line:
        yield f"heartbeat_output.feedback_line: {line} is heartbeat_output.line, too; expected a line of its own"
    if chip and get("fieldbus.listen_only"):
        yield f"heartbeat_output.chip: {shown(chip)}; expected none with fieldbus.listen_only: nothing is controlled"


CHECKS: tuple[Check, ...] = (
    *(order.complaints for order in ORDERS),
    _lfp_defaults,
    _lfp_sheet,
    _c_rate("cell.charge_max_a"),
    _c_rate("cell.discharge_max_a"),
    _resistance,
    _cold_charge_alarm,
    _hot_charge_alarm,
    *curves.CHECKS,
    *mapping.CHECKS,
    _modules,
    _string_voltage,
    _module_addresses,
    _unit_addresses,
    _breaking,
    _precharge,
    _precharge_energy,
    _reaction,
    _bus_time,
    _large_modules,
    _channel("fieldbus"),
    _channel("inverter"),
    _two_buses,
    _socket("link.socket"),
    _socket("link.service_socket"),
    _two_sockets,
    _heartbeat_output,
    *(
        _socket_of_a_bus(f"link.{name}", bus)
        for name in ("socket", "service_socket")
        for bus in ("fieldbus", "inverter")
    ),
)


def complaints(get: Known) -> list[str]:
    """Return what does not fit together, of everything that can still be judged."""
    return [line for check in CHECKS for line in asked(check, get)]


def asked(check: Check, get: Known) -> list[str]:
    """Return what this check says; nothing when it needs a setting that is itself wrong."""
    try:
        return list(check(get))
    except UnknownSettingError:
        return []
