"""Tests that need another computer than this one: all of a marker run together in one guest, and are told here.

Outside, the guest's runner is started with a second pytest on exactly the selected tests. Its reports are written to a
file and told here, as if each test had run in place: one run, one summary. Guests run one after the other, on one
processor, while the tests that need no clock run on the others.

A test that failed while the computer stood still is told once more, in a guest of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.vcan.stall import StallMeter

REPORTS = "BMSD_GUEST_REPORTS"
STALLS = "BMSD_GUEST_STALLS"
STOOD_STILL_S = 0.3
"""Time taken from a test, beyond which its failure says nothing about bmsd."""
BEFORE_S = 10.0
"""What happened this long before a test may still be seen in the rack that it shares."""
ONE_AT_A_TIME = threading.Lock()


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

    def stalls_file(self, folder: Path) -> Path:
        """Return where the guest's meter notes what the computer took away: where it is asked from outside, or here."""
        return Path(os.environ.get(STALLS) or folder / "stalls")

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
        self._begun = threading.Event()
        self._over = False

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        node_ids = [item.nodeid for item in session.items if self._kind.wants(item)]
        if node_ids and not self._config.option.collectonly and not self.obstacle():
            self._config.add_cleanup(self._end)
            threading.Thread(target=self._begin, args=(node_ids,), daemon=True).start()

    def _begin(self, node_ids: list[str]) -> None:
        try:
            self._failed = self._kind.prepare()
            with ONE_AT_A_TIME:
                if not self._failed and not self._over:
                    self._guest = Guest(self._config, self._kind, node_ids)
                self._begun.set()
                if self._guest is not None:
                    self._guest.wait()
        finally:
            self._begun.set()

    def _end(self) -> None:
        self._over = True
        if self._guest is not None:
            self._guest.end()

    def pytest_runtest_protocol(self, item: pytest.Item) -> bool | None:
        if not self._kind.wants(item):
            return None
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        try:
            if why := self.obstacle():
                item.ihook.pytest_runtest_logreport(report=self._not_run(item, why))
            else:
                for report in self._told(item):
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

    def _told(self, item: pytest.Item) -> list[pytest.TestReport]:
        self._begun.wait()
        if self._guest is None:
            raise RuntimeError(self._failed or "the guest was not started")
        reports = list(self._guest.reports_of(item.nodeid))
        if not any(report.failed for report in reports) or self._guest.lost_s(reports) < STOOD_STILL_S:
            return reports
        with ONE_AT_A_TIME:
            again = Guest(self._config, self._kind, [item.nodeid])
            try:
                return list(again.reports_of(item.nodeid))
            finally:
                again.end()

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
        self._stalls = StallMeter(self._folder / "stalls")
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
                env={**os.environ, REPORTS: str(self._folder / "reports"), STALLS: str(self._folder / "stalls")},
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

    def lost_s(self, reports: list[pytest.TestReport]) -> float:
        """Return the time that was taken from this test and from what led to it, s."""
        return self._stalls.lost_s(reports[0].start - BEFORE_S, reports[-1].stop)

    def wait(self) -> None:
        """Wait until the guest has ended."""
        self._process.wait()

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
