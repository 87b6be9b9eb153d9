"""The slave protocol of dbc/slave.dbc: module boards and contactor units on 500 kbit/s, 29-bit identifiers."""

from bmsd.fieldbus.drivers.slave.receiver import Receiver

__all__ = ["Receiver"]
