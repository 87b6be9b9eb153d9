"""How much of the field bus's time the slave protocol takes, computed from dbc/slave.dbc alone.

Frame length: R. Davis, A. Burns, R. Bril, J. Lukkien, "Controller Area Network (CAN) schedulability analysis:
refuted, revisited and revised", Real-Time Systems 35 (2007). A data frame of n bytes with a 29-bit
identifier has g + 8 n bits that are subject to stuffing, g = 54 (start of frame 1, identifier 29, SRR 1, IDE 1,
RTR 1, reserved 2, length 4, CRC 15) and 13 that are not (CRC delimiter 1, acknowledge 2, end of frame 7,
interframe space 3). At worst one bit is stuffed after the first five and then after every four:
g + 8 n + 13 + floor((g + 8 n - 1) / 4) = 80 + 10 n bits.

Run as a program it prints the tables of dbc/README.md; with --write it puts them there.
"""

from __future__ import annotations

import argparse
import heapq
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from cantools.database.can import Database, Message
from slave_database import FOLDER, attribute, by_node, group, load

README = FOLDER / "README.md"
BEGIN, END = "<!-- computed: begin -->", "<!-- computed: end -->"
FIRST_UNIT = 65
SLOW_ROTATION = ("temperatures", "module_state", "temperatures", "node_status", "none")
SLOW_GROUP_OF = {
    "Temperatures1": "temperatures",
    "Temperatures2": "temperatures",
    "ModuleState": "module_state",
    "NodeStatus": "node_status",
}
TICKS_PER_S = 10
BALANCE_COMMANDS_PER_S = 1
IDENTIFY_REQUESTS_PER_S = 1
MOST_LOAD = 0.5


def frame_bits(length: int) -> int:
    """Bits of a data frame with a 29-bit identifier and `length` bytes, worst stuffing and interframe space."""
    stuffable = 54 + 8 * length
    return stuffable + 13 + (stuffable - 1) // 4


@dataclass(frozen=True)
class Rack:
    """What is on the bus. `current_per_s` is the least rate of current samples; phases are whole numbers."""

    boards: int
    units: int
    cells: int
    sensors: int
    poll_s: float
    current_per_s: float = 20.0

    @property
    def polls_per_s(self) -> float:
        return 1.0 / self.poll_s

    @property
    def phases(self) -> int:
        """SYNCs per poll: the fewest that give the rate of current samples."""
        return max(1, math.ceil(self.current_per_s * self.poll_s - 1e-9))


REFERENCE = Rack(boards=32, units=8, cells=16, sensors=8, poll_s=0.2)


@dataclass(frozen=True)
class Load:
    """Share of the bus that one message takes."""

    message: str
    senders: int
    per_s: float
    """Frames per second of each sender."""
    bits: int
    share: float


def sent_by_board(name: str, rack: Rack) -> bool:
    """Whether a board with these cells and sensors sends the frame; it sends none for what it does not have."""
    if name.startswith("CellVoltages"):
        return 4 * (int(name.removeprefix("CellVoltages")) - 1) < rack.cells
    if name.startswith("Temperatures"):
        return 4 * (int(name.removeprefix("Temperatures")) - 1) < rack.sensors
    return True


def senders(message: Message, rack: Rack) -> int:
    """Nodes that send the message; for bmsd's commands to single nodes, their receivers."""
    if message.name == "ContactorCommand":
        return rack.units
    if message.name == "BalanceCommand":
        return rack.boards
    if not by_node(message):
        return 1
    boards = rack.boards if "ModuleBoard" in message.senders and sent_by_board(message.name, rack) else 0
    return boards + (rack.units if "ContactorUnit" in message.senders else 0)


