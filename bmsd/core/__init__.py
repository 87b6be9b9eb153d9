"""The verbs: what the rack does next, decided from what is given. Pure: no clock, no I/O, no log."""
