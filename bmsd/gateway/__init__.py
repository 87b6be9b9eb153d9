"""The second process: what control publishes, for SCADA, telemetry, people and metrics."""
