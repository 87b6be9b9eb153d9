"""What opens the broker's door: password and certificates, read from files, and all complaints about them."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from bmsd.config.gateway import Mqtt
from bmsd.errors import ConfigError
from bmsd.systemd.credentials import secret_file


@dataclass(frozen=True, slots=True)
class Access:
    """None: there is none."""

    password: str | None
    tls: ssl.SSLContext | None


def access(mqtt: Mqtt) -> Access:
    """Read password and certificates. ConfigError lists all files that cannot be used."""
    lines: list[str] = []
    found = Access(_password(mqtt, lines), _tls(mqtt, lines))
    if lines:
        raise ConfigError(lines)
    return found


def _password(mqtt: Mqtt, lines: list[str]) -> str | None:
    text = _text("password_file", mqtt.password_file, lines)
    if text is None:
        return None
    password = text.partition("\n")[0].rstrip("\r")
    if not password:
        lines.append(f"mqtt.password_file: {mqtt.password_file}: its first line is empty; expected the password")
    return password


def _tls(mqtt: Mqtt, lines: list[str]) -> ssl.SSLContext | None:
    if not mqtt.tls:
        return None
    names = ("ca_file", "cert_file", "key_file")
    before = len(lines)
    for name in names:
        _text(name, getattr(mqtt, name), lines)
    if len(lines) > before:
        return None
    context = _trusting(secret_file(mqtt.ca_file), lines) if mqtt.ca_file else ssl.create_default_context()
    if mqtt.cert_file:
        try:
            # without a password OpenSSL would ask on the terminal
            context.load_cert_chain(secret_file(mqtt.cert_file), secret_file(mqtt.key_file), password="")
        except (ssl.SSLError, ValueError) as error:
            pair = f"{mqtt.cert_file} and {mqtt.key_file} (mqtt.key_file)"
            lines.append(f"mqtt.cert_file: {pair}: {error}; expected PEM files that belong together, no passphrase")
    return context


def _trusting(ca_file: Path, lines: list[str]) -> ssl.SSLContext:
    """Trust this authority and no other."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(ca_file)
    except ssl.SSLError as error:
        lines.append(f"mqtt.ca_file: {ca_file}: {error}; expected certificates in PEM form")
    return context


def _text(name: str, path: str, lines: list[str]) -> str | None:
    if not path:
        return None
    try:
        return secret_file(path).read_text(encoding="utf-8")
    except OSError as error:
        lines.append(f"mqtt.{name}: {path}: {error.strerror}; expected a file that the gateway's user can read")
    except ValueError:
        lines.append(f"mqtt.{name}: {path}: not a text; expected a file in PEM form or UTF-8")
    return None
