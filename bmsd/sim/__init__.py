"""A rack that is not there. Shares no line with the core or the edges, so that it can find their faults."""
