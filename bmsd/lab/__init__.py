"""Core and simulator together on simulated time, and measured series through the very code of the tick."""
