"""Writes the dashboards that Grafana reads: `python deploy/grafana/build.py`, after every change of a page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import can_page
import cells_page
import fleet_page
import rack_page

FOLDER = Path(__file__).parent / "dashboards"
PAGES = {"rack": rack_page.PAGE, "cells": cells_page.PAGE, "can": can_page.PAGE, "fleet": fleet_page.PAGE}


def texts() -> dict[str, str]:
    """Return the text of every file by its name."""
    return {f"{name}.json": _text(page.model()) for name, page in PAGES.items()}


def _text(page: dict[str, Any]) -> str:
    """A field per line, and a panel per line: what has changed is seen."""
    panels = ",\n    ".join(json.dumps(panel, ensure_ascii=False) for panel in page["panels"])
    fields = [f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in page.items() if name != "panels"]
    return "{\n" + ",\n".join([*fields, f'  "panels": [\n    {panels}\n  ]']) + "\n}\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in texts().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
