"""The interface does what its own OpenAPI document says, for right and for wrong requests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tests.gateway.control_end import ControlEnd, event, wait_for
from tests.gateway.web_end import WebEnd


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ControlEnd, WebEnd]]:
    folder = tmp_path_factory.mktemp("openapi")
    with ControlEnd(folder) as control, WebEnd(control.link) as web:
        web.until_good()
        control.tell(event(number) for number in range(1, 20))
        wait_for(lambda: web.get("/api/v1/events")["events"])
        yield control, web


CALLS_503_AN_ERROR = [not_a_server_error, positive_data_acceptance]
PATHS = (
    "/api/v1/snapshot", "/api/v1/limits", "/api/v1/faults", "/api/v1/points", "/api/v1/layout", "/api/v1/events",
    "/api/v1/catalogue", "/health", "/health/live", "/metrics",
)  # fmt: skip


def probe(web: WebEnd, path: str, mode: GenerationMode, **options: Any) -> int:
    """Make requests from the document as the server gives it, judge every answer by it; return how many."""
    operation = schemathesis.openapi.from_url(f"{web.base}/openapi.json")[path]["GET"]
    asked = 0

    @settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Case) -> None:
        nonlocal asked
        asked += 1
        case.call_and_validate(timeout=20, **options)

    ask()
    return asked


@pytest.mark.parametrize("path", PATHS)
def test_right_requests_are_answered_as_described(ends: tuple[ControlEnd, WebEnd], path: str) -> None:
    control, web = ends
    control.publishing = True
    web.late_s = 0.0
    web.until_good()
    assert probe(web, path, GenerationMode.POSITIVE) > 0


def test_wrong_requests_are_refused_as_described(ends: tuple[ControlEnd, WebEnd]) -> None:
    assert probe(ends[1], "/api/v1/events", GenerationMode.NEGATIVE) >= 10


@pytest.mark.parametrize("path", PATHS)
def test_without_control_the_answer_is_described_too(ends: tuple[ControlEnd, WebEnd], path: str) -> None:
    control, web = ends
    control.publishing = False
    web.until_stale()
    assert probe(web, path, GenerationMode.POSITIVE, excluded_checks=CALLS_503_AN_ERROR) > 0
