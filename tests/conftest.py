"""What holds for all tests."""

from __future__ import annotations

import os

from hypothesis import settings

# A slow machine is no failure. In continuous integration the examples are always the same: a red build is red again.
settings.register_profile("here", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") == "true" else "here")