def rate_per_s(message: Message, rack: Rack) -> float:
    """Frames per second of one sender in normal operation; events are not part of it."""
    slow = SLOW_GROUP_OF.get(message.name)
    if slow is not None:
        return rack.polls_per_s * SLOW_ROTATION.count(slow) / len(SLOW_ROTATION)
    if message.name in ("Current", "Sync"):
        return rack.polls_per_s * rack.phases
    fixed = {
        "Heartbeat": TICKS_PER_S,
        "ContactorCommand": TICKS_PER_S,
        "BalanceCommand": BALANCE_COMMANDS_PER_S,
        "IdentifyRequest": IDENTIFY_REQUESTS_PER_S,
    }
    if message.name in fixed:
        return fixed[message.name]
    return rack.polls_per_s if group(message) == "fast" else 0.0


def loads(database: Database, rack: Rack) -> list[Load]:
    """Return the load of every message that is sent in normal operation, in order of priority."""
    bit_rate = int(attribute(database, "Baudrate"))
    rows = []
    for message in sorted(database.messages, key=lambda m: m.frame_id):
        count, rate, bits = senders(message, rack), rate_per_s(message, rack), frame_bits(message.length)
        if count and rate:
            rows.append(Load(message.name, count, rate, bits, count * rate * bits / bit_rate))
    return rows


def total(database: Database, rack: Rack) -> float:
    """Share of the bus in use, 0..1."""
    return sum(row.share for row in loads(database, rack))


def trip_load(database: Database, rack: Rack) -> float:
    """Share of the bus that is added while every board of the rack repeats its TRIP."""
    trip = database.get_message_by_name("Trip")
    return rack.boards * 1000 / trip.cycle_time * frame_bits(trip.length) / int(attribute(database, "Baudrate"))


@dataclass(frozen=True)
class Burst:
    """When the frames of one poll are on the bus, in s after the end of its SYNC; worst over all tick phases."""

    board_s: float
    """Time on the bus of the frames of one board."""
    unit_s: float
    """Time on the bus of a unit's voltages, state and status."""
    busy_s: float
    """Time on the bus of all frames that are released within the poll's answering time, commands included."""
    boards_done_s: float
    """End of the last frame of the last board."""
    late_s: float
    """Longest time from the end of a board's slot to the end of its last frame; 0 when all fit."""
    current_done_s: float
    """End of the last Current, after the end of its SYNC."""
    done_s: float
    """End of the last frame of the poll."""
    queued_frames: int
    """Most frames of one board that wait at the same time."""


@dataclass(frozen=True, order=True)
class Release:
    """A frame that is offered to the bus at an instant (us)."""

    at_us: int
    can_id: int
    bits: int
    message: str
    address: int


def answers(database: Database, rack: Rack, slow_group: str) -> Iterator[Release]:
    """Yield what nodes send after one SYNC of phase 0; times count from the end of that SYNC."""
    first_us, slot_us = (int(attribute(database, f"BoardSlot{x}_us")) for x in ("First", ""))
    unit_first_us, unit_us = (int(attribute(database, f"UnitSlot{x}_us")) for x in ("First", ""))
    for message in database.messages:
        fast = group(message) == "fast" and message.name != "Current"
        if not by_node(message) or not (fast or SLOW_GROUP_OF.get(message.name) == slow_group):
            continue
        bits = frame_bits(message.length)
        if "ModuleBoard" in message.senders and sent_by_board(message.name, rack):
            for address in range(1, rack.boards + 1):
                at_us = first_us + slot_us * (address - 1)
                yield Release(at_us, message.frame_id + address, bits, message.name, address)
        if "ContactorUnit" in message.senders:
            for unit in range(rack.units):
                address = FIRST_UNIT + unit
                at_us = unit_first_us + unit_us * unit
                yield Release(at_us, message.frame_id + address, bits, message.name, address)


def currents(database: Database, rack: Rack, sync_us: int) -> Iterator[Release]:
    """Yield what contactor units send after every SYNC."""
    message, slot_us = database.get_message_by_name("Current"), int(attribute(database, "UnitCurrentSlot_us"))
    for unit in range(rack.units):
        address = FIRST_UNIT + unit
        bits = frame_bits(message.length)
        yield Release(sync_us + slot_us * unit, message.frame_id + address, bits, message.name, address)


