"""The whole network, and its loss."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from asr.config import Config
from asr.model.attention import Memory
from asr.model.decoder import Decoder
from asr.model.encoder import Encoder

BLANK = 0       # of the CTC branch; the decoder uses the same id for `<eos>`


class Loss(NamedTuple):
    """Sums over the batch, float32; the trainer divides and weighs them."""

    attention: Tensor       # label-smoothed negative log likelihood, nats
    ctc: Tensor             # negative log likelihood of the CTC branch, nats
    right: Tensor           # phones that teacher forcing would have chosen rightly
    weights: Tensor | None  # (B, U, S) attention weights; None when the decoder did not run


class Recognizer(nn.Module):
    """Encoder, decoder with attention, and a linear CTC branch on the encoder."""

    def __init__(self, config: Config, features: int, phones: int) -> None:
        """`features` is F, `phones` is V, `<eos>` counted."""
        super().__init__()
        self.encoder = Encoder(config.encoder, features)
        self.decoder = Decoder(config.decoder, config.attention, self.encoder.width, phones)
        self.ctc = nn.Linear(self.encoder.width, phones) if config.train.ctc_weight > 0 else None
        self.seconds = config.features.hop / 1000 * self.encoder.stride     # of an encoder frame

    def encode(self, feats: Tensor, frames: Tensor) -> Memory:
        """(B, T, F) features and (B,) frames → the memory that the decoder looks at."""
        values, lengths = self.encoder(feats, frames)
        return self.decoder.attention.remember(values, lengths)

    def ctc_log_probs(self, memory: Memory) -> Tensor:
        """(B, S, V) log probabilities of the CTC branch, float32; column 0 is the blank."""
        assert self.ctc is not None
        return self.ctc(memory.values).float().log_softmax(2)

    def forward(self, feats: Tensor, frames: Tensor, inputs: Tensor, targets: Tensor, *, smoothing: float = 0.0,
                sampling: float = 0.0, ctc_only: bool = False) -> Loss:
        """The loss of a batch, in sums.

        Args:
            feats: (B, T, F); frames: (B,)
            inputs: (B, U) ids that begin with `<eos>`; targets: (B, U) ids that end with it, padded with -100
            smoothing: share of the target's probability that is spread over all ids (Szegedy et al. 2016)
            sampling: probability of scheduled sampling
            ctc_only: leave the decoder out, to wake the encoder first
        """
        memory = self.encode(feats, frames)
        zero = feats.new_zeros((), dtype=torch.float32)
        ctc = self._ctc_loss(memory, targets) if self.ctc is not None else zero
        if ctc_only:
            idle = sum(p.sum() for p in self.decoder.parameters()) * 0.0     # gradients, of 0, for all ranks to sum
            return Loss(zero + idle, ctc, zero, None)
        logits, weights = self.decoder(inputs, memory, sampling)
        logits = logits.float().flatten(0, 1)
        loss = nn.functional.cross_entropy(logits, targets.flatten(), label_smoothing=smoothing, reduction="sum",
                                           ignore_index=-100)
        right = (logits.argmax(1) == targets.flatten()).sum().float()
        return Loss(loss, ctc, right, weights.detach())

    def _ctc_loss(self, memory: Memory, targets: Tensor) -> Tensor:
        """Sum of the branch's losses (Graves et al. 2006). An utterance with too few frames counts as zero."""
        labels = targets.clamp(min=0)
        lengths = (targets > 0).sum(1)
        return nn.functional.ctc_loss(self.ctc_log_probs(memory).transpose(0, 1), labels, memory.lengths, lengths,
                                      blank=BLANK, reduction="sum", zero_infinity=True)

    def parameters_count(self) -> int:
        """Weights in all."""
        return sum(math.prod(p.shape) for p in self.parameters())
