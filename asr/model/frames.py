"""A classifier of feature frames: which phone is heard in each of them, to tell where phones begin.

The encoder knows what is said, but its frames are wide; the features are fine enough to say when. The classifier
hears both. It is trained behind the recogniser, on an encoder that stands still, so it changes nothing that is
recognised.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from asr import config
from asr.model.encoder import mask_of

PAUSE = 0       # what is heard where no phone is: the id that ends a sequence and is CTC's blank
MIX = 2         # frames on each side that the second convolution joins


class FrameClassifier(nn.Module):
    """Two convolutions over features and encoder frames, and a softmax."""

    def __init__(self, settings: config.Times, features: int, width: int, stride: int, phones: int) -> None:
        """`features` is F, `width` is D, `stride` the feature frames to an encoder frame, `phones` is V."""
        super().__init__()
        self.stride = stride
        self.reach = settings.reach + MIX       # frames on each side that a frame's result depends on
        self.spread = nn.ConvTranspose1d(width, settings.width, stride, stride)
        self.near = nn.Conv1d(features, settings.width, 2 * settings.reach + 1, padding=settings.reach)
        self.dropout = nn.Dropout(0.1)
        self.mix = nn.Conv1d(settings.width, settings.width, 2 * MIX + 1, padding=MIX)
        self.phones = nn.Linear(settings.width, phones)

    def forward(self, feats: Tensor, frames: Tensor, values: Tensor) -> Tensor:
        """Features (B, T, F), their lengths (B,), encoder frames (B, ⌈T / stride⌉, D) → log probabilities (B, T, V)."""
        inside = mask_of(frames, feats.size(1)).unsqueeze(1)                            # (B, 1, T)
        x = self.near(feats.transpose(1, 2).masked_fill(~inside, 0.0))                  # (B, W, T)
        x = x + self.spread(values.transpose(1, 2))[:, :, :x.size(2)]
        x = self.dropout(x.relu()).masked_fill(~inside, 0.0)
        x = x + self.mix(x).relu()
        return self.phones(x.transpose(1, 2)).float().log_softmax(2)

    @torch.no_grad()
    def discount(self, prior: Tensor, share: float) -> None:
        """Take a share of the log prior (V,) off the log probabilities, so that common phones spread less."""
        self.phones.bias.sub_(share * prior)
