"""Telemetry and events over MQTT."""
