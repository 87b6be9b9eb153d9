"""What a setting is made of: a field with range, unit and meaning, in a section that allows nothing else.

A field tells its unit, whether it may change while bmsd runs (`reloadable`) and whether its default only holds
for LFP cells (`lfp`) in `json_schema_extra`.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

REQUIRED: Any = ...


def number(
    meaning: str,
    unit: str,
    low: float,
    high: float,
    default: float | None = REQUIRED,
    *,
    reloadable: bool = False,
    lfp: bool = False,
) -> Any:
    """A setting between `low` and `high` (both allowed) in `unit`; default None: may be left out."""
    return Field(default, ge=low, le=high, description=meaning, json_schema_extra=_extra(unit, reloadable, lfp))


def setting(
    meaning: str,
    default: Any = REQUIRED,
    *,
    unit: str = "",
    reloadable: bool = False,
    lfp: bool = False,
    form: str = "",
    **limits: Any,
) -> Any:
    """A setting that is not a single number. `form` says in words what a pattern asks for."""
    extra = _extra(unit, reloadable, lfp) | {"form": form}
    if isinstance(default, list | dict | BaseModel):
        return Field(
            default_factory=lambda: default.copy() if not isinstance(default, BaseModel) else default,
            description=meaning,
            json_schema_extra=extra,
            **limits,
        )
    return Field(default, description=meaning, json_schema_extra=extra, **limits)


def _extra(unit: str, reloadable: bool, lfp: bool) -> dict[str, Any]:
    return {"unit": unit, "reloadable": reloadable, "lfp": lfp}


class Section(BaseModel):
    """A table of the file. Types are strict: a whole number may stand for a number, a text may not."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)
