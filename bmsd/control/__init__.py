"""The control process: composition root, state file, watchdog."""
