"""Sound that lacks the upper part of what a model was trained on, such as telephone speech at 8 kHz.

Resampling makes such audio fit the model's filters, but nothing fills the upper ones: the model hears a voice that it
never heard in training, and its transcripts look as sure as any. So it is said, once for each recording.
"""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from asr.corpus.records import Utterance
from asr.errors import AsrError
from asr.frontend.audio import probe
from asr.model.file import Header

SAMPLE = 100        # recordings whose headers are read to learn what rate a training set has
SHARE = 0.1         # of them that must have a rate for the model to know it
NAMED = 20          # recordings that are named; then they are only counted
NEARLY = 0.95       # of the bandwidth: 22.05 against 24 kHz is no telephone


def audio_rate(utterances: Sequence[Utterance]) -> int | None:
    """The lowest sample rate, in Hz, that a tenth of the recordings have; None where their audio is not there."""
    rates: Counter[int] = Counter()
    for utterance in utterances[::max(1, len(utterances) // SAMPLE)]:
        with contextlib.suppress(AsrError):
            rates[probe(utterance.audio).rate] += 1
    return min((rate for rate, count in rates.items() if count >= SHARE * rates.total()), default=None)


class Bandwidth:
    """What a model was trained to hear, and a warning about what holds less."""

    def __init__(self, header: Header) -> None:
        features = header.config.features
        rate = header.provenance.get("audio_rate")
        self.top = min(features.high or features.rate / 2, rate / 2 if isinstance(rate, int) else features.rate / 2)
        self.narrow: set[Path] = set()

    def notice(self, audio: Path, rate: int) -> None:
        """A recording of so many Hz is about to be recognised; warn on standard error if that is too few."""
        if rate / 2 >= NEARLY * self.top or audio in self.narrow:
            return
        self.narrow.add(audio)
        if len(self.narrow) <= NAMED:
            name = "standard input" if audio == Path("-") else audio
            print(f"asr: {name}: at {rate / 1000:g} kHz it holds nothing above {rate / 2000:g} kHz, and the model was "
                  f"trained on sound up to {self.top / 1000:g} kHz: expect many more errors", file=sys.stderr)

    def close(self) -> None:
        """Say how many more there were than were named."""
        if len(self.narrow) > NAMED:
            print(f"asr: and {len(self.narrow) - NAMED} more recordings of too low a sample rate", file=sys.stderr)
