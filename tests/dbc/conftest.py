"""The C sender, compiled once for all tests of this folder."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from c_codec import build


@pytest.fixture(scope="session")
def sender(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled C program."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        if os.environ.get("CI") == "true":
            pytest.fail("no C compiler; install gcc and libc6-dev")
        pytest.skip("no C compiler; install gcc and libc6-dev")
    return build(tmp_path_factory.mktemp("c_codec"), compiler)
