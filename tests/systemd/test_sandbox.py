"""What the sandboxes really deny: a probe runs in the very unit of each service, in the service's place."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest

from tests.systemd.served import CONTROL, GATEWAY, VENV, Served, Unit, run

pytestmark = pytest.mark.systemd

PROBE = Path("/opt/bmsd/probe.py")
OPEN = Path("/opt/bmsd/open-to-all")
SECRETS = Path("/etc/bmsd/credentials")

DENIED = {
    "packets": "EAFNOSUPPORT",
    "netlink": "EAFNOSUPPORT",
    "change what anybody may": "EROFS",
    "secrets of root": "EACCES",
    "homes": "EACCES",
    "other processes": "ENOENT",
    "kill the other": "EPERM",
    "be root": "EPERM",
    "set the clock": "EPERM",
    "mount": "EPERM",
    "namespace": "EPERM",
    "trace": "EPERM",
    "real time": "EPERM",
    "write what is run": "EPERM",
    "configuration": "done",
    "link": "done",
}
CONTROLS = DENIED | {
    "IPv4": "EAFNOSUPPORT",
    "IPv6": "EAFNOSUPPORT",
    "CAN": "done",
    "service": "done",
    "state of control": "done",
    "state of the gateway": "EACCES",
    "credential": "KeyError",
    "kernel log": "EACCES",
    "memory of the computer": "EACCES",
    "memory that is left": "done",
    "which boot it is": "done",
    "change the kernel": "EROFS",
    "serial line": "done",
    "lock memory": "done",
    "give a file away": "done",
}
GATEWAYS = DENIED | {
    "IPv4": "done",
    "IPv6": "done",
    "CAN": "EAFNOSUPPORT",
    "service": "EACCES",
    "state of control": "EACCES",
    "state of the gateway": "done",
    "credential": "done",
    "kernel log": "ENOENT",
    "memory of the computer": "ENOENT",
    "memory that is left": "ENOENT",
    "which boot it is": "ENOENT",
    "change the kernel": "ENOENT",
    "serial line": "ENOENT",
    "lock memory": "ENOMEM",
    "give a file away": "EPERM",
}


def probed(unit: Unit, other: Unit) -> dict[str, str]:
    """Run the probe in a copy of this unit; only what would take the service's own files away is changed."""
    text = Path("/usr/lib/systemd/system", unit.name).read_text()
    text = re.sub("^(ExecStart)=.*$", rf"\1={VENV}/bin/python -I {PROBE} {other.pid} {OPEN}", text, flags=re.MULTILINE)
    text = re.sub("^(ExecReload|WatchdogSec|RuntimeDirectory)=.*$", "", text, flags=re.MULTILINE)
    text = text.replace("CPUSchedulingPolicy=fifo", "").replace(
        "CPUSchedulingPriority=50", ""
    )  # control needs its turn
    text = text.replace("Type=notify", "Type=oneshot").replace("Restart=always", "Restart=no")
    name = f"probe-{unit.name}"
    Path("/run/systemd/system", name).write_text(text)
    began_s = time.time()
    run("systemctl", "daemon-reload")
    run("systemctl", "start", name)
    told = [entry["MESSAGE"] for entry in Unit(name).journal(began_s)]
    return dict(json.loads(next(line for line in told if line.startswith("{"))))


@pytest.fixture(autouse=True)
def _probe(running: Served) -> None:  # noqa: ARG001
    PROBE.write_text(Path(__file__).with_name("probe.py").read_text())
    PROBE.chmod(0o644)
    OPEN.touch()
    OPEN.chmod(0o666)
    secret = SECRETS / "secret"
    secret.write_text("open sesame")
    secret.chmod(0o600)


def test_the_sandboxes_deny_what_they_should_and_nothing_more() -> None:
    surroundings = ["env", "STATE_DIRECTORY=/run", "CREDENTIALS_DIRECTORY=/run"]
    free = json.loads(run(*surroundings, VENV / "bin/python", "-I", PROBE, str(GATEWAY.pid), OPEN))
    control, gateway = probed(CONTROL, GATEWAY), probed(GATEWAY, CONTROL)
    if free["IPv6"] != "done":  # a kernel without it
        gateway["IPv6"] = "done"
    assert control == CONTROLS
    assert gateway == GATEWAYS
    denied = {name for name in CONTROLS if "done" not in (CONTROLS[name], GATEWAYS[name])}
    assert {name for name in denied if free[name] != "done"} == set(), "the probe can do all that without a sandbox"
