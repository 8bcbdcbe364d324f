"""Charts of a run and of a score, as SVG for the page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from asr.reporting.plotting import BLUE, GREY, INK, ORANGE, RED, figure, ink, inline_svg, style
from asr.scoring.confusions import CLASSES, Confusions, classify
from asr.scoring.score import Counts
from asr.scoring.significance import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDE = 4.7          # inches of a chart, so that two stand side by side on a desk and one fills a phone
MOST_GROUPS = 30    # bars in a chart
MOST_PHONES = 42    # phones on a side of the heat-map


def training_charts(log: Sequence[Mapping[str, Any]], name: str) -> list[str]:
    """Loss, dev PER and learning rate of a run, out of its log; empty where the log holds no epoch and no update."""
    updates = [line for line in log if line.get("event") == "update"]
    epochs = [line for line in log if line.get("event") == "epoch"]
    if not updates and not epochs:
        return []
    charts = []
    with style(**ink()):
        for number, (title, draw) in enumerate([("Loss, nats a phone", _loss), ("Dev PER, %", _dev),
                                                ("Learning rate", _rate)]):
            drawn = figure(WIDE, 2.5)
            axes = drawn.add_subplot(title=title)
            draw(axes, updates, epochs)
            axes.set_xlabel("update")
            charts.append(inline_svg(drawn, f"{name}{number}"))
    return charts


def _loss(axes: Axes, updates: Sequence[Mapping[str, Any]], epochs: Sequence[Mapping[str, Any]]) -> None:
    for key, colour in (("attention", BLUE), ("ctc", ORANGE)):
        lines = updates if len(updates) > len(epochs) else epochs
        trained = (line for line in lines if _finite(line.get(key)) and line[key])       # 0: left out of the loss
        drawn = [(line["update"], line[key]) for line in trained]
        axes.plot(*_columns(drawn), color=colour, linewidth=1.2, label=key)
    axes.set_ylim(bottom=0)
    axes.legend()


def _dev(axes: Axes, _updates: Sequence[Mapping[str, Any]], epochs: Sequence[Mapping[str, Any]]) -> None:
    drawn = [(line["update"], line["per"]) for line in epochs if _finite(line.get("per"))]
    axes.plot(*_columns(drawn), color=BLUE, marker="o", markersize=3)
    if drawn:
        update, best = min(drawn, key=lambda point: point[1])
        axes.annotate(f"{best:.1f}", (update, best), (0, 7), textcoords="offset points", ha="center", weight="bold")
        if max(per for _, per in drawn) > 8 * max(best, 0.1):
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
        else:
            axes.set_ylim(bottom=0)


def _rate(axes: Axes, updates: Sequence[Mapping[str, Any]], _epochs: Sequence[Mapping[str, Any]]) -> None:
    axes.plot(*_columns([(line["update"], line["lr"]) for line in updates if _finite(line.get("lr"))]), color=BLUE)
    axes.set_ylim(bottom=0)
    axes.ticklabel_format(axis="y", scilimits=(-2, 3))


def _columns(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


Bar = tuple[str, Counts, Interval | None]


def group_chart(groups: Sequence[Bar], title: str, name: str) -> str:
    """PER of groups as bars of substitutions, deletions and insertions, with the interval of their sum.

    Of more than `MOST_GROUPS`, the worst are drawn. A group without reference phones has no PER, and no bar.
    """
    drawn = [group for group in groups if group[1].phones]
    if len(drawn) > MOST_GROUPS:
        drawn = sorted(drawn, key=lambda group: -group[1].per)[:MOST_GROUPS]
        title += f" (the worst {MOST_GROUPS} of {len(groups)})"
    if not drawn:
        return ""
    with style(**ink()):
        picture = figure(WIDE, 0.9 + 0.24 * len(drawn))
        axes = picture.add_subplot(title=title, xlabel="%")
        places = range(len(drawn))
        left = [0.0] * len(drawn)
        for label, colour in (("substitutions", ORANGE), ("deletions", RED), ("insertions", BLUE)):
            shares = [100 * getattr(counts, label) / counts.phones for _, counts, _ in drawn]
            axes.barh(places, shares, left=left, height=0.62, color=colour, label=label)
            left = [a + b for a, b in zip(left, shares, strict=True)]
        for place, (_, _, interval) in enumerate(drawn):
            if interval is not None:
                axes.plot([interval.low, interval.high], [place, place], color=INK, linewidth=1, marker="|",
                          markersize=5)
        axes.set_yticks(places, [_short(group) for group, _, _ in drawn])
        axes.invert_yaxis()
        axes.grid(False, axis="y")
        axes.set_xlim(left=0)
        picture.legend(loc="outside lower center", ncols=3, handlelength=1, columnspacing=1.2)
        return inline_svg(picture, name)


def confusion_chart(counts: Confusions, name: str) -> str:
    """Which phone was taken for which: reference phones down, hypotheses across, by class, right ones left out.

    Of more than `MOST_PHONES` phones those with the most errors are drawn.
    """
    errors: dict[str, int] = {}
    for pair, number in counts.items():
        for phone in pair if pair[0] != pair[1] else ():
            if phone is not None:
                errors[phone] = errors.get(phone, 0) + number
    if not errors:
        return ""
    shown = sorted(errors, key=lambda phone: -errors[phone])[:MOST_PHONES]
    classes = classify({phone for pair in counts for phone in pair if phone is not None})
    shown.sort(key=lambda phone: (CLASSES.index(classes[phone]), phone))
    names: list[str | None] = [*shown, None]
    wrong = {pair: n for pair, n in counts.items() if pair[0] != pair[1] and pair[0] in names and pair[1] in names}
    side = max(2.6, 0.19 * len(names) + 0.8)
    with style(**ink(), **{"axes.grid": False}):
        picture = figure(side, side)
        axes = picture.add_subplot(xlabel="heard", ylabel="said", aspect="equal")
        _heat(axes, wrong, names)
        axes.set_xticks(range(len(names)), [*map(_short, shown), "del"], fontsize=8, rotation=90)
        axes.set_yticks(range(len(names)), [*map(_short, shown), "ins"], fontsize=8)
        axes.tick_params(length=0, labeltop=True)
        edges = [n + 0.5 for n in range(len(names) - 1)
                 if names[n + 1] is None or classes[shown[n]] != classes[shown[n + 1]]]
        for edge in edges:
            axes.axhline(edge, color=GREY, linewidth=0.4)
            axes.axvline(edge, color=GREY, linewidth=0.4)
        return inline_svg(picture, name)


def _heat(axes: Axes, wrong: Mapping[tuple[str | None, str | None], int], names: Sequence[str | None]) -> None:
    """A square for each pair, the darker the more, with its number where it stands out."""
    from matplotlib.patches import Rectangle
    place = {name: number for number, name in enumerate(names)}
    most = max(wrong.values(), default=1)
    for (said, heard), number in wrong.items():
        x, y = place[heard], place[said]
        strength = math.log1p(number) / math.log1p(most)
        axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, color=RED, alpha=0.12 + 0.88 * strength, linewidth=0))
        if strength > 0.55:
            axes.text(x, y, f"{number}", ha="center", va="center", fontsize=6.5, color="white")
    for number in range(len(names) - 1):
        axes.plot(number, number, marker="s", markersize=1.6, color=GREY, linewidth=0)
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.set_ylim(len(names) - 0.5, -0.5)


def _short(text: str, most: int = 18) -> str:
    return text if len(text) <= most else text[:most - 1] + "…"
