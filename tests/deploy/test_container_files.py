"""Dockerfile and compose files: what they promise, and that they agree with each other. No engine is needed for it."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from bmsd.config.gateway import Mqtt
from tests.programs import ROOT, bmsd

DEPLOY = ROOT / "deploy"
DOCKERFILE = (ROOT / "Dockerfile").read_text()
DEMO = tomllib.loads((DEPLOY / "compose" / "demo.toml").read_text())
SERVICE_KEYS = {
    "build", "cap_add", "cap_drop", "command", "depends_on", "entrypoint", "environment", "extra_hosts", "healthcheck",
    "image", "init", "network_mode", "ports", "profiles", "read_only", "restart", "security_opt", "stop_grace_period",
    "tmpfs", "user", "volumes",
}  # fmt: skip
"""Of the compose specification, those that are used here: a slip of the pen is none of them."""


def compose(name: str) -> dict[str, Any]:
    """A compose file; what it takes back from another one is an empty list."""
    return dict(yaml.safe_load((DEPLOY / name).read_text().replace("!reset ", "")))


BASE, CAN = compose("compose.yaml"), compose("compose.can.yaml")
SERVICES: dict[str, dict[str, Any]] = BASE["services"]


def mounts(service: dict[str, Any]) -> dict[str, tuple[str, bool]]:
    """Place inside -> source, whether it is read-only."""
    found = {}
    for volume in service.get("volumes", []):
        source, inside, *mode = re.split(r":(?![-?])", volume)
        found[inside] = (source, mode == ["ro"])
    return found


def test_the_files_use_only_what_the_specification_knows() -> None:
    for file in (BASE, CAN):
        assert {key for key in file if not key.startswith("x-")} <= {"name", "services", "volumes"}
        for name, service in file["services"].items():
            assert service.keys() <= SERVICE_KEYS, name


def test_every_volume_is_declared_and_used_and_every_file_is_there() -> None:
    sources = [source for service in SERVICES.values() for source, _ in mounts(service).values()]
    assert {source for source in sources if not source.startswith(".")} == set(BASE["volumes"])
    assert [source for source in sources if source.startswith(".") and not (DEPLOY / source).exists()] == []
    for service in SERVICES.values():
        assert set(service.get("depends_on", {})) <= set(SERVICES)


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_confined_and_reachable_from_this_computer_only(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert set(service.get("cap_add", [])) == ({"CHOWN", "DAC_OVERRIDE"} if name == "secrets" else set())
    assert [port for port in service.get("ports", []) if not port.startswith("127.0.0.1:")] == []
    assert all(read_only for source, read_only in mounts(service).values() if source.startswith("."))
    assert re.fullmatch(r"bmsd:latest|[a-z/-]+:v?\d+(\.\d+)+", service["image"]), "pinned"


def test_the_rack_on_can_shares_the_hosts_interfaces_and_gets_no_right_for_it() -> None:
    rack = CAN["services"]["bmsd"]
    assert rack["network_mode"] == "host"
    assert "cap_add" not in rack
    assert list(mounts(rack)) == ["/etc/bmsd"]
    assert CAN["services"]["sim"]["profiles"], "not started"
    assert set(CAN["services"]) <= set(SERVICES)


def test_a_stop_is_given_more_time_than_both_processes_may_take() -> None:
    from bmsd.processes import STOP_WITHIN_S

    assert int(SERVICES["bmsd"]["stop_grace_period"].removesuffix("s")) >= 2 * STOP_WITHIN_S


def test_the_demo_is_valid_and_fits_what_surrounds_it() -> None:
    checked = bmsd("check", DEPLOY / "compose" / "demo.toml")
    assert checked.returncode == 0, checked.stderr
    inside = mounts(SERVICES["bmsd"])
    for path in (DEMO["state"]["directory"], *(DEMO[bus]["channel"] for bus in ("fieldbus", "inverter"))):
        assert any(path.startswith(mount) for mount in inside), path
    assert all(socket.startswith("/run/bmsd/") for socket in DEMO["link"].values())
    assert SERVICES["bmsd"]["tmpfs"] == ["/run/bmsd:mode=0750,uid=990,gid=990"]
    assert mounts(SERVICES["sim"])["/run/bmsd-bus"] == inside["/run/bmsd-bus"]
    ports = dict(port.split(":")[1:] for port in SERVICES["bmsd"]["ports"])
    assert ports == {"8080": "8080", "1502": "1502"}
    assert "port" not in DEMO["web"], "the default"
    assert "port" not in DEMO["modbus"], "the default"


def test_broker_rack_and_reader_agree() -> None:
    mqtt = DEMO["mqtt"]
    topic = f"bmsd/v1/{mqtt.get('tenant', Mqtt().tenant)}/{mqtt['site']}/{mqtt['rack']}/#"
    acl = (DEPLOY / "compose" / "mosquitto.acl").read_text()
    assert f"user {mqtt['username']}\ntopic write {topic}\n" in acl
    assert f"listener {mqtt['port']}\n" in (DEPLOY / "compose" / "mosquitto.conf").read_text()
    assert mqtt["host"] in SERVICES
    folder = Path(mqtt["password_file"]).parent
    assert Path(mqtt["ca_file"]).parent == folder
    assert mounts(SERVICES["bmsd"])[str(folder)] == ("bmsd-secrets", True)
    made = {place: source for place, (source, _) in mounts(SERVICES["secrets"]).items()}
    assert made["/secrets/bmsd"] == "bmsd-secrets"
    assert mounts(SERVICES["mosquitto"])["/mosquitto/secrets"] == (made["/secrets/broker"], True)
    password = SERVICES["grafana"]["environment"]["GF_SECURITY_ADMIN_PASSWORD__FILE"]
    assert mounts(SERVICES["grafana"])[str(Path(password).parent)] == (made["/secrets/grafana"], True)


def test_users_are_the_same_everywhere() -> None:
    script = (DEPLOY / "compose" / "secrets.sh").read_text()
    owners = dict(re.findall(r"chown -R (\d+):\d+ (\w+)", script))
    assert f"{owners['990']}" == "bmsd"
    assert "USER 990:990" in DOCKERFILE
    assert SERVICES["mosquitto"]["user"] == "1883:1883"
    assert owners["1883"] == "broker"


def test_what_is_scraped_is_the_rack() -> None:
    scrape = yaml.safe_load((DEPLOY / "compose" / "scrape.yaml").read_text())
    (job,) = scrape["scrape_configs"]
    (target,) = job["static_configs"]
    assert target["targets"] == ["bmsd:8080"]
    assert target["labels"].keys() == {"instance", "site"}
    assert job["job_name"] == "bmsd", "dashboards ask for it"
    assert "bmsd:host-gateway" in CAN["services"]["victoria-metrics"]["extra_hosts"]


def test_the_image_runs_as_nobody_special_and_has_no_secret_and_no_host_of_packages() -> None:
    last = DOCKERFILE.rpartition("\nFROM ")[2]
    assert re.search(r"^USER 990:990$", last, re.MULTILINE)
    assert re.search(r"^VOLUME /var/lib/bmsd$", last, re.MULTILINE)
    assert re.search(r"^STOPSIGNAL SIGTERM$", last, re.MULTILINE)
    assert '"health"' in last
    assert not re.search(r"^\s*ADD |--(extra-)?index-url|password|token", DOCKERFILE, re.MULTILINE | re.IGNORECASE)
    installs = re.findall(r"pip\S* .*?(?:install|wheel) .*", DOCKERFILE)
    assert installs
    for line in installs:
        assert "--require-hashes" in line or "--no-deps" in line, line


def test_only_what_is_copied_reaches_the_build() -> None:
    copied = set()
    for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE):
        copied |= set(sources.split())
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert allowed == copied
    assert "*" in (ROOT / ".dockerignore").read_text().splitlines()


def test_the_shell_script_is_one_for_every_shell() -> None:
    script = DEPLOY / "compose" / "secrets.sh"
    assert script.read_text().startswith("#!/bin/sh\n")
    subprocess.run(["sh", "-n", str(script)], check=True)
