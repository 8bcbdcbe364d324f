"""Praat's TextGrid, written by praatio: a tier of phones, and one of words where they are known.

The intervals of a tier tile the recording, from 0 to its duration: what is between phones is an interval without a
label.
"""

from __future__ import annotations

from collections.abc import Sequence

from asr.corpus.records import Hypothesis
from asr.corpus.words import timed_words
from asr.errors import AsrError

DIGITS = 4          # of a second, behind the point
SHORTEST = 1e-4     # seconds: what a phone without extent is given, since Praat has no empty interval


def textgrid(hypothesis: Hypothesis) -> str:
    """The TextGrid of one utterance, in Praat's long text form.

    The duration is `extra["duration"]`, or the last phone's end. Words are those that `extra` tells the places of
    (`corpus/words.py`).

    Raises:
        AsrError: the phones have no times, or what `extra` tells of words does not fit.
    """
    from praatio.utilities import textgrid_io
    phones = [(p.start, p.end, p.phone) for p in hypothesis.phones]
    if phones and not any(end > 0 for _, end, _ in phones):
        raise AsrError(f"{hypothesis.id}: its phones have no times, so there is no TextGrid of it: write txt or trn")
    words = timed_words(hypothesis.extra, hypothesis.phones, hypothesis.id)
    ends = [end for _, end, _ in phones + words]
    duration = float(hypothesis.extra.get("duration") or max(ends, default=0.0)) or SHORTEST
    duration = round(duration, DIGITS) or duration
    tiers = {"words": words} if words else {}
    tiers["phones"] = phones
    grid = {"xmin": 0.0, "xmax": duration, "tiers": [
        {"class": "IntervalTier", "name": name, "xmin": 0.0, "xmax": duration,
         "entries": _rounded(tile(entries, duration))}
        for name, entries in tiers.items()]}
    return textgrid_io.getTextgridAsStr(grid, "long_textgrid", includeBlankSpaces=False)


def tile(intervals: Sequence[tuple[float, float, str]], duration: float) -> list[tuple[float, float, str]]:
    """Intervals from 0 to `duration` without gap or overlap, in the order given; gaps become intervals labelled ''.

    Every one keeps its label and some extent: one that is empty, overlaps the last or lies behind the end is moved by
    as little as that takes.
    """
    least = min(SHORTEST, duration / (2 * len(intervals))) if intervals else 0.0
    placed: list[tuple[float, float, str]] = []
    now = 0.0
    for number, (start, end, label) in enumerate(intervals):
        latest = duration - least * (len(intervals) - number)       # leaves room for those to come
        start = min(max(start, now), latest)
        if start - now < least / 2:
            start = now         # no gap worth an interval
        end = max(min(end, latest + least), start + least)
        if start > now:
            placed.append((now, start, ""))
        placed.append((start, end, label))
        now = end
    if duration - now > least / 2:
        placed.append((now, duration, ""))
    elif placed:
        placed[-1] = (placed[-1][0], duration, placed[-1][2])
    return placed


def _rounded(tiles: list[tuple[float, float, str]]) -> list[tuple[float, float, str]]:
    """The tiles at a tenth of a millisecond, so that no binary fraction shows; as they are where one would vanish."""
    rounded = [(round(start, DIGITS), round(end, DIGITS), label) for start, end, label in tiles]
    return rounded if all(start < end for start, end, _ in rounded) else tiles
