"""The parts of docs/slave-protocol.md that are computed from dbc/slave.dbc: tables, CRC steps, example bytes.

`python tests/dbc/contract.py --write` renews them in the page: tables between marks, and the bytes of each
example line `ID#BYTES Message: Signal=value, ...` from its message, address and values.
"""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass

from cantools.database.can import Database, Message
from cantools.database.namedsignalvalue import NamedSignalValue
from slave_database import ROOT, group, load, with_crc

PAGE = ROOT / "docs" / "slave-protocol.md"
EXAMPLE = re.compile(r"^([0-9A-F]{8})#((?:[0-9A-F]{2})+) +(\w+)@(\d+): (.+)$", re.MULTILINE)
CRC_INPUT = bytes.fromhex("0DB51200") + bytes.fromhex("2A1014")


@dataclass(frozen=True)
class Example:
    """One example line of the page."""

    can_id: int
    data: bytes
    message: str
    address: int
    values: dict[str, str]


def examples(text: str) -> list[Example]:
    """Return the example lines in order."""
    found = []
    for can_id, data, message, address, values in EXAMPLE.findall(text):
        pairs = dict(pair.split("=", 1) for pair in values.split(", "))
        found.append(Example(int(can_id, 16), bytes.fromhex(data), message, int(address), pairs))
    return found


def shown(message: Message, data: bytes) -> dict[str, str]:
    """Return the signals of a frame as an example shows them: names of codes, shortest numbers, no CRC."""
    decoded = message.decode(data, decode_choices=True)
    by_bit = sorted(message.signals, key=lambda signal: signal.start)
    out = {}
    for signal in by_bit:
        value = decoded[signal.name]
        if signal.name == "Crc":
            continue
        if isinstance(value, NamedSignalValue):
            out[signal.name] = str(value)
        elif signal.name == "Uid":
            out[signal.name] = f"0x{int(value):012X}"
        elif signal.name.startswith("Balance") and signal.length == 24:
            out[signal.name] = f"0x{int(value):06X}"
        else:
            out[signal.name] = f"{float(value):.10g}"
    return out


def encoded(database: Database, example: Example) -> tuple[int, bytes]:
    """Return identifier and data of an example from its values."""
    message = database.get_message_by_name(example.message)
    values: dict[str, str | float] = {"Crc": 0}
    for name, text in example.values.items():
        choices = {str(choice) for choice in (message.get_signal_by_name(name).choices or {}).values()}
        values[name] = text if text in choices else int(text, 16) if text.startswith("0x") else float(text)
    can_id = message.frame_id | example.address
    return can_id, with_crc(can_id, message.encode(values, scaling=True, strict=True))


def message_table(database: Database) -> str:
    """Return one row per message."""
    lines = [
        "| identifier | message | prio | from | bytes | group | period ms | what |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for message in sorted(database.messages, key=lambda m: m.frame_id):
        sender = " ".join({"ModuleBoard": "board", "ContactorUnit": "unit"}.get(name, name) for name in message.senders)
        cells = [
            f"{message.frame_id:08X}",
            message.name,
            str(message.frame_id >> 26),
            sender,
            str(message.length),
            group(message),
            str(message.cycle_time or "-"),
            message.comment,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def code_table(database: Database) -> str:
    """Return the value tables, signals with the same table in one row."""
    rows: dict[tuple[tuple[int, str], ...], list[str]] = {}
    for message in database.messages:
        for signal in message.signals:
            if signal.choices:
                key = tuple(sorted((raw, str(choice)) for raw, choice in signal.choices.items()))
                rows.setdefault(key, []).append(f"{message.name}.{signal.name}")
    lines = ["| signals | raw values with a meaning of their own |", "|---|---|"]
    for codes, signals in rows.items():
        names = ", ".join(signals) if len(signals) < 4 else f"{signals[0]} .. {signals[-1]}"
        lines.append(f"| {names} | {', '.join(f'{raw} {name}' for raw, name in codes)} |")
    return "\n".join(lines)


def crc_steps() -> str:
    """Return the CRC register after each byte of one frame."""
    register, lines = 0xFF, ["| byte | register after it |", "|---|---|"]
    for byte in CRC_INPUT:
        register ^= byte
        for _ in range(8):
            register = ((register << 1) ^ 0x2F if register & 0x80 else register << 1) & 0xFF
        lines.append(f"| {byte:02X} | {register:02X} |")
    lines.append(f"| final XOR FF | **{register ^ 0xFF:02X}** |")
    return "\n".join(lines)


def renewed(text: str, database: Database) -> str:
    """Return the page with everything computed put in."""
    parts = {"messages": message_table(database), "codes": code_table(database), "crc": crc_steps()}
    for name, table in parts.items():
        begin, end = f"<!-- computed {name}: begin -->", f"<!-- computed {name}: end -->"
        head, rest = text.split(begin, 1)
        _, tail = rest.split(end, 1)
        text = f"{head}{begin}\n{table}\n{end}{tail}"

    def line(match: re.Match[str]) -> str:
        example = examples(match.group(0))[0]
        can_id, data = encoded(database, example)
        head = f"{can_id:08X}#{data.hex().upper()}"
        return f"{head:<25}  {example.message}@{example.address}: {match.group(5)}"

    return EXAMPLE.sub(line, text)


def main() -> None:
    parser = argparse.ArgumentParser(description="Renew the computed parts of docs/slave-protocol.md.")
    parser.add_argument("--write", action="store_true", help="write the page; otherwise print it")
    text = renewed(PAGE.read_text(), load())
    if parser.parse_args().write:
        PAGE.write_text(text)
    else:
        print(text)  # noqa: T201


if __name__ == "__main__":
    main()
