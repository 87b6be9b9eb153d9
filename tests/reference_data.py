"""Measured series of others: in the folder BMSD_REFERENCE_DATA, by default ../shared/data beside the checkout."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

FOLDER = Path(os.environ.get("BMSD_REFERENCE_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")


def reference(name: str = "") -> Path:
    """This file, or the folder. Where it is not there the test is skipped; where CI=true it fails."""
    path = FOLDER / name
    if not path.exists():
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"no {path}: set BMSD_REFERENCE_DATA")
    return path
