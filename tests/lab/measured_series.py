"""Measured series of others as the lab reads them."""

from __future__ import annotations

import numpy as np

from bmsd.lab.series import Series
from tests.reference_data import reference


def series(name: str, t_s, discharge_a, volts, degc, soc=None) -> Series:
    """A series of these arrays; in the data discharge is positive."""
    t_s = np.asarray(t_s, dtype=np.float64)
    return Series(
        name, t_s - t_s[0], -np.asarray(discharge_a, dtype=np.float64), np.asarray(volts, dtype=np.float64),
        np.broadcast_to(np.asarray(degc, dtype=np.float64), t_s.shape).copy(),
        None if soc is None else np.asarray(soc, dtype=np.float64), (), (),
    )  # fmt: skip


def plett_ocv(degc: int) -> list[Series]:
    data = np.load(reference(f"plett_a123/a123_ocv_P{degc:02d}.npz"))
    return [
        series(f"P{degc:02d} {part}", data[f"{part}_t"], data[f"{part}_i"], data[f"{part}_v"], degc)
        for part in ("s1", "s3")
    ]


def plett_dynamic(degc: int) -> tuple[Series, float]:
    """The series with its SoC, and the capacity."""
    data = np.load(reference(f"plett_a123/a123_dyn_P{degc}.npz"))
    made = series(f"P{degc} dynamic", data["s1_t"], data["s1_i"], data["s1_v"], degc, data["s1_soc"])
    return made, float(data["Q_Ah"])


def plett_slow(degc: int, part: str) -> tuple[Series, float]:
    """A slow discharge from full (s1) or charge from empty (s3) with its SoC by the counters, and the capacity.

    Charge efficiency is what closes the four parts of the test: from full to empty to full.
    """
    data = np.load(reference(f"plett_a123/a123_ocv_P{degc:02d}.npz"))
    charged, discharged = (sum(float(data[f"s{k}_{way}"][-1]) for k in (1, 2, 3, 4)) for way in ("chgAh", "disAh"))
    efficiency = discharged / charged
    emptied = sum(data[f"{s}_disAh"][-1] - efficiency * data[f"{s}_chgAh"][-1] for s in ("s1", "s2"))
    net = (efficiency * data[f"{part}_chgAh"] - data[f"{part}_disAh"]) / emptied
    soc = np.clip((1.0 if part == "s1" else 0.0) + net, 0.0, 1.0)
    name = f"slow {'discharge' if part == 's1' else 'charge'} at {degc} degC"
    return series(name, data[f"{part}_t"], data[f"{part}_i"], data[f"{part}_v"], degc, soc), float(emptied)


def plett_day(degc: int) -> tuple[Series, float]:
    """The dynamic series from full to empty, the rest of the discharge and the charge to full after it (at 25 degC)."""
    data = np.load(reference(f"plett_a123/a123_dyn_P{degc}.npz"))
    capacity_ah, parts, degcs, at_s = float(data["Q_Ah"]), ("s1", "s2", "s3"), [], 0.0
    soc, times = [data["s1_soc"].astype(np.float64)], []
    for part in parts:
        t_s = data[f"{part}_t"].astype(np.float64)
        times.append(t_s - t_s[0] + at_s)
        at_s = times[-1][-1] + 1.0
        degcs.append(np.full(len(t_s), 25.0 if times[1:] else float(degc)))
        if part != "s1":
            net = (data["eta_all"] * data[f"{part}_chgAh"] - data[f"{part}_disAh"]) / capacity_ah
            soc.append(np.clip(soc[-1][-1] + net - net[0], 0.0, 1.0))
    amps, volts = (np.concatenate([data[f"{part}_{of}"] for part in parts]) for of in ("i", "v"))
    whole = (np.concatenate(of) for of in (times, degcs, soc))
    t_s, temperature_degc, truth = whole
    return series(f"P{degc} day", t_s, amps, volts, temperature_degc, truth), capacity_ah


def thinned(of: Series, every_s: float) -> Series:
    """Means over so many seconds; the SoC is that of the first row in each."""
    _, first_row, place, count = np.unique(
        np.floor(of.t_s / every_s), return_index=True, return_inverse=True, return_counts=True
    )

    def mean(values: np.ndarray) -> np.ndarray:
        return np.bincount(place, values) / count

    return Series(
        of.name, of.t_s[first_row], mean(of.current_a), mean(of.voltage_v), mean(of.temperature_degc),
        None if of.soc is None else of.soc[first_row], (), (),
    )  # fmt: skip


