"""What boards of another maker cost: a rack of 32 x 16 cells at 5 rounds/s, and the same with cantools alone."""

from __future__ import annotations

import time
from pathlib import Path

import cantools
import numpy as np

from bmsd.config.load import board_map
from bmsd.config.schema_mapped import Mapped
from bmsd.fieldbus.drivers.mapped import Receiver
from bmsd.fieldbus.drivers.mapped.plan import plan
from bmsd.model.frame import RAW_FRAME
from bmsd.model.layout import Layout
from bmsd.model.plant import Timing

LAYOUT = Layout(1, 32, 16, 4)
ROUNDS, TICKS, MOST_SHARE = 5, 10, 0.05


def dbc(path: Path) -> Path:
    lines = ['VERSION ""\nNS_ :\nBS_:\nBU_: B\n']
    for name, first, scaling in (("Cells", 4, "(0.0001,0)"), ("Temperatures", 1, "(0.1,-40)")):
        for block in range(first):
            lines.append(f"BO_ {256 + 512 * (name != 'Cells') + 32 * block} {name}_{block + 1}: 8 B\n")
            lines += [
                f' SG_ S{4 * block + k + 1} : {16 * k + 7}|16@0+ {scaling} [0|0] "" B\n' for k in range(4)
            ]  # fmt: skip
    lines.append('BO_ 1024 Pack: 8 B\n SG_ Current : 7|16@0- (0.1,0) [0|0] "A" B\n')
    path.write_text("".join(lines))
    return path


def test_a_whole_rack_costs_little_of_a_core(tmp_path: Path) -> None:
    file = dbc(tmp_path / "rack.dbc")
    values = [
        {"quantity": "cell_v", "message": "Cells_{block}", "signals": ["S{cell}"], "per_message": 4, "id_step": 1},
        {"quantity": "temperature_degc", "message": "Temperatures_1", "signals": ["S{sensor}"], "id_step": 1},
        {"quantity": "current_a", "message": "Pack", "signals": ["Current"]},
    ]
    mapped = Mapped.model_validate({"dbc": file.name, "current_sign": "charge_positive", "values": values})
    receiver = Receiver(LAYOUT, Timing(0.1, 0.2, 4), plan(board_map(mapped, tmp_path), LAYOUT, {}))
    word = int.from_bytes((33000).to_bytes(2, "big") * 4, "little")
    ids = [256 + 32 * block + m for m in range(32) for block in range(4)] + [768 + m for m in range(32)] + [1024]
    frames = np.array([(can_id, 8, 0, word) for can_id in ids], dtype=RAW_FRAME)

    began_s, now_s = time.process_time(), 0.0
    for _ in range(50):
        for part in np.array_split(frames, 16):  # one drain every 10 ms or so
            receiver.feed(part, now_s)
        for _ in range(TICKS // ROUNDS):
            modules, _ = receiver.modules(now_s), receiver.units(now_s)
        now_s += 1.0 / ROUNDS
    share = (time.process_time() - began_s) / now_s
    assert np.isfinite(modules.cell_v).all()

    database = cantools.database.load_file(file)
    assert isinstance(database, cantools.database.Database)
    messages = [database.get_message_by_name(name) for name in ["Cells_1"] * 128 + ["Temperatures_1"] * 32 + ["Pack"]]
    data = word.to_bytes(8, "little")
    began_s = time.process_time()
    for _ in range(10):
        for message in messages:
            message.decode(data)
    alone = (time.process_time() - began_s) / 10 * ROUNDS
    print(
        f"\nmapped boards, 32 x 16 cells at {ROUNDS}/s: {100 * share:.2f} % of a core; "
        f"decoding alone, with cantools: {100 * alone:.2f} %"
    )
    assert share < MOST_SHARE
