"""What is decoded in tests of what may happen while decoding: a model of chance weights, and a folder of recordings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from command import Done, asr

from asr.config import Config
from asr.corpus.phones import PhoneSet
from asr.frontend.fbank import Normaliser
from asr.model.file import save_model
from asr.transcriber import Transcriber

QUICK = ("train.epochs=2", "train.batch_frames=60", "train.plots=0", "train.average=2", "train.checkpoint_updates=2",
         "encoder.dropout=0.2", "decoder.dropout=0.2", "decode.longest=8", "decode.beam=2", "decode.batch_size=2",
         "train.dev_utterances=2", "times.width=0")


class Bench:
    """A model of chance weights, and a folder with recordings of different lengths."""

    def __init__(self, folder: Path, config: Config, network: object, count: int) -> None:
        self.folder, self.model, self.sounds = folder, folder / "m.asr", folder / "sounds"
        save_model(self.model, network, config, PhoneSet(["a", "b", "c"]), Normaliser(torch.zeros(8), torch.ones(8)),
                   {})
        self.sounds.mkdir()
        rng = np.random.default_rng(0)
        for number in range(count):
            seconds = 0.2 + 0.1 * (number % 4)
            soundfile.write(self.path(number), 0.1 * rng.standard_normal(round(16000 * seconds)), 16000)

    def path(self, number: int) -> Path:
        return self.sounds / f"u{number:02d}.wav"

    def decode(self, out: str, *more: object, inputs: object = None) -> Done:
        return asr("decode", self.model, inputs or self.sounds, "--out", self.folder / out, "--device", "cpu", *more)

    def searched(self, work: Callable[[], Done]) -> tuple[Done, list[str]]:
        """What the work gives, and which utterances it searched for."""
        batch, ids = Transcriber.batch, []
        def watched(self, utterances, *rest):
            ids.extend(u.id for u in utterances)
            return batch(self, utterances, *rest)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Transcriber, "batch", watched)
            return work(), sorted(ids)
