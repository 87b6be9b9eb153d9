"""Curves: the share of the rated current that a voltage or a temperature allows."""

from __future__ import annotations

import numpy as np

from bmsd.model.plant import Curve
from bmsd.model.snapshot import Floats


def share(curve: Curve, x: Floats) -> Floats:
    """Share (0..1) of the rated current at x, linear between the points, level outside; NaN stays NaN."""
    return np.interp(x, curve.x, curve.share)
