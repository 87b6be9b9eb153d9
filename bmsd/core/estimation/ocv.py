"""Rest voltage and state of charge: what one tells of the other, and how little on the plateau."""

from __future__ import annotations

import numpy as np

from bmsd.model.cell import CellSpec
from bmsd.model.snapshot import Floats

SLOPE_WINDOW = 0.015
"""The slope is taken over this share of SoC: the table's own steps are not information."""


def soc_of_ocv(cell: CellSpec, ocv_v: Floats) -> Floats:
    """State of charge (0..1) at this rest voltage (V); NaN stays NaN."""
    return np.interp(ocv_v, cell.ocv_v, cell.ocv_soc)


def ocv_slope(cell: CellSpec, soc: Floats) -> Floats:
    """Slope of the rest voltage in V per unit of SoC, never below 1 mV per 10 %."""
    high = np.interp(np.minimum(soc + SLOPE_WINDOW, 1.0), cell.ocv_soc, cell.ocv_v)
    low = np.interp(np.maximum(soc - SLOPE_WINDOW, 0.0), cell.ocv_soc, cell.ocv_v)
    span = np.minimum(soc + SLOPE_WINDOW, 1.0) - np.maximum(soc - SLOPE_WINDOW, 0.0)
    slope: Floats = np.maximum((high - low) / span, 0.01)
    return slope
