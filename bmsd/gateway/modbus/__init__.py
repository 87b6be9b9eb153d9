"""Modbus TCP for SCADA and EMS."""
