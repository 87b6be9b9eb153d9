"""What is wrong with a setting, in one line for a technician: path, what it was, what was expected, likely slip."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from bmsd.config.described import Setting, section_of, sections, settings
from bmsd.config.fields import Section
from bmsd.config.gateway import WholeFile

LONGEST_SHOWN = 60
BARE_KEY = re.compile(r"[A-Za-z0-9_-]{1,60}")
OPTION_PATH = ("inverter", "options")

SLIPS: Mapping[str, tuple[tuple[str, Callable[[float], float]], ...]] = {
    "V": (("mV", lambda v: v / 1000.0),),
    "V/s": (("mV/s", lambda v: v / 1000.0),),
    "A": (("mA", lambda v: v / 1000.0),),
    "Ah": (("mAh", lambda v: v / 1000.0),),
    "ohm": (("mohm", lambda v: v / 1000.0),),
    "F": (("mF", lambda v: v / 1000.0), ("uF", lambda v: v / 1e6)),
    "s": (("ms", lambda v: v / 1000.0), ("minutes", lambda v: v * 60.0)),
    "share": (("percent", lambda v: v / 100.0),),
    "degC": (("degF", lambda v: (v - 32.0) / 1.8), ("K", lambda v: v - 273.15)),
    "bit/s": (("kbit/s", lambda v: v * 1000.0),),
}
"""Units that are easily taken for the right one."""


def complaints(invalid: ValidationError, data: Mapping[str, Any], whole: type[BaseModel] = WholeFile) -> list[str]:
    """Return a line for everything that is wrong with this content of a file of the kind `whole`."""
    lines = [complaint(error, data, whole) for error in invalid.errors(include_url=False)]
    return list(dict.fromkeys(lines))


def complaint(error: ErrorDetails, data: Mapping[str, Any], whole: type[BaseModel]) -> str:
    """Return the line for one of pydantic's errors."""
    where = plain(error["loc"])
    kind = error["type"]
    given = _at(data, where)
    known = settings(whole).get(dotted(where, items=False))
    if kind == "extra_forbidden":
        return _unknown(where, whole)
    if kind == "missing":
        return _missing(where, known, whole)
    if where[: len(OPTION_PATH)] == OPTION_PATH and len(where) > len(OPTION_PATH):
        return f"{dotted(where)}: {shown(given)}; expected a number, a text, true or false"
    if kind in ("model_type", "dict_type") or known is None:
        header = dotted(where, items=False)
        many = isinstance(where[-1], int) or kind == "list_type"
        header = f"[[{header}]]" if many else f"[{header}]"
        return f"{dotted(where)}: {shown(given)}; expected a section, written as {header}"
    expected = known.expected_entry if isinstance(where[-1], int) else known.expected
    return f"{dotted(where)}: {shown(given)}; expected {expected}{_slip(given, known)}"


def plain(loc: Sequence[int | str]) -> tuple[int | str, ...]:
    """Location of an error without the alternatives of a union that pydantic appends."""
    if tuple(loc[: len(OPTION_PATH)]) == OPTION_PATH:
        return tuple(loc[: len(OPTION_PATH) + 1])
    return tuple(loc)


def dotted(where: Sequence[int | str], *, items: bool = True) -> str:
    """Path as in the file; with `items` False entries of lists belong to their list."""
    text = ""
    for part in where:
        if isinstance(part, int):
            text += f", entry {part + 1}" if items else ""
        else:
            text += ("." if text else "") + (part if BARE_KEY.fullmatch(part) else _short(json.dumps(part)))
    return text


def shown(value: Any) -> str:
    """The value as it is written in the file, on one line and not too long."""
    if isinstance(value, bool | str):
        return _short(json.dumps(value))
    if isinstance(value, int) and abs(value) >= 10**18:
        return "a huge number"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list):
        return "an empty list" if not value else f"a list of {len(value)}"
    if isinstance(value, dict):
        return "a table"
    return _short(str(value).replace("\n", " "))


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean ...?` or the list of what is known."""
    names = list(known)
    close = get_close_matches(word.lower(), names, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; known: {', '.join(names)}" if len(names) <= 20 else ""


def _at(data: Mapping[str, Any], where: Sequence[int | str]) -> Any:
    value: Any = data
    for part in where:
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            return None
    return value


def _unknown(where: Sequence[int | str], whole: type[BaseModel]) -> str:
    name = str(where[-1])
    if len(where) == 1:
        here = _elsewhere(name, whole)
        return f"{dotted(where)}: unknown section{here or nearest(name, whole.model_fields)}"
    model = _model(where[:-1], whole)
    names = list(model.model_fields) if model else []
    close = nearest(name, names)
    if not close.startswith("; did"):
        close = _elsewhere(name, whole) or close
    return f"{dotted(where)}: unknown setting{close}"


def _elsewhere(name: str, whole: type[BaseModel]) -> str:
    """Where a setting of this name belongs."""
    homes = [found.section for found in settings(whole).values() if found.name == name]
    return f"; it belongs in [{homes[0]}]" if homes and homes[0] else ""


def _model(where: Sequence[int | str], whole: type[BaseModel]) -> type[Section] | None:
    model: type[Section] | None = None
    fields = whole.model_fields
    for part in where:
        if isinstance(part, int):
            continue
        if part not in fields:
            return None
        model = section_of(fields[part])
        if model is None:
            return None
        fields = model.model_fields
    return model


def _missing(where: Sequence[int | str], known: Setting | None, whole: type[BaseModel]) -> str:
    path = dotted(where)
    if known is not None:
        return f"{path}: missing; expected {known.expected}: {known.meaning}"
    model = sections(whole)[str(where[-1])]
    needed = [name for name, info in model.model_fields.items() if info.is_required()]
    return f"{path}: the section is missing; it must have {', '.join(needed)}"


def _slip(given: Any, known: Setting) -> str:
    """What the value probably was meant to be."""
    if isinstance(given, str):
        if known.choices:
            close = get_close_matches(given.lower(), known.choices, n=1, cutoff=0.6)
            return f'; did you mean "{close[0]}"?' if close else ""
        if "number" in known.kind and re.fullmatch(r"\s*[-+]?\d+([.,]\d*)?\s*[^\d\s]{0,6}\s*", given):
            return "; write the bare number: no quotes, no unit, a decimal point"
        return ""
    if isinstance(given, bool) or not isinstance(given, int | float) or abs(given) > 1e18 or not math.isfinite(given):
        return ""
    if known.low is None or known.high is None or "number" not in known.kind:
        return ""
    meant = [
        f"{value:.6g}, if {shown(given)} is in {unit}"
        for unit, convert in SLIPS.get(known.unit, ())
        if known.low <= (value := convert(float(given))) <= known.high
    ]
    return f"; write {' or '.join(meant)}" if meant else ""


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_SHOWN else text[: LONGEST_SHOWN - 4] + '..."'
