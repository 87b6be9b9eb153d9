"""The gateway as a process, with brokers and control processes that come and go."""

from __future__ import annotations

import signal
import socket
import time
from pathlib import Path

from tests.gateway.broker import Broker, Listener, free_port, needs_mosquitto, retained
from tests.gateway.control_end import ControlEnd, event, wait_for
from tests.programs import Program, bmsd, rack_file


def file_of(folder: Path, port: int, *lines: str) -> Path:
    """A rack whose gateway has MQTT alone."""
    config = rack_file(folder)
    more = ["[modbus]", "enabled = false", "[web]", "enabled = false", "[mqtt]", "enabled = true", f"port = {port}"]
    config.write_text("\n".join([config.read_text(), *more, "period_s = 0.5", *lines, ""]))
    return config


@needs_mosquitto
def test_a_killed_gateway_is_offline_by_its_last_will(tmp_path: Path) -> None:
    with Broker(tmp_path) as broker, ControlEnd(tmp_path), Listener(broker.port) as listener:
        with Program(tmp_path, "gateway", "-c", file_of(tmp_path, broker.port)) as gateway:
            gateway.wait_for(lambda: listener.state == "online" and listener.all("tel"))
            gateway.end(signal.SIGKILL)
            wait_for(lambda: listener.state == "offline")
        status = retained(broker.port, "status")
    assert (status["state"], status["utc"]) == ("offline", None)
    assert "without a word" in status["reason"]
    assert status.keys() == listener.bodies("status")[0].keys()


@needs_mosquitto
def test_a_stopped_gateway_says_so(tmp_path: Path) -> None:
    with Broker(tmp_path) as broker, ControlEnd(tmp_path):
        with Program(tmp_path, "gateway", "-c", file_of(tmp_path, broker.port)) as gateway:
            with Listener(broker.port) as listener:
                gateway.wait_for(lambda: listener.state == "online")
            assert gateway.end() == 0
            assert "Traceback" not in gateway.err
        assert retained(broker.port, "status")["reason"] == "the gateway was stopped"


@needs_mosquitto
def test_events_of_an_outage_arrive_after_it(tmp_path: Path) -> None:
    broker = Broker(tmp_path, "persistence true", f"persistence_location {tmp_path}/")
    config = file_of(tmp_path, broker.port)
    with (
        ControlEnd(tmp_path) as control,
        broker,
        Listener(broker.port, lasting=True) as listener,
        Program(tmp_path, "gateway", "-c", config) as gateway,
    ):
        control.tell(event(number) for number in range(1, 6))
        gateway.wait_for(lambda: len(listener.numbers()) == 5)
        broker.stop(signal.SIGTERM)
        control.tell(event(number) for number in range(6, 41))
        gateway.wait_for(lambda: "mqtt.lost" in gateway.err)
        gateway.wait_for(lambda: len(control.server._events) >= 35)
        broker.start()
        gateway.wait_for(lambda: len(listener.numbers()) == 40)
        control.tell([event(41)])
        gateway.wait_for(lambda: not control.server._events and 41 in listener.numbers())
        assert listener.numbers() == list(range(1, 42))
        assert gateway.end() == 0


@needs_mosquitto
def test_events_survive_a_gateway_that_is_killed_while_the_broker_is_away(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    config = file_of(tmp_path, broker.port)
    with ControlEnd(tmp_path) as control:
        with Program(tmp_path, "gateway", "-c", config) as gateway:
            gateway.wait_for(lambda: "link.open" in gateway.err)
            control.tell(event(number) for number in range(1, 4))
            gateway.wait_for(lambda: "mqtt.lost" in gateway.err)
            gateway.end(signal.SIGKILL)
        with broker, Listener(broker.port) as listener, Program(tmp_path, "gateway", "-c", config) as gateway:
            gateway.wait_for(lambda: listener.numbers() == [1, 2, 3])
            gateway.wait_for(lambda: not control.server._events)


@needs_mosquitto
def test_a_killed_control_process_is_said_within_2_s(tmp_path: Path) -> None:
    with Broker(tmp_path) as broker, Listener(broker.port) as listener:
        config = file_of(tmp_path, broker.port)
        with Program(tmp_path, "sim", "-c", config) as sim, Program(tmp_path, "gateway", "-c", config) as gateway:
            sim.wait_for((tmp_path / "field.sock").exists)
            with Program(tmp_path, "run", "-c", config) as run:
                gateway.wait_for(lambda: listener.state == "online" and listener.all("tel"))
                run.end(signal.SIGKILL)
                killed_s = time.monotonic()
                gateway.wait_for(lambda: listener.state == "control_lost")
            lost = listener.all("status")[-1]
            assert lost.at_s - killed_s < 2.0
            assert retained(broker.port, "status")["state"] == "control_lost"
            time.sleep(1.0)
            assert not [heard for heard in listener.all("tel") if heard.at_s > lost.at_s]
            with Program(tmp_path, "run", "-c", config):
                gateway.wait_for(lambda: listener.state == "online")
            assert listener.last("status")["boot_id"] != lost.body["boot_id"]


def test_what_cannot_be_read_stops_the_start_with_all_complaints(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    files = [f'{name} = "{missing}"' for name in ("password_file", "ca_file")]
    done = bmsd("gateway", "-c", file_of(tmp_path, 8883, "tls = true", 'username = "rack"', *files))
    assert done.returncode == 78
    expected = f"{missing}: No such file or directory; expected a file that the gateway's user can read"
    lines = [line for line in done.stderr.splitlines() if line.startswith("mqtt.")]
    assert lines == [f"mqtt.password_file: {expected}", f"mqtt.ca_file: {expected}"]


def test_a_silent_peer_does_not_keep_the_gateway_from_stopping(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, ControlEnd(tmp_path):
        config = file_of(tmp_path, silent.getsockname()[1], "tls = true")
        with Program(tmp_path, "gateway", "-c", config) as gateway:
            gateway.wait_for(lambda: "link.open" in gateway.err)
            silent.settimeout(20.0)
            peer = silent.accept()[0]
            assert gateway.end(within_s=20.0) == 0
            peer.close()


def test_nobody_to_publish_to_is_no_reason_to_leave(tmp_path: Path) -> None:
    with ControlEnd(tmp_path), Program(tmp_path, "gateway", "-c", file_of(tmp_path, free_port())) as gateway:
        gateway.wait_for(lambda: "nobody listens there" in gateway.err)
        assert gateway.end() == 0
