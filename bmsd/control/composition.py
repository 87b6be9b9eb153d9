"""From a configuration file to the parts of a control process: what fits together is settled here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from bmsd.config.load import load, load_gateway, plant
from bmsd.config.schema import Settings
from bmsd.control.state_file import not_writable
from bmsd.errors import ConfigError
from bmsd.inverters.profile import Profile, load_profile, profile_class, profile_names
from bmsd.model.plant import Plant

T = TypeVar("T")


@dataclass(frozen=True)
class Checked:
    """A configuration that has been checked as a whole, and what follows from it."""

    path: Path
    settings: Settings
    plant: Plant
    profile: Profile

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
        yield f"boards on {bus.interface} {bus.channel}, inverter on {inverter.interface} {inverter.channel}"
        yield f"inverter profile {self.profile.name}: {self.profile.title}"
        if bus.listen_only:
            yield "monitor only: the field bus is listened to, nothing is sent, limits are not enforced"

    def notes(self) -> Iterator[str]:
        """Yield what does not stop bmsd and yet should be put right on this computer."""
        reason = not_writable(self.state_directory)
        if reason:
            yield f"state.directory: {reason}: latches, SoC and counters will not survive a restart"


def checked(path: Path) -> Checked:
    """Return the checked configuration. ConfigError lists every complaint."""
    profiles = {name: profile_class(name).options_known for name in profile_names()}
    settings = load(path, profiles)
    inverter = settings.inverter
    return Checked(path, settings, plant(settings), load_profile(inverter.profile, inverter.options))


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
