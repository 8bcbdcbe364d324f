"""An utterance as a card of the page: sound, pictures, lanes of phones, all over the same seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from asr.corpus.records import Hypothesis, Utterance
from asr.errors import AsrError
from asr.formats.transcript import Transcript
from asr.reporting.lanes import Lane, Mark, lanes
from asr.reporting.picture import COLOURS, END, LONGEST, attention_heat, within
from asr.reporting.sound import Sound, flac_uri, heat_uri, read_sound, spectrogram
from asr.scoring.result import System
from asr.search.health import is_poor

if TYPE_CHECKING:
    import numpy as np

    from asr.reporting.gazer import Gazer

BRIGHT = 0.1            # of the largest weight of a row: what a label does not cover
SPARSE, DENSE = 240, 320    # pixels a second, at least and at most
LEGIBLE = 14            # pixels of a short phone
ROOM = 0.85             # of the width: labels further right stand left of their place


@dataclass(frozen=True)
class Heard:
    """What a system made of the utterances."""

    system: System
    transcripts: Mapping[str, Transcript]
    records: Mapping[str, Hypothesis]           # by id, where the hypotheses are JSON lines: with times, audio, health

    def is_poor(self, id: str) -> bool:
        """Whether the attention went astray in this utterance, as far as the record tells."""
        record = self.records.get(id)
        return record is not None and "monotonic" in record.health and is_poor(record.health, len(record.phones))


@dataclass(frozen=True)
class Placed:
    """A phone beside the place where the attention found it."""

    phone: str
    left: float         # per cent of the picture's width
    top: float          # per cent of its height
    before: bool        # left of the place rather than right


@dataclass(frozen=True)
class Heat:
    """The attention as a picture."""

    uri: str
    rows: int
    labels: tuple[Placed, ...]


@dataclass(frozen=True)
class Recording:
    """What can be heard, and seen, of an utterance's sound."""

    audio: str          # URI
    spectrogram: str    # URI
    top: float          # kHz at the spectrogram's upper edge


@dataclass(frozen=True)
class Card:
    """All that the template needs."""

    id: str
    speaker: str | None
    words: str
    errors: Sequence[tuple[str, str]]           # of each system: its name, how many phones are wrong
    poor: bool                                  # the first system's attention went astray
    seconds: float                              # that are shown …
    whole: float                                # … of so many
    lanes: Sequence[Lane]
    ticks: Sequence[float]
    recording: Recording | None
    heat: Heat | None
    problem: str                                # why something is missing

    @property
    def width(self) -> int:
        """Pixels that the strip takes at least, so that nearly all phones have room for their name."""
        lengths = sorted(mark.end - mark.start for lane in self.lanes for mark in lane.marks)
        short = lengths[len(lengths) // 10] if lengths else 0.0
        return round(self.seconds * min(DENSE, max(SPARSE, LEGIBLE / max(short, 0.001))))


def make_card(id: str, reference: Transcript, heard: Sequence[Heard], utterance: Utterance | None,
              gazer: Gazer) -> Card:
    """The card of one utterance. What cannot be read is told on the card, and the rest is shown."""
    sound, heat, problem = None, None, ""
    try:
        if utterance is None:
            raise AsrError("its audio is not known: a manifest as reference would name it")
        sound = read_sound(utterance, gazer.features, LONGEST)
        if id in heard[0].records:
            heat = _heat(sound, heard[0].records[id], gazer)
    except AsrError as error:
        problem = str(error)
    whole = sound.whole if sound else _length(reference, heard)
    seconds = sound.seconds if sound else min(whole, LONGEST)
    rows = [next(row for row in h.system.score.rows if row.id == id) for h in heard]
    sides = [lanes(row, h.system.score.protocol, reference, h.transcripts[id],
                   "hypothesis" if len(heard) == 1 else h.system.name, whole)
             for row, h in zip(rows, heard, strict=True)]
    words = utterance.extra.get("words", "") if utterance else ""
    return Card(
        id, rows[0].speaker, str(words),
        [(h.system.name, f"{row.counts.errors} of {row.counts.phones}") for row, h in zip(rows, heard, strict=True)],
        heard[0].is_poor(id), seconds, whole,
        [_cut(lane, seconds) for lane in (sides[0][0], *(below for _, below in sides))], ticks(seconds),
        _recording(sound) if sound else None, heat, problem)


def _length(reference: Transcript, heard: Sequence[Heard]) -> float:
    """The seconds of an utterance whose sound is not at hand: to its last phone, or a tenth for each phone."""
    known = [t.times[-1][1] for t in (reference, *(h.transcripts[reference.id] for h in heard)) if t.times]
    return max(known, default=0.0) or 0.1 * max(1, len(reference.phones))


def _recording(sound: Sound) -> Recording:
    return Recording(flac_uri(sound), heat_uri(spectrogram(sound)[::-1], COLOURS), sound.rate / 2000)


def _heat(sound: Sound, hypothesis: Hypothesis, gazer: Gazer) -> Heat | None:
    """The attention's picture, cut to the sound's length, and its phones each beside its place."""
    weights = gazer.weights(sound, hypothesis.phones)
    if weights is None:
        return None
    shown = weights[:, :max(1, round(sound.seconds / gazer.frame))]     # the last frame may be a piece of one
    names = [*(p.phone for p in within(hypothesis.phones, sound.seconds)), END]
    labels = tuple(_placed(name, row, (number + 0.5) / len(shown))
                   for number, (name, row) in enumerate(zip(names, shown, strict=True)))
    return Heat(heat_uri(attention_heat(shown), COLOURS), len(shown), labels)


def _placed(name: str, row: np.ndarray, top: float) -> Placed:
    """A label behind the bright part of its row; before it, where there is no room behind."""
    bright = (row >= BRIGHT * row.max()).nonzero()[0]
    first, last = int(bright[0]), int(bright[-1]) + 1
    before = last > ROOM * len(row) and first > len(row) - last
    return Placed(name, 100 * (first if before else last) / len(row), 100 * top, before)


def _cut(lane: Lane, seconds: float) -> Lane:
    """The lane as far as the sound goes."""
    marks = (Mark(m.phone, m.start, min(m.end, seconds), m.kind, m.tip) for m in lane.marks if m.start < seconds)
    return Lane(lane.name, tuple(marks), lane.note)


def ticks(seconds: float) -> list[float]:
    """Where the time axis is marked, in seconds: about ten places."""
    step = next((step for step in (0.1, 0.2, 0.5, 1.0, 2.0) if seconds / step <= 12), 5.0)
    return [round(n * step, 3) for n in range(int(seconds / step) + 1)]
