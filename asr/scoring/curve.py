"""Phone error rate against length: one point for each number of utterances joined, as a table, data and a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from asr.errors import AsrError
from asr.files import writing
from asr.scoring.plain import counts_data
from asr.scoring.score import Counts

MB = 1e6
COLUMNS = "  joins  recordings  mean s     PER     sub     del     ins  x real time  peak MB  poor  loops  skipped s"


@dataclass(frozen=True, slots=True)
class Point:
    """One length, measured."""

    joins: int
    recordings: int
    speech: float           # seconds in all
    counts: Counts
    cpu: float              # seconds of processor time
    wall: float             # seconds on the clock
    memory: int             # bytes at most, above the loaded model
    poor: int               # recordings whose attention went astray, by the signs of `asr decode`
    monotonic: float        # share of steps whose focus did not go back, over all phones
    loops: int              # stretches said four times in a row or more
    skipped: float          # seconds passed over in steps of more than a second
    limits: int             # recordings that were ended by the length limit

    @property
    def real_time(self) -> float:
        """Processor seconds for a second of speech."""
        return self.cpu / max(self.speech, 1e-9)


@dataclass(frozen=True, slots=True)
class Line:
    """The points of one way of decoding."""

    name: str
    about: str
    points: tuple[Point, ...]
    left_out: tuple[str, ...] = ()      # why points are missing


@dataclass(frozen=True, slots=True)
class Curve:
    """What `asr curve` finds out."""

    model: str
    manifest: str
    protocol: str
    utterances: int         # base utterances, the same at every length
    phones: int             # theirs
    same: bool              # each is joined with itself, not with others
    gap: float              # seconds of silence between two
    gap_phone: str          # its label; "" where it has none
    lines: tuple[Line, ...]
    seed: int = 1           # of the order in which utterances meet


def curve_text(curve: Curve) -> str:
    """The table, a line for each length."""
    how = "each joined with itself" if curve.same else "joined with others"
    label = f" labelled {curve.gap_phone}" if curve.gap_phone else ""
    lines = [f"{curve.utterances:,} utterances of {curve.manifest}, {how}, {curve.gap:g} s of silence{label} between "
             f"two; protocol {curve.protocol}"]
    for line in curve.lines:
        lines += ["", f"{line.name}: {line.about}", COLUMNS]
        lines += [_row(point) for point in line.points]
        lines += [f"  left out: {reason}" for reason in line.left_out]
    return "\n".join(lines) + "\n"


def _row(point: Point) -> str:
    counts = point.counts
    def share(errors: int) -> str:
        return f"{100 * errors / max(1, counts.phones):8.2f}"
    return (f"{point.joins:7}{point.recordings:12}{point.speech / max(1, point.recordings):8.1f}{counts.per:8.2f}"
            f"{share(counts.substitutions)}{share(counts.deletions)}{share(counts.insertions)}{point.real_time:13.4f}"
            f"{point.memory / MB:9.0f}{point.poor:6}{point.loops:7}{point.skipped:11.1f}")


def curve_data(curve: Curve) -> dict[str, Any]:
    """The curve as plain data. PER in per cent, times in seconds, memory in bytes above the loaded model."""
    return {"model": curve.model, "manifest": curve.manifest, "protocol": curve.protocol,
            "utterances": curve.utterances, "phones": curve.phones, "same": curve.same, "gap": curve.gap,
            "gap_phone": curve.gap_phone, "seed": curve.seed,
            "lines": [{"name": line.name, "about": line.about, "left_out": list(line.left_out),
                       "points": [_point_data(point) for point in line.points]} for line in curve.lines]}


def _point_data(point: Point) -> dict[str, Any]:
    return {"joins": point.joins, "recordings": point.recordings, "speech": round(point.speech, 3),
            **counts_data(point.counts), "cpu": round(point.cpu, 3), "wall": round(point.wall, 3),
            "real_time": round(point.real_time, 5), "memory": point.memory, "poor": point.poor,
            "monotonic": round(point.monotonic, 4), "loops": point.loops, "skipped": round(point.skipped, 2),
            "limits": point.limits}


def check_plot(path: Path) -> None:
    """See whether plots can be drawn, before hours of work that end in one.

    Raises:
        AsrError: matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        raise AsrError(f"{path}: a plot needs matplotlib: pip install 'asr[report]'")


