"""The decoder: one phone after another, state handed in and handed back.

A step takes the last phone and the state and gives log probabilities and the next state; `self` holds weights alone,
so that a search can reorder, drop and copy states as it likes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from asr import config
from asr.model import unrolled
from asr.model.attention import PLAIN, Aids, Gaze, Memory, build_attention
from asr.model.encoder import open_forget_gate


@dataclass(frozen=True)
class State:
    """What the decoder remembers of each hypothesis."""

    hidden: Tensor          # (B, K, H)
    cell: Tensor            # (B, K, H); of a GRU: empty
    context: Tensor         # (B, K, D)
    gaze: Gaze
    step: int = 0           # phones fed in so far

    def pick(self, rows: Tensor) -> State:
        """The states of the hypotheses numbered b·K + k, laid out as `rows` (B', K')."""
        def of(x: Tensor) -> Tensor:
            return x.flatten(0, 1)[rows.flatten()].view(*rows.shape, *x.shape[2:])
        first = None if self.gaze.first is None else of(self.gaze.first)
        return State(of(self.hidden), of(self.cell), of(self.context), Gaze(of(self.gaze.weights), first), self.step)


class Cell(nn.Module):
    """An LSTM or GRU cell whose share of the embedded phone can be computed for all steps at once."""

    def __init__(self, kind: str, embedding: int, context: int, width: int) -> None:
        """`context` is D, or 0 without input feeding."""
        super().__init__()
        self.kind = kind
        gates = 4 if kind == "lstm" else 3
        self.embedded = nn.Linear(embedding, gates * width)
        self.context = nn.Linear(context, gates * width, bias=False) if context else None
        self.hidden = nn.Linear(width, gates * width, bias=False)
        if kind == "lstm":
            open_forget_gate(self.embedded.bias)

    def forward(self, driven: Tensor, context: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """One step: (…, gates H) from `embedded`, (…, D), (…, H), (…, H) → the next hidden and cell (…, H)."""
        if self.context is not None:
            driven = driven + self.context(context)
        if self.kind == "lstm":
            i, f, g, o = (driven + self.hidden(hidden)).chunk(4, dim=-1)
            cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
            return o.sigmoid() * cell.tanh(), cell
        r, z, n = driven.chunk(3, dim=-1)
        hr, hz, hn = self.hidden(hidden).chunk(3, dim=-1)
        update = (z + hz).sigmoid()
        return update * hidden + (1 - update) * (n + (r + hr).sigmoid() * hn).tanh(), cell


class Output(nn.Module):
    """From state and context to logits: one hidden layer, tanh or maxout (Goodfellow et al. 2013, pairs)."""

    def __init__(self, settings: config.Decoder, inputs: int, phones: int) -> None:
        super().__init__()
        self.pieces = 2 if settings.output == "maxout" else 1
        self.hidden = nn.Linear(inputs, settings.output_width * self.pieces)
        self.dropout = nn.Dropout(settings.dropout)
        self.phones = nn.Linear(settings.output_width, phones)

    def forward(self, hidden: Tensor, context: Tensor) -> Tensor:
        """(…, H) and (…, D) → (…, V) logits."""
        x = self.hidden(torch.cat([hidden, context], dim=-1))
        x = x.unflatten(-1, (-1, 2)).amax(-1) if self.pieces == 2 else x.tanh()
        return self.phones(self.dropout(x))


class Decoder(nn.Module):
    """Attends, updates and generates, in the order that the config names.

    `look-generate-update` is Chorowski et al. 2015 (eqs. 1-4): s_0 looks and generates before it has heard anything.
    `update-look-generate` is Chan et al. 2015: the same recurrence, but `<sos>` is fed in first.
    `look-update-generate` is Bahdanau et al. 2015: the state looks, is updated with what it saw, and generates.
    """

    def __init__(self, settings: config.Decoder, attention: config.Attention, width: int, phones: int) -> None:
        """`width` is D, `phones` is V."""
        super().__init__()
        self.settings = settings
        self.embedding = nn.Embedding(phones, settings.embedding)
        self.dropout = nn.Dropout(settings.dropout)
        self.cell = Cell(settings.cell, settings.embedding, width if settings.input_feeding else 0, settings.width)
        self.attention = build_attention(attention, width, settings.width)
        self.output = Output(settings, settings.width + width, phones)

    def start(self, memory: Memory) -> State:
        """The state before the first phone, one hypothesis for each utterance (K = 1)."""
        B, _, D = memory.values.shape
        zeros = memory.values.new_zeros(B, 1, self.settings.width)
        cell = zeros if self.settings.cell == "lstm" else zeros[..., :0]
        return State(zeros, cell, memory.values.new_zeros(B, 1, D), self.attention.start(memory))

    def drive(self, phones: Tensor) -> Tensor:
        """Ids (…) → their share of the cell's gates (…, gates H)."""
        return self.cell.embedded(self.dropout(self.embedding(phones)))

    def advance(self, driven: Tensor, memory: Memory, state: State, aids: Aids = PLAIN) -> State:
        """One step without its output layer: (B, K, gates H) → the next state."""
        hidden, cell, context, gaze = state.hidden, state.cell, state.context, state.gaze
        order = self.settings.order
        if order == "look-update-generate":
            context, gaze = self.attention(hidden, memory, gaze, aids)
            hidden, cell = self.cell(driven, context, hidden, cell)
        else:
            if order == "update-look-generate" or state.step > 0:
                hidden, cell = self.cell(driven, context, hidden, cell)
            context, gaze = self.attention(hidden, memory, gaze, aids)
        return State(hidden, cell, context, gaze, state.step + 1)

    def step(self, phones: Tensor, memory: Memory, state: State, aids: Aids = PLAIN,
             drives: Tensor | None = None) -> tuple[Tensor, State]:
        """The last phones (B, K) and the state → log probabilities (B, K, V), float32, and the next state.

        `drives`, (V, gates H), is what `drive` says of every id, where that is known beforehand.
        """
        driven = self.drive(phones) if drives is None else drives[phones]
        state = self.advance(driven, memory, state, aids)
        return self.output(state.hidden, state.context).float().log_softmax(-1), state

    def forward(self, inputs: Tensor, memory: Memory, sampling: float = 0.0) -> tuple[Tensor, Tensor]:
        """Teacher forcing: phones (B, U), the first `<eos>`, → logits (B, U, V) and weights (B, U, S).

        With `sampling`, an input is replaced by the model's own last choice with that probability
        (Bengio et al. 2015, scheduled sampling).
        """
        driven = self.drive(inputs)                                         # (B, U, gates H), all at once
        if sampling or not unrolled.fits(self):
            hidden, context, weights = self.steps(driven, memory, sampling)
        else:
            hidden, context, weights = unrolled.unroll(self, driven, memory)
        return self.output(hidden, context), weights

    def steps(self, driven: Tensor, memory: Memory, sampling: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
        """One step after another: (B, U, gates H) → hidden (B, U, H), context (B, U, D), weights (B, U, S)."""
        state = self.start(memory)
        hidden, context, weights = [], [], []
        for u in range(driven.size(1)):
            now = driven[:, u:u + 1]
            if sampling and u > 0:
                chosen = self.output(state.hidden, state.context).argmax(2)         # (B, 1)
                own = torch.rand(chosen.shape, device=chosen.device) < sampling
                now = torch.where(own.unsqueeze(2), self.drive(chosen), now)
            state = self.advance(now, memory, state)
            hidden.append(state.hidden)
            context.append(state.context)
            weights.append(state.gaze.weights)
        return torch.cat(hidden, dim=1), torch.cat(context, dim=1), torch.cat(weights, dim=1)
