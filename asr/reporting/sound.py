"""The sound of one utterance as pages and pictures need it: samples, a FLAC inside a data URI, a spectrogram."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from asr.corpus.records import Hypothesis, Utterance

if TYPE_CHECKING:
    from asr.config import Features

RANGE = 60.0            # dB below the loudest point that a spectrogram shows
WINDOW = 0.008          # s: broad enough in frequency for formants, short enough in time for bursts
HOP = 0.004             # s
EMPHASIS = 0.97         # lifts what the voice loses to the high frequencies


@dataclass(frozen=True)
class Sound:
    """The beginning of an utterance, or all of it."""

    samples: np.ndarray     # (N,) float32
    rate: int               # Hz
    whole: float            # s: the utterance's own length

    @property
    def seconds(self) -> float:
        """What is at hand."""
        return len(self.samples) / self.rate


def origin(hypothesis: Hypothesis) -> Utterance | None:
    """Where the sound of a hypothesis is, as it remembers; None if it does not, or it came as a stream."""
    audio, offset, duration = (hypothesis.extra.get(key) for key in ("audio_filepath", "offset", "duration"))
    if not isinstance(audio, str) or audio in ("", "-"):
        return None
    return Utterance(hypothesis.id, Path(audio), float(offset) if isinstance(offset, int | float) else 0.0,
                     float(duration) if isinstance(duration, int | float) else None)


def read_sound(utterance: Utterance, features: Features, longest: float) -> Sound:
    """The first `longest` seconds of an utterance.

    Raises:
        AsrError: the audio cannot be read.
    """
    from asr.frontend.audio import probe
    from asr.frontend.store import read_utterance
    whole = utterance.duration
    if whole is None:
        whole = max(0.0, probe(utterance.audio).duration - utterance.offset)
    if whole > longest:
        utterance = replace(utterance, duration=longest)
    return Sound(read_utterance(utterance, features), features.rate, whole)


def flac_uri(sound: Sound) -> str:
    """The sound inside a URI: FLAC, which every browser plays and which keeps every sample in its place."""
    import soundfile
    file = io.BytesIO()
    soundfile.write(file, np.clip(sound.samples, -1, 1), sound.rate, format="FLAC", subtype="PCM_16")
    return data_uri(file.getvalue(), "audio/flac")


def data_uri(data: bytes, kind: str) -> str:
    """Bytes inside a URI."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def spectrogram(sound: Sound) -> np.ndarray:
    """(bands, T) from 0, `RANGE` dB under the loudest point, to 1; low frequencies first, a column every `HOP`."""
    import torch
    from torchaudio.functional import preemphasis
    from torchaudio.transforms import Spectrogram
    width = round(WINDOW * sound.rate)
    bands = Spectrogram(n_fft=2 * width, win_length=width, hop_length=round(HOP * sound.rate), pad_mode="constant")
    power = bands(preemphasis(torch.from_numpy(sound.samples), EMPHASIS))
    decibels = 10 * torch.log10(power / power.max().clamp(min=1e-10)).clamp(min=-RANGE / 10)
    shades: np.ndarray = (1 + decibels / RANGE).numpy()
    return shades


def heat_uri(values: np.ndarray, colours: str) -> str:
    """(rows, columns) of 0 to 1 as a PNG inside a URI, a pixel a value, the first row on top."""
    from matplotlib import colormaps
    from PIL import Image
    palette = (colormaps[colours](np.linspace(0, 1, 256))[:, :3] * 255).round().astype(np.uint8)
    image = Image.fromarray((np.clip(values, 0, 1) * 255).round().astype(np.uint8), "P")
    image.putpalette(palette.tobytes())
    file = io.BytesIO()
    image.save(file, format="PNG", optimize=True)
    return data_uri(file.getvalue(), "image/png")
