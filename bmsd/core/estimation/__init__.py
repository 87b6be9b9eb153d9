"""What the cells hold, and how well that is known."""
