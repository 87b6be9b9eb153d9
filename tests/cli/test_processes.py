"""Commands that stay: the demo, control, the simulator, and looking at them while they run."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from bmsd.errors import BusError
from bmsd.link.client import LinkClient
from bmsd.link.wire import Ack, Asked
from bmsd.model.event import Event
from tests.programs import PATIENCE_S, ROOT, Program, bmsd, command, rack_file


class Rack:
    """Simulator and control of one file, running."""

    def __init__(self, config: Path, sim: Program, run: Program) -> None:
        self.config, self.sim, self.run = config, sim, run

    def status(self) -> dict[str, object]:
        shown = bmsd("status", "-c", self.config, "--json")
        return json.loads(shown.stdout) if shown.returncode == 0 else {}


@pytest.fixture(scope="module")
def rack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rack]:
    """A rack that runs, whose first cell reads too high from 10 s to 12 s after its start: a trip that latches."""
    folder = tmp_path_factory.mktemp("rack")
    mishap = '[[sim.mishap]]\nkind = "offset"\ncell = 1\nvalue = 0.38\nstart_s = 10.0\nend_s = 12.0\n'
    config = rack_file(folder, mishap, link='takes = ["power"]')
    (folder / "state").write_text("a file where a folder should be: nothing can be saved")
    with Program(folder, "sim", "-c", config) as sim:
        sim.wait_for((folder / "field.sock").exists)
        with Program(folder, "run", "-c", config) as run:
            run.wait_for((folder / "service.sock").exists)
            yield Rack(config, sim, run)


@pytest.fixture(scope="module", autouse=True)
def whole_demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """A demo that runs beside the other tests, to its end."""
    folder = tmp_path_factory.mktemp("demo")
    with Program(folder, "demo", "--for", 18, environment={"TMPDIR": str(folder)}) as demo:
        yield demo


class Reader:
    """Who listens to the events of a control process, and acknowledges none."""

    def __init__(self, link: Path) -> None:
        self._client = LinkClient(link)
        self._client.send(Ack(0))
        self._heard: list[Event] = []

    def heard(self) -> list[Event]:
        """All events until now, in the order in which they came."""
        self._heard += [message for message in self._client.drain() if isinstance(message, Event)]
        return self._heard

    def to_the_end(self) -> list[Event]:
        """All events until control has closed the link."""
        with suppress(BusError):
            while True:
                self.heard()
                time.sleep(0.02)
        return self._heard


def is_dropped(client: LinkClient) -> bool:
    """Whether control has closed this connection; what waits there is read."""
    try:
        client.drain()
    except BusError:
        return True
    return False


def left_behind(folder: Path) -> list[Path]:
    """Return what demos have left in their folder for temporary files."""
    return list(folder.glob("bmsd-demo-*"))


def children(pid: int) -> set[int]:
    return {int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def test_status_shows_the_rack_as_a_table_and_as_json(rack: Rack) -> None:
    rack.run.wait_for(lambda: rack.status().get("missing") == [])
    shown = bmsd("status", "-c", rack.config)
    assert (shown.returncode, shown.stderr) == (0, "")
    for word in ("voltage", "charge", "discharge", "because of", "contactors", "field bus", "inverter bus"):
        assert word in shown.stdout
    for word in ("highest cell", "lowest cell", "hottest"):
        assert re.search(rf"^{word} .*string 1 module 1 (cell|sensor) \d+", shown.stdout, re.MULTILINE)
    assert max(map(len, shown.stdout.splitlines())) <= 80
    assert bmsd("status", "--link", rack.config.parent / "link.sock").stdout.startswith("rack: ")
    cells = rack.status()["cells"]
    assert isinstance(cells, dict)
    assert len(cells["voltage_v"][0][0]) == 16


def test_why_lists_every_bound_the_tightest_first_and_a_set_point_among_them(rack: Rack) -> None:
    link = rack.config.with_name("link.sock")
    reader, asking = Reader(link), LinkClient(link)
    assert not asking.ask(Asked("disconnect")).taken
    assert asking.ask(Asked("power", value=-52.0, lease_s=300, source="modbus 10.0.0.5")).taken
    rack.run.wait_for(lambda: "power set-point of modbus 10.0.0.5" in bmsd("why", "-c", rack.config).stdout)
    shown = json.loads(bmsd("why", "--link", link, "--json").stdout)
    for side in ("charge", "discharge"):
        amps = [bound["amps"] for bound in shown[side]]
        assert amps == sorted(amps)
        assert shown[f"{side}_limit_a"] == amps[0]
        assert "power" in {bound["source"] for bound in shown[side]}
    assert "set-point: power -52 W of modbus 10.0.0.5" in bmsd("status", "-c", rack.config).stdout
    assert asking.ask(Asked("release", "power", source="modbus 10.0.0.5")).taken
    rack.run.wait_for(lambda: "lease.ended" in [event.kind for event in reader.heard()])
    told = [event.text for event in reader.heard() if event.kind.startswith(("request", "lease"))]
    who = f"(operator, uid {os.getuid()})"
    assert told == [
        f"somebody {who} asks: disconnect: refused: not taken on this socket, which takes power",
        f"modbus 10.0.0.5 {who} asks: power -52 for 300 s",
        f"modbus 10.0.0.5 {who} asks: release power",
        "power set-point of modbus 10.0.0.5 is released",
    ]
    asking.close()


def test_events_are_listed_and_followed_and_stay_for_the_gateway(rack: Rack, tmp_path: Path) -> None:
    lines = bmsd("events", "-c", rack.config).stdout.splitlines()
    assert len(lines) >= 4
    assert [int(line.split()[0]) for line in lines] == list(range(1, len(lines) + 1))
    assert any(
        re.search(r" 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d  info     control of rack rack runs", line) for line in lines
    )
    objects = [json.loads(line) for line in bmsd("events", "-c", rack.config, "--json").stdout.splitlines()]
    assert [one["number"] for one in objects][: len(lines)] == list(range(1, len(lines) + 1)), "none was acknowledged"
    with Program(tmp_path, "events", "-c", rack.config, "--follow") as following:
        following.wait_for(lambda: "control of rack rack runs" in following.out)
        assert LinkClient(rack.config.with_name("service.sock")).ask(Asked("open the door")).taken is False
        following.wait_for(lambda: "'open the door'" in following.out)
        assert following.end(signal.SIGINT) == 0
        assert following.err == ""


def test_events_that_a_gateway_has_taken_are_gone_and_it_is_said(tmp_path: Path) -> None:
    config = rack_file(tmp_path)
    with Program(tmp_path, "run", "-c", config) as control:
        control.wait_for((tmp_path / "link.sock").exists)
        taking = LinkClient(tmp_path / "link.sock")
        taking.send(Ack(0))

        def nothing_left() -> bool:
            numbers = [message.number for message in taking.drain() if isinstance(message, Event)]
            if numbers:
                taking.send(Ack(max(numbers)))
            shown = bmsd("events", "-c", config)
            assert shown.returncode == 0
            assert bool(shown.stdout) != ("no events are kept" in shown.stderr)
            return not shown.stdout

        control.wait_for(nothing_left)
        taking.close()


def test_without_control_nothing_can_be_shown_and_it_is_said(tmp_path: Path) -> None:
    for command_ in ("status", "why", "events"):
        shown = bmsd(command_, "--link", tmp_path / "none.sock")
        assert (shown.returncode, shown.stdout) == (1, "")
        assert "bmsd does not answer here" in shown.stderr


def test_watching_without_a_terminal_prints_lines_until_interrupted(rack: Rack, tmp_path: Path) -> None:
    with Program(tmp_path, "status", "-c", rack.config, "--watch") as watching:
        watching.wait_for(lambda: watching.out.count(" V ") >= 2)
        assert watching.end(signal.SIGINT) == 0
        assert watching.err == ""


def test_a_second_control_process_on_the_same_link_is_refused_and_the_first_goes_on(rack: Rack) -> None:
    shown = bmsd("run", "-c", rack.config)
    assert shown.returncode == 1
    assert "another bmsd listens here" in shown.stderr
    assert rack.run.process.poll() is None
    assert rack.status()


def test_a_state_that_cannot_be_saved_is_in_the_log_and_control_goes_on(rack: Rack) -> None:
    assert "state.directory" in rack.run.err
    assert "not a directory" in rack.run.err
    # a latch is saved at once: the refusal of the disk is said then
    rack.run.wait_for(lambda: "state.not_saved" in rack.run.err)
    assert rack.run.process.poll() is None


def test_a_latched_trip_is_acknowledged_when_its_cause_is_gone(rack: Rack) -> None:
    def codes() -> set[str]:
        faults = rack.status().get("faults", [])
        assert isinstance(faults, list)
        return {fault["code"] for fault in faults if fault["latched"]}

    rack.run.wait_for(lambda: "CEL-003" in codes())
    assert "waits for acknowledgement" in " ".join(bmsd("status", "-c", rack.config).stdout.split())
    refused = bmsd("reset", "CEL-003", "-c", rack.config.with_name("other.toml"))
    assert refused.returncode == 2
    rack.run.wait_for(lambda: "over_voltage_trip" in rack.run.err)

    def gone() -> bool:
        shown = bmsd("reset", "cel-003", "-c", rack.config, "--reason", "seen")
        if shown.returncode == 1:
            assert "acknowledged: nothing" in shown.stdout
            assert "CEL-003 cell over voltage trip at string 1 module 1 cell 1" in shown.stderr
            return False
        assert (shown.returncode, shown.stderr) == (0, "")
        assert "CEL-003" in shown.stdout.partition("acknowledged: ")[2]
        return True

    rack.run.wait_for(gone)
    assert "CEL-003" not in codes()
    again = bmsd("reset", "all", "-c", rack.config, "--reason", "seen")
    assert "CEL-003" not in again.stdout + again.stderr


def test_what_happened_is_told_from_the_start_in_order_and_once(rack: Rack) -> None:
    reader = Reader(rack.config.with_name("link.sock"))

    def told() -> dict[str, Event]:
        return {f"{event.kind} {event.code or event.state}".strip(): event for event in reader.heard()}

    rack.run.wait_for(lambda: "fault.raised CEL-003" in told())

    def cleared() -> bool:
        bmsd("reset", "cel-003", "-c", rack.config, "--reason", "a new board")
        return "fault.cleared CEL-003" in told()

    rack.run.wait_for(cleared)
    wanted = {"configuration.note", "control.running", "state.not_saved", "rack.complete", "rack.state fault"}
    assert wanted | {"string.state open", "request.taken"} <= told().keys()
    events = reader.heard()
    assert [event.number for event in events] == list(range(1, len(events) + 1))
    raised = told()["fault.raised CEL-003"]
    assert (raised.severity, raised.string, raised.module, raised.item) == ("trip", 1, 1, 1)
    assert raised.value is not None
    assert raised.value > 3.65
    asked = [event.text for event in events if event.kind == "request.taken"]
    assert any("a new board" in text and f"uid {os.getuid()}" in text for text in asked), asked
    for event in events:
        assert event.kind in rack.run.err, "what the link tells is in the log"


def test_a_reader_that_lies_about_events_is_dropped_and_control_goes_on(rack: Rack) -> None:
    liar = LinkClient(rack.config.with_name("link.sock"))
    liar.send(Ack(2**62))
    rack.run.wait_for(lambda: is_dropped(liar))
    assert Reader(rack.config.with_name("link.sock"))
    assert rack.status()


def test_sim_and_run_leave_on_a_signal_and_take_their_sockets_with_them(tmp_path: Path) -> None:
    config = rack_file(tmp_path)
    with Program(tmp_path, "sim", "-c", config) as sim:
        sim.wait_for((tmp_path / "field.sock").exists)
        with Program(tmp_path, "run", "-c", config) as run:
            run.wait_for((tmp_path / "service.sock").exists)
            reader = Reader(tmp_path / "link.sock")
            assert run.end(signal.SIGINT) == 0
            assert [event.kind for event in reader.to_the_end()][-1] == "control.left"
            assert "control.stopping" in [event.kind for event in reader.to_the_end()]
            assert "Traceback" not in run.err
        assert sim.end(signal.SIGTERM) == 0
        assert (sim.out, sim.err) == ("", "")
    assert sorted(path.name for path in tmp_path.glob("*.sock")) == []


def test_control_without_its_buses_starts_and_names_what_is_missing(tmp_path: Path) -> None:
    config = rack_file(tmp_path)
    with Program(tmp_path, "run", "-c", config) as run:
        run.wait_for((tmp_path / "link.sock").exists)

        def missing() -> str:
            shown = bmsd("status", "-c", config, "--json")
            return " ".join(json.loads(shown.stdout)["missing"]) if shown.returncode == 0 else ""

        run.wait_for(lambda: "field bus" in missing() and "inverter bus" in missing())
        assert "CAN-009" in bmsd("status", "-c", config).stdout
        assert run.end() == 0


def test_a_link_directory_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    config = rack_file(tmp_path)
    (tmp_path / "file").write_text("")
    config.write_text(config.read_text().replace(f'"{tmp_path}/link.sock"', f'"{tmp_path}/file/link.sock"'))
    shown = bmsd("run", "-c", config)
    assert shown.returncode == 1
    assert "file/link.sock" in shown.stderr
    assert "Traceback" not in shown.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_demo_and_leaves_nothing(number: signal.Signals, tmp_path: Path) -> None:
    with Program(tmp_path, "demo", environment={"TMPDIR": str(tmp_path)}) as demo:
        demo.wait_for(lambda: "string 1 precharge" in demo.out)
        assert len(left_behind(tmp_path)) == 1
        started = children(demo.process.pid)
        assert len(started) == 4, "control, gateway, simulator, broker"
        assert demo.end(number) == 0
        assert demo.out.endswith("Stopped in order.\n")
        assert demo.err == ""
    assert not any(Path(f"/proc/{pid}").exists() for pid in started)
    assert left_behind(tmp_path) == []


def test_a_demo_that_is_killed_takes_its_processes_with_it(tmp_path: Path) -> None:
    with Program(tmp_path, "demo", environment={"TMPDIR": str(tmp_path)}) as demo:
        demo.wait_for(lambda: "string 1" in demo.out)
        started = children(demo.process.pid)
        assert demo.end(signal.SIGKILL) == -signal.SIGKILL
    until_s = time.monotonic() + PATIENCE_S
    while any(Path(f"/proc/{pid}").exists() for pid in started):
        assert time.monotonic() < until_s
        time.sleep(0.05)


def test_a_demo_whose_reader_goes_away_ends_in_order(tmp_path: Path) -> None:
    with subprocess.Popen(
        command("demo"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as demo:  # fmt: skip
        assert demo.stdout is not None
        assert demo.stderr is not None
        assert demo.stdout.readline().startswith("Real control")
        demo.stdout.close()
        assert demo.stderr.read() == ""
        assert demo.wait(PATIENCE_S) == 1
    assert left_behind(tmp_path) == []


def test_on_a_terminal_the_demo_shows_a_table_of_its_width() -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        command("demo", "--for", 2), stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, cwd=ROOT,
        env={**os.environ, "COLUMNS": "80", "LINES": "24", "TERM": "xterm"}, start_new_session=True,
    ) as demo:  # fmt: skip
        os.close(theirs)
        said = b""
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # the last writer has closed the terminal
                break
            if not piece:
                break
            said += piece
        assert demo.stderr is not None
        assert demo.stderr.read() == b""
        assert demo.wait(PATIENCE_S) == 0
    os.close(ours)
    text = said.decode()
    assert "because of" in text
    assert "contactors" in text
    assert "Stopped in order." in text
    assert "\x1b[" in text


def test_the_demo_tells_its_story_in_lines_and_cleans_up(whole_demo: Program) -> None:
    assert whole_demo.process.wait(PATIENCE_S) == 0
    assert whole_demo.err == ""
    lines = whole_demo.out.splitlines()
    assert max(len(line) for line in lines if str(whole_demo.folder) not in line) <= 80
    story = [
        "Real control and gateway, simulated", "string 1 precharge", "string 1 closed", "charge limit 0.0 A: waiting",
        "balancing:", "rising slowly", "the rack is charging", "voltage of the highest cell", "the rack is stopping",
        "string 1 open: bmsd is stopping", "Stopped in order.",
    ]  # fmt: skip
    places = [next((number for number, line in enumerate(lines) if words in line), -1) for words in story]
    assert -1 not in places, dict(zip(story, places, strict=True))
    in_order = [place for words, place in zip(story, places, strict=True) if words != "voltage of the highest cell"]
    assert in_order == sorted(in_order)
    assert left_behind(whole_demo.folder) == []


def test_the_readme_shows_the_demo_as_it_is(whole_demo: Program) -> None:
    """Numbers and times differ from run to run; what happens, and in which order, does not."""

    def without_numbers(text: str) -> list[str]:
        return [
            re.sub(r"\d+(\.\d+)?", "#", line).strip().replace("cells bleed", "cell bleeds")
            for line in text.splitlines()
        ]

    assert whole_demo.process.wait(PATIENCE_S) == 0
    shown = re.search(r"^```text\n(Real control.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert shown is not None
    said = iter(without_numbers(whole_demo.out))
    assert [line for line in without_numbers(shown[1]) if line not in said] == []
