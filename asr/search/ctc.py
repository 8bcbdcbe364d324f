"""CTC prefix scores for a beam of label-synchronous hypotheses (Graves 2008; Watanabe et al. 2017, section II-C).

For a prefix g, γⁿ_t(g) and γᵇ_t(g) are the probabilities of all paths that spell g in frames 0 … t and end in its last
label, or in a blank. Extended by c,

    γⁿ_t(g·c) = (γⁿ_{t-1}(g·c) + φ_t) p_t(c)     φ_t = γᵇ_{t-1}(g) + [last(g) ≠ c] γⁿ_{t-1}(g)
    γᵇ_t(g·c) = (γᵇ_{t-1}(g·c) + γⁿ_{t-1}(g·c)) p_t(blank)
    ψ(g·c)    = Σ_t φ_t p_t(c)                    the probability that the sequence begins with g·c

Both recursions are linear in what they carry, so with running products P_t of the factors they are cumulative sums,
γ_t = P_t Σ_τ (input_τ / P_τ), and no loop over frames is needed. All of it is in logarithms and float64.

With a window, the variables are kept for its W frames alone: before it nothing more can begin, behind it an old prefix
can only go on with what it ends in. Variables are stored relative to ψ of their prefix, so that an hour does not
drown them in rounding.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

NEVER = -1e30       # log 0, but safe to subtract from itself


@dataclass(frozen=True)
class Forward:
    """Forward variables of a prefix: column j stands for frame first - 1 + j."""

    label: Tensor       # (B, K, W + 1) log γⁿ
    blank: Tensor       # (B, K, W + 1) log γᵇ
    first: Tensor       # (B, K) first frame of the window


@dataclass(frozen=True)
class Frames:
    """Log probabilities in the windows of all hypotheses; those of one utterance lie close together and share them."""

    log_probs: Tensor   # (B, W', V) float64, from the first frame of any of an utterance's windows to the last
    probs: Tensor       # (B, W', V) float64, their exponentials
    column: Tensor      # (B, K, W) place of each hypothesis's frames in them

    def of(self, rows: Tensor, ids: Tensor) -> Tensor:
        """(B', K', W) log probabilities, of an id each, for the hypotheses numbered b·K + k; `rows`, `ids` (B', K')."""
        K = self.column.size(1)
        place = self.column.flatten(0, 1)[rows] + (rows // K * self.log_probs.size(1)).unsqueeze(2)
        return self.log_probs.flatten().take(place * self.log_probs.size(2) + ids.unsqueeze(2))

    @property
    def every(self) -> Tensor:
        """(B, K), the numbers of all hypotheses."""
        B, K, _ = self.column.shape
        return torch.arange(B * K, device=self.column.device).view(B, K)


@dataclass(frozen=True)
class Extended:
    """Prefixes and how probable they become by each candidate; their variables wait until one is chosen."""

    gain: Tensor        # (B, K, C) log ψ(g·c) - log ψ(g)
    candidates: Tensor  # (B, K, C) ids
    forward: Forward
    frames: Frames
    last: Tensor        # (B, K)


def frames_of(log_probs: Tensor, lengths: Tensor, first: Tensor, width: int) -> Frames:
    """The windows of `width` frames from `first` on: (B, S, V), (B,), (B, K).

    Frames outside the utterance hold a certain blank, so that the last column tells how a hypothesis would end.
    """
    begin = first.amin(1, keepdim=True)                                                 # (B, 1)
    column = torch.arange(width, device=first.device) + (first - begin).unsqueeze(2)    # (B, K, W)
    frame = begin + torch.arange(int(column[:, :, -1].max()) + 1, device=first.device)  # (B, W')
    outside = ((frame < 0) | (frame >= lengths.unsqueeze(1))).unsqueeze(2)
    rows = torch.arange(len(lengths), device=first.device).unsqueeze(1)
    found = log_probs[rows, frame.clamp(0, log_probs.size(1) - 1)].double()
    certain = torch.full_like(found[0, 0], NEVER)
    certain[0] = 0.0
    found = torch.where(outside, certain, found)
    return Frames(found, found.exp(), column)


def start_forward(frames: Frames, first: Tensor) -> Forward:
    """The empty prefix: blanks alone. `frames` begin at frame 0 or before."""
    blank = pad(frames.of(frames.every, torch.zeros_like(first)).cumsum(2), (1, 0))
    return Forward(torch.full_like(blank, NEVER), blank, first)


def moved_to(forward: Forward, first: Tensor, frames: Frames, last: Tensor) -> Forward:
    """The variables over a new window: `frames` from `first` on; `last` (B, K) is each prefix's last id."""
    columns = forward.label.size(2)
    width = frames.column.size(2) + 1
    if columns == width and torch.equal(first, forward.first):
        return forward
    shift = (first - forward.first).unsqueeze(2)
    source = shift + torch.arange(width, device=first.device)                           # (B, K, width)
    before, behind = source < 0, source >= columns
    label = forward.label.gather(2, source.clamp(0, columns - 1)).masked_fill(before, NEVER)
    blank = forward.blank.gather(2, source.clamp(0, columns - 1)).masked_fill(before, NEVER)
    if not bool(behind.any()):
        return Forward(label, blank, first)
    # Behind the old window the prefix goes on: its label held, or blanks after either.
    spoken, silent = frames.of(frames.every, last), frames.of(frames.every, torch.zeros_like(last))
    step_label = pad(spoken, (1, 0)).masked_fill(~behind, 0.0).cumsum(2)
    step_blank = pad(silent, (1, 0)).masked_fill(~behind, 0.0).cumsum(2)
    held = torch.where(behind, label + step_label, label)
    entering = torch.where(behind, pad(held, (1, 0))[..., :-1] - step_blank.roll(1, 2), NEVER)
    entering[..., 0] = NEVER
    gone = torch.where(behind, step_blank + torch.logaddexp(blank, entering.logcumsumexp(2)), blank)
    return Forward(held, gone, first)


