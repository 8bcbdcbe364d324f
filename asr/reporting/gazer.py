"""A model that shows where it looked, for the pages and pictures that have one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from asr.config import Features
from asr.corpus.records import TimedPhone
from asr.reporting.picture import within

if TYPE_CHECKING:
    import numpy as np

    from asr import config
    from asr.model.file import Model
    from asr.reporting.sound import Sound


class Gazer:
    """Recomputes attention. Without a model it knows of none, and hears as the defaults say."""

    def __init__(self, model: Model | None, settings: config.Decode | None = None) -> None:
        self.model = model
        self.features = Features() if model is None else model.config.features
        self.settings = settings or (model.config.decode if model is not None else None)
        self.frame = 0.0 if model is None else model.network.seconds    # s of an encoder frame

    def weights(self, sound: Sound, phones: Sequence[TimedPhone]) -> np.ndarray | None:
        """(U + 1, S) attention over the phones that begin within the sound; None without a model or an attention.

        Raises:
            AsrError: the model does not know a phone.
        """
        if self.model is None or self.settings is None:
            return None
        import torch

        from asr.frontend.fbank import Fbank, prepare_features
        from asr.frontend.store import static_frames
        from asr.search.gaze import attention_weights
        from asr.search.recognise import encode
        static = static_frames(sound.samples, Fbank(self.features))
        if not len(static):
            return None
        ids = self.model.phones.encode((p.phone for p in within(phones, sound.seconds)), "attention")
        feats = prepare_features(static, self.features, self.model.normaliser)
        device = next(self.model.network.parameters()).device
        memory = encode(self.model.network, feats.unsqueeze(0).to(device), torch.tensor([len(feats)], device=device),
                        self.settings)
        found = attention_weights(self.model.network, memory, ids, self.settings)
        return None if found is None else found.numpy()
