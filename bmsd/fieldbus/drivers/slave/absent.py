"""What is not there, in sentences for a technician."""

from __future__ import annotations

import numpy as np

from bmsd.fieldbus.drivers.slave.identity import Identities
from bmsd.fieldbus.drivers.slave.slots import Slots
from bmsd.model.layout import Layout
from bmsd.model.snapshot import Bools


def sentences(layout: Layout, slots: Slots, identities: Identities, fresh: Bools, got: Bools) -> list[str]:
    """Return one sentence per node that is not as it should be.

    `fresh` (nodes,): measured lately; `got` (slots,): what the last closed poll brought.
    """
    found = []
    for node in range(slots.nodes):
        complaint = _silence(slots, node, got) if not fresh[node] else _identity(layout, slots, identities, node)
        if complaint:
            found.append(f"{_name(layout, slots, node)}: {complaint}")
    return found


def _name(layout: Layout, slots: Slots, node: int) -> str:
    address = slots.addresses[node]
    if node >= slots.boards:
        return f"contactor unit of string {node - slots.boards + 1} (address {address})"
    string, module = divmod(node, layout.modules)
    return f"module {module + 1} of string {string + 1} (address {address})"


def _silence(slots: Slots, node: int, got: Bools) -> str:
    every_poll = np.zeros(slots.count, dtype=bool)
    every_poll[slots.cells] = every_poll[slots.unit_words] = True
    wanted = np.flatnonzero(every_poll & (slots.node == node))
    absent = [slots.message_names[slot] for slot in wanted if not got[slot]]
    if not absent:
        return "answers no longer"
    return "no answer" if len(absent) == len(wanted) else f"answers without {', '.join(absent)}"


def _identity(layout: Layout, slots: Slots, identities: Identities, node: int) -> str:
    board = node < slots.boards
    if identities.wrong_type(node):
        return f"is no {'module board' if board else 'contactor unit'}"
    if not identities.identified[node]:
        return "not identified"
    cells = int(identities.cell_count[node])
    if board and cells != layout.cells:
        return f"measures {cells} cells, {layout.cells} are configured"
    return ""
