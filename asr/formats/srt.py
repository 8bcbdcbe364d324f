"""SubRip subtitles: phones in cues of a few seconds, to watch under the sound in any player."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import groupby

from asr.corpus.records import Hypothesis, TimedPhone
from asr.errors import AsrError

LONGEST = 3.0       # seconds of a cue, about
PAUSE = 0.3         # seconds without a phone that end a cue


def srt(hypothesis: Hypothesis) -> str:
    """The subtitles of one utterance.

    Raises:
        AsrError: the phones have no times.
    """
    if hypothesis.phones and not any(p.end > 0 for p in hypothesis.phones):
        raise AsrError(f"{hypothesis.id}: its phones have no times, so there are no subtitles of it: write txt or trn")
    return "\n".join(f"{number}\n{clock(cue[0].start)} --> {clock(cue[-1].end)}\n{' '.join(p.phone for p in cue)}\n"
                     for number, cue in enumerate(cues(hypothesis.phones), start=1))


def cues(phones: Sequence[TimedPhone]) -> Iterator[list[TimedPhone]]:
    """Phones in groups: they end at pauses, and what lasts too long between two is cut into parts of like length."""
    stretch: list[TimedPhone] = []
    for phone in phones:
        if stretch and phone.start - stretch[-1].end > PAUSE:
            yield from _cut(stretch)
            stretch = []
        stretch.append(phone)
    if stretch:
        yield from _cut(stretch)


def _cut(stretch: Sequence[TimedPhone]) -> Iterator[list[TimedPhone]]:
    start, seconds = stretch[0].start, stretch[-1].end - stretch[0].start
    parts = max(1, math.ceil(seconds / LONGEST))
    for _, part in groupby(stretch, key=lambda phone: min(parts - 1, int(parts * (phone.start - start) / seconds))
                           if parts > 1 else 0):
        yield list(part)


def clock(seconds: float) -> str:
    """`01:02:03,456`."""
    milliseconds = round(max(0.0, seconds) * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02},{rest % 1000:03}"
