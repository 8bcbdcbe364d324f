"""Log-mel filterbanks as Kaldi computes them, their deltas, and the statistics that normalise them.

The order in the model: static filterbank → deltas → mean and variance of each dimension → one frame of zeros at the
end, where the config asks for it. `FrameStream` gives the same numbers from samples that arrive piece by piece.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchaudio.compliance import kaldi

from asr.config import Features
from asr.errors import AsrError

PREEMPHASIS = 0.97
SCALE = 32768.0                 # Kaldi takes samples as 16-bit integers
FLOOR = float(torch.finfo(torch.float32).eps)
TILE = 128                  # frames computed at a time: they stay in the cache, and a stream repeats the same products
REACH = 2                       # frames on either side that a delta is drawn from
NARROWEST = 1e-3                # standard deviation below which a dimension counts as constant


def feature_width(features: Features) -> int:
    """F, the number of values in a frame: filterbank, energy, and their deltas."""
    return static_width(features) * (1 + features.deltas)


def static_width(features: Features) -> int:
    """The number of values in a frame before deltas: the mel bands, then the energy if there is one."""
    return features.mels + features.energy


class Fbank:
    """Samples to log-mel filterbanks: (N,) → (T, mels [+ energy]).

    Equal to `torchaudio.compliance.kaldi.fbank` without dither (energy last), which builds its filters and window anew
    at every call; here they are made once. Removing the mean, pre-emphasis and window are linear in the samples, and
    the window's first value is 0, so pre-emphasis is applied to the recording instead of to each frame.

    Raises:
        AsrError: the filters' edges lie outside the band, or a window has fewer than two samples.
    """

    def __init__(self, features: Features) -> None:
        self.features = features
        self.window = int(features.rate * features.window * 0.001)     # samples; rounded as torchaudio does
        self.hop = int(features.rate * features.hop * 0.001)
        if self.window < 2 or self.hop < 1:
            raise AsrError(f"features.window is {features.window} ms and features.hop {features.hop} ms: "
                           f"that is less than a sample at {features.rate} Hz")
        nyquist = features.rate / 2
        high = features.high or nyquist
        if not features.low < high <= nyquist:
            raise AsrError(f"features.low is {features.low} Hz and features.high {high} Hz: the filters must lie in "
                           f"this order between 0 and {nyquist:g} Hz, half of features.rate")
        self.fft = 1 << (self.window - 1).bit_length()
        self.taper = torch.hann_window(self.window, periodic=False).pow(0.85) * SCALE       # Povey's window
        bank, _ = kaldi.get_mel_banks(features.mels, self.fft, features.rate, features.low, high, 100.0, -500.0, 1.0)
        self.bank = torch.nn.functional.pad(bank, (0, 1)).T.contiguous()                    # (fft / 2 + 1, mels)

    def __call__(self, samples: np.ndarray | Tensor) -> Tensor:
        """(N,) samples in [-1, 1] → (T, S) float32, T = `frames_of(N)`."""
        x = torch.as_tensor(samples, dtype=torch.float32)
        T, mels = self.frames_of(len(x)), self.features.mels
        frames = torch.empty(T, static_width(self.features))
        if not T:
            return frames
        means = self._means(x, T)
        flat = torch.empty_like(x)
        flat[0] = 0.0
        torch.sub(x[1:], x[:-1], alpha=PREEMPHASIS, out=flat[1:])
        windows = flat.unfold(0, self.window, self.hop)                                     # (T, window), no copy
        padded = torch.zeros(min(T, TILE), self.fft)
        for first in range(0, T, TILE):
            tile = slice(first, min(T, first + TILE))
            self._tile(windows[tile], means[tile], padded[:tile.stop - first], frames[tile, :mels])
            if self.features.energy:                        # of the raw frame
                raw = x.unfold(0, self.window, self.hop)[tile] - means[tile]
                frames[tile, mels] = raw.mul_(SCALE).square_().sum(dim=1)
        frames[:, :mels].clamp_(min=FLOOR).log_()
        frames[:, mels:].clamp_(min=1.0).log_()             # Kaldi's floor is an energy of 1
        return frames

    def frames_of(self, samples: int) -> int:
        """T, the number of whole windows in so many samples."""
        return 0 if samples < self.window else 1 + (samples - self.window) // self.hop

    def _means(self, x: Tensor, T: int) -> Tensor:
        """(T, 1), of the samples in each window; the parts that windows share are added up once."""
        part = math.gcd(self.window, self.hop)
        parts = x[:(T - 1) * self.hop + self.window].view(-1, part).sum(dim=1)
        return parts.unfold(0, self.window // part, self.hop // part).sum(dim=1, keepdim=True).div_(self.window)

    def _tile(self, windows: Tensor, means: Tensor, padded: Tensor, out: Tensor) -> None:
        """Energies in the mel bands of a few frames, written to `out` (t, mels); `padded` (t, fft) is 0 at its end."""
        windowed = padded[:, :self.window]
        torch.sub(windows, means, alpha=1 - PREEMPHASIS, out=windowed)
        windowed.mul_(self.taper)
        squares = torch.view_as_real(torch.fft.rfft(padded)).square_()                      # (t, fft / 2 + 1, 2)
        power = squares[..., 0] + squares[..., 1]           # several times as fast as a sum or a complex magnitude
        torch.mm(power, self.bank, out=out)


def add_deltas(static: Tensor, orders: int) -> Tensor:
    """Append time derivatives: (T, S) → (T, S · (1 + orders)).

    d_t = Σ_n n (c_{t+n} − c_{t−n}) / 2 Σ_n n², n = 1, 2, the edges repeated, as `torchaudio.functional.compute_deltas`
    and HTK; the second order is the first of the first.
    """
    parts = [static]
    for _ in range(orders if len(static) else 0):
        c = torch.cat([parts[-1][:1]] * REACH + [parts[-1]] + [parts[-1][-1:]] * REACH)
        parts.append(((c[3:-1] - c[1:-3]) + 2 * (c[4:] - c[:-4])) / 10)
    return torch.cat(parts, dim=1) if len(static) else static.new_zeros(0, static.shape[1] * (1 + orders))


@dataclass(frozen=True)
class Moments:
    """Count, sum and sum of squares of frames, in float64. `a + b` are the moments of both."""

    count: int
    total: Tensor                   # (F,)
    squares: Tensor                 # (F,)

    @classmethod
    def of(cls, frames: Tensor) -> Moments:
        """The moments of (T, F) frames."""
        x = frames.double()
        return cls(len(x), x.sum(dim=0), x.square().sum(dim=0))

    def __add__(self, other: Moments) -> Moments:
        return Moments(self.count + other.count, self.total + other.total, self.squares + other.squares)

    def mean_std(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each dimension: (F,) and (F,) float32."""
        mean = self.total / max(1, self.count)
        variance = self.squares / max(1, self.count) - mean.square()
        return mean.float(), variance.clamp(min=0).sqrt().float()


