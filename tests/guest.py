"""Tests that need another computer than this one: all of a marker run together in one guest, and are told here.

Outside, the first such test starts the guest's runner with a second pytest on exactly the selected tests. Its reports
are written to a file and told here as they arrive, as if each test had run in place: one run, one summary.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

REPORTS = "BMSD_GUEST_REPORTS"


@dataclass(frozen=True)
class Kind:
    """A marker, and the runner of the guest in which its tests run. `inside` is set in that guest."""

    marker: str
    runner: Path
    inside: str
    seconds: int
    memory: str = "1G"
    prepare: Callable[[], str] = field(default=lambda: "")
    """Called once before the guest starts; a sentence when that failed."""

    @property
    def here(self) -> bool:
        """Whether this is the guest."""
        return os.environ.get(self.inside) == "1"

    def wants(self, item: pytest.Item) -> bool:
        """Ask for the marker, not for the keyword: the name of a folder is a keyword of all tests in it."""
        return item.get_closest_marker(self.marker) is not None


def register(config: pytest.Config, kind: Kind) -> None:
    """Let the tests of this kind run where they can; called by `pytest_configure` of their folder."""
    if not kind.here:
        config.pluginmanager.register(Outside(config, kind))
    elif REPORTS in os.environ:
        config.pluginmanager.register(ReportWriter(config, os.environ[REPORTS]))


class ReportWriter:
    """Writes every test report as one line of JSON, for the pytest outside."""

    def __init__(self, config: pytest.Config, path: str) -> None:
        self._config = config
        self._file = Path(path).open("a", encoding="utf-8")  # noqa: SIM115 - open as long as the run

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        self._file.write(json.dumps(data, default=str) + "\n")
        self._file.flush()


class Outside:
    """Takes over the tests of one kind."""

    def __init__(self, config: pytest.Config, kind: Kind) -> None:
        self._config = config
        self._kind = kind
        self._obstacle: str | None = None
        self._guest: Guest | None = None
        self._failed = ""

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Put them last: the set-up and teardown of other tests knows no gaps then, and the quick ones come first."""
        items.sort(key=self._kind.wants)

    def pytest_runtest_protocol(self, item: pytest.Item) -> bool | None:
        if not self._kind.wants(item):
            return None
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        try:
            if why := self.obstacle():
                item.ihook.pytest_runtest_logreport(report=self._not_run(item, why))
            else:
                for report in self._running(item).reports_of(item.nodeid):
                    item.ihook.pytest_runtest_logreport(report=report)
        except RuntimeError as error:
            item.ihook.pytest_runtest_logreport(report=_failed(item, str(error)))
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def obstacle(self) -> str:
        """Return what keeps the guest from this machine; empty when nothing does. Asked once per run."""
        if self._obstacle is None:
            probe = subprocess.run([self._kind.runner, "-p"], capture_output=True, text=True, check=False)
            self._obstacle = "" if probe.returncode == 0 else probe.stderr.strip() or f"{self._kind.runner} failed"
        return self._obstacle

    def _running(self, item: pytest.Item) -> Guest:
        if self._guest is None:
            self._failed = self._failed or self._kind.prepare()
            if self._failed:
                raise RuntimeError(self._failed)
            node_ids = [other.nodeid for other in item.session.items if self._kind.wants(other)]
            self._guest = Guest(self._config, self._kind, node_ids)
            self._config.add_cleanup(self._guest.end)
        return self._guest

    def _not_run(self, item: pytest.Item, why: str) -> pytest.TestReport:
        """A missing tool skips a test on a developer's machine; where CI=true it must not hide one."""
        if os.environ.get("CI") == "true":
            return _failed(item, why)
        return _report(item, "skipped", (str(self._kind.runner), 1, f"Skipped: {why}"))  # one place: pytest folds them


class Guest:
    """The pytest inside, and what it has reported so far."""

    def __init__(self, config: pytest.Config, kind: Kind, node_ids: list[str]) -> None:
        self._config = config
        self._reports: dict[str, list[pytest.TestReport]] = {}
        self._folder = Path(tempfile.mkdtemp(prefix="bmsd-guest-"))
        (self._folder / "reports").touch()
        self._news = (self._folder / "reports").open(encoding="utf-8")
        options = config.option
        inner = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--rootdir={config.rootpath}"]
        inner += [f"--maxfail={options.maxfail or 0}", f"--tb={options.tbstyle}", f"--verbosity={options.verbose}"]
        inner += node_ids
        runner = [str(kind.runner), "-C", str(config.rootpath), "-w", str(self._folder)]
        runner += ["-t", str(kind.seconds), "-m", kind.memory]
        with (self._folder / "output").open("w") as output:
            self._process = subprocess.Popen(
                [*runner, *inner],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, REPORTS: str(self._folder / "reports")},
            )

    def reports_of(self, node_id: str) -> Iterator[pytest.TestReport]:
        """Give the reports of one test as they arrive; RuntimeError when the guest ends without the last of them."""
        given = 0
        while True:
            ended = self._process.poll() is not None
            self._read()
            known = self._reports.get(node_id, [])
            yield from known[given:]
            given = len(known)
            if known and known[-1].when == "teardown":
                return
            if ended:
                raise RuntimeError(
                    f"the guest ended with {self._process.returncode} before this test did{self._last_words()}"
                )
            time.sleep(0.02)

    def _last_words(self) -> str:
        """Return what the guest wrote, the first time it is asked: one test's report is enough for it."""
        output = self._folder / "output"
        words = output.read_text(errors="replace")
        output.write_text("")
        return f":\n{words}" if words else ""

    def _read(self) -> None:
        while True:
            start = self._news.tell()
            line = self._news.readline()
            if not line.endswith("\n"):  # the end, or a line half written
                self._news.seek(start)
                return
            report = self._config.hook.pytest_report_from_serializable(config=self._config, data=json.loads(line))
            if report.skipped and isinstance(report.longrepr, list):  # JSON knows no tuples, pytest insists on one
                report.longrepr = tuple(report.longrepr)
            self._reports.setdefault(report.nodeid, []).append(report)

    def end(self) -> None:
        try:
            self._process.wait(5.0)  # after the last report it only has its own summary to write
        except subprocess.TimeoutExpired:
            self._process.terminate()
            self._process.wait()
        self._news.close()
        shutil.rmtree(self._folder)


def _failed(item: pytest.Item, why: str) -> pytest.TestReport:
    return _report(item, "failed", why)


def _report(item: pytest.Item, outcome: str, explanation: object) -> pytest.TestReport:
    return pytest.TestReport(
        nodeid=item.nodeid,
        location=item.location,
        keywords=dict.fromkeys(item.keywords, 1),
        outcome=outcome,  # type: ignore[arg-type]
        longrepr=explanation,  # type: ignore[arg-type]
        when="setup",
    )
