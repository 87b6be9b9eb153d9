"""A rack's configuration may name a fitted cell; it must be of the cell that the data sheet describes."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from bmsd.config import cell_file
from bmsd.control.composition import checked
from bmsd.errors import ConfigError

DEPLOY = Path(__file__).parents[2] / "deploy"


def rack(folder: Path, specification: str, **cell: float) -> Path:
    """The example of one string, with a fitted cell and other numbers of the data sheet."""
    shutil.copytree(DEPLOY / "cells", folder / "cells", dirs_exist_ok=True)
    text = (DEPLOY / "rack-16s-lfp.toml").read_text()
    for name, value in cell.items():
        text = re.sub(rf"(?m)^{name} = .*$", f"{name} = {value}", text)
    text = text.replace("[cell]\n", f'[cell]\nspecification = "{specification}"\n', 1)
    path = folder / "rack.toml"
    path.write_text(text)
    return path


def complaints(path: Path) -> list[str]:
    with pytest.raises(ConfigError) as error:
        checked(path)
    return [line for line in error.value.complaints if line.startswith("cell.specification")]


def test_a_cell_of_another_size_is_refused(tmp_path: Path) -> None:
    assert "of 2.06" in complaints(rack(tmp_path, "cells/a123-2ah.toml"))[0]


def test_a_file_that_is_not_there_or_contradicts_itself_is_named(tmp_path: Path) -> None:
    assert "cannot be read" in complaints(rack(tmp_path, "cells/none.toml"))[0]
    path = rack(tmp_path, "cells/a123-2ah.toml")
    cell = tmp_path / "cells" / "a123-2ah.toml"
    cell.write_text(cell.read_text().replace("min_v = 2.0", "min_v = 4.0"))
    assert "envelope.min_v" in complaints(path)[0]


def test_a_fitted_cell_is_what_the_estimators_go_by(tmp_path: Path) -> None:
    path = rack(tmp_path, "cells/large.toml")
    small = cell_file.load(DEPLOY / "cells" / "a123-2ah.toml")
    size = 280.0 / small.model.capacity_ah
    large = replace(
        small.model, name="large", capacity_ah=280.0, r0_ohm=small.model.r0_ohm / size, rc_ohm=small.model.rc_ohm / size
    )
    (tmp_path / "cells" / "large.toml").write_text(cell_file.dump(large, small.envelope))
    cell = checked(path).plant.cell
    assert "cell by cells/large.toml: large, 280 Ah" in checked(path).summary()
    assert cell.model.name == "large"
    assert cell.model.ocv_degc.tolist() == [5.0, 15.0, 25.0, 35.0, 45.0]
    assert cell.max_v == 3.65, "the envelope stays that of the rack's data sheet"