class Normaliser:
    """Each dimension to mean 0 and variance 1 over the training data; one that never moves is only centred."""

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        self.mean, self.std = mean.float(), std.float()
        self.scale = torch.where(self.std < NARROWEST, torch.ones_like(self.std), self.std).reciprocal()

    @classmethod
    def of(cls, moments: Moments) -> Normaliser:
        """The normaliser that makes these moments 0 and 1."""
        return cls(*moments.mean_std())

    def __call__(self, frames: Tensor) -> Tensor:
        """(..., F) → (..., F)."""
        return (frames - self.mean) * self.scale


def prepare_features(static: Tensor, features: Features, normaliser: Normaliser) -> Tensor:
    """What the model hears of one utterance: (T, S) → (T', F), T' = T or, with an end frame, T + 1."""
    frames = normaliser(add_deltas(static.float(), features.deltas))
    return torch.nn.functional.pad(frames, (0, 0, 0, 1)) if features.end_frame else frames


def frame_centres(frames: int, features: Features) -> Tensor:
    """(T,) the middle of each frame's window, in seconds from the start of the recording."""
    return (torch.arange(frames, dtype=torch.float64) * features.hop + features.window / 2) / 1000


class FrameStream:
    """Frames from samples that arrive piece by piece, bit for bit those of the whole recording.

    Without a normaliser: filterbank and deltas. With one: what `prepare_features` gives, the end frame as well.
    Whole tiles are computed as the whole recording's are, so frames come out at most `TILE` frames late.
    """

    def __init__(self, features: Features, normaliser: Normaliser | None = None) -> None:
        self.features, self.normaliser = features, normaliser
        self.fbank = Fbank(features)
        self.samples = torch.zeros(0)                                   # from the next tile's first on
        self.static = torch.zeros(0, static_width(features))            # frames whose deltas are to come, and before
        self.given = 0                                                  # of `static`, that only serve as the past

    def push(self, samples: np.ndarray | Tensor) -> Tensor:
        """(n,) samples → (t, F), the frames that are settled by now."""
        self.samples = torch.cat([self.samples, torch.as_tensor(samples, dtype=torch.float32)])
        tile, step = (TILE - 1) * self.fbank.hop + self.fbank.window, TILE * self.fbank.hop
        tiles = max(0, 1 + (len(self.samples) - tile) // step)
        static = self.fbank(self.samples[:(tiles - 1) * step + tile]) if tiles else self.static[:0]
        self.samples = self.samples[tiles * step:]
        return self._settled(static, last=False)

    def finish(self) -> Tensor:
        """The remaining frames (t, F)."""
        rest = self._settled(self.fbank(self.samples), last=True)
        self.samples = self.samples[:0]
        end = self.normaliser is not None and self.features.end_frame
        return torch.nn.functional.pad(rest, (0, 0, 0, 1)) if end else rest

    def _settled(self, static: Tensor, *, last: bool) -> Tensor:
        reach = REACH * self.features.deltas
        self.static = torch.cat([self.static, static])
        end = len(self.static) if last else max(self.given, len(self.static) - reach)
        frames = add_deltas(self.static, self.features.deltas)[self.given:end]
        kept = max(0, end - reach)
        self.static, self.given = self.static[kept:], end - kept
        return frames if self.normaliser is None else self.normaliser(frames)
