"""What control says of itself when somebody connects."""

from __future__ import annotations

import threading
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from bmsd.config.demo import demo_toml
from bmsd.control.composition import Checked, checked
from bmsd.control.daemon import Control
from bmsd.link.client import LinkClient
from bmsd.model import catalogue
from bmsd.model.published import PROTOCOL, Hello


def rack(folder: Path, change: tuple[str, str] = ("", "")) -> Checked:
    folder.mkdir(exist_ok=True)
    file = folder / "rack.toml"
    file.write_text(demo_toml(2, 3, str(folder / "field"), str(folder / "inverter"), folder).replace(*change))
    return checked(file)


def hello(settings: Checked) -> Hello:
    """What control of this rack says."""
    control = Control(settings)
    control.open(time.monotonic())
    box: list[LinkClient] = []
    thread = threading.Thread(target=lambda: box.append(LinkClient(settings.link_socket)))
    thread.start()
    while thread.is_alive():
        control.turn(time.monotonic())
        thread.join(0.01)
    control.close()
    box[0].close()
    return box[0].hello


def test_hello_has_the_shape_of_the_rack_the_version_and_the_period(tmp_path: Path) -> None:
    said = hello(rack(tmp_path))
    assert (said.protocol, said.strings, said.modules, said.cells, said.sensors) == (PROTOCOL, 2, 3, 16, 4)
    assert (said.version, said.tick_s) == (version("bmsd"), 0.1)


def test_a_bmsd_that_is_not_installed_has_no_version_and_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("bmsd.control.records.version", unknown)
    assert hello(rack(tmp_path)).version == ""


def test_settings_have_a_fingerprint_that_follows_their_meaning(tmp_path: Path) -> None:
    first = hello(rack(tmp_path))
    again = hello(rack(tmp_path, ("contactor_a = 250.0", "contactor_a = 250 # A")))
    other = hello(rack(tmp_path, ("contactor_a = 250.0", "contactor_a = 251.0")))
    assert len(first.configuration) == 64
    assert first.configuration == again.configuration != other.configuration
    assert first.boot_id != again.boot_id


def test_the_rows_have_a_fingerprint_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = hello(rack(tmp_path))
    again = hello(rack(tmp_path))
    monkeypatch.setattr("bmsd.control.records.CATALOGUE", catalogue.CATALOGUE[1:])
    assert first.catalogue == again.catalogue != hello(rack(tmp_path)).catalogue
