"""The C sender of tests/dbc on real SocketCAN: what arrives is what it writes to stdout, bit for bit."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.vcan

BUILD = Path(__file__).resolve().parents[1] / "dbc" / "c_codec.py"
FRAME_BYTES = 16
VECTORS = "".join(
    [f"CellVoltages{1 + k % 6} {1 + k % 32} {k} 8000 8190 8191 {k % 16}\n" for k in range(96)]
    + [f"Current {65 + k % 8} {4294967295 - k} {-131072 + k} {k % 4} {k % 16}\n" for k in range(32)]
).encode()


@pytest.fixture(scope="module")
def sender(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled program. Its tests outside say what to install when there is no compiler."""
    if not shutil.which("gcc"):
        missing = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        missing("no C compiler; install gcc and libc6-dev")
    folder = tmp_path_factory.mktemp("c_sender")
    subprocess.run([sys.executable, str(BUILD), str(folder)], check=True)
    return folder / "sender"


def test_frames_of_the_c_sender_arrive_complete_and_in_order(sender: Path) -> None:
    expected = subprocess.run([str(sender)], input=VECTORS, capture_output=True, check=True).stdout
    with socket.socket(socket.PF_CAN, socket.SOCK_RAW, socket.CAN_RAW) as bus:
        bus.bind(("vcan0",))
        bus.settimeout(5.0)
        subprocess.run([str(sender), "-g", "100", "vcan0"], input=VECTORS, check=True)
        arrived = b"".join(bus.recv(FRAME_BYTES) for _ in range(128))
    assert len(expected) == 128 * FRAME_BYTES
    assert arrived == expected


def test_an_interface_that_is_not_there_is_an_error(sender: Path) -> None:
    done = subprocess.run([str(sender), "can99"], input=VECTORS, capture_output=True, check=False)
    assert done.returncode == 2
    assert b"can99" in done.stderr
