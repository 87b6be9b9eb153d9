"""What each setting is, read off the schema: kind, range, unit, default, meaning."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Le, MaxLen, MinLen
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from bmsd.config.fields import Section
from bmsd.config.gateway import WholeFile


@dataclass(frozen=True)
class Setting:
    """One setting. `path` is dotted; `low`, `high` are those of the numbers in a list, too; None: not limited.

    `kind` is "number", "whole number", "text", "true or false", "table", or "list of" and one of these.
    `default` is None when `required`.
    """

    path: str
    kind: str
    meaning: str
    unit: str
    form: str
    low: float | None
    high: float | None
    shortest: int | None
    longest: int | None
    choices: tuple[str, ...]
    required: bool
    default: Any
    reloadable: bool
    lfp: bool

    @property
    def section(self) -> str:
        return self.path.rpartition(".")[0]

    @property
    def name(self) -> str:
        return self.path.rpartition(".")[2]

    @property
    def expected(self) -> str:
        """What is allowed, for a person: `a number 2..5 V`."""
        if self.kind == "text" and self.choices:
            return self._one_of
        kind = self.kind if self.kind in ("text", "true or false") else f"a {self.kind}"
        form = self.form or (f"each {self._one_of}" if self.choices else "")
        return " ".join(filter(None, (kind, self.range, self._length))) + (f", {form}" if form else "")

    @property
    def expected_entry(self) -> str:
        """What is allowed for an entry of the innermost list."""
        if self.choices:
            return self._one_of
        kind = self.kind.rpartition("list of ")[2].removesuffix("s")
        return " ".join(filter(None, (f"a {kind}", self.range))) + (f", {self.form}" if self.form else "")

    @property
    def _one_of(self) -> str:
        return "one of " + ", ".join(f'"{choice}"' for choice in self.choices)

    @property
    def range(self) -> str:
        """Range and unit of the number or numbers: `2..5 V`."""
        words = [] if self.low is None or self.high is None else [f"{self.low:.10g}..{self.high:.10g}"]
        words += ["(a share, not percent)"] if self.unit == "share" else [self.unit] if self.unit else []
        return " ".join(words)

    @property
    def _length(self) -> str:
        if self.shortest is None and self.longest is None:
            return ""
        what = "characters" if self.kind == "text" else "entries"
        if self.longest is None:
            return "that is not empty" if self.shortest == 1 else f"of at least {self.shortest} {what}"
        return f"of {self.shortest or 0} to {self.longest} {what}"


@cache
def settings(whole: type[BaseModel] = WholeFile) -> dict[str, Setting]:
    """All settings of a file by path, in the order of the schema; entries of curves too, not free tables' contents."""
    return {found.path: found for found in _walk(whole, "")}


def sections(whole: type[BaseModel] = WholeFile) -> dict[str, type[Section]]:
    """The sections with fixed settings by name."""
    return {name: kind for name, info in whole.model_fields.items() if (kind := section_of(info)) is not None}


def section_of(info: FieldInfo) -> type[Section] | None:
    """The section that a field holds, or holds a list of; None when it holds a value."""
    kind = _given(info.annotation)
    if get_origin(kind) is list:
        (kind,) = get_args(kind)
    return kind if isinstance(kind, type) and issubclass(kind, Section) else None


def _walk(model: type[BaseModel], prefix: str) -> Iterator[Setting]:
    for name, info in model.model_fields.items():
        inner = section_of(info)
        if inner is None:
            yield _describe(prefix + name, info)
            continue
        if prefix:
            yield _describe(prefix + name, info)
        outer = _describe(prefix + name, info)
        for found in _walk(inner, f"{prefix}{name}."):
            yield replace(found, reloadable=found.reloadable or outer.reloadable)


def _describe(path: str, info: FieldInfo) -> Setting:
    kind, metadata, choices = _kind(info.annotation)
    metadata = [*info.metadata, *metadata]
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}

    def limit(which: type, attribute: str) -> Any:
        return next((getattr(entry, attribute) for entry in metadata if isinstance(entry, which)), None)

    return Setting(
        path=path,
        kind=kind,
        meaning=info.description or "",
        unit=str(extra.get("unit", "")),
        form=str(extra.get("form", "")),
        low=limit(Ge, "ge"),
        high=limit(Le, "le"),
        shortest=limit(MinLen, "min_length"),
        longest=limit(MaxLen, "max_length"),
        choices=choices,
        required=info.is_required(),
        default=None if info.is_required() else _default(info),
        reloadable=bool(extra.get("reloadable", False)),
        lfp=bool(extra.get("lfp", False)),
    )


def _default(info: FieldInfo) -> Any:
    value = info.get_default(call_default_factory=True)
    return None if value is PydanticUndefined else value


def _given(annotation: Any) -> Any:
    """The annotation of what is there when it is: without `| None`."""
    if get_origin(annotation) not in (Union, UnionType):
        return annotation
    given = [argument for argument in get_args(annotation) if argument is not type(None)]
    return given[0] if len(given) == 1 else annotation


def _kind(annotation: Any) -> tuple[str, list[Any], tuple[str, ...]]:
    """Kind, limits of the innermost number, choices."""
    annotation = _given(annotation)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return "text", [], tuple(str(choice) for choice in arguments)
    if origin is list:
        kind, metadata, choices = _kind(arguments[0])
        return f"list of {kind}s" if not kind.startswith("list") else f"list of {kind}", metadata, choices
    if origin in (Union, UnionType):
        return "value", [], ()
    if hasattr(annotation, "__metadata__"):
        fields = [entry for entry in annotation.__metadata__ if isinstance(entry, FieldInfo)]
        return _kind(arguments[0])[0], [limit for field in fields for limit in field.metadata], ()
    names = {float: "number", int: "whole number", str: "text", bool: "true or false"}
    return names.get(annotation, "table"), [], ()
