"""`bmsd decode` and `bmsd encode`: from a CAN trace to values and back, for people with candump."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

import typer

from bmsd.errors import ConfigError
from bmsd.inverters.encode import encode_object
from bmsd.inverters.profile import load_profile, options_from_text, profile_class, profile_names
from bmsd.inverters.trace import Decoder, decode_lines


def decode_stream(
    lines: TextIO, profile: str | None, dbc: Path | None, id_mask: str | None, options: Sequence[str]
) -> None:
    """Write one JSON object per line. ConfigError at the end with every line that was no frame."""
    decoder = _decoder(profile, dbc, id_mask, options)
    if isinstance(lines, io.TextIOWrapper):
        lines.reconfigure(encoding="utf-8", errors="replace")
    for text in decode_lines(lines, decoder):
        sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _decoder(profile: str | None, dbc: Path | None, id_mask: str | None, options: Sequence[str]) -> Decoder:
    if (profile is None) == (dbc is None):
        raise ConfigError([f"give either --profile NAME ({', '.join(profile_names())}) or --dbc FILE"])
    if profile is not None:
        known = profile_class(profile).options_known
        return Decoder.of_profile(load_profile(profile, options_from_text(known, options)))
    if options:
        raise ConfigError(["--option: only with --profile"])
    assert dbc is not None
    return Decoder.of_dbc(dbc, _mask(id_mask))


def _mask(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        mask = int(text, 16)
    except ValueError:
        mask = -1
    if not 0 < mask <= 0x1FFFFFFF:
        raise ConfigError([f"--id-mask {text}: expected a hexadecimal number up to 1FFFFFFF, such as 1FFFFF80"])
    return mask


def encode_stream(stream: TextIO, profile: str, options: Sequence[str]) -> None:
    """Write `candump -L` lines, notes on stderr. ConfigError with every complaint."""
    given = options_from_text(profile_class(profile).options_known, options)
    encoded = encode_object(stream.read(), profile, given)
    for line in encoded.lines:
        typer.echo(line)
    for note in encoded.notes:
        typer.echo(note, err=True)
