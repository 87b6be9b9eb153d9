"""Mean and median of what is known, against NumPy's of the known values alone."""

from __future__ import annotations

import numpy as np
import pytest

from bmsd.core.estimation import known


def some(count: int) -> np.ndarray:
    """Rows of eight: all known, the first so many known, none known."""
    values = np.random.default_rng(count).standard_normal((3, 8))
    values[1, count:] = np.nan
    values[2] = np.nan
    return values


@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_only_what_is_known_counts(count):
    values = some(count)
    assert known.median(values)[0] == np.median(values[0])
    assert known.median(values)[1] == np.median(values[1, :count])
    assert known.mean(values)[1] == pytest.approx(values[1, :count].mean())
    assert known.lower_median(values)[1] == np.sort(values[1, :count])[(count - 1) // 2]
    for found in (known.mean(values), known.median(values), known.lower_median(values)):
        assert np.isfinite(found).tolist() == [True, True, False]


def test_of_nothing_nothing_is_known():
    assert np.isnan(known.median(np.empty((2, 0)))).all()
