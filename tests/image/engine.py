"""What an engine does with the image and the compose file, without one: buildah builds, crun runs.

crun is a real OCI runtime: namespaces of its own, a read-only root, no capabilities, bmsd as the first process. What
makes a container's configuration is the image's own (user, command, environment, health check) and the service of
deploy/compose.yaml (volumes, tmpfs, capabilities), so that both are tested.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import yaml

from tests.programs import ROOT

FOLDER = ROOT / "build" / "image"
"""Kept from run to run: the base image, and the layers that did not change."""
DEPLOY = ROOT / "deploy"
DOCKERFILE = ROOT / "Dockerfile"
NAME = "bmsd:test"
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
PACKAGES = "python3,python3-venv,python3-pip,ca-certificates"
"""Of Debian, in the place of the image that the Dockerfile names: no registry is asked."""
ONE_CGROUP = 'umount -l -R /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup && exec "$@"'
"""crun refuses the mixture of both versions that some computers have."""
CRUN = ["crun", "--root", str(FOLDER / "crun"), "--cgroup-manager=disabled"]
if not Path("/sys/fs/cgroup/cgroup.controllers").exists():
    CRUN = ["unshare", "--mount", "sh", "-c", ONE_CGROUP, "crun", *CRUN]


def said(*words: str, within_s: float = 600.0) -> str:
    """Run a program that must succeed; return what it printed."""
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=ROOT, timeout=within_s)
    assert done.returncode == 0, f"{' '.join(words)}:\n{done.stdout}{done.stderr}"
    return done.stdout.strip()


def buildah(*words: str) -> str:
    return said("buildah", "--root", str(FOLDER / "store"), "--runroot", str(FOLDER / "run"), *words)


def base_name() -> str:
    """The image that the Dockerfile begins with."""
    found = re.search(r"^ARG BASE=(\S+)$", DOCKERFILE.read_text(), re.MULTILINE)
    assert found
    return found[1]


def make_base() -> None:
    """Make Debian's stand-in for the base image, once."""
    if base_name() in buildah("images", "--format", "{{.Name}}:{{.Tag}}"):
        return
    FOLDER.mkdir(parents=True, exist_ok=True)
    tar = FOLDER / "base.tar"
    said("mmdebstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(tar))
    container = buildah("from", "scratch")
    buildah("add", container, str(tar), "/")
    buildah("commit", container, base_name())
    buildah("rm", container)
    tar.unlink()


def build() -> None:
    """Build the image as the Dockerfile says."""
    buildah("build", "--isolation", "chroot", "--network", "host", "--pull=never", "--format", "docker", "--layers",
            "-v", "/etc/ssl/certs:/etc/ssl/certs:ro", "-t", NAME, ".")  # fmt: skip


def size_mb(name: str) -> float:
    """Size of an image with all its layers."""
    shown = str(json.loads(buildah("images", "--json", name))[0]["size"])
    number, unit = shown.split()
    return float(number) * {"MB": 1.0, "GB": 1000.0}[unit]


class Image:
    """The built image: its configuration, and its root as a folder."""

    def __init__(self) -> None:
        self.config = json.loads(buildah("inspect", "--type", "image", NAME))["Docker"]["config"]
        self._container = buildah("from", "--pull=never", NAME)
        self.root = Path(buildah("mount", self._container))

    def close(self) -> None:
        buildah("rm", self._container)


class Container:
    """A service of the compose file for as long as the block lasts.

    Its volumes and its log are in `folder`; `instead` has other files for places where the compose file mounts some.
    """

    def __init__(
        self, image: Image, service: str, folder: Path, instead: dict[str, Path] | None = None, name: str = ""
    ) -> None:
        self._image, self._service = image, SERVICES[service]
        self._instead = instead or {}
        self.name = f"bmsd-test-{name or service}"
        self._volumes, self._bundle, self._log = folder / "volumes", folder / self.name, folder / f"{self.name}.log"

    def __enter__(self) -> Container:
        shutil.rmtree(self._bundle, ignore_errors=True)
        self._bundle.mkdir()
        (self._bundle / "config.json").write_text(json.dumps(self._configuration()))
        subprocess.run([*CRUN, "delete", "--force", self.name], capture_output=True, check=False)
        with open(self._log, "ab") as log:
            self.process = subprocess.Popen(
                [*CRUN, "run", "--bundle", str(self._bundle), self.name], stdout=log, stderr=log,
                stdin=subprocess.DEVNULL,
            )  # fmt: skip
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            subprocess.run([*CRUN, "kill", self.name, "KILL"], capture_output=True, check=False)
        self.process.wait(20.0)
        subprocess.run([*CRUN, "delete", "--force", self.name], capture_output=True, check=False)

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def execute(self, *words: str) -> tuple[int, str]:
        """Run a program inside, as the container's user; return its exit code and what it said."""
        user = str(self._service.get("user", self._image.config["User"]))
        done = subprocess.run(
            [*CRUN, "exec", "--user", user, self.name, *words], capture_output=True, text=True, check=False, timeout=60
        )
        return done.returncode, (done.stdout + done.stderr).strip()

    def health(self) -> tuple[int, str]:
        """Do what the image's health check says."""
        kind, *words = self._image.config["Healthcheck"]["Test"]
        assert kind == "CMD"
        return self.execute(*words)

    def first_process(self) -> psutil.Process:
        """The container's process 1, seen from outside."""
        state = json.loads(subprocess.run([*CRUN, "state", self.name], capture_output=True, check=True).stdout)
        return psutil.Process(state["pid"])

    def child(self, command: str) -> psutil.Process:
        """The process of this command of bmsd below it."""
        (found,) = [one for one in self.first_process().children() if command in one.cmdline()]
        return found

    def stop(self) -> tuple[int, float]:
        """Do what an engine does to stop it; return its exit code and how long that took."""
        began_s = time.monotonic()
        subprocess.run([*CRUN, "kill", self.name, self._image.config["StopSignal"]], check=True)
        code = self.process.wait(float(self._service.get("stop_grace_period", "10s").removesuffix("s")))
        return code, time.monotonic() - began_s

    def _configuration(self) -> dict[str, Any]:
        service, config = self._service, self._image.config
        user, _, group = str(service.get("user", config["User"])).partition(":")
        rights = [f"CAP_{name}" for name in service.get("cap_add", [])]
        assert service["cap_drop"] == ["ALL"]
        environment = [f"{key}=" for key in service.get("environment", {})]
        return {
            "ociVersion": "1.0.0",
            "root": {"path": str(self._image.root), "readonly": service["read_only"]},
            "hostname": "bmsd",
            "process": {
                "terminal": False, "cwd": "/", "user": {"uid": int(user), "gid": int(group)},
                "args": [*service.get("entrypoint", config["Entrypoint"]), *service.get("command", config["Cmd"])],
                "env": [*config["Env"], *environment], "noNewPrivileges": True,
                "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), rights),
            },
            "mounts": [*_system(), *self._tmpfs(), *self._mounts()],
            "linux": {"namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount")]},
        }  # fmt: skip

    def _tmpfs(self) -> list[dict[str, Any]]:
        mounts = [text.partition(":") for text in self._service.get("tmpfs", [])]
        return [_mount(place, "tmpfs", "tmpfs", *options.split(",")) for place, _, options in mounts]

    def _mounts(self) -> list[dict[str, Any]]:
        found = []
        for volume in self._service["volumes"]:
            source, place, *mode = volume.split(":")
            path = self._instead.get(place) or (
                DEPLOY / source if source.startswith(".") else self._volume(source, place)
            )
            found.append(_mount(place, "bind", str(path), "bind", *mode))
        return found

    def _volume(self, name: str, place: str) -> Path:
        """A new volume takes over the owner and mode of the folder in the image, if there is one."""
        path = self._volumes / name
        if not path.exists():
            path.mkdir(parents=True)
            inside = self._image.root / place.lstrip("/")
            if inside.exists():
                shutil.copystat(inside, path)
                shutil.chown(path, inside.stat().st_uid, inside.stat().st_gid)
        return path


def _mount(place: str, kind: str, source: str, *options: str) -> dict[str, Any]:
    return {"destination": place, "type": kind, "source": source, "options": list(options)}


def _system() -> Sequence[dict[str, Any]]:
    return (
        _mount("/proc", "proc", "proc"),
        _mount("/dev", "tmpfs", "tmpfs", "nosuid", "mode=755"),
        _mount("/dev/shm", "tmpfs", "shm", "nosuid", "noexec", "nodev", "mode=1777"),
    )
