"""Builds sender.c with the C that cantools generates from slave.dbc, and runs it.

As a program: `python tests/dbc/c_codec.py FOLDER` leaves the executable `sender` in FOLDER.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
from cantools.database.can import Message, Signal
from cantools.database.can.c_source import camel_to_snake_case
from slave_database import SLAVE, load

from bmsd.model.frame import RAW_FRAME, RawFrames

HERE = Path(__file__).resolve().parent
STRICT = ["-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", "-pedantic", "-Wconversion", "-Wshadow", "-Wundef"]
STRICTER = [*STRICT, "-Wsign-conversion", "-Wstrict-prototypes", "-Wcast-qual", "-Wmissing-prototypes"]


def payload(message: Message) -> list[Signal]:
    """Return the signals of a message in order of their bits, without the CRC."""
    return [signal for signal in sorted(message.signals, key=lambda s: s.start) if signal.name != "Crc"]


def c_type(signal: Signal) -> str:
    size = next(size for size in (8, 16, 32, 64) if signal.length <= size)
    return f"{'' if signal.is_signed else 'u'}int{size}_t"


def table() -> str:
    """Return slave_table.inc: every message and its fields, for sender.c."""
    functions, rows = [], []
    for message in load().messages:
        name = camel_to_snake_case(message.name)
        struct = f"struct slave_{name}_t"
        functions.append(
            f"static int pack_{name}(uint8_t *to, const void *from, size_t room)\n"
            f"{{\n    return slave_{name}_pack(to, (const {struct} *)from, room);\n}}\n"
            f"static int unpack_{name}(void *to, const uint8_t *from, size_t length)\n"
            f"{{\n    return slave_{name}_unpack(({struct} *)to, from, length);\n}}\n"
        )
        fields = []
        for signal in payload(message):
            field, kind = camel_to_snake_case(signal.name), c_type(signal)
            stem = f"slave_{name}_{field}"
            functions.append(
                f"static int64_t encode_{name}_{field}(double value)\n"
                f"{{\n    return (int64_t){stem}_encode(value);\n}}\n"
                f"static double decode_{name}_{field}(int64_t raw)\n"
                f"{{\n    return {stem}_decode(({kind})raw);\n}}\n"
            )
            fields.append(
                f"    {{offsetof({struct}, {field}), sizeof({kind}), {int(signal.is_signed)}, "
                f"encode_{name}_{field}, decode_{name}_{field}}},\n"
            )
        functions.append(f"static const struct field fields_{name}[] = {{\n{''.join(fields)}}};\n")
        rows.append(
            f'    {{"{message.name}", 0x{message.frame_id:08X}u, {message.length}, sizeof({struct}), '
            f"pack_{name}, unpack_{name}, fields_{name}, {len(fields)}}},\n"
        )
    return "".join(functions) + f"static const struct message messages[] = {{\n{''.join(rows)}}};\n"


def generate(folder: Path) -> None:
    """Write slave.h, slave.c (as docs/slave-protocol.md tells firmware authors) and slave_table.inc."""
    command = [sys.executable, "-m", "cantools", "generate_c_source", "--use-round", "--database-name", "slave"]
    subprocess.run([*command, "-o", str(folder), str(SLAVE)], check=True, capture_output=True)
    (folder / "slave_table.inc").write_text(table())


def build(folder: Path, compiler: str) -> Path:
    """Compile sender and generated code with warnings as errors; return the executable."""
    generate(folder)
    subprocess.run([compiler, *STRICTER, "-c", "slave.c", "-o", "slave.o"], cwd=folder, check=True)
    sender = folder / "sender"
    sources = [str(HERE / "sender.c"), "slave.o", "-lm"]
    subprocess.run([compiler, *STRICT, "-I", ".", "-o", str(sender), *sources], cwd=folder, check=True)
    return sender


def frames(sender: Path, vectors: list[str], *options: str) -> RawFrames:
    """Return the frames that the C program makes of the vectors."""
    text = "".join(f"{line}\n" for line in vectors).encode()
    done = subprocess.run([str(sender), *options], input=text, capture_output=True, check=True)
    return np.frombuffer(done.stdout, dtype=RAW_FRAME)


def vectors_of(sender: Path, raw_frames: RawFrames, *options: str) -> list[str]:
    """Return what the C program reads from the frames; "dropped" for those that it refuses."""
    done = subprocess.run([str(sender), "-u", *options], input=raw_frames.tobytes(), capture_output=True, check=True)
    return done.stdout.decode().splitlines()


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    build(target, shutil.which("gcc") or "cc")