def plot_curve(curve: Curve, path: Path) -> None:
    """Draw the curve into a .png or .svg file: PER in its three kinds of errors, time, memory, attention.

    Raises:
        AsrError: matplotlib is not installed, or the file cannot be written.
    """
    check_plot(path)
    from matplotlib.figure import Figure
    figure = Figure(figsize=(9, 3.2 * len(curve.lines) + 3.2), layout="constrained")
    grid = figure.subplots(len(curve.lines) + 1, 1, squeeze=False)[:, 0]
    for axes, line in zip(grid, curve.lines, strict=False):
        _errors(axes, line)
    below = grid[-1].get_subplotspec().subgridspec(1, 3)
    grid[-1].remove()
    _strands(figure, below, curve.lines)
    with writing(path, "wb") as file:
        figure.savefig(file, format=path.suffix[1:], dpi=110)


def _errors(axes: Any, line: Line) -> None:
    """Bars of substitutions, deletions and insertions, one upon another."""
    floor = [0.0] * len(line.points)
    for kind, colour in (("substitutions", "#4477aa"), ("deletions", "#ccbb44"), ("insertions", "#cc6677")):
        shares = [100 * getattr(point.counts, kind) / max(1, point.counts.phones) for point in line.points]
        axes.bar(range(len(shares)), shares, 0.6, bottom=floor, label=kind, color=colour)
        floor = [below + share for below, share in zip(floor, shares, strict=True)]
    for place, (top, point) in enumerate(zip(floor, line.points, strict=True)):
        axes.annotate(f"{point.counts.per:.1f}", (place, top), ha="center", va="bottom", fontsize=9)
    axes.set_xticks(range(len(floor)), [f"{point.joins}\n{point.speech / max(1, point.recordings):.0f} s"
                                        for point in line.points])
    axes.set(title=f"{line.name} ({line.about})", ylabel="PER, %", ylim=(0, 1.15 * max([*floor, 1.0])))
    axes.title.set_fontsize(9)
    axes.legend(fontsize=8, loc="upper left", ncols=3, frameon=False)


def apart(places: Sequence[float], least: float = 0.14) -> set[float]:
    """Of rising lengths on a logarithmic axis, those whose names have room: the first, the last, and in between what is
    `least` of the axis away from its neighbours among them."""
    if not places:
        return set()
    room = least * math.log(places[-1] / places[0])
    named = [places[0]]
    for place in places[1:-1]:
        if min(math.log(place / named[-1]), math.log(places[-1] / place)) >= room:
            named.append(place)
    return {*named, places[-1]}


def _strands(figure: Any, cells: Any, lines: Sequence[Line]) -> None:
    """Time, memory and attention against length, a strand for each way of decoding."""
    shown = (("real-time factor", lambda point: point.real_time),
             ("peak above the model, MB", lambda point: point.memory / MB),
             ("recordings gone astray, %", lambda point: 100 * point.poor / max(1, point.recordings)))
    for cell, (label, value) in zip(cells, shown, strict=False):
        axes = figure.add_subplot(cell)
        for line in lines:
            lengths = [point.speech / max(1, point.recordings) for point in line.points]
            axes.plot(lengths, [value(point) for point in line.points], "o-", markersize=4, label=line.name)
        places = sorted({round(point.speech / max(1, point.recordings), 1) for line in lines for point in line.points})
        axes.set(xscale="log", xlabel="mean length, s", ylabel=label)
        named = apart(places)
        axes.set_xticks(places, [f"{place:.0f}" if place in named else "" for place in places])
        axes.minorticks_off()
        axes.set_ylim(0, 1.15 * max([axes.get_ylim()[1], 1e-3]))
        axes.legend(fontsize=8, frameon=False)


