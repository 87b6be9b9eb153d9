"""Boards of another maker: what shows when, how old it is, and what is dropped and counted."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mapped_board import VALUES, planned, raw, receiver

from bmsd.model.frame import ERROR_FLAG, EXTENDED_FLAG, RAW_FRAME, REMOTE_FLAG
from bmsd.model.layout import Layout
from bmsd.model.snapshot import Feedback, Reading
from tests.third_party_board import DBC, Boards, Sent

ASKED = [{"id": 0x0F0, "data": "01"}]
OPEN, CLOSED = 0, 1
CHECKSUM = ' SG_ Checksum : 63|8@0+ (1,0) [0|255] "" Gateway\n'


def without(quantity: str) -> list[dict[str, Any]]:
    return [value for value in VALUES if value["quantity"] != quantity]


def test_a_round_of_frames_becomes_the_rack() -> None:
    boards, heard = Boards(), receiver()
    boards.discharge_a = 30.0
    heard.feed(raw(boards.frames()), 10.0)
    modules, units = heard.modules(10.1), heard.units(10.1)
    np.testing.assert_allclose(modules.cell_v[0], boards.cell_v, atol=1e-9)
    np.testing.assert_array_equal(modules.temperature_degc[0], boards.degc)
    np.testing.assert_allclose(modules.cell_age_s, 0.1)
    assert (modules.cell_sync == 0).all()
    assert units.current_a[0] == -30.0, "positive is charging here"
    assert units.string_v[0] == pytest.approx(sum(map(sum, boards.cell_v)), abs=0.05)
    assert heard.missing(10.1) == []
    assert sum(heard.counts.values()) == 0


def test_before_anything_came_all_is_missing_and_named() -> None:
    heard = receiver()
    modules, units = heard.modules(5.0), heard.units(5.0)
    assert np.isnan(modules.cell_v).all()
    assert (modules.cell_reading == Reading.MISSING).all()
    assert (modules.temperature_reading == Reading.MISSING).all()
    assert np.isinf(modules.cell_age_s).all()
    assert (modules.cell_sync == -1).all()
    assert not modules.identified.any()
    assert np.isnan(units.current_a[0] + units.charge_as[0] + units.string_v[0])
    assert (units.minus[0], units.minus_output[0]) == (Feedback.UNKNOWN, False)
    missing = heard.missing(5.0)
    assert "cells of module 1 of string 1: never heard: Board_1_Cells (100h, page 0)" in missing
    assert "current of string 1: never heard: Pack (18FEFE10h)" in missing
    assert len(missing) == 2 + 2 + 3


def test_a_set_shows_when_its_last_frame_has_come_and_is_as_old_as_its_oldest() -> None:
    boards, heard = Boards(), receiver()
    pages = boards.cells(0)
    for number, page in enumerate(pages[:-1]):
        heard.feed(raw([page]), 10.0 + 0.01 * number)
        assert np.isnan(heard.modules(10.1).cell_v).all()
    heard.feed(raw([pages[-1]]), 10.05)
    modules = heard.modules(10.1)
    assert modules.cell_age_s[0, 0] == pytest.approx(0.1)
    assert np.isfinite(modules.cell_v[0, 0]).all()
    assert np.isnan(modules.cell_v[0, 1]).all()


def test_a_lost_page_holds_the_set_back_until_it_comes_again() -> None:
    boards, heard = Boards(), receiver()
    heard.feed(raw(boards.cells(0)), 10.0)
    boards.cell_v[0] = [3.5] * 16
    heard.feed(raw(boards.cells(0)[1:]), 10.2)
    assert heard.modules(10.2).cell_v[0, 0, 15] == pytest.approx(3.215), "all cells or none"
    assert heard.modules(10.2).cell_sync[0, 0] == 0
    boards.cell_v[0] = [3.6] * 16
    heard.feed(raw(boards.cells(0)[:1]), 10.4)
    modules = heard.modules(10.4)
    np.testing.assert_allclose(modules.cell_v[0, 0], [3.6] * 3 + [3.5] * 13)
    assert modules.cell_age_s[0, 0] == pytest.approx(0.2), "the age is that of the pages from before"
    assert modules.cell_sync[0, 0] == 1


def test_the_running_number_advances_once_for_each_complete_set() -> None:
    boards, heard = Boards(), receiver()
    for number in range(5):
        heard.feed(raw(boards.frames()), 10.0 + 0.2 * number)
        assert (heard.modules(10.0 + 0.2 * number).cell_sync == number).all()
        assert heard.units(10.0 + 0.2 * number).current_sync[0] == number
    assert (heard.modules(10.81).cell_sync == 4).all(), "time alone makes nothing new"


def test_what_was_handed_out_does_not_change_later() -> None:
    boards, heard = Boards(), receiver()
    heard.feed(raw(boards.frames()), 10.0)
    before = heard.modules(10.0)
    kept = (before.cell_v.copy(), before.cell_sync.copy(), before.frames.copy())
    boards.cell_v = [[3.9] * 16] * 2
    heard.feed(raw(boards.frames()), 10.2)
    for was, now in zip(kept, (before.cell_v, before.cell_sync, before.frames), strict=True):
        np.testing.assert_array_equal(was, now)


@pytest.mark.parametrize(("age_s", "known"), [(0.599, True), (0.601, False)])
def test_an_old_value_is_unknown_and_its_age_goes_on(age_s: float, known: bool) -> None:
    boards, heard = Boards(), receiver()
    heard.feed(raw(boards.frames()), 10.0)
    modules, units = heard.modules(10.0 + age_s), heard.units(10.0 + age_s)
    assert np.isfinite(modules.cell_v).all() == known
    assert (modules.cell_reading == (Reading.OK if known else Reading.MISSING)).all()
    assert np.isfinite(units.current_a).all() == known
    assert bool(units.minus_output[0]) == known
    assert modules.cell_age_s[0, 0] == pytest.approx(age_s)
    assert np.isfinite(modules.temperature_degc).all(), "temperatures are held longer"
    assert np.isnan(heard.modules(13.01).temperature_degc).all()


def test_a_board_that_was_asked_measured_when_it_was_asked() -> None:
    boards, heard = Boards(), receiver(requests=ASKED)
    heard.feed(raw(boards.cells(0)), 9.9)
    assert heard.modules(9.9).cell_age_s[0, 0] == 0.0
    heard.sync_sent(0, 0, 0, 10.0)
    heard.feed(raw(boards.cells(0)), 10.05)
    assert heard.modules(10.05).cell_age_s[0, 0] == pytest.approx(0.05)


def test_without_a_request_the_question_of_others_means_nothing() -> None:
    boards, heard = Boards(), receiver()
    heard.sync_sent(0, 0, 0, 1.0)
    heard.feed(raw(boards.cells(0)), 10.0)
    assert heard.modules(10.0).cell_age_s[0, 0] == 0.0


def test_a_counter_that_stands_makes_its_values_old_although_frames_come() -> None:
    boards, heard = Boards(), receiver(alive_signal="Alive")
    heard.feed(raw(boards.frames()), 10.0)
    assert np.isinf(heard.modules(10.0).cell_age_s).all(), "seen once, a counter proves nothing"
    assert heard.counts["frozen"] == 0
    frozen = boards.frames()
    for number in range(1, 11):
        heard.feed(raw(frozen), 10.0 + 0.1 * number)
    modules = heard.modules(11.0)
    assert modules.cell_age_s[0, 0] == pytest.approx(0.9), "it moved last at 10.1 s"
    assert np.isnan(modules.cell_v).all()
    assert np.isnan(heard.units(11.0).current_a).all()
    assert heard.counts["frozen"] > 0
    assert (modules.counter_errors > 0).all()
    heard.feed(raw(boards.frames()), 11.1)
    assert np.isfinite(heard.modules(11.1).cell_v).all()


def test_a_counter_of_each_frame_moves_too() -> None:
    boards, heard = Boards(), receiver(alive_signal="Alive")
    for number in range(20):
        pages = boards.cells(0)
        for page in pages:
            boards.alive = (boards.alive + 1) % 16
            data = page.data[:7] + bytes([boards.alive])
            heard.feed(raw([page._replace(data=data)]), 10.0 + 0.2 * number)
        assert heard.modules(10.0 + 0.2 * number).cell_age_s[0, 0] == (0.0 if number else np.inf)


def test_a_wrong_checksum_drops_the_frame_and_is_counted_for_its_board() -> None:
    boards, heard = Boards(), receiver(checksum_signal="Checksum")
    frames = boards.frames()
    spoilt = [
        f._replace(data=bytes([f.data[0] ^ 1]) + f.data[1:]) if f.can_id in (0x111, 0x18FEFE10) else f for f in frames
    ]
    heard.feed(raw(spoilt), 10.0)
    modules, units = heard.modules(10.0), heard.units(10.0)
    assert np.isnan(modules.temperature_degc[0, 1]).all()
    assert np.isfinite(modules.temperature_degc[0, 0]).all()
    assert np.isnan(units.current_a[0])
    assert (modules.crc_errors.tolist(), units.crc_errors.tolist()) == ([[0, 1]], [1])
    assert heard.counts["checksum"] == 2
    heard.feed(raw(frames), 10.1)
    assert np.isfinite(heard.units(10.1).current_a[0])


@pytest.mark.parametrize(
    ("change", "flags", "kind"),
    [
        ({"data": bytes(7)}, 0, "length"),
        ({"data": b""}, 0, "length"),
        ({"data": b"\x06" + bytes(7)}, 0, "selector"),
        ({"data": b"\xff" * 8}, 0, "selector"),
        ({}, REMOTE_FLAG, "remote"),
        ({}, ERROR_FLAG, "error"),
        ({}, EXTENDED_FLAG, "foreign"),
        ({"can_id": 0x102}, 0, "foreign"),
    ],
)
def test_what_is_no_frame_of_a_board_is_counted_by_kind_and_changes_nothing(
    change: dict[str, Any], flags: int, kind: str
) -> None:
    boards, heard = Boards(), receiver()
    good = boards.cells(0)
    heard.feed(raw(good[1:]), 10.0)
    heard.feed(raw([good[0]._replace(**change)], flags), 10.0)
    assert np.isnan(heard.modules(10.0).cell_v).all()
    assert {name for name, number in heard.counts.items() if number} == {kind}
    heard.feed(raw(good[:1]), 10.0)
    assert np.isfinite(heard.modules(10.0).cell_v[0, 0]).all()


def test_a_sensor_that_is_not_fitted_is_invalid_and_the_others_show() -> None:
    boards, heard = Boards(), receiver()
    boards.degc[0][1] = None
    heard.feed(raw(boards.frames()), 10.0)
    modules = heard.modules(10.0)
    assert modules.temperature_reading[0, 0].tolist() == [Reading.OK, Reading.INVALID, Reading.OK, Reading.OK]
    assert np.isnan(modules.temperature_degc[0, 0, 1])


def test_charge_is_counted_between_measurements_and_not_guessed_over_a_gap() -> None:
    boards, heard = Boards(), receiver()
    boards.discharge_a = -100.0
    for at_s in (10.0, 10.2, 10.4):
        heard.feed(raw([boards.pack()]), at_s)
    assert heard.units(10.4).charge_as[0] == pytest.approx(40.0)
    heard.feed(raw([boards.pack()]), 20.0)
    assert heard.units(20.0).charge_as[0] == pytest.approx(40.0)
    boards.discharge_a = 0.0
    heard.feed(raw([boards.pack()]), 20.2)
    assert heard.units(20.2).charge_as[0] == pytest.approx(50.0)


def test_contactors_are_what_the_boards_say() -> None:
    boards, heard = Boards(), receiver()
    for state, closed in ((CLOSED, True), (OPEN, False), (CLOSED, True)):
        boards.contactors = state
        heard.feed(raw([boards.pack()]), 10.0)
        units = heard.units(10.0)
        assert (bool(units.minus_output[0]), bool(units.plus_output[0])) == (closed, closed)
        assert np.isfinite(units.bus_v[0]) == closed
        assert units.minus[0] == Feedback.NOT_FITTED


@pytest.mark.parametrize("neither", [2, 3])
def test_boards_that_say_neither_open_nor_closed_have_said_nothing_of_their_contactors(neither: int) -> None:
    boards, heard = Boards(), receiver()
    heard.feed(raw([boards.pack()]), 10.0)
    boards.contactors = neither
    heard.feed(raw([boards.pack()]), 10.1)
    units = heard.units(10.1)
    assert np.isinf(units.state_age_s[0])
    assert units.minus[0] == units.plus[0] == Feedback.UNKNOWN
    assert not units.minus_output[0]


def test_a_single_string_of_unknown_contactors_counts_as_closed_while_its_current_is_known() -> None:
    boards, heard = Boards(), receiver(values=without("contactors"))
    assert not heard.units(9.9).minus_output[0]
    heard.feed(raw([boards.pack()]), 10.0)
    assert heard.units(10.5).minus_output[0]
    assert heard.units(10.5).state_age_s[0] == pytest.approx(0.5)
    assert not heard.units(10.7).minus_output[0]
    assert heard.units(10.7).minus[0] == Feedback.UNKNOWN


def test_of_several_strings_nobody_knows_which_are_closed() -> None:
    boards = Boards()
    values = [dict(value, id_step=value.get("id_step", 1)) for value in without("contactors")]
    heard = receiver(Layout(2, 1, 16, 4), values=values)
    heard.feed(raw([*boards.frames(), boards.pack()._replace(can_id=0x18FEFE11)]), 10.0)
    units = heard.units(10.0)
    assert np.isfinite(units.current_a).all()
    assert np.isinf(units.state_age_s).all()
    assert not units.minus_output.any()


def test_without_a_measured_string_voltage_it_is_the_sum_of_its_cells() -> None:
    boards, heard = Boards(), receiver(values=without("string_v"))
    heard.feed(raw(boards.frames()), 10.0)
    units = heard.units(10.1)
    assert units.string_v[0] == pytest.approx(sum(map(sum, boards.cell_v)))
    assert units.voltage_age_s[0] == pytest.approx(0.1)
    heard.feed(raw([*boards.cells(0), boards.pack()]), 10.7)
    assert np.isnan(heard.units(10.7).string_v[0]), "one module is unknown"


def test_a_board_that_falls_silent_partly_or_whole_is_named_and_one_that_is_slow_too() -> None:
    boards, heard = Boards(), receiver()
    heard.feed(raw(boards.frames()), 10.0)
    for number in range(20):
        heard.feed(raw([*boards.cells(0)[:4], boards.temperatures(0), boards.pack()]), 10.2 + 0.2 * number)
    missing = heard.missing(14.0)
    assert (
        "cells of module 1 of string 1: without Board_1_Cells (100h, page 4), Board_1_Cells (100h, page 5)" in missing
    )
    assert "cells of module 2 of string 1: no longer heard: Board_1_Cells (101h, page 0)" in missing
    heard.feed(raw(boards.frames()), 20.0)
    heard.feed(raw(boards.frames()), 21.0)
    assert heard.missing(21.0) == []
    assert heard.missing(21.7)[0] == (
        "cells of module 1 of string 1: its frames come too rarely: a set of 6 must not be older than 0.6 s"
    )


ROWS = st.tuples(
    st.sampled_from([0x100, 0x101, 0x110, 0x111, 0x18FEFE10 | EXTENDED_FLAG, 0x100 | REMOTE_FLAG, 0x0F0, 0x7FF]),
    st.integers(0, 255), st.just(0), st.integers(0, 2**64 - 1),
)  # fmt: skip


@given(st.lists(ROWS, max_size=60), st.lists(st.floats(0.0, 0.5), min_size=3, max_size=3))
def test_any_content_under_the_right_identifiers_never_raises_and_never_becomes_impossible(
    rows: list[tuple[int, int, int, int]], gaps_s: list[float]
) -> None:
    heard = receiver(alive_signal="Alive", requests=ASKED)
    now_s = 10.0
    for gap_s in gaps_s:
        now_s += gap_s
        heard.sync_sent(0, 0, 0, now_s - gap_s / 2)
        heard.feed(np.array(rows, dtype=RAW_FRAME), now_s)
        modules, units = heard.modules(now_s), heard.units(now_s)
        known = modules.cell_v[np.isfinite(modules.cell_v)]
        assert ((known >= 0.0) & (known <= 6.0)).all(), "the range of the DBC"
        assert (np.isnan(modules.cell_v) == (modules.cell_reading != Reading.OK)).all()
        assert (modules.cell_age_s >= 0.0).all()
        assert (units.current_age_s >= 0.0).all()
        heard.missing(now_s)


def test_a_signal_that_names_its_cell_in_another_signal_is_told_apart(tmp_path: Any) -> None:
    """Boards that send one cell after the other under one identifier, with its number beside it."""
    dbc = tmp_path / "one.dbc"
    dbc.write_text(
        'VERSION ""\nNS_ :\nBS_:\nBU_: B\n'
        'BO_ 54 OneCell: 8 B\n SG_ Number : 7|8@0+ (1,0) [0|0] "" B\n SG_ Volts : 15|16@0+ (0.0001,0) [0|0] "V" B\n'
        ' SG_ Degrees : 31|8@0- (1,0) [0|0] "degC" B\n SG_ Amperes : 39|16@0- (0.1,0) [0|0] "A" B\n'
    )
    layout = Layout(1, 2, 3, 1)
    select = {"select": "Number"}
    values = [
        {"quantity": "cell_v", "message": "OneCell", "signals": ["Volts"], **select, "select_value": "{string_cell0}"},
        {
            "quantity": "temperature_degc",
            "message": "OneCell",
            "signals": ["Degrees"],
            **select,
            "select_value": "{board}",
        },
        {"quantity": "current_a", "message": "OneCell", "signals": ["Amperes"]},
    ]
    heard = receiver(layout, values=values, dbc=dbc)
    for number in range(6):
        data = (
            bytes([number])
            + (33000 + number).to_bytes(2, "big")
            + bytes([20 + number])
            + (-5).to_bytes(2, "big", signed=True)
        )
        heard.feed(raw([Sent(54, False, data + b"\0\0")]), 10.0)
    modules = heard.modules(10.0)
    np.testing.assert_allclose(modules.cell_v[0], [[3.3, 3.3001, 3.3002], [3.3003, 3.3004, 3.3005]])
    assert modules.temperature_degc[0, :, 0].tolist() == [21.0, 22.0]
    assert heard.units(10.0).current_a[0] == 0.5
    heard.feed(raw([Sent(54, False, b"\x06" + bytes(7))]), 10.1)
    assert heard.counts["selector"] == 1
    assert math.isfinite(heard.modules(10.1).cell_v.sum())


def test_only_what_is_mapped_is_kept() -> None:
    made = planned()
    assert sorted(made.heard) == [0x100, 0x101, 0x110, 0x111, 0x18FEFE10 | EXTENDED_FLAG]
    assert len(made.slots) == 2 * 6 + 2 + 1


def test_a_page_that_the_dbc_knows_and_nobody_needs_is_no_mistake() -> None:
    boards, heard = Boards(), receiver(Layout(1, 2, 3, 4))
    heard.feed(raw(boards.frames()), 10.0)
    np.testing.assert_allclose(heard.modules(10.0).cell_v[0], [board[:3] for board in boards.cell_v])
    assert sum(heard.counts.values()) == 0


@pytest.mark.parametrize(("size", "kept"), [(5, False), (6, True), (7, False), (8, False)])
def test_a_frame_has_exactly_the_length_of_the_dbc(size: int, kept: bool, tmp_path: Any) -> None:
    dbc = tmp_path / "short.dbc"
    dbc.write_text(
        DBC.read_text().replace("Board_1_Temperatures: 8", "Board_1_Temperatures: 6").replace(CHECKSUM, "", 1)
    )
    heard = receiver(dbc=dbc)
    heard.feed(raw([Sent(0x110, False, bytes([60] * size))]), 10.0)
    assert np.isfinite(heard.modules(10.0).temperature_degc[0, 0]).all() == kept
    assert heard.counts["length"] == (0 if kept else 1)
