"""Boards of any maker, told by their DBC and a map in the configuration: no Python for a new board."""

from bmsd.fieldbus.drivers.mapped.receiver import Receiver

__all__ = ["Receiver"]
