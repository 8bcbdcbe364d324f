"""Phones and their times out of Praat's TextGrids, read by praatio."""

from __future__ import annotations

from pathlib import Path

from asr.corpus.labels import Segments
from asr.errors import AsrError

PHONE_TIERS = ("phones", "phone", "phn", "segments", "segment", "phonemes", "phoneme")
WORD_TIERS = ("words", "word", "wrd")


def read_textgrid(path: Path, tier: str = "") -> Segments:
    """The labelled intervals of the phone tier; intervals without a label are passed over.

    Args:
        path: a TextGrid, long or short form.
        tier: its name; "": the tier called `phones`, `phone`, … or `SPEAKER - phones` as MFA writes it, else the only
            interval tier there is.

    Raises:
        AsrError: the file is no TextGrid, or has no such tier.
    """
    return _segments(read_tier(path, tier, PHONE_TIERS))


def read_words(path: Path) -> Segments:
    """The labelled intervals of the tier called `words`, `word`, …; nothing where there is none.

    Raises:
        AsrError: the file is no TextGrid.
    """
    tiers = _interval_tiers(path)
    name = _named(list(tiers), WORD_TIERS)
    return _segments(tiers[name] if name is not None else [])


def read_tier(path: Path, tier: str, usual: tuple[str, ...]) -> list[tuple[float, float, str]]:
    """`(start, end, label)` in seconds of the labelled intervals of one tier, in order."""
    tiers = _interval_tiers(path)
    name = _choose(list(tiers), tier, usual)
    if name is None:
        raise AsrError(f"{path}: has no tier {tier or usual[0]!r}: its interval tiers are "
                       f"{', '.join(map(repr, tiers)) or 'none'}; choose one with --tier")
    return tiers[name]


def _interval_tiers(path: Path) -> dict[str, list[tuple[float, float, str]]]:
    """The labelled intervals of every interval tier, by the tier's name."""
    from praatio import textgrid
    from praatio.utilities.constants import INTERVAL_TIER
    from praatio.utilities.errors import PraatioException
    try:
        grid = textgrid.openTextgrid(str(path), includeEmptyIntervals=False, reportingMode="silence",
                                     duplicateNamesMode="rename")
    except OSError as error:
        raise AsrError(f"{path}: cannot be read: {error.strerror}") from error
    except (PraatioException, ValueError, IndexError, KeyError, TypeError) as error:
        raise AsrError(f"{path}: no TextGrid that praatio can read: {str(error).strip().splitlines()[0]:.80}"
                       if str(error).strip() else f"{path}: no TextGrid that praatio can read") from error
    return {name: [(float(entry.start), float(entry.end), label) for entry in grid.getTier(name).entries
                   if (label := entry.label.strip())]
            for name in grid.tierNames if grid.getTier(name).tierType == INTERVAL_TIER}


def _segments(intervals: list[tuple[float, float, str]]) -> Segments:
    return Segments(tuple(label for _, _, label in intervals),
                    tuple((round(start, 6), round(end, 6)) for start, end, _ in intervals))


def _choose(tiers: list[str], tier: str, usual: tuple[str, ...]) -> str | None:
    if tier:
        return tier if tier in tiers else None
    named = _named(tiers, usual)
    return tiers[0] if named is None and len(tiers) == 1 else named


def _named(tiers: list[str], usual: tuple[str, ...]) -> str | None:
    for wanted in usual:
        for name in tiers:
            if name.lower().rpartition(" - ")[2].strip() == wanted:
                return name
    return None
