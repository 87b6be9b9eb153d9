"""The image, really built and really run: `make image-test`."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from bmsd.errors import CONFIGURATION
from tests.gateway.control_end import wait_for
from tests.image import engine
from tests.image.engine import DEPLOY, NAME, Container, Image

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="containers are made and run as root")

CONFIG = "/etc/bmsd/bmsd.toml"
OVER_VOLTAGE = '[[sim.mishap]]\nkind = "cell_voltage"\nvalue = 3.72\nstring = 1\nmodule = 1\ncell = 3\nstart_s = 8.0\n'
STARTED_WITHIN_S = 60.0


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    began_s = time.monotonic()
    engine.make_base()
    base_s = time.monotonic()
    engine.build()
    built_s = time.monotonic()
    whole_mb, base_mb = engine.size_mb(NAME), engine.size_mb(engine.base_name())
    print(f"\nbase {base_s - began_s:.0f} s, build {built_s - base_s:.0f} s")
    print(f"image {whole_mb:.0f} MB, of that {whole_mb - base_mb:.0f} MB on top of its base image")
    image = Image()
    yield image
    image.close()


def make_secrets(image: Image, tmp_path: Path) -> None:
    with Container(image, "secrets", tmp_path) as secrets:
        assert secrets.process.wait(20.0) == 0, secrets.log


def status(bmsd: Container) -> dict[str, Any]:
    """What control says now; empty while it does not answer."""
    code, text = bmsd.execute("bmsd", "status", "-c", CONFIG, "--json")
    return dict(json.loads(text)) if code == 0 else {}


def until_it_carries(bmsd: Container) -> None:
    """Wait until a string is closed and current flows."""

    def flows() -> bool:
        assert bmsd.process.poll() is None, bmsd.log
        return abs(status(bmsd).get("points", {}).get("current_a") or 0.0) > 5.0

    wait_for(flows, STARTED_WITHIN_S)


def demo_with(tmp_path: Path, more: str) -> Path:
    """The compose file's configuration with more in it, readable for the container's user."""
    path = tmp_path / "with-mishap.toml"
    path.write_text((DEPLOY / "compose" / "demo.toml").read_text() + more)
    path.chmod(0o644)
    return path


def test_the_image_is_small_and_has_nothing_that_nobody_needs(image: Image) -> None:
    assert engine.size_mb(NAME) - engine.size_mb(engine.base_name()) < 130.0
    venv = image.root / "opt" / "bmsd" / "venv"
    assert not list(venv.glob("lib/python3*/site-packages/pip"))
    assert not list(venv.glob("lib/python3*/site-packages/*test*"))
    assert not (image.root / "build").exists()
    assert not (image.root / "etc" / "bmsd").exists(), "no configuration, and so no secret in one"
    assert image.config["User"] == "990:990"
    assert set(image.config["Volumes"]) == {"/var/lib/bmsd"}


def test_the_rack_of_the_compose_file_runs_and_its_health_is_asked(image: Image, tmp_path: Path) -> None:
    make_secrets(image, tmp_path)
    owners = {path.name: path.stat().st_uid for path in tmp_path.glob("volumes/*-secrets")}
    assert owners == {"bmsd-secrets": 990, "broker-secrets": 1883, "grafana-secrets": 472}
    with ExitStack() as stack:
        stack.enter_context(Container(image, "sim", tmp_path))
        bmsd = stack.enter_context(Container(image, "bmsd", tmp_path))
        wait_for(lambda: bmsd.health()[0] == 0, STARTED_WITHIN_S)
        until_it_carries(bmsd)

        _, about = bmsd.execute("cat", "/proc/1/status")
        shown = dict(line.split(":\t", 1) for line in about.splitlines() if ":\t" in line)
        assert shown["Uid"].split() == ["990"] * 4
        assert shown["NoNewPrivs"] == "1"
        assert {int(shown[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
        assert bmsd.first_process().children(), "bmsd up is the first process, with nobody above it"
        for place in ("/etc/file", "/opt/bmsd/file", "/tmp/file"):
            assert "Read-only file system" in bmsd.execute("touch", place)[1]
        code, line = bmsd.health()
        assert code == 0
        assert line.startswith("healthy: control: ")

        control = bmsd.child("run")
        control.send_signal(signal.SIGSTOP)
        code, line = bmsd.health()
        assert code == 1
        assert line.startswith("unhealthy: control: /run/bmsd/link.sock: no record from bmsd")
        control.send_signal(signal.SIGCONT)
        wait_for(lambda: bmsd.health()[0] == 0)

        until_it_carries(bmsd)
        code, took_s = bmsd.stop()
        assert code == 0, bmsd.log
        assert took_s < 15.0
        print(f"stopped under current in {took_s:.1f} s")
        assert bmsd.log.index("control.left") < bmsd.log.index("gateway.left")
        assert (tmp_path / "volumes" / "state" / "state.bin").stat().st_uid == 990


def test_a_latch_is_in_the_volume_and_not_in_the_container(image: Image, tmp_path: Path) -> None:
    make_secrets(image, tmp_path)
    mishap = {CONFIG: demo_with(tmp_path, OVER_VOLTAGE)}

    def latched(bmsd: Container) -> bool:
        assert bmsd.process.poll() is None, bmsd.log
        return any(fault["code"] == "CEL-003" and fault["latched"] for fault in status(bmsd).get("faults", []))

    with Container(image, "sim", tmp_path, mishap), Container(image, "bmsd", tmp_path, name="first") as bmsd:
        wait_for(lambda: latched(bmsd), STARTED_WITHIN_S)
        assert bmsd.stop()[0] == 0
    with Container(image, "sim", tmp_path), Container(image, "bmsd", tmp_path, name="second") as bmsd:
        wait_for(lambda: bool(status(bmsd).get("strings")), STARTED_WITHIN_S)
        assert latched(bmsd), "the cell is sound again, but nobody has looked yet"
        assert bmsd.health()[0] == 0, "a fault of the rack is none of bmsd"
        wait_for(lambda: bmsd.execute("bmsd", "reset", "CEL-003", "-c", CONFIG)[0] == 0 and not latched(bmsd),
                 STARTED_WITHIN_S)  # fmt: skip
        assert bmsd.stop()[0] == 0


def test_a_wrong_configuration_ends_with_its_complaints_and_code_78(image: Image, tmp_path: Path) -> None:
    make_secrets(image, tmp_path)
    wrong = {CONFIG: demo_with(tmp_path, "[cell2]\n")}
    with Container(image, "bmsd", tmp_path, wrong) as bmsd:
        assert bmsd.process.wait(STARTED_WITHIN_S) == CONFIGURATION
        assert "cell2: unknown" in bmsd.log
