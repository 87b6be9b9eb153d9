"""`bmsd study`: asks a study, shows its answer as a table, as sentences, as JSON, as a plot or as a file of days."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter

from bmsd.errors import BmsdError
from bmsd.lab.study_balancing import BALANCED_SHARE, STRATEGIES, Answer, Question, Strategy, answer
from bmsd.lab.table import Table, check_output, refuse

OUTPUTS = {".png": ("a plot", "matplotlib"), ".csv": None}
HEADINGS = ("strategy", "usable", "capacity", "lost, kWh", "spread, Ah", "in module, Ah", "balanced", "early ends")
_RANGES = {"years": (1.0 / 365.0, 30.0), "capacity_ah": (5.0, 2000.0)}
_DAILY = (
    ("usable_ah", "daily_usable"),
    ("spread_ah", "daily_spread_ah"),
    ("module_spread_ah", "daily_module_spread_ah"),
    ("wasted_wh", "daily_wasted_wh"),
)


def run_balancing(
    *,
    years: float,
    capacity_ah: float,
    names: list[str],
    seed: int,
    output: Path | None,
    as_json: bool,
    told: Callable[[float], None] = lambda _share: None,
) -> list[str]:
    """Return the lines to print; the plot or the days are in `output`. ConfigError lists everything that is wrong."""
    complaints = _out_of_range({"years": years, "capacity_ah": capacity_ah})
    known = dict.fromkeys(strategy.name for strategy in STRATEGIES)
    complaints += [f'--strategy: "{name}"; expected one of {", ".join(known)}' for name in names if name not in known]
    complaints += [] if output is None else check_output(output, OUTPUTS)
    refuse(complaints)
    chosen = tuple(strategy for strategy in STRATEGIES if not names or strategy.name in names)
    question = Question(years=years, capacity_ah=capacity_ah, strategies=chosen, seed=seed)
    start_s = perf_counter()
    answers = answer(question, told)
    wall_s = perf_counter() - start_s
    if output is not None:
        _write(question, answers, output)
    if as_json:
        found = {
            "years": years, "capacity_ah": capacity_ah, "cells": question.modules * question.cells, "wall_s": wall_s,
            "strategies": [one.as_json() for one in answers], "conclusions": list(conclusions(question, answers)),
        }  # fmt: skip
        return [json.dumps(found, indent=2)]
    return list(_page(question, answers, wall_s, output))


def _out_of_range(given: dict[str, float]) -> list[str]:
    lines = []
    for name, value in given.items():
        low, high = _RANGES[name]
        if not low <= value <= high:
            lines.append(f"--{name.replace('_', '-')}: {value:g}; expected {low:.3g}..{high:g}")
    return lines


def _page(question: Question, answers: list[Answer], wall_s: float, output: Path | None) -> Iterator[str]:
    cells = f"{question.modules} modules of {question.cells} cells, {question.capacity_ah:g} Ah"
    yield f"{question.years:g} years of daily solar cycling, a string of {cells}, side by side in {wall_s:.0f} s"
    yield ""
    yield from _table(answers)
    yield ""
    yield from conclusions(question, answers)
    if output is not None:
        yield f"written: {output}"


def _table(answers: list[Answer]) -> Iterator[str]:
    rows = [HEADINGS, *(_cells(one) for one in answers)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    for row in rows:
        yield "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()


def _cells(one: Answer) -> tuple[str, ...]:
    return (
        one.strategy.title,
        f"{100.0 * one.usable_share:.1f} %",
        f"{100.0 * one.capacity_share:.1f} %",
        f"{one.wasted_wh / 1000.0:.2f}",
        f"{one.spread_ah:.2f}",
        f"{one.module_spread_ah:.2f}",
        f"day {one.balanced_day:.0f}" if one.balanced_day is not None else "never",
        f"{one.early_charge_days} full, {one.early_discharge_days} empty",
    )


def conclusions(question: Question, answers: list[Answer]) -> Iterator[str]:
    """Yield in sentences what the numbers say: what was won, how long it took, whether the current is enough."""
    enough_ah = BALANCED_SHARE * question.capacity_ah
    nothing = next((one for one in answers if one.strategy.name == "none"), None)
    for one in answers:
        if one is nothing:
            continue
        won = "" if nothing is None else f"{one.usable_ah - nothing.usable_ah:+.1f} Ah usable against none; "
        yield f"{one.strategy.title}: {won}{_pace(one, enough_ah)}."


def _pace(one: Answer, enough_ah: float) -> str:
    if one.balanced_day is None:
        return f"not balanced to {enough_ah:g} Ah in a module within this time: too slow for this start"
    held = max(one.daily_module_spread_ah[int(one.balanced_day) :])
    keeps = f"stays within {held:.2f} Ah" if held <= 1.5 * enough_ah else f"falls back to {held:.2f} Ah"
    text = f"every module balanced to {enough_ah:g} Ah on day {one.balanced_day:.0f}, {keeps}"
    if one.string_balanced_day is None:
        return f"{text}; between modules {one.spread_ah:.1f} Ah remain, which it does not reach"
    return f"{text}; the whole string on day {one.string_balanced_day:.0f}"


def _write(question: Question, answers: list[Answer], output: Path) -> None:
    if output.suffix == ".png":
        plot(question, answers, output)
        return
    columns = ["day", *(f"{_key(one.strategy)}_{name}" for one in answers for name, _ in _DAILY)]
    table = Table(output, columns)
    series = [getattr(one, field) for one in answers for _, field in _DAILY]
    for row in zip(answers[0].day, *series, strict=True):
        table.add(list(row))
    table.write()


def _key(strategy: Strategy) -> str:
    return strategy.title.replace(" A", "a").replace(" ", "_").lower()


def plot(question: Question, answers: list[Answer], output: Path) -> None:
    """Draw usable capacity, both spreads and lost energy over the days into a PNG file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 2, sharex=True).ravel()
    titles = ("usable capacity, Ah", "spread in the string, Ah", "spread in the worst module, Ah", "lost, Wh")
    for axis, title, (_, field) in zip(axes, titles, _DAILY, strict=True):
        for one in answers:
            axis.plot(one.day, getattr(one, field), label=one.strategy.title)
        axis.set_title(title)
        axis.grid(visible=True, alpha=0.3)
    for axis in axes[2:]:
        axis.set_xlabel("day")
    axes[0].legend()
    figure.suptitle(
        f"Balancing {question.modules} x {question.cells} cells of {question.capacity_ah:g} Ah, daily solar cycling"
    )
    try:
        figure.savefig(output, dpi=120)
    except OSError as error:
        raise BmsdError(f"{output}: cannot be written: {error.strerror or error}") from error