def commands(database: Database, rack: Rack, tick_us: int) -> Iterator[Release]:
    """Yield what bmsd sends after a tick, in the worst second: every balance command in the same one."""
    counts = {"Heartbeat": (0, 1), "ContactorCommand": (FIRST_UNIT, rack.units), "BalanceCommand": (1, rack.boards)}
    for name, (first, count) in counts.items():
        message = database.get_message_by_name(name)
        for address in range(first, first + count):
            yield Release(tick_us, message.frame_id + address, frame_bits(message.length), name, address)


def on_the_bus(releases: list[Release], bit_us: float) -> Iterator[tuple[Release, float, int]]:
    """Yield (frame, end in us, frames of the same node still waiting then) as arbitration serves them.

    The lowest identifier of those that wait goes first, a frame on the bus is never cut short. The bus is taken
    at time 0 by the longest frame.
    """
    waiting: list[tuple[int, Release]] = []
    coming = sorted(releases)
    now, next_frame = frame_bits(8) * bit_us, 0
    while waiting or next_frame < len(coming):
        if not waiting:
            now = max(now, coming[next_frame].at_us)
        while next_frame < len(coming) and coming[next_frame].at_us <= now:
            heapq.heappush(waiting, (coming[next_frame].can_id, coming[next_frame]))
            next_frame += 1
        _, frame = heapq.heappop(waiting)
        left = sum(other.address == frame.address and other.message != "BalanceCommand" for _, other in waiting)
        now += frame.bits * bit_us
        yield frame, now, left + 1


