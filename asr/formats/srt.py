"""SubRip subtitles: phones in cues of a few seconds, to watch under the sound in any player."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from asr.corpus.records import Hypothesis, TimedPhone
from asr.errors import AsrError

LONGEST = 3.0       # seconds of a cue
PAUSE = 0.3         # seconds without a phone that end a cue


def srt(hypothesis: Hypothesis) -> str:
    """The subtitles of one utterance.

    Raises:
        AsrError: the phones have no times.
    """
    if hypothesis.phones and not any(p.end > 0 for p in hypothesis.phones):
        raise AsrError(f"{hypothesis.id}: its phones have no times, so there are no subtitles of it")
    return "\n".join(f"{number}\n{clock(cue[0].start)} --> {clock(cue[-1].end)}\n{' '.join(p.phone for p in cue)}\n"
                     for number, cue in enumerate(cues(hypothesis.phones), start=1))


def cues(phones: Sequence[TimedPhone]) -> Iterator[list[TimedPhone]]:
    """Phones in groups that end at a pause, or before they last too long."""
    cue: list[TimedPhone] = []
    for phone in phones:
        if cue and (phone.start - cue[-1].end > PAUSE or phone.end - cue[0].start > LONGEST):
            yield cue
            cue = []
        cue.append(phone)
    if cue:
        yield cue


def clock(seconds: float) -> str:
    """`01:02:03,456`."""
    milliseconds = round(max(0.0, seconds) * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02},{rest % 1000:03}"
