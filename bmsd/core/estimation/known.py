"""Mean and median of the known values along the last axis; NaN where there is none."""

from __future__ import annotations

import numpy as np

from bmsd.model.snapshot import Floats


def mean(values: Floats) -> Floats:
    """Mean of the known."""
    found: Floats = values.mean(axis=-1)
    if not np.isnan(found).any():
        return found
    known = np.isfinite(values)
    count = known.sum(axis=-1)
    return np.where(count > 0, np.where(known, values, 0.0).sum(axis=-1) / np.maximum(count, 1), np.nan)


def median(values: Floats) -> Floats:
    """Median of the known; of an even number the mean of the middle two."""
    low, high = _middle(values)
    return np.asarray(0.5 * (low + high))


def lower_median(values: Floats) -> Floats:
    """Median of the known; of an even number the lower of the middle two, which is one of them."""
    return _middle(values)[0]


def _middle(values: Floats) -> tuple[Floats, Floats]:
    if not values.shape[-1]:
        nothing = np.full(values.shape[:-1], np.nan)
        return nothing, nothing
    ordered = np.sort(values, axis=-1)  # NaN come last
    count = np.isfinite(ordered).sum(axis=-1)
    places = (np.maximum(count - 1, 0) // 2, np.minimum(count // 2, values.shape[-1] - 1))
    low, high = (np.take_along_axis(ordered, place[..., None], axis=-1)[..., 0] for place in places)
    return low, high