def flat_zone() -> Series:
    data = np.load(reference("tao_shi_lfp_flatzone/lfp1p2Ah_flatzone_25C.npz"))
    return series("flat zone", data["t"], data["i"], data["v"], 25.0, data["soc"])


def flat_zone_ocv() -> list[Series]:
    data = np.load(reference("tao_shi_lfp_flatzone/ocv_curve.npz"))
    soc, made = data["SOC_OCV"].astype(float) / 100.0, []
    for name, order in (("OCV_discharge", np.argsort(-soc)), ("OCV_charge", np.argsort(soc))):
        way = np.abs(soc[order] - soc[order][0])
        amps = 0.04 * (1.0 if name == "OCV_discharge" else -1.0)
        made.append(series(name, way * 1.2 * 3600.0 / 0.04, np.full(len(soc), amps), data[name][order], 25.0))
    return made


def prada(kind: str) -> tuple[list[Series], Series, float]:
    """Slow series, dynamic series with SoC, capacity; `kind` is hyst or nohyst."""
    slow = np.load(reference(f"pybamm_prada/ocv_c50_{kind}.npz"))
    data = np.load(reference(f"pybamm_prada/dyn6h_25C_{kind}_dfn.npz"))
    return (
        [series(f"C/50 {kind}", slow["t"], slow["i"], slow["v"], 25.0)],
        series(f"DFN {kind}", data["t"], data["i"], data["v"], 25.0, data["soc"]),
        float(data["cap_Ah"]),
    )


def first(of: Series, share: float) -> Series:
    """The first part of a series."""
    rows = int(len(of.t_s) * share)
    soc = None if of.soc is None else of.soc[:rows]
    return Series(
        of.name, of.t_s[:rows], of.current_a[:rows], of.voltage_v[:rows], of.temperature_degc[:rows], soc, (), ()
    )  # fmt: skip


def k2_pulses(degc: int) -> tuple[Series, float]:
    """HPPC with its SoC by the counted charge from full, and the capacity at 1C; logger spikes are left out."""
    data = np.load(reference(f"k2_lfp26650/HPPC_{degc}C.npz"))
    capacity_ah = 2.2
    amps = data["i"].astype(np.float64)
    soc = 1.0 - np.concatenate([[0.0], np.cumsum(0.5 * (amps[1:] + amps[:-1]) * np.diff(data["t"]))]) / (
        3600.0 * capacity_ah
    )
    keep = (data["v"] > 2.0) & (data["v"] < 4.2)
    t_s, amps, volts, warm = (data[name][keep] for name in ("t", "i", "v", "Tbat_C"))
    made = series(f"K2 {degc}", t_s, amps, volts, warm, soc[keep])
    return made, capacity_ah


def k2_discharge(degc: int) -> list[Series]:
    """The only run over the whole capacity that there is of this cell: a discharge with 1C."""
    data = np.load(reference(f"k2_lfp26650/K2_Discharge_Test_{degc}C.npz"))
    return [series(f"K2 1C {degc}", *(data[name] for name in ("t", "i", "v", "Tbat_C")))]


def kawakita() -> tuple[Series, float]:
    """A drive with up to 15C at 37 degC, and the capacity."""
    data = np.load(reference("kawakita_a123_thermal/a123_26650_2p5Ah_labdataset.npz"))
    soc = 1.0 - (data["disAh"].astype(float) - data["chgAh"]) / 2.5
    keep = np.concatenate([[True], np.diff(data["t"]) > 0.5])
    t_s, amps, volts, degc = (data[name][keep] for name in ("t", "i", "v", "Ts_C"))
    return series("Kawakita", t_s, amps, volts, degc, soc[keep]), 2.5


def kawakita_ocv() -> list[Series]:
    """Branches from the published rest voltage of that cell, 17 mV apart from it."""
    data = np.load(reference("kawakita_a123_thermal/a123_esc_cet_model.npz"))
    mid_v, hours = data["OCV0"] + 37.0 * data["OCVrel"], data["SOC"] * 2.5 / 0.08
    up, down = np.full(len(hours), -0.08), np.full(len(hours), 0.08)
    return [
        series("discharge", 3600.0 * hours, down, (mid_v - 0.017)[::-1], 37.0),
        series("charge", 3600.0 * hours, up, mid_v + 0.017, 37.0),
    ]
