"""What many tests begin with: a tiny config, a tiny network with random weights, sounds and manifests."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")       # before torch: the tests share their cores

from asr.config import Config, override_config

if TYPE_CHECKING:
    from asr.model.recognizer import Recognizer

TINY = [
    "features.mels=8", "encoder.width=6", "encoder.pyramid=[1, 2]", "encoder.dropout=0", "attention.width=7",
    "attention.filters=3", "attention.taps=5", "decoder.width=6", "decoder.embedding=5", "decoder.output_width=6",
    "decoder.dropout=0"]


@pytest.fixture
def tiny_config() -> Callable[..., Config]:
    """`tiny_config("attention.kind=content", …)`: layers of six units, no dropout, and what is asked for."""
    return lambda *overrides: override_config(Config(), [*TINY, *overrides])


@pytest.fixture
def tiny_network(tiny_config: Callable[..., Config]) -> Callable[..., Recognizer]:
    """`tiny_network("attention.kind=content", …, phones=5, seed=0, gain=1.0)`: random weights, in eval mode.

    `gain` multiplies all weights: with more, the network has opinions, and a search has something to find.
    """
    def make(*overrides: str, phones: int = 5, seed: int = 0, gain: float = 1.0) -> Recognizer:
        import torch

        from asr.frontend.fbank import feature_width
        from asr.model.recognizer import Recognizer
        torch.manual_seed(seed)
        config = tiny_config(*overrides)
        network = Recognizer(config, feature_width(config.features), phones).eval()
        with torch.no_grad():
            for weights in network.parameters():
                weights.mul_(gain)
        return network
    return make


@pytest.fixture
def manifest(tmp_path: Path) -> Callable[..., Path]:
    """`manifest("train", 6)`: so many utterances of tones in noise, a pitch for each of the phones `a b c`."""
    def make(name: str, count: int, seed: int = 0, **extra: Any) -> Path:
        import numpy as np
        import soundfile
        rng = np.random.default_rng(seed)
        rows = []
        for number in range(count):
            phones = [str(p) for p in rng.choice(["a", "b", "c"], size=2 + number % 3)]
            time = np.arange(1600) / 16000
            pitches = [{"a": 300, "b": 900, "c": 2500}[phone] for phone in phones]
            sound = np.concatenate([0.3 * np.sin(2 * np.pi * pitch * time) for pitch in pitches])
            soundfile.write(tmp_path / f"{name}-{number}.wav", sound + 0.01 * rng.standard_normal(len(sound)), 16000)
            rows.append({"id": f"{name}-{number}", "audio_filepath": f"{name}-{number}.wav", "text": " ".join(phones),
                         **extra})
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path
    return make
