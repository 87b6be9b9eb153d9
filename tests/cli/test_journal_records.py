"""What journald gets: from real processes, and how a record is made of what is logged."""

from __future__ import annotations

import ast
import io
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import structlog

from bmsd import log
from bmsd.systemd.journal import LONGEST_VALUE, MOST_BYTES, encode
from bmsd.systemd.message_ids import MESSAGES
from bmsd.systemd.record import of_event
from tests.journald import Journald, parsed
from tests.programs import PATIENCE_S, ROOT, Program, rack_file

START = (
    "import sys; from bmsd.systemd import journal; journal.SOCKET = sys.argv.pop(1); from bmsd.cli import main; main()"
)
"""bmsd, but for the place where journald listens."""


@pytest.fixture
def journald(tmp_path: Path) -> Iterator[Journald]:
    journald = Journald(tmp_path / "journal")
    yield journald
    journald.close()


def started(journald: Journald, err: Path, arguments: Sequence[object]) -> subprocess.Popen[bytes]:
    """Start bmsd with standard error in a file that systemd would say is the journal."""
    with open(err, "wb") as file:
        found = os.fstat(file.fileno())
        return subprocess.Popen(
            [sys.executable, "-c", START, str(journald.path), *map(str, arguments)], stderr=file, cwd=ROOT,
            env={**os.environ, "JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"},
        )  # fmt: skip


def wait_for_kind(journald: Journald, process: subprocess.Popen[bytes], kind: str) -> dict[str, str]:
    until_s = time.monotonic() + PATIENCE_S
    while not (found := journald.of(kind)):
        assert process.poll() is None
        assert time.monotonic() < until_s
        time.sleep(0.02)
    return found[0]


def test_control_tells_a_fault_with_its_code_level_place_and_class(journald: Journald, tmp_path: Path) -> None:
    mishap = '[[sim.mishap]]\nkind = "offset"\ncell = 3\nvalue = 0.38\nstart_s = 2.0\nend_s = 60.0\n'
    config, err = rack_file(tmp_path, mishap), tmp_path / "err"
    with Program(tmp_path, "sim", "-c", config) as sim:
        sim.wait_for((tmp_path / "field.sock").exists)
        with started(journald, err, ("run", "-c", config)) as run:
            until_s = time.monotonic() + PATIENCE_S
            while not (trip := [one for one in journald.of("fault.raised") if one["BMSD_FAULT"] == "CEL-003"]):
                assert time.monotonic() < until_s
                time.sleep(0.02)
            run.terminate()
            assert run.wait(PATIENCE_S) == 0
    assert trip[0] == {
        "MESSAGE": "CEL-003 cell over voltage trip at string 1 module 1 cell 3",
        "PRIORITY": "2",
        "SYSLOG_IDENTIFIER": "bmsd",
        "MESSAGE_ID": MESSAGES["fault.raised"].id,
        "BMSD_KIND": "fault.raised",
        "BMSD_EVENT": trip[0]["BMSD_EVENT"],
        "BMSD_FAULT": "CEL-003",
        "BMSD_FAULT_NAME": "cell_over_voltage_trip",
        "BMSD_LEVEL": "trip",
        "BMSD_STRING": "1",
        "BMSD_MODULE": "1",
        "BMSD_ITEM": "3",
        "BMSD_VALUE": trip[0]["BMSD_VALUE"],
    }
    assert 3.6 < float(trip[0]["BMSD_VALUE"]) < 3.8
    numbers = [int(record["BMSD_EVENT"]) for record in journald.hear() if "BMSD_EVENT" in record]
    assert numbers == list(range(1, len(numbers) + 1))
    assert all(record.get("MESSAGE_ID") == MESSAGES[record["BMSD_KIND"]].id for record in journald.records)
    (state, *_) = journald.of("rack.state")
    assert (state["PRIORITY"], state["BMSD_STATE"]) == ("6", state["MESSAGE"].removeprefix("the rack is "))
    assert err.read_text() == ""


def test_the_gateway_is_told_apart_and_says_what_it_lacks(journald: Journald, tmp_path: Path) -> None:
    config = rack_file(tmp_path)
    config.write_text(config.read_text() + "[modbus]\nenabled = false\n[web]\nenabled = false\n")
    with started(journald, tmp_path / "err", ("gateway", "-c", config)) as gateway:
        lost = wait_for_kind(journald, gateway, "link.lost")
        gateway.terminate()
        assert gateway.wait(PATIENCE_S) == 0
    assert (lost["SYSLOG_IDENTIFIER"], lost["PRIORITY"]) == ("bmsd-gateway", "4")
    assert f"{tmp_path}/link.sock" in lost["BMSD_ERROR"]
    assert lost["BMSD_ERROR"] in lost["MESSAGE"]


def test_complaints_about_the_configuration_are_records_and_not_lines(journald: Journald, tmp_path: Path) -> None:
    config, err = rack_file(tmp_path), tmp_path / "err"
    config.write_text(config.read_text().replace("max_v = 3.65", "max_v = 36.5").replace("strings = 1", "strings = 9"))
    with started(journald, err, ("run", "-c", config)) as run:
        assert run.wait(PATIENCE_S) == 78
    told = journald.of("configuration.wrong")
    assert [record["MESSAGE"].partition(":")[0] for record in told] == ["layout.strings", "cell.max_v"]
    assert {(record["PRIORITY"], record["MESSAGE_ID"]) for record in told} == {
        ("3", MESSAGES["configuration.wrong"].id)
    }
    assert err.read_text() == ""


