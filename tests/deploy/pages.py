"""The committed dashboards as Grafana reads them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tests.programs import ROOT

GRAFANA = ROOT / "deploy" / "grafana"
FILES = sorted((GRAFANA / "dashboards").glob("*.json"))
PAGES: dict[str, dict[str, Any]] = {file.stem: json.loads(file.read_text()) for file in FILES}


def panels(page: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All panels that show something."""
    return (panel for panel in page["panels"] if panel["type"] != "row")


def queries(page: dict[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Every query with the panel that shows it."""
    return ((panel, target) for panel in panels(page) for target in panel["targets"])


def variables(page: dict[str, Any]) -> list[dict[str, Any]]:
    """What can be chosen at the top."""
    return [variable for variable in page["templating"]["list"] if variable["type"] == "query"]
