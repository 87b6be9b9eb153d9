"""`bmsd health`: green while both processes work, red with the reason when one does not."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from pathlib import Path

from tests.cli.test_up import QUIET, child, rack
from tests.gateway.control_end import ControlEnd, record, wait_for
from tests.programs import Program, bmsd, command, free_port


def health(config: Path) -> tuple[int, str]:
    """Exit code and the one line that is said."""
    done = bmsd("health", "-c", config)
    (line,) = (done.stdout + done.stderr).splitlines()
    assert done.returncode == (0 if line.startswith("healthy: ") else 1)
    return done.returncode, line


def served(folder: Path) -> Path:
    """A rack whose gateway listens on all addresses."""
    return rack(folder, f'[modbus]\nenabled = false\n[web]\nhost = "0.0.0.0"\nport = {free_port()}\n')


def test_it_is_green_while_both_work_and_says_which_one_does_not(tmp_path: Path) -> None:
    config = served(tmp_path)
    with Program(tmp_path, "up", "-c", config) as up:

        def says(beginning: str, rest: str = "") -> str:
            """Ask until the answer is this one: a busy computer may make the first ones red."""

            def asked() -> str:
                line = health(config)[1]
                return line if line.startswith(beginning) and rest in line else ""

            return up.wait_for(asked)

        up.wait_for(lambda: "link.open" in up.err and "web.listening" in up.err and "rack.state" in up.err)
        line = says("healthy: control: initialising, ", "things missing: field bus")  # this rack has no buses
        assert line.endswith("; gateway: serves its records")

        control, gateway = child(up, "run"), child(up, "gateway")
        gateway.send_signal(signal.SIGSTOP)
        says("unhealthy: gateway: no answer from 127.0.0.1 port ")
        gateway.send_signal(signal.SIGCONT)
        control.send_signal(signal.SIGSTOP)
        line = says(f"unhealthy: control: {tmp_path}/link.sock: no record from bmsd: ", "; gateway: ")
        assert "; gateway: bmsd run has sent no record" in line or "; gateway: the link to bmsd run is lost" in line
        control.send_signal(signal.SIGCONT)
        says("healthy: ")
        assert up.end() == 0


def test_with_nothing_there_both_are_named(tmp_path: Path) -> None:
    code, line = health(served(tmp_path))
    assert code == 1
    assert f"{tmp_path}/link.sock: bmsd does not answer here" in line
    assert "gateway: no answer from 127.0.0.1" in line


def test_a_gateway_without_web_is_not_asked(tmp_path: Path) -> None:
    config = rack(tmp_path, QUIET)
    with Program(tmp_path, "run", "-c", config) as control:
        line = control.wait_for(lambda: said if (said := health(config)[1]).startswith("healthy: ") else "")
        assert line.endswith("; gateway: not asked, [web] is disabled")


def test_something_else_on_the_port_of_the_gateway_is_not_healthy(tmp_path: Path) -> None:
    config = served(tmp_path)
    port = config.read_text().rpartition("port = ")[2].strip()
    files = ["python3", "-m", "http.server", "--bind", "127.0.0.1", "--directory", str(tmp_path), port]
    with subprocess.Popen(files, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as other:
        try:
            wait_for(lambda: health(config)[1].endswith("; gateway: answers with status 404"))
        finally:
            other.kill()


def test_a_file_that_is_not_there_or_wrong_is_one_line_and_no_exit_code_of_its_own(tmp_path: Path) -> None:
    assert health(tmp_path / "none.toml")[0] == 1
    code, line = health(rack(tmp_path, "[web]\nport = 0\nhost = 1\n"))
    assert code == 1
    assert line.startswith("unhealthy: web.")


def test_a_record_that_comes_but_is_old_is_no_sign_of_life(tmp_path: Path) -> None:
    with ControlEnd(tmp_path) as control:
        control.publishing = False
        old = record(now_s=time.monotonic() - 5.0)
        asking = subprocess.Popen(
            command("health", "-c", rack(tmp_path, QUIET)), stderr=subprocess.PIPE, text=True
        )  # fmt: skip
        while asking.poll() is None:
            control.server.publish(old)
            time.sleep(0.05)
        assert asking.returncode == 1
        assert asking.stderr is not None
        assert re.search(
            r"^unhealthy: control: its newest record is \d+\.\d s old$", asking.stderr.read(), re.MULTILINE
        )
