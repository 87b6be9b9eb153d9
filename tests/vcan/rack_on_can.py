"""A whole rack on vcan0 and vcan1: one configuration, the simulator and the daemon as real processes."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.vcan.processes import Running, until

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "deploy" / "vcan.toml"


class RackOnCan:
    """The rack of deploy/vcan.toml with state and sockets below `folder`, and some settings changed.

    rack = RackOnCan(tmp_path, {"layout.modules_per_string": 4, "sim.soc0": 0.9, "sim.mishap": [{"kind": ...}]})
    with rack.simulator(), rack.daemon() as daemon, Candump("vcan1") as inverter:
        inverter.wait_for(0x351, within_s=10.0)
    """

    def __init__(self, folder: Path, changes: Mapping[str, Any] | None = None) -> None:
        self.folder = folder
        self.file = folder / "rack.toml"
        settings = tomllib.loads(EXAMPLE.read_text())
        settings["state"]["directory"] = str(folder)
        settings["link"] = {name: str(folder / f"{name}.sock") for name in settings["link"]}
        for path, value in (changes or {}).items():
            *tables, name = path.split(".")
            table = settings
            for part in tables:
                table = table.setdefault(part, {})
            table[name] = value
        self.file.write_text("\n".join(_toml(settings)) + "\n")

    def simulator(self) -> Running:
        """Boards and contactor units on vcan0, the inverter on vcan1; runs inside a `with`."""
        return Running("bmsd", "sim", "-c", str(self.file))

    def daemon(self, *, executed: bool = False) -> Running:
        """The control process; runs inside a `with`."""
        return Running("bmsd", "run", "-c", str(self.file), executed=executed)

    def status(self) -> dict[str, Any] | None:
        """Return what `bmsd status --json` says now; None when no control process answers."""
        with Running("bmsd", "status", "--json", "-c", str(self.file)) as asked:
            return json.loads(asked.output) if asked.process.wait(30.0) == 0 else None

    def status_when(self, fits: Any, within_s: float, what: str) -> dict[str, Any]:
        """Ask for the status until `fits(status)` is true and return it. AssertionError shows the last one."""
        last: dict[str, Any] | None = None

        def asked() -> dict[str, Any] | None:
            nonlocal last
            last = self.status()
            return last if last is not None and fits(last) else None

        try:
            found = until(asked, within_s, what)
        except AssertionError as error:
            raise AssertionError(f"{error}; last status: {json.dumps(last)}") from None
        assert found is not None
        return found


def _toml(settings: Mapping[str, Any], path: str = "") -> list[str]:
    """Return the lines of a TOML file: values of a table first, then its tables, then its lists of tables."""
    tables = {name: value for name, value in settings.items() if isinstance(value, Mapping)}
    lists = {name: value for name, value in settings.items() if _is_list_of_tables(value)}
    # A JSON string, number, boolean or list of these is also TOML.
    lines = [f"{name} = {json.dumps(value)}" for name, value in settings.items() if name not in {*tables, *lists}]
    for name, table in tables.items():
        lines += ["", f"[{path}{name}]", *_toml(table, f"{path}{name}.")]
    for name, rows in lists.items():
        for row in rows:
            lines += ["", f"[[{path}{name}]]", *_toml(row, f"{path}{name}.")]
    return lines


def _is_list_of_tables(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, Mapping) for row in value)
