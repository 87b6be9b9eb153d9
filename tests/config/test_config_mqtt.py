"""Settings of MQTT that do not fit together are told before anything connects."""

from __future__ import annotations

from typing import Any

import pytest

from tests.config.config_file import complaints

PASSWORD = {"mqtt.username": "rack", "mqtt.password_file": "/etc/password"}


@pytest.mark.parametrize(
    ("changes", "paths"),
    [
        (PASSWORD, []),
        ({**PASSWORD, "mqtt.tls": True, "mqtt.ca_file": "/ca.pem"}, []),
        ({**PASSWORD, "mqtt.ca_file": "/ca.pem"}, ["mqtt.ca_file"]),
        ({"mqtt.cert_file": "/c", "mqtt.key_file": "/k"}, ["mqtt.cert_file", "mqtt.key_file"]),
        ({"mqtt.tls": True, "mqtt.cert_file": "/c"}, ["mqtt.key_file"]),
        ({"mqtt.tls": True, "mqtt.key_file": "/k"}, ["mqtt.cert_file"]),
        ({"mqtt.password_file": "/p"}, ["mqtt.username"]),
        ({"mqtt.rack": "a/b"}, ["mqtt.rack"]),
        ({"mqtt.site": "#"}, ["mqtt.site"]),
        ({"mqtt.tenant": ""}, ["mqtt.tenant"]),
    ],
)
def test_what_does_not_fit_is_named(changes: dict[str, Any], paths: list[str]) -> None:
    assert [line.partition(":")[0] for line in complaints(changes)] == paths