def extend(forward: Forward, frames: Frames, last: Tensor, candidates: Tensor) -> Extended:
    """What each candidate would add to each prefix: ψ(g·c) = Σ_t φ_t p_t(c), for all ids as one product.

    Args:
        frames: of the forward's window
        last: (B, K) last id of each prefix, 0 for the empty one
        candidates: (B, K, C) ids to extend by, none of them 0
    """
    B, K = last.shape
    both = torch.logaddexp(forward.blank, forward.label)[..., :-1]                      # log φ of a new label
    scale = both.amax(2, keepdim=True)
    inflow = both.new_zeros(B, K, frames.probs.size(1)).scatter_(2, frames.column, (both - scale).exp())
    gain = torch.bmm(inflow, frames.probs)                                              # (B, K, V)
    again = (forward.blank[..., :-1] - scale + frames.of(frames.every, last)).exp().sum(2, keepdim=True)
    gain = gain.scatter_(2, last.unsqueeze(2), again).gather(2, candidates)             # a label repeated: over a blank
    return Extended((scale + gain.log()).clamp(min=NEVER), candidates, forward, frames, last)


def end_gain(forward: Forward, lengths: Tensor) -> Tensor:
    """(B, K): log probability that nothing follows, relative to ψ; NEVER while the window ends before the utterance."""
    reaches = forward.first + forward.label.size(2) - 1 >= lengths.unsqueeze(1)
    return torch.where(reaches, silence_gain(forward), NEVER)


def silence_gain(forward: Forward) -> Tensor:
    """(B, K): log probability that nothing follows up to the end of the window, relative to ψ."""
    return torch.logaddexp(forward.label[..., -1], forward.blank[..., -1])


def choose(extended: Extended, rows: Tensor, ids: Tensor) -> Forward:
    """The variables of the hypotheses numbered b·K + k in `rows` (B', K'), each extended by its id."""
    forward, frames = picked(extended.forward, rows), extended.frames
    place = (extended.candidates.flatten(0, 1)[rows] == ids.unsqueeze(2)).long().argmax(2, keepdim=True)
    gain = extended.gain.flatten(0, 1)[rows].gather(2, place)                           # (B', K', 1)
    spoken = frames.of(rows, ids).clamp(min=-1e4)                                       # NEVER would drown the sums
    silent = frames.of(rows, torch.zeros_like(ids)).clamp(min=-1e4)
    repeated = (ids == extended.last.flatten()[rows]).unsqueeze(2)
    inflow = torch.where(repeated, forward.blank, torch.logaddexp(forward.blank, forward.label))[..., :-1] + spoken
    run, rest = spoken.cumsum(2), silent.cumsum(2)
    label = run + (inflow - run).logcumsumexp(2)
    blank = rest + pad((label - rest)[..., :-1], (1, 0), value=NEVER).logcumsumexp(2)
    scale = gain.clamp(min=NEVER / 2)
    return Forward(pad((label - scale).clamp(min=NEVER), (1, 0), value=NEVER),
                   pad((blank - scale).clamp(min=NEVER), (1, 0), value=NEVER), forward.first)


def picked(forward: Forward, rows: Tensor) -> Forward:
    """The variables of the hypotheses numbered b·K + k in `rows` (B', K')."""
    return Forward(forward.label.flatten(0, 1)[rows], forward.blank.flatten(0, 1)[rows], forward.first.flatten()[rows])
