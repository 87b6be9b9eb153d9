"""Settings: their ranges, units and meanings, and how a file becomes a Plant."""
