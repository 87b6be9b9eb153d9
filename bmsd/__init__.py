"""bmsd: an industrial rack BMS daemon with a field-bus gateway."""
