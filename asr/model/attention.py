"""Attention: which encoder frames the decoder looks at (Chorowski et al. 2015, sections 2.1 to 2.3).

    content   e_ij = wᵀ tanh(W s_{i-1} + V h_j + b)
    hybrid    e_ij = wᵀ tanh(W s_{i-1} + V h_j + U f_ij + b)      f_i = F * α_{i-1}
    location  the hybrid without V h_j
    none      no weights: the decoder sees the encoder's final states alone

The weights are softmax(β e), or, smooth, σ(β e) / Σ σ(β e). Energies and weights are float32, also under autocast.

With a window, only W frames around the centre of the previous weights are scored, for each hypothesis its own; what
lies outside has weight zero. A step then costs the same in the third second and in the third hour.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from asr import config
from asr.model import glimpse
from asr.model.encoder import mask_of


@dataclass(frozen=True)
class Memory:
    """What the decoder can look at; made once for each utterance."""

    values: Tensor      # (B, S, D)
    keys: Tensor        # (B, S, A) projected once: V h_j + b
    lengths: Tensor     # (B,)

    @property
    def mask(self) -> Tensor:
        """(B, S), True where a frame belongs to its utterance."""
        return mask_of(self.lengths, self.values.size(1))

    def pick(self, utterances: Tensor) -> Memory:
        """The memory of the utterances numbered, in that order."""
        lengths = self.lengths[utterances]
        S = int(lengths.max())
        return Memory(self.values[utterances, :S], self.keys[utterances, :S], lengths)


class Gaze(NamedTuple):
    """Where each hypothesis looks. Without a window, `first` is None and W is S."""

    weights: Tensor             # (B, K, W), sums to 1
    first: Tensor | None        # (B, K) encoder frame that column 0 stands for

    def focus(self, centre: str) -> Tensor:
        """(B, K) encoder frame at the median, mean or argmax of the weights."""
        frames = torch.arange(self.weights.size(2), device=self.weights.device)
        if centre == "argmax":
            column = self.weights.argmax(2)
        elif centre == "mean":
            column = (self.weights * frames).sum(2).round().long()
        else:
            column = (self.weights.cumsum(2) < 0.5).sum(2).clamp(max=len(frames) - 1)
        return column if self.first is None else self.first + column


@dataclass(frozen=True)
class Window:
    """How far around the focus a step may look, in encoder frames."""

    back: int
    ahead: int
    centre: str = "median"

    @property
    def width(self) -> int:
        """W: the frames of a window."""
        return self.back + 1 + self.ahead


@dataclass(frozen=True)
class Aids:
    """Changes to the weights at decode time."""

    window: Window | None = None
    beta: float = 1.0               # further sharpening, times the trained β
    beta_log_length: bool = False   # β times log of the frames in view as well (section 2.2)
    keep: int = 0                   # only the k largest weights; 0: as trained
    normaliser: str = ""            # "softmax" or "smooth"; empty: as trained


PLAIN = Aids()


class Attention(nn.Module):
    """Content, location and hybrid attention: one formula, with terms left out."""

    def __init__(self, settings: config.Attention, width: int, query: int) -> None:
        """`width` is D, `query` is H."""
        super().__init__()
        A = settings.width
        self.settings = settings
        self.key = nn.Linear(width, A, bias=False) if settings.kind != "location" else None    # V
        self.bias = nn.Parameter(torch.zeros(A))                                               # b
        self.query = nn.Linear(query, A, bias=False)                # W
        self.energy = nn.Linear(A, 1, bias=settings.normaliser == "smooth")   # w; sigmoids need a threshold
        if settings.kind != "content":
            self.filters = nn.Conv1d(1, settings.filters, settings.taps, bias=False)    # F
            self.location = nn.Linear(settings.filters, A, bias=False)                  # U

    def remember(self, values: Tensor, lengths: Tensor) -> Memory:
        """(B, S, D) encoder frames and (B,) lengths → the memory, keys projected."""
        keys = self.bias.expand(*values.shape[:2], -1) if self.key is None else self.key(values) + self.bias
        return Memory(values, keys.float(), lengths)

    def start(self, memory: Memory) -> Gaze:
        """α_0 for one hypothesis of each utterance: all on frame 0, or spread evenly."""
        mask = memory.mask
        if self.settings.start == "uniform":
            weights = mask / memory.lengths.unsqueeze(1)
        else:
            weights = torch.zeros(mask.shape, device=mask.device)
            weights[:, 0] = 1.0
        return Gaze(weights.float().unsqueeze(1), None)

    def forward(self, query: Tensor, memory: Memory, gaze: Gaze, aids: Aids = PLAIN) -> tuple[Tensor, Gaze]:
        """Look once: the decoder state (B, K, H) → the context (B, K, D) and the new gaze."""
        if aids.window is None:
            keys, mask = memory.keys.unsqueeze(1), memory.mask.unsqueeze(1)         # (B, 1, S, A), (B, 1, S)
            if torch.is_grad_enabled() or mask.size(2) > glimpse.WIDEST:
                weights = self._weights(query, keys, mask, gaze.weights, aids)      # (B, K, S)
            else:
                every = torch.arange(mask.size(2), device=mask.device).expand(*query.shape[:2], -1)
                weights = self._normalise(glimpse.energies(self, query, memory, every, gaze.weights), mask, aids)
            return torch.bmm(weights.to(memory.values.dtype), memory.values), Gaze(weights, None)
        first, frames, mask = in_window(gaze, memory, aids.window)                  # (B, K), (B, K, W), (B, K, W)
        if not torch.is_grad_enabled():
            energies = glimpse.energies(self, query, memory, frames, shifted(gaze, first, aids.window.width))
            weights = self._normalise(energies, mask, aids)
            return glimpse.context(memory, weights, first), Gaze(weights, first)
        rows = torch.arange(len(frames), device=frames.device).view(-1, 1, 1)
        weights = self._weights(query, memory.keys[rows, frames], mask, shifted(gaze, first, aids.window.width), aids)
        context = (weights.to(memory.values.dtype).unsqueeze(2) @ memory.values[rows, frames]).squeeze(2)
        return context, Gaze(weights, first)

    def _weights(self, query: Tensor, keys: Tensor, mask: Tensor, previous: Tensor, aids: Aids) -> Tensor:
        """Weights (B, K, W) for keys (B, K or 1, W, A), given the previous weights over the same frames."""
        with torch.autocast(query.device.type, enabled=False):
            hidden = keys.float() + self.query(query.float()).unsqueeze(2)          # (B, K, W, A)
            if self.settings.kind != "content":
                hidden = hidden + self.location(self.filtered(previous))
            energies = self.energy(hidden.tanh()).squeeze(3)                        # (B, K, W)
            return self._normalise(energies, mask, aids)

    def filtered(self, previous: Tensor) -> Tensor:
        """f = F * α_{i-1}, zero padded: (B, K, W) → (B, K, W, C)."""
        if self.settings.detach:
            previous = previous.detach()
        B, K, W = previous.shape
        side = self.settings.taps // 2
        filtered = nn.functional.conv1d(previous.reshape(B * K, 1, W), self.filters.weight, padding=side)
        return filtered.view(B, K, -1, W).transpose(2, 3)

    def _normalise(self, energies: Tensor, mask: Tensor, aids: Aids) -> Tensor:
        beta = self.settings.beta * aids.beta
        if aids.beta_log_length:
            energies = energies * mask.sum(2, keepdim=True).float().clamp(min=3).log()
        energies = (energies * beta).masked_fill(~mask, float("-inf"))
        keep = aids.keep or self.settings.keep
        if 0 < keep < energies.size(2):
            least = energies.topk(keep, dim=2).values[:, :, -1:]
            energies = energies.masked_fill(energies < least, float("-inf"))
        if (aids.normaliser or self.settings.normaliser) == "smooth":
            energies = nn.functional.logsigmoid(energies)       # σ(e) / Σ σ(e) = softmax(log σ(e)), and never 0 / 0
        return energies.softmax(2)


class FinalState(nn.Module):
    """No attention: the context is the last forward and the first backward state, at every step alike.

    This is the fixed-length baseline that attention was invented against (Sutskever et al. 2014).
    """

    def remember(self, values: Tensor, lengths: Tensor) -> Memory:
        """(B, S, D) encoder frames and (B,) lengths → the memory; there are no keys."""
        return Memory(values, values.new_zeros(*values.shape[:2], 0), lengths)

    def start(self, memory: Memory) -> Gaze:
        """Weights that say nothing: all on frame 0."""
        weights = torch.zeros(memory.mask.shape, device=memory.values.device)
        weights[:, 0] = 1.0
        return Gaze(weights.unsqueeze(1), None)

    def forward(self, query: Tensor, memory: Memory, gaze: Gaze, aids: Aids = PLAIN) -> tuple[Tensor, Gaze]:
        """The final states (B, K, D), whatever is asked."""
        half = memory.values.size(2) // 2
        rows = torch.arange(len(memory.lengths), device=memory.lengths.device)
        final = torch.cat([memory.values[rows, memory.lengths - 1, :half], memory.values[:, 0, half:]], dim=1)
        return final.unsqueeze(1).expand(-1, query.size(1), -1), gaze


def in_window(gaze: Gaze, memory: Memory, window: Window) -> tuple[Tensor, Tensor, Tensor]:
    """The window around each focus: its first frame (B, K), its frames clamped to the memory (B, K, W), their mask.

    The first window lies around frame 0: the middle of an evenly spread α_0 is the middle of the recording.
    """
    focus = gaze.focus(window.centre)
    if gaze.first is None:
        focus = torch.zeros_like(focus)
    first = focus.clamp(0, memory.values.size(1) - 1) - window.back
    frames = first.unsqueeze(2) + torch.arange(window.width, device=first.device)
    mask = (frames >= 0) & (frames < memory.lengths.view(-1, 1, 1))
    return first, frames.clamp(0, memory.values.size(1) - 1), mask


def shifted(gaze: Gaze, first: Tensor, width: int) -> Tensor:
    """The gaze's weights laid over the window of `width` frames from `first` (B, K): (B, K, width)."""
    source = first.unsqueeze(2) + torch.arange(width, device=first.device)
    if gaze.first is not None:
        source = source - gaze.first.unsqueeze(2)
    W = gaze.weights.size(2)
    inside = (source >= 0) & (source < W)
    return gaze.weights.gather(2, source.clamp(0, W - 1)) * inside


def build_attention(settings: config.Attention, width: int, query: int) -> Attention | FinalState:
    """The attention that the config names; `width` is D, `query` is H."""
    return FinalState() if settings.kind == "none" else Attention(settings, width, query)


def moved(memory: Memory, gaze: Gaze, frames: int) -> tuple[Memory, Gaze]:
    """Forget the first frames of a memory; the gaze is counted from the new first frame."""
    assert gaze.first is not None
    kept = replace(memory, values=memory.values[:, frames:], keys=memory.keys[:, frames:],
                   lengths=memory.lengths - frames)
    return kept, Gaze(gaze.weights, gaze.first - frames)