def test_a_stream_that_is_not_the_journal_gets_lines_and_the_setting_asks_for_records(
    journald: Journald, tmp_path: Path
) -> None:
    config = rack_file(tmp_path)
    text = config.read_text() + "[modbus]\nenabled = false\n[web]\nenabled = false\n"
    for form in ("text", "journal"):
        config.write_text(f'{text}[log]\nformat = "{form}"\n')
        with open(tmp_path / f"{form}.err", "wb") as err:
            gateway = subprocess.Popen(
                [sys.executable, "-c", START, str(journald.path), "gateway", "-c", str(config)], stderr=err, cwd=ROOT,
                env={**os.environ, "JOURNAL_STREAM": "1:1"},
            )  # fmt: skip
        if form == "journal":
            wait_for_kind(journald, gateway, "gateway.running")
        else:
            while "gateway.running" not in (tmp_path / f"{form}.err").read_text():
                time.sleep(0.02)
            assert journald.hear() == []
        gateway.terminate()
        assert gateway.wait(PATIENCE_S) == 0
    assert (tmp_path / "journal.err").read_text() == ""


def test_values_of_any_content_come_through_and_what_is_too_long_is_cut() -> None:
    text = "two\nlines = \0 \u2603"
    fields = parsed(encode({"MESSAGE": text, "bmsd_höhe.x": "1", "_HIDDEN": "x", "EMPTY": "", "X" * 99: "long name"}))
    assert fields == {"MESSAGE": text, "BMSD_H_HE_X": "1", "HIDDEN": "x", "EMPTY": "", "X" * 64: "long name"}
    assert parsed(encode({"A": "x" * 100_000}))["A"] == "x" * LONGEST_VALUE + "..."
    many = encode({"MESSAGE": "first", **{f"F{number}": "y" * 10_000 for number in range(20)}, "LAST": "last"})
    assert len(many) <= MOST_BYTES
    assert {"MESSAGE": "first", "LAST": "last"}.items() <= parsed(many).items()


def test_a_traceback_follows_the_sentence() -> None:
    fields = of_event("bmsd", "error", {"event": "control.defect", "text": "a defect", "exception": "Trace\nback"})
    assert (fields["MESSAGE"], fields["PRIORITY"]) == ("a defect\nTrace\nback", "3")


def test_a_journal_that_takes_nothing_holds_nobody_up_and_what_is_lost_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bmsd.systemd.journal.SOCKET", str(tmp_path / "journal"))
    gone, before = Journald(tmp_path / "journal"), structlog.get_config()
    writer = log.configure("info", "journal")
    try:
        say = structlog.get_logger().info
        gone.close()
        say("gateway.running")
        until_s = time.monotonic() + PATIENCE_S
        while writer.dropped < 1:  # journald has gone
            assert time.monotonic() < until_s
            time.sleep(0.01)
        journald = Journald(tmp_path / "journal")  # whom nobody reads: his queue is full soon
        began_s = time.monotonic()
        for number in range(log.MOST_WAITING + 2000):
            say("gateway.running", number=number)
        assert time.monotonic() - began_s < 5.0
        assert writer.dropped > 1000
        while len(journald.of("log.dropped")) < 2 or writer.dropped != int(
            journald.of("log.dropped")[-1]["BMSD_COUNT"]
        ):
            assert time.monotonic() < until_s
            say("gateway.running")
            time.sleep(0.01)
        journald.close()
    finally:
        writer.close()
        structlog.configure(**before)


def test_where_no_journald_is_lines_are_written_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bmsd.systemd.journal.SOCKET", str(tmp_path / "journal"))
    before, lines = structlog.get_config(), io.StringIO()
    try:
        log.configure("info", "journal", lines).close()
    finally:
        structlog.configure(**before)
    assert f"no journald at {tmp_path}/journal: lines are written instead" in lines.getvalue()


def test_every_kind_that_is_logged_has_a_message_id_and_each_has_its_own() -> None:
    kinds = re.compile(r"[a-z]+\.[a-z_]+")
    said = set()
    for path in (ROOT / "bmsd").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
                if name in ("say", "event", "info", "warning", "error", "debug", "_say") and node.args:
                    first = node.args[1] if name == "_say" and len(node.args) > 1 else node.args[0]
                    said |= {one.value for one in ast.walk(first) if isinstance(one, ast.Constant)
                             and isinstance(one.value, str) and kinds.fullmatch(one.value)}  # fmt: skip
    assert {"fault.raised", "control.defect", "mqtt.lost", "configuration.wrong"} <= said
    assert said - set(MESSAGES) == set(), "kinds without a MESSAGE_ID"
    identifiers = [message.id for message in MESSAGES.values()]
    assert len(set(identifiers)) == len(identifiers)
    assert all(re.fullmatch(r"[0-9a-f]{32}", identifier) for identifier in identifiers)
