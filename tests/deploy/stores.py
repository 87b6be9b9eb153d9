"""A real Prometheus and a real VictoriaMetrics that scrape what the committed file says, on ports of this computer."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.gateway.control_end import wait_for
from tests.programs import ROOT, free_port, needs

SCRAPE = ROOT / "deploy" / "compose" / "scrape.yaml"
TARGET = "bmsd:8080"
PLACES = os.pathsep.join((str(ROOT / ".tools" / "usr" / "bin"), os.environ.get("PATH", ""), "/usr/sbin"))
PROGRAMS = {name: shutil.which(name, path=PLACES) for name in ("prometheus", "victoria-metrics")}
needs_stores = needs(None not in PROGRAMS.values(), "not there: tests/tools/install")


def scrape_file(folder: Path, port: int, others: Sequence[tuple[str, Mapping[str, str]]] = ()) -> Path:
    """Write the committed file with this gateway's port, every second, and with other targets beside."""
    settings = yaml.safe_load(SCRAPE.read_text())
    settings["global"]["scrape_interval"] = "1s"
    (job,) = settings["scrape_configs"]
    job["scrape_timeout"] = "1s"
    (rack,) = job["static_configs"]
    assert rack["targets"] == [TARGET]
    rack["targets"] = [f"127.0.0.1:{port}"]
    job["static_configs"] += [{"targets": [target], "labels": dict(labels)} for target, labels in others]
    path = folder / "scrape.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


class Store:
    """One of them for as long as the block lasts."""

    def __init__(self, name: str, folder: Path, scrape: Path) -> None:
        self.name, self._port = name, free_port()
        listen, data = f"127.0.0.1:{self._port}", folder / name
        program = PROGRAMS[name]
        assert program is not None, "tests/tools/install"
        self._command = {
            "prometheus": [program, f"--config.file={scrape}", f"--storage.tsdb.path={data}",
                           f"--web.listen-address={listen}"],
            # as Debian's version has it: what is younger than the offset is not shown
            "victoria-metrics": [program, f"-promscrape.config={scrape}", f"-storageDataPath={data}",
                                 f"-httpListenAddr={listen}", "-search.latencyOffset=0s"],
        }[name]  # fmt: skip
        self._log = folder / f"{name}.log"
        self._client = httpx.Client(base_url=f"http://{listen}/api/v1", timeout=20.0, trust_env=False)

    def __enter__(self) -> Store:
        with open(self._log, "wb") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        wait_for(self._answers)
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()
        self._process.kill()
        self._process.wait()

    def _answers(self) -> bool:
        assert self._process.poll() is None, self._log.read_text()
        try:
            return self._client.get("/query", params={"query": "vector(1)"}).status_code == 200
        except httpx.TransportError:
            return False

    def now(self, query: str) -> list[dict[str, Any]]:
        """Return the series of an instant query: `metric` has the labels, `value` time and value."""
        return self._result("/query", {"query": query})

    def over(self, query: str, start_s: float, end_s: float) -> list[dict[str, Any]]:
        """Return the series of a query over time."""
        return self._result("/query_range", {"query": query, "start": start_s, "end": end_s, "step": 1.0})

    def label_values(self, query: str) -> list[str]:
        """Answer what a variable of Grafana asks, as its data source does it."""
        asked = re.fullmatch(r"label_values\((.+), (\w+)\)", query)
        assert asked, query
        answer = self._client.get(f"/label/{asked[2]}/values", params={"match[]": asked[1]})
        assert answer.status_code == 200, answer.text
        return list(answer.json()["data"])

    def _result(self, path: str, parameters: dict[str, Any]) -> list[dict[str, Any]]:
        answer = self._client.get(path, params=parameters)
        assert answer.status_code == 200, f"{self.name}: {parameters['query']}: {answer.text}"
        return list(answer.json()["data"]["result"])
