"""A rack that is not there. Never imports core: a simulator that shares the code cannot find its faults."""
