"""The pyramidal encoder (Chan et al. 2015, section 3.1): feature frames in, fewer and wider encoder frames out."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from asr import config


def mask_of(lengths: Tensor, size: int) -> Tensor:
    """(B,) lengths → (B, size), True where a frame belongs to its utterance."""
    return torch.arange(size, device=lengths.device) < lengths.unsqueeze(1)


def reversal(lengths: Tensor, size: int) -> Tensor:
    """(B,) lengths → (B, size), the index that turns each utterance around within its own length."""
    frame = torch.arange(size, device=lengths.device).expand(len(lengths), -1)
    return torch.where(frame < lengths.unsqueeze(1), lengths.unsqueeze(1) - 1 - frame, frame)


class Bidirectional(nn.Module):
    """One recurrent layer over both directions, exact on padded batches.

    The directions are two plain layers, the backward one over a copy reversed within each length, so that padding
    always comes last and cannot be heard. That equals packed sequences to rounding and keeps the CPU's fused kernel,
    off which `pack_padded_sequence` falls.
    """

    def __init__(self, cell: str, inputs: int, width: int) -> None:
        super().__init__()
        layer = {"lstm": nn.LSTM, "gru": nn.GRU}[cell]
        self.forwards = layer(inputs, width, batch_first=True)
        self.backwards = layer(inputs, width, batch_first=True)
        if cell == "lstm":
            for direction in (self.forwards, self.backwards):
                open_forget_gate(direction.bias_ih_l0, direction.bias_hh_l0)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """(B, S, I) and (B,) → (B, S, 2 width); what stands behind a length is undefined."""
        turn = reversal(lengths, x.size(1))
        rows = (turn + torch.arange(len(turn), device=turn.device).unsqueeze(1) * turn.size(1)).flatten()
        def turned(y: Tensor) -> Tensor:
            return y.flatten(0, 1).index_select(0, rows).view_as(y)     # a quarter of a gather's time
        ahead, _ = self.forwards(x)
        back, _ = self.backwards(turned(x))
        return torch.cat([ahead, turned(back)], dim=2)


def open_forget_gate(bias: Tensor, other: Tensor | None = None) -> None:
    """Start an LSTM with its forget gates open (bias 1), so that gradients reach far from the first update on."""
    width = len(bias) // 4
    with torch.no_grad():
        bias[width:2 * width] = 1.0
        if other is not None:
            other[width:2 * width] = 0.0


def kept_by_dropout(x: Tensor, dropped: float) -> Tensor:
    """What to multiply x by for inverted dropout: 0 with the probability `dropped`, else 1 / (1 - dropped).

    On a CPU four values share a random number of 64 bits, since drawing takes longer than all the rest.
    """
    if x.device.type != "cpu":
        return nn.functional.dropout(torch.ones_like(x), dropped)
    draws = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-1 << 63, None).view(torch.int16)
    kept = draws[:x.numel()].view(x.shape) >= round(dropped * (1 << 16)) - (1 << 15)
    return kept.to(x.dtype) / (1 - dropped)


class PyramidLayer(nn.Module):
    """Join consecutive frames, then run a recurrent layer: h_j = BiLSTM([x_{2j}; x_{2j+1}])."""

    def __init__(self, settings: config.Encoder, inputs: int, join: int) -> None:
        super().__init__()
        self.join = join
        self.rnn = Bidirectional(settings.cell, inputs * join, settings.width)
        self.norm = nn.LayerNorm(2 * settings.width) if settings.layer_norm else nn.Identity()
        self.dropout = settings.dropout

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, S, I) and (B,) → (B, ⌈S/join⌉, 2 width) and (B,); zero behind each length.

        An odd end is filled with zeros and kept: dropping it would delete the cue for `<eos>`.
        """
        if self.join > 1:
            B, S, width = x.shape
            x = nn.functional.pad(x, (0, 0, 0, -S % self.join)).reshape(B, -1, width * self.join)
            lengths = (lengths + self.join - 1) // self.join
        y = self.norm(self.rnn(x, lengths))
        kept = mask_of(lengths, y.size(1)).unsqueeze(2)
        return y * (kept_by_dropout(y, self.dropout) * kept if self.training and self.dropout else kept), lengths


class Encoder(nn.Module):
    """The stack of pyramid layers."""

    def __init__(self, settings: config.Encoder, features: int) -> None:
        super().__init__()
        self.width = 2 * settings.width                 # D
        self.stride = math.prod(settings.pyramid)       # feature frames to one encoder frame
        widths = [features] + [self.width] * (len(settings.pyramid) - 1)
        self.layers = nn.ModuleList(PyramidLayer(settings, width, join)
                                    for width, join in zip(widths, settings.pyramid, strict=True))

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, F) features and (B,) frames → (B, S, D) and (B,); zero behind each length."""
        x = x.masked_fill(~mask_of(lengths, x.size(1)).unsqueeze(2), 0.0)
        for layer in self.layers:
            x, lengths = layer(x, lengths)
        return x, lengths
