"""The nouns of a battery rack. NumPy and the standard library only."""
