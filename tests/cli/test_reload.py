"""The configuration read again while processes run: SIGHUP, good files and bad ones."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bmsd.control.composition import Checked, checked
from bmsd.control.reload import Reloaded, Reloader, reload
from bmsd.link.client import LinkClient
from bmsd.model.published import Hello
from tests.programs import Program, free_port, rack_file
from tests.service_manager import Manager

WARM = """
[protection]
charge_temperature_high_warning_degc = 21.0
charge_temperature_high_warning_clear_degc = 20.0
temperature_high_warning_degc = 21.0
temperature_high_warning_clear_degc = 20.0
"""


class Served:
    """A process with its manager and its file."""

    def __init__(self, program: Program, manager: Manager, config: Path) -> None:
        self.program, self.manager, self.config = program, manager, config
        self.text = config.read_text()

    def reload(self, text: str) -> str:
        """Write the file, send SIGHUP, wait for the end of the reload; return the status told with it."""
        self.config.write_text(text)
        self.manager.hear()
        began = len(self.manager.messages)
        self.program.process.send_signal(signal.SIGHUP)

        def done() -> bool:
            self.manager.hear()
            return any("READY" in message for message in self.manager.messages[began:])

        self.program.wait_for(done)
        told = self.manager.messages[began:]
        reloading = next(number for number, message in enumerate(told) if "RELOADING" in message)
        assert int(told[reloading]["MONOTONIC_USEC"]) > 0
        assert not any("READY" in message for message in told[:reloading])
        return next(message["STATUS"] for message in told if "READY" in message)

    def until_status(self, words: str) -> None:
        self.program.wait_for(lambda: words in self.manager.told("STATUS")[-1])


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(tmp_path / "notify", 2.0)
    yield manager
    manager.close()


def faults(link: Path) -> dict[str, bool]:
    """Codes of the faults that are raised, and whether they are latched."""
    client = LinkClient(link)
    try:
        return {fault.code: fault.latched for fault in client.newest(timeout_s=5.0).faults}
    finally:
        client.close()


def greeting(link: Path) -> Hello:
    client = LinkClient(link)
    client.close()
    return client.hello


def test_control_takes_a_good_file_keeps_the_last_good_one_and_names_what_needs_a_restart(
    manager: Manager, tmp_path: Path
) -> None:
    mishap = '[[sim.mishap]]\nkind = "offset"\ncell = 1\nvalue = 0.38\nstart_s = 2.0\nend_s = 60.0\n'
    config, link = rack_file(tmp_path, mishap), tmp_path / "link.sock"
    with Program(tmp_path, "sim", "-c", config) as sim:
        sim.wait_for((tmp_path / "field.sock").exists)
        with Program(tmp_path, "run", "-c", config, environment=manager.environment) as run:
            run.wait_for(link.exists)
            served, began = Served(run, manager, config), greeting(link)
            run.wait_for(lambda: faults(link).get("CEL-003"))
            assert "TMP-004" not in faults(link)

            served.reload(served.text + WARM)
            run.wait_for(lambda: "TMP-004" in faults(link))
            assert faults(link)["CEL-003"], "what is latched stays"
            assert "protection.temperature_high_warning_degc 21.0 (was 50.0)" in run.err
            now = greeting(link)
            assert (now.boot_id, now.configuration != began.configuration) == (began.boot_id, True)

            wrong = served.text.replace("max_v = 3.65", "max_v = 36.5").replace("strings = 1", "strings = 9")
            assert "the configuration file is wrong, the settings before hold: " in served.reload(wrong)
            served.until_status("layout.strings: 9; expected")
            run.wait_for(lambda: run.err.count("configuration.refused") == 1)
            assert "cell.max_v: 36.5; expected" in run.err
            assert "TMP-004" in faults(link)

            served.reload(served.text.replace("fuse_a = 200.0", "fuse_a = 20.0.0"))
            served.until_status("the settings before hold: rack.toml, line ")
            served.reload(served.text.replace("fuse_a = 200.0", "fuse_a = 180.0"))
            run.wait_for(lambda: "takes effect after a restart: string.fuse_a 180.0 (was 200.0)" in run.err)
            assert greeting(link).configuration == began.configuration
            run.wait_for(lambda: "wrong" not in manager.told("STATUS")[-1])
            served.reload(config.read_text() + '[log]\nlevel = "error"\n')
            said = run.err
            served.reload(config.read_text().replace('"error"', '"warning"'))
            run.wait_for(lambda: run.err != said)
            assert run.end() == 0
            assert "control.left" not in run.err, "the level of the log is in force"


def test_the_gateway_keeps_its_settings_and_names_what_needs_a_restart(manager: Manager, tmp_path: Path) -> None:
    config = rack_file(tmp_path)
    web = free_port()
    config.write_text(f"{config.read_text()}[modbus]\nenabled = false\n[web]\nport = {web}\n")
    with Program(tmp_path, "gateway", "-c", config, environment=manager.environment) as gateway:
        gateway.wait_for(lambda: manager.told("READY"))
        served = Served(gateway, manager, config)
        assert "web.port: 0; expected" in served.reload(served.text.replace(f"port = {web}", "port = 0"))
        served.reload(served.text.replace(f"port = {web}", "port = 9999") + '[log]\nlevel = "warning"\n')
        gateway.wait_for(lambda: f"web.port 9999 (was {web})" in gateway.err)
        assert "wrong" not in manager.told("STATUS")[-1]
        served.reload(config.read_text())
        assert gateway.err.count("was info") == gateway.err.count("log.level")
        assert gateway.end() == 0
        assert "gateway.left" not in gateway.err


def test_what_does_not_fit_to_what_needs_a_restart_is_refused_with_the_reason(tmp_path: Path) -> None:
    config = rack_file(tmp_path)
    rack = checked(config)
    text = config.read_text().replace("max_v = 3.65", "max_v = 3.8")
    config.write_text(f"{text}[protection]\ncell_over_voltage_trip_v = 3.76\ncell_over_voltage_critical_v = 3.9\n")
    assert checked(config).settings.protection.cell_over_voltage_trip_v == 3.76
    found = reload(rack)
    assert found.rack is rack
    assert found.complaints
    assert all(complaint.endswith("(does not fit to what needs a restart)") for complaint in found.complaints)
    config.unlink()
    assert reload(rack).complaints == (f"{config}: no such file",)


def test_what_is_asked_while_a_file_is_read_is_read_afterwards(tmp_path: Path) -> None:
    rack, begun, may_end = checked(rack_file(tmp_path)), [], threading.Event()

    def slow(running: Checked) -> Reloaded:
        begun.append(running)
        may_end.wait()
        return Reloaded(running)

    reloader = Reloader(slow)
    reloader.ask()
    assert reloader.step(rack) is None
    reloader.ask()
    assert reloader.step(rack) is None
    may_end.set()
    for reads in (1, 2):
        until_s = time.monotonic() + 10.0
        while (found := reloader.step(rack)) is None:
            assert time.monotonic() < until_s
        assert (found.rack, len(begun)) == (rack, reads)
    assert reloader.step(rack) is None
    assert len(begun) == 2
