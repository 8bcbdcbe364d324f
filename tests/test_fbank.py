"""Filterbanks, deltas, moments, and streams of frames."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import torchaudio
from hypothesis import given, settings
from hypothesis import strategies as st
from torchaudio.compliance import kaldi

from asr.config import Features
from asr.errors import AsrError
from asr.frontend.fbank import (
    TILE,
    Fbank,
    FrameStream,
    Moments,
    Normaliser,
    add_deltas,
    feature_width,
    prepare_features,
    static_width,
)

PAPER = Features(energy=True, deltas=2, end_frame=True)


def noise(samples: int, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy((0.1 * rng.standard_normal(samples) + 0.05).astype(np.float32))


@pytest.mark.parametrize("features", [
    Features(), Features(mels=80, energy=True), Features(rate=8000, mels=23, low=0.0, high=3800.0),
    Features(rate=22050, window=20.0, hop=5.0, energy=True)])
@pytest.mark.parametrize("seconds", [0.03, 1.0, 3.21])
def test_equals_torchaudio(features: Features, seconds: float) -> None:
    x = noise(round(seconds * features.rate))
    theirs = kaldi.fbank(x[None] * 32768, num_mel_bins=features.mels, sample_frequency=features.rate,
                         frame_length=features.window, frame_shift=features.hop, low_freq=features.low,
                         high_freq=features.high, use_energy=features.energy, htk_compat=True)
    ours = Fbank(features)(x)
    assert ours.shape == theirs.shape == (Fbank(features).frames_of(len(x)), static_width(features))
    torch.testing.assert_close(ours, theirs, atol=5e-4, rtol=0)


def test_silence_is_the_floor_and_the_mean_does_not_matter() -> None:
    fbank = Fbank(Features(energy=True))
    floor = fbank(torch.zeros(400))[0]
    assert torch.equal(floor, torch.tensor([np.log(np.finfo(np.float32).eps)] * 40 + [0.0]).float())
    x = noise(4000)
    torch.testing.assert_close(fbank(x + 0.25), fbank(x), atol=0.01, rtol=0)


def test_louder_by_a_factor_is_higher_by_its_logarithm() -> None:
    fbank, x = Fbank(PAPER), noise(4000)
    torch.testing.assert_close(fbank(2 * x) - fbank(x), torch.full((23, 41), 2 * np.log(2.0)), atol=1e-3, rtol=0)


@given(st.integers(0, 5000))
@settings(max_examples=50, deadline=None)
def test_number_of_frames(samples: int) -> None:
    fbank = Fbank(Features())
    assert fbank.frames_of(samples) == len(fbank(noise(samples)))
    assert fbank.frames_of(samples) == len(range(0, samples - 400 + 1, 160))


@pytest.mark.parametrize(("features", "message"), [
    (Features(low=9000.0), "features.low is 9000.0 Hz and features.high 8000.0 Hz: the filters must lie in this order "
                           "between 0 and 8000 Hz, half of features.rate"),
    (Features(high=8001.0), "features.low is 20.0 Hz and features.high 8001.0 Hz: the filters must lie in this order "
                            "between 0 and 8000 Hz, half of features.rate"),
    (Features(hop=0.01),
     "features.window is 25.0 ms and features.hop 0.01 ms: that is less than a sample at 16000 Hz")])
def test_settings_that_cannot_be(features: Features, message: str) -> None:
    with pytest.raises(AsrError) as error:
        Fbank(features)
    assert str(error.value) == message


@pytest.mark.parametrize("frames", [1, 2, 3, 5, 50])
def test_deltas_equal_torchaudios(frames: int) -> None:
    x = torch.randn(frames, 7)
    first = torchaudio.functional.compute_deltas(x.T)
    second = torchaudio.functional.compute_deltas(first)
    torch.testing.assert_close(add_deltas(x, 2), torch.cat([x.T, first, second]).T)
    assert torch.equal(add_deltas(x, 0), x)
    assert add_deltas(x[:0], 2).shape == (0, 21)


def test_widths() -> None:
    assert feature_width(PAPER) == 123
    assert feature_width(Features()) == 40


def test_moments_merge_and_normalise() -> None:
    x = 3 * torch.randn(1000, 5) + torch.arange(5)
    x[:, 4] = 7.0
    moments = Moments.of(x[:300]) + Moments.of(x[300:301]) + Moments.of(x[301:])
    mean, std = moments.mean_std()
    torch.testing.assert_close(mean, x.mean(0))
    torch.testing.assert_close(std[:4], x.std(0, correction=0)[:4])
    y = Normaliser.of(moments)(x)
    torch.testing.assert_close(y.mean(0), torch.zeros(5), atol=1e-5, rtol=0)
    torch.testing.assert_close(y.std(0, correction=0), torch.tensor([1.0, 1, 1, 1, 0]))


def test_the_order_is_deltas_then_normalised_then_a_frame_of_zeros() -> None:
    static = torch.randn(10, 41)
    normaliser = Normaliser(torch.randn(123), torch.rand(123) + 0.5)
    x = prepare_features(static, PAPER, normaliser)
    assert x.shape == (11, 123)
    assert not x[-1].any()
    torch.testing.assert_close(x[:-1], (add_deltas(static, 2) - normaliser.mean) / normaliser.std)
    assert len(prepare_features(static, PAPER.model_copy(update={"end_frame": False}), normaliser)) == 10


@given(st.integers(0, 60000), st.lists(st.integers(0, 30000), max_size=12), st.sampled_from([0, 1, 2]), st.booleans(),
       st.booleans())
@settings(max_examples=60, deadline=None)
def test_streamed_frames_are_the_whole_recordings_bit_for_bit(samples: int, cuts: list[int], deltas: int,
                                                              energy: bool, normalised: bool) -> None:
    features = Features(deltas=deltas, energy=energy, end_frame=True)
    width = feature_width(features)
    x, normaliser = noise(samples), Normaliser(torch.full((width,), 8.0), torch.full((width,), 3.0))
    static = Fbank(features)(x)
    whole = prepare_features(static, features, normaliser) if normalised else add_deltas(static, deltas)
    stream = FrameStream(features, normaliser if normalised else None)
    edges = [0, *sorted(min(cut, samples) for cut in cuts), samples]
    pieces = [stream.push(x[a:b]) for a, b in itertools.pairwise(edges)]
    assert torch.equal(torch.cat([*pieces, stream.finish()]), whole)


def test_a_stream_is_a_tile_late_at_most_and_keeps_no_past() -> None:
    stream, fbank, given = FrameStream(PAPER), Fbank(PAPER), 0
    for second in range(1, 30):
        given += len(stream.push(noise(16000)))
        assert fbank.frames_of(second * 16000) - given <= TILE + 4
        assert len(stream.samples) <= (TILE + 3) * 160 + 16000
        assert len(stream.static) <= 8
