"""Bytes to numbers and back, without waiting for anything."""
