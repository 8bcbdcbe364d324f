"""What is wrong with a recording, to the ear of someone who wants to train on it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asr.corpus.records import Utterance
from asr.frontend.audio import probe, read_audio

FULL_SCALE = 0.999          # of the largest sample there can be
CLIP_RUN = 3                # samples in a row at full scale that make a clipped peak; a single one is no harm
CLIPPED = 0.001             # share of clipped samples from which the spectrum suffers
SILENT = 1e-4               # peak below which nothing was recorded: -80 dB
QUIET = 3e-3                # root mean square below which the microphone was off: -50 dB
OFFSET = 0.02               # mean that is no sound: the converter's


@dataclass(frozen=True, slots=True)
class Sound:
    """What an utterance's samples tell."""

    rate: int                   # Hz, of the file
    channels: int
    recording: float            # seconds of the whole file
    seconds: float              # of the utterance
    peak: float                 # largest magnitude; 1 is full scale
    rms: float                  # root mean square, mean removed
    mean: float
    clipped: float              # share of samples inside a run at full scale
    digest: str                 # SHA-256 of the samples

    def complaints(self) -> list[tuple[str, str]]:
        """`(check, what is wrong)` of each thing that is."""
        found = []
        if self.peak < SILENT:
            return [("silent audio", f"peak {self.peak:.1g} of full scale")]
        if self.rms < QUIET:
            found.append(("quiet audio", f"{-20 * np.log10(max(self.rms, 1e-9)):.0f} dB below full scale"))
        if self.clipped > CLIPPED:
            found.append(("clipped audio", f"{100 * self.clipped:.1f} % of the samples at full scale"))
        if abs(self.mean) > OFFSET:
            found.append(("DC shift", f"mean {self.mean:+.3f} of full scale"))
        return found


def listen(utterance: Utterance) -> Sound:
    """Read an utterance at its recording's own rate, channels mixed, and measure it.

    Raises:
        AsrError: the recording is missing, damaged or no audio, or does not hold the utterance.
    """
    info = probe(Path(utterance.audio))
    x = read_audio(utterance.audio, rate=info.rate, offset=utterance.offset, duration=utterance.duration,
                   id=utterance.id)
    mean = float(x.mean(dtype=np.float64))
    return Sound(info.rate, info.channels, info.duration, len(x) / info.rate, float(np.abs(x).max()),
                 float(np.sqrt(np.square(x, dtype=np.float64).mean() - mean ** 2).clip(0)) if len(x) else 0.0, mean,
                 clipped_share(x), hashlib.sha256(np.ascontiguousarray(x).tobytes()).hexdigest())


def clipped_share(x: np.ndarray) -> float:
    """The share of samples (N,) that lie in a run of at least `CLIP_RUN` at full scale."""
    loud = np.concatenate([[0], (np.abs(x) >= FULL_SCALE).astype(np.int8), [0]])
    edges = np.flatnonzero(np.diff(loud))
    runs = edges[1::2] - edges[::2]
    return float(runs[runs >= CLIP_RUN].sum() / max(1, len(x)))
