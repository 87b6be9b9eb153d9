"""One file per board type."""
