"""Secrets that the service manager hands to this process as files: LoadCredential= of systemd.exec(5)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def secret_file(named: str, environment: Mapping[str, str] = os.environ) -> Path:
    """Return the file that a setting names: a path with a slash, else a credential of this name.

    FileNotFoundError says how a name that is no credential can become one.
    """
    if "/" in named:
        return Path(named)
    directory = environment.get("CREDENTIALS_DIRECTORY", "")
    if not directory:
        why = "no credentials were given; expected LoadCredential= in the unit, or a path such as /etc/bmsd/"
        raise FileNotFoundError(2, f"{why}{named}")
    path = Path(directory) / named
    if not path.exists():
        known = ", ".join(sorted(one.name for one in Path(directory).iterdir())) or "none"
        raise FileNotFoundError(2, f"no such credential in {directory}, which has {known}")
    return path