def burst(database: Database, rack: Rack, tick_step_us: int = 500) -> Burst:
    """Return the worst poll: every slow group, bmsd's tick at every instant, all frames with worst stuffing."""
    bit_us = 1e6 / int(attribute(database, "Baudrate"))
    first_us, slot_us = (int(attribute(database, f"BoardSlot{x}_us")) for x in ("First", ""))
    done_us = int(attribute(database, "PollDone_us"))
    phase_us = round(1e6 * rack.poll_s / rack.phases)
    sync = database.get_message_by_name("Sync")
    worst = Burst(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0)
    for slow_group in dict.fromkeys(SLOW_ROTATION):
        poll = list(answers(database, rack, slow_group))
        for sync_us in range(0, done_us, phase_us):
            poll += currents(database, rack, sync_us)
            if sync_us:
                poll.append(Release(sync_us - round(frame_bits(4) * bit_us), sync.frame_id, frame_bits(4), "Sync", 0))
        board_bits = sum(f.bits for f in poll if f.address == 1)
        unit_bits = sum(f.bits for f in poll if f.address == FIRST_UNIT and f.message != "Current")
        for tick_us in range(0, done_us, tick_step_us):
            frames = poll + list(commands(database, rack, tick_us))
            served = list(on_the_bus(frames, bit_us))
            nodes = [(f, end, left) for f, end, left in served if f.message not in ("BalanceCommand", "Sync")]
            nodes = [row for row in nodes if row[0].message not in ("Heartbeat", "ContactorCommand")]
            of_boards = [row for row in nodes if row[0].address < FIRST_UNIT]
            late = max(end - (first_us + slot_us * f.address) for f, end, _ in of_boards)
            current = max(end - phase_us * (f.at_us // phase_us) for f, end, _ in nodes if f.message == "Current")
            seen = Burst(
                board_s=board_bits * bit_us / 1e6,
                unit_s=unit_bits * bit_us / 1e6,
                busy_s=sum(f.bits for f in frames) * bit_us / 1e6,
                boards_done_s=max(end for _, end, _ in of_boards) / 1e6,
                late_s=max(0.0, late) / 1e6,
                current_done_s=current / 1e6,
                done_s=max(end for _, end, _ in nodes) / 1e6,
                queued_frames=max(left for _, _, left in of_boards),
            )
            worst = Burst(*(max(a, b) for a, b in zip(vars(worst).values(), vars(seen).values(), strict=True)))
    return worst


def shortest_poll_s(database: Database, rack: Rack) -> float:
    """Shortest poll period, a multiple of PollPeriod's step, that keeps to half of the bus and to the slots."""
    step_s = database.get_message_by_name("Sync").get_signal_by_name("PollPeriod").scale
    least = round(int(attribute(database, "PollDone_us")) / 1e6 / step_s)
    return next(n * step_s for n in range(least, 256) if total(database, replace(rack, poll_s=n * step_s)) <= MOST_LOAD)


def sizes() -> list[Rack]:
    """Racks of the tables: all bytes of the largest rack, and the one with the largest boards."""
    return [REFERENCE, replace(REFERENCE, cells=24)]


def render(database: Database) -> str:
    """Return the tables of the README."""
    racks = sizes()
    tables = [loads(database, rack) for rack in racks]
    lines = ["| message | senders | frames/s each | bits | share of the bus |", "|---|---|---|---|---|"]
    for row in tables[-1]:
        only_24 = "" if any(row.message == other.message for other in tables[0]) else " (24 cells only)"
        lines.append(f"| {row.message}{only_24} | {row.senders} | {row.per_s:g} | {row.bits} | {row.share:.2%} |")
    lines += [
        "",
        "| 32 boards with 8 sensors each, 8 units | " + " | ".join(f"{rack.cells} cells" for rack in racks) + " |",
        "|---|" + "---|" * len(racks),
    ]
    bursts = [burst(database, rack) for rack in racks]
    periods = [shortest_poll_s(database, rack) for rack in racks]
    fastest = [replace(rack, poll_s=period) for rack, period in zip(racks, periods, strict=True)]
    slot_s = int(attribute(database, "BoardSlot_us")) / 1e6
    rows = [
        ("bus load at 5 polls/s, current 20/s", [f"{total(database, rack):.1%}" for rack in racks]),
        ("added while all 32 boards repeat a TRIP", [f"{trip_load(database, rack):.1%}" for rack in racks]),
        ("shortest poll period up to 50 %", [f"{period:.2f} s" for period in periods]),
        ("= highest poll rate", [f"{rack.polls_per_s:.2f}/s, {rack.phases} phases" for rack in fastest]),
        ("load at that rate", [f"{total(database, rack):.1%}" for rack in fastest]),
        (f"frames of one board, slot {slot_s * 1e3:g} ms", [f"{b.board_s * 1e3:.2f} ms" for b in bursts]),
        ("a board's last frame after the end of its slot, at most", [f"{b.late_s * 1e3:.2f} ms" for b in bursts]),
        ("most frames of one board waiting at once", [f"{b.queued_frames}" for b in bursts]),
        ("frames of one unit besides Current, slot 1 ms", [f"{b.unit_s * 1e3:.2f} ms" for b in bursts]),
        ("last Current after its SYNC", [f"{b.current_done_s * 1e3:.2f} ms" for b in bursts]),
        ("last frame of the last board after the SYNC", [f"{b.boards_done_s * 1e3:.2f} ms" for b in bursts]),
        ("last frame of the poll after the SYNC", [f"{b.done_s * 1e3:.2f} ms" for b in bursts]),
        (
            "bus time of the whole burst with all commands (the last of them end later)",
            [f"{b.busy_s * 1e3:.2f} ms" for b in bursts],
        ),
    ]
    lines += [f"| {name} | {' | '.join(values)} |" for name, values in rows]
    return "\n".join(lines)


def replaced(text: str, tables: str) -> str:
    """Return the README with the text between the marks replaced."""
    head, rest = text.split(BEGIN, 1)
    _, tail = rest.split(END, 1)
    return f"{head}{BEGIN}\n{tables}\n{END}{tail}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Compute the bus-time tables of dbc/README.md from dbc/slave.dbc.")
    parser.add_argument("--write", action="store_true", help="put the tables into dbc/README.md")
    tables = render(load())
    if parser.parse_args().write:
        README.write_text(replaced(README.read_text(), tables))
    else:
        print(tables)  # noqa: T201


if __name__ == "__main__":
    main()
