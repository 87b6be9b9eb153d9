"""The wall between control and everything with an IP address."""
