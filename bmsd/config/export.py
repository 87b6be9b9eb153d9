"""The schema for editors and the reference page for people, both printed from the settings.

`python -m bmsd.config.export FOLDER` renews deploy/bmsd.schema.json and docs/configuration.md of that checkout.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from bmsd.config.described import Setting, sections, settings
from bmsd.config.gateway import WholeFile
from bmsd.config.schema_mapped import Mapped

SCHEMA = Path("deploy/bmsd.schema.json")
REFERENCE = Path("docs/configuration.md")

INTRODUCTION = """\
# Configuration

One TOML file describes a rack. `bmsd check FILE` tells everything that is wrong with it, at once; nothing starts
with a wrong file. Unknown settings are errors. Examples to start from are in `deploy/`; editors that know JSON
Schema complete and check with `deploy/bmsd.schema.json`.

* **required**: there is no default, because it protects your cells or names your wiring.
* *for lfp*: the default holds for LFP cells; for any other chemistry the setting is required.
* *reloadable*: takes effect without a restart.
* Units are those in the name: `_v` volts, `_a` amperes (magnitudes), `_s` seconds, `_degc` degrees Celsius, `_ohm`
  ohms. Shares and states of charge are 0..1, not percent. Write `3.65`, not `3,65` and not `"3.65"`.
* A whole number may stand for a number (`200` for `200.0`).

This page is printed from the program; `python -m bmsd.config.export .` renews it.
"""


def json_schema() -> str:
    """Return the JSON schema of the file, with `unit`, `reloadable` and `lfp` at each setting."""
    schema = WholeFile.model_json_schema()
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "bmsd configuration"}
    return json.dumps(schema, indent=2) + "\n"


def reference_markdown() -> str:
    """Return the page that lists every setting by section."""
    parts = [INTRODUCTION]
    for name, model in sections().items():
        parts.append(
            f"\n## [{name}]\n{model.__doc__}\n\n| setting | type | range | default | meaning |\n|---|---|---|---|---|"
        )
        parts += [_row(found, name) for path, found in settings().items() if path.startswith(f"{name}.")]
    parts.append(f"\n## [sim]\n{WholeFile.model_fields['sim'].description}\n")
    return "\n".join(parts)


def _row(found: Setting, section: str) -> str:
    marks = [mark for mark, on in (("for lfp", found.lfp), ("reloadable", found.reloadable)) if on]
    meaning = found.meaning + "".join(f" *{mark}*" for mark in marks)
    allowed = ", ".join(f"`{choice}`" for choice in found.choices) or found.range or found.form
    name = found.path.removeprefix(f"{section}.")
    default = "**required**" if found.required else _toml(found.default)
    if "." in name and found.required:
        default = "in each curve" if name.startswith(("charge_by", "discharge_by")) else "**required** in each"
    cells = (f"`{name}`", found.kind, allowed, default, meaning)
    return "| " + " | ".join(cells) + " |"


def _toml(value: Any) -> str:
    """A default as it is written in the file."""
    if isinstance(value, Mapped):
        return "see below"
    if isinstance(value, BaseModel):
        return _toml(value.model_dump())
    if isinstance(value, dict):
        inner = ", ".join(f"{key} = {json.dumps(entry)}" for key, entry in value.items())
        return f"`{{ {inner} }}`" if inner else "`{}`"
    return f"`{json.dumps(value)}`"


def write(folder: Path) -> None:
    """Renew both files in this checkout."""
    (folder / SCHEMA).write_text(json_schema(), encoding="utf-8")
    (folder / REFERENCE).write_text(reference_markdown(), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
