"""From a configuration file to the parts of a control process: what fits together is settled here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from bmsd.config.changed import Change, with_changes
from bmsd.config.known import Known, UnknownSettingError
from bmsd.config.load import Profiles, board_map, load, load_gateway, plant
from bmsd.config.load import checked as checked_tables
from bmsd.config.mapping import mapped_of
from bmsd.config.named_cell import NamedCell
from bmsd.config.schema import Settings
from bmsd.config.schema_mapped import Mapped
from bmsd.control.state_file import not_writable
from bmsd.errors import ConfigError
from bmsd.fieldbus.drivers.mapped.plan import Plan, plan
from bmsd.fieldbus.drivers.mapped.suits import Reach
from bmsd.inverters.profile import Profile, load_profile, profile_class, profile_names
from bmsd.model.board_map import Quantity
from bmsd.model.layout import Layout
from bmsd.model.plant import Plant

T = TypeVar("T")


@dataclass(frozen=True)
class Checked:
    """A configuration that has been checked as a whole, and what follows from it."""

    path: Path
    settings: Settings
    plant: Plant
    profile: Profile
    plan: Plan | None = None
    """What boards of another maker say, where they are mapped."""

    @property
    def state_directory(self) -> Path:
        return Path(self.settings.state.directory)

    @property
    def save_period_s(self) -> float:
        return self.settings.state.save_period_s

    @property
    def link_socket(self) -> Path:
        return Path(self.settings.link.socket)

    @property
    def service_socket(self) -> Path:
        return Path(self.settings.link.service_socket)

    def summary(self) -> Iterator[str]:
        """Yield what the configuration describes, in a few lines for a person."""
        layout, cell = self.plant.layout, self.plant.cell
        shape = f"{layout.strings} x {layout.modules} modules x {layout.cells} cells of {cell.capacity_ah:g} Ah"
        volts = tuple(v * layout.cells_in_series for v in (self.plant.charge.discharge_end_v, cell.max_v))
        charge_a = self.plant.string_charge_max_a * layout.strings
        discharge_a = self.plant.string_discharge_max_a * layout.strings
        bus, inverter = self.settings.fieldbus, self.settings.inverter
        yield f"{self.path}: valid"
        yield f"rack {self.plant.name}: {shape}, {volts[0]:.1f} to {volts[1]:.1f} V"
        yield f"at most {charge_a:g} A charge, {discharge_a:g} A discharge"
        if cell.fitted is not None:
            yield f"cell by {self.settings.cell.specification}: {cell.fitted.name}, {cell.fitted.capacity_ah:.4g} Ah"
        yield f"boards on {bus.interface} {bus.channel}, inverter on {inverter.interface} {inverter.channel}"
        yield f"inverter profile {self.profile.name}: {self.profile.title}"
        if self.plan is not None:
            yield from _mapped(self.settings.fieldbus.mapped, self.plan)
        if bus.listen_only:
            yield "monitor only: the field bus is listened to, nothing is sent, limits are not enforced"

    def notes(self) -> Iterator[str]:
        """Yield what does not stop bmsd and yet should be put right on this computer."""
        reason = not_writable(self.state_directory)
        if reason:
            yield f"state.directory: {reason}: latches, SoC and counters will not survive a restart"
        relay = self.settings.heartbeat_output
        if relay.chip and not Path(relay.chip).exists():
            then = "limits are zero, and strings open until service has looked (SYS-017)"
            yield f"heartbeat_output.chip: there is no {relay.chip}: {then}"
        if relay.chip and relay.feedback_line < 0:
            yield "heartbeat_output.feedback_line: none: whether the relay drops out is not known"


def checked(path: Path) -> Checked:
    """Return the checked configuration. ConfigError lists every complaint."""
    boards, cell = _Boards(path.parent), NamedCell(path.parent)
    settings = load(path, _profiles(), [boards.fit, cell.fit])
    inverter, rack = settings.inverter, plant(settings)
    rack = replace(rack, cell=replace(rack.cell, fitted=cell.model))
    return Checked(path, settings, rack, load_profile(inverter.profile, inverter.options), boards.plan)


def changed(rack: Checked, changes: list[Change]) -> Checked:
    """Return this rack with settings changed that may change while it runs. ConfigError lists what does not fit."""
    boards = _Boards(rack.path.parent)
    try:
        settings = checked_tables(with_changes(rack.settings, changes), _profiles(), [boards.fit])
    except ConfigError as error:
        why = "does not fit to what needs a restart"
        raise ConfigError(f"{complaint} ({why})" for complaint in error.complaints) from None
    fresh = plant(settings)
    return replace(
        rack, settings=settings, plant=replace(fresh, cell=replace(fresh.cell, fitted=rack.plant.cell.fitted))
    )


def _profiles() -> Profiles:
    return {name: profile_class(name).options_known for name in profile_names()}


def checked_whole(path: Path) -> Checked:
    """Return the checked configuration of which the gateway's tables are right as well. ConfigError lists all."""
    lines: dict[str, None] = {}
    rack = _collecting(lambda: checked(path), lines)
    _collecting(lambda: load_gateway(path), lines)
    if rack is None or lines:
        raise ConfigError(lines)
    return rack


def _collecting(check: Callable[[], T], lines: dict[str, None]) -> T | None:
    try:
        return check()
    except ConfigError as error:
        lines |= dict.fromkeys(error.complaints)
        return None


class _Boards:
    """Boards of another maker: their map, checked with the other settings, becomes the plan."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.plan: Plan | None = None

    def fit(self, get: Known) -> Iterator[str]:
        """The map must fit its DBC and the rack."""
        mapped = mapped_of(get)
        if mapped is None or not mapped.dbc:
            return
        names = ("strings", "modules_per_string", "cells_per_module", "sensors_per_module")
        layout = Layout(*(get(f"layout.{name}") for name in names))
        try:
            self.plan = plan(board_map(mapped, self._folder), layout, _reach(get))
        except ConfigError as error:
            yield from error.complaints


def _reach(get: Known) -> Reach:
    """What boards must at least be able to tell: protections must see their thresholds. What is unknown is left out."""
    reach = {}
    for quantity, low, high in (
        (Quantity.CELL_V, "cell_deep_discharge_v", "cell_over_voltage_critical_v"),
        (Quantity.TEMPERATURE_DEGC, "temperature_low_alarm_degc", "temperature_high_trip_degc"),
    ):
        with suppress(UnknownSettingError):
            reach[quantity] = (float(get(f"protection.{low}")), float(get(f"protection.{high}")))
    with suppress(UnknownSettingError):
        sheet_a = max(get("cell.charge_max_a"), get("cell.discharge_max_a"))
        carried_a = min(sheet_a, get("string.fuse_a"), get("string.contactor_a"))
        most_a = get("protection.over_current_trip_factor") * carried_a
        reach[Quantity.CURRENT_A] = (-most_a, most_a)
    return reach


def _mapped(mapped: Mapped, boards: Plan) -> Iterator[str]:
    """Yield what is mapped, and what enforces the limits."""
    ways = f"asked by {len(mapped.requests)} requests" if mapped.requests else "not asked: they send by themselves"
    yield f"boards by {mapped.dbc}: {len(boards.heard)} identifiers, {len(boards.slots)} contents; {ways}"
    if mapped.units == "slave":
        yield "contactor units of the slave protocol; the boards do not trip by themselves"
    elif mapped.accept_unenforced:
        yield "monitor only, accepted: the inverter is told limits, and nothing but itself enforces them"
    else:
        yield "monitor only: nothing would enforce a limit, the inverter is told zero; see accept_unenforced"
