"""How tests marked `vcan` get their interfaces: in place when they are there, else all together in one guest.

Outside, the first such test starts `run` with a second pytest on exactly the selected tests. Its reports are
written to a file and told here as they arrive, as if each test had run in place: one run, one summary. The guest
has one processor to itself while the tests without a clock run on the others.

A story that failed while the computer stood still is told once more, in a guest of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vcan.forks import FORKS
from tests.vcan.stall import METER, StallMeter
from tests.vcan.whole_rack import Stage
from tests.vcan.wire import bring_up

HERE = Path(__file__).parent
INSIDE = os.environ.get("IN_VCAN") == "1"
REPORTS = "BMSD_VCAN_REPORTS"
STALLS = "BMSD_VCAN_STALLS"
GUEST_SECONDS = 1200
STOOD_STILL_S = 0.3
"""Time taken from a story, beyond which its failure says nothing about bmsd."""
WITH_A_CLOCK = ("cli", "control", "gateway", "integration", "link", "vcan")
"""Folders of tests with processes or time-outs: they have the computer to themselves."""
BEFORE_S = 10.0
"""What happened this long before a story may still be seen in the rack that it shares."""


def needs_interfaces(item: pytest.Item) -> bool:
    """Ask for the marker, not for the keyword: the name of this folder is a keyword of all tests in it."""
    return item.get_closest_marker("vcan") is not None


# --- inside ---------------------------------------------------------------------------------------------------------


class ReportWriter:
    """Writes every test report as one line of JSON, for the pytest outside."""

    def __init__(self, config: pytest.Config, path: str) -> None:
        self._config = config
        self._file = Path(path).open("a", encoding="utf-8")  # noqa: SIM115 - open as long as the run

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        self._file.write(json.dumps(data, default=str) + "\n")
        self._file.flush()


def pytest_configure(config: pytest.Config) -> None:
    if INSIDE and REPORTS in os.environ:
        config.pluginmanager.register(ReportWriter(config, os.environ[REPORTS]))


@pytest.fixture(autouse=True)
def interfaces(request: pytest.FixtureRequest) -> None:
    """Both interfaces are up before each test, whatever the one before did."""
    if needs_interfaces(request.node):
        for name in ("vcan0", "vcan1"):
            bring_up(name)


@pytest.fixture(scope="session", autouse=True)
def _stalls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What the computer takes away is measured as long as there are tests: bounds and deadlines ask for it."""
    if INSIDE:
        kept = os.environ.get(STALLS)
        METER.start(Path(kept) if kept else tmp_path_factory.mktemp("stalls") / "noted")
    yield
    if INSIDE:
        METER.stop()


@pytest.fixture(scope="session", autouse=True)
def _forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Python programs start at once; see `forks`."""
    if INSIDE:
        FORKS.start(tmp_path_factory.mktemp("forks") / "socket")
    yield
    if INSIDE:
        FORKS.stop()


@pytest.fixture(scope="session")
def stage() -> Iterator[Stage]:
    """The rack that files share."""
    shared = Stage()
    yield shared
    shared.clear()


@pytest.fixture(scope="module", autouse=True)
def _one_rack_at_a_time(request: pytest.FixtureRequest) -> None:
    """A file that does not ask for the shared rack has the buses for itself."""
    if INSIDE and not getattr(request.module, "SHARES_THE_RACK", False):
        request.getfixturevalue("stage").clear()


# --- outside --------------------------------------------------------------------------------------------------------


class Guest:
    """The pytest inside, and what it has reported so far."""

    def __init__(self, config: pytest.Config, node_ids: list[str]) -> None:
        self._config = config
        self._reports: dict[str, list[pytest.TestReport]] = {}
        self._folder = Path(tempfile.mkdtemp(prefix="bmsd-vcan-"))
        (self._folder / "reports").touch()
        self._stalls = StallMeter(self._folder / "stalls")
        self._news = (self._folder / "reports").open(encoding="utf-8")
        options = config.option
        inner = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--rootdir={config.rootpath}"]
        inner += [f"--maxfail={options.maxfail or 0}", f"--tb={options.tbstyle}", f"--verbosity={options.verbose}"]
        inner += node_ids
        runner = [str(HERE / "run"), "-C", str(config.rootpath), "-w", str(self._folder), "-t", str(GUEST_SECONDS)]
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
        """Return the time that was taken from this story and from what led to it, s."""
        return self._stalls.lost_s(reports[0].start - BEFORE_S, reports[-1].stop)

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


guest_key = pytest.StashKey[Guest]()
obstacle_key = pytest.StashKey[str]()


def obstacle(config: pytest.Config) -> str:
    """Return what keeps the interfaces from this machine; empty when nothing does. Asked once per run."""
    if obstacle_key not in config.stash:
        probe = subprocess.run([HERE / "run", "-p"], capture_output=True, text=True, check=False)
        config.stash[obstacle_key] = "" if probe.returncode == 0 else probe.stderr.strip() or "tests/vcan/run failed"
    return config.stash[obstacle_key]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """First what needs no clock, while the guest works; then its reports; last what has to have the computer alone."""
    if not INSIDE:
        items.sort(key=lambda item: 1 if needs_interfaces(item) else 2 if _needs_the_clock(item) else 0)


def _needs_the_clock(item: pytest.Item) -> bool:
    return item.path.is_relative_to(HERE.parent) and item.path.relative_to(HERE.parent).parts[0] in WITH_A_CLOCK


def pytest_collection_finish(session: pytest.Session) -> None:
    if not INSIDE and not session.config.option.collectonly:
        wanted = [item for item in session.items if needs_interfaces(item)]
        if wanted and not obstacle(session.config):
            _guest(wanted[0])


def pytest_runtest_protocol(item: pytest.Item) -> bool | None:
    """Take over the tests that need the interfaces when they are not here."""
    if INSIDE or not needs_interfaces(item):
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    try:
        if why := obstacle(item.config):
            item.ihook.pytest_runtest_logreport(report=_not_run(item, why))
        else:
            for report in _told(item):
                item.ihook.pytest_runtest_logreport(report=report)
    except RuntimeError as error:
        item.ihook.pytest_runtest_logreport(report=_failed(item, str(error)))
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def _told(item: pytest.Item) -> list[pytest.TestReport]:
    guest = _guest(item)
    reports = list(guest.reports_of(item.nodeid))
    if not any(report.failed for report in reports) or guest.lost_s(reports) < STOOD_STILL_S:
        return reports
    again = Guest(item.config, [item.nodeid])
    try:
        return list(again.reports_of(item.nodeid))
    finally:
        again.end()


def _guest(item: pytest.Item) -> Guest:
    stash = item.config.stash
    if guest_key not in stash:
        node_ids = [other.nodeid for other in item.session.items if needs_interfaces(other)]
        stash[guest_key] = Guest(item.config, node_ids)
        item.config.add_cleanup(stash[guest_key].end)
    return stash[guest_key]


def _not_run(item: pytest.Item, why: str) -> pytest.TestReport:
    """A missing tool skips a test on a developer's machine; where CI=true it must not hide one."""
    if os.environ.get("CI") == "true":
        return _failed(item, why)
    return _report(item, "skipped", (str(HERE / "run"), 1, f"Skipped: {why}"))  # one place: pytest folds them


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
