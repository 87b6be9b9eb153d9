"""The inverter side: one file per protocol profile, and the port that paces them."""
