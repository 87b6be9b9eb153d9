"""The settings of a file that may be partly wrong, and one relation between two of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bmsd.config.described import settings

CLOSE = 1e-9
"""Sums of decimal fractions are not exact."""


class UnknownSettingError(Exception):
    """A check asked for a setting that is missing or wrong."""


class Known:
    """The settings of a file by path, defaults filled in; those that are wrong are unknown."""

    def __init__(self, data: Mapping[str, Any], wrong: Iterable[str]) -> None:
        self.data = data
        self.wrong = tuple(wrong)

    def given(self, path: str) -> bool:
        """Whether the file itself has this setting, and not as an empty list, which stands for the default."""
        try:
            return bool(self._raw(path) != [])
        except KeyError:
            return False

    def __call__(self, path: str) -> Any:
        """Return the value; raise UnknownSettingError when there is no valid one."""
        if any(path == bad or path.startswith(f"{bad}.") or bad.startswith(f"{path}.") for bad in self.wrong):
            raise UnknownSettingError(path)
        try:
            return self._raw(path)
        except KeyError:
            if _for_lfp(path) and self("cell.chemistry") != "lfp":
                raise UnknownSettingError(path) from None
            return _default(path)

    def _raw(self, path: str) -> Any:
        value: Any = self.data
        for part in path.split("."):
            if not isinstance(value, dict):
                raise KeyError(path)
            value = value[part]
        return value


def _for_lfp(path: str) -> bool:
    home = path.rpartition(".")[0]
    return settings()[path].lfp or (home in settings() and settings()[home].lfp)


def _default(path: str) -> Any:
    found = settings()[path]
    home, _, name = path.rpartition(".")
    if home in settings() and settings()[home].default is not None:
        return getattr(settings()[home].default, name)
    if found.required:
        raise UnknownSettingError(path)
    return found.default


Check = Callable[[Known], Iterator[str]]
"""Yields what is wrong."""


@dataclass(frozen=True)
class Order:
    """`path` must be below (`<`), at most (`<=`), above (`>`) or at least (`>=`) `other` plus `offset`, and why."""

    path: str
    sign: str
    other: str
    why: str
    offset: float = 0.0

    def complaints(self, get: Known) -> Iterator[str]:
        value, bound = get(self.path), get(self.other) + self.offset
        holds = {
            "<": value < bound - CLOSE,
            "<=": value <= bound + CLOSE,
            ">": value > bound + CLOSE,
            ">=": value >= bound - CLOSE,
        }[self.sign]
        if holds:
            return
        unit = settings()[self.path].unit
        words = {"<": "below", "<=": "at most", ">": "above", ">=": "at least"}[self.sign]
        margin = f" {'+' if self.offset > 0 else '-'} {abs(self.offset):g}" if self.offset else ""
        expected = f"{words} {amount(bound, unit)} ({self.other}{margin})"
        yield f"{self.path}: {amount(value, unit)}; expected {expected}: {self.why}"


def amount(value: float, unit: str) -> str:
    return f"{value:.6g}" + (f" {unit}" if unit not in ("", "share") else "")
