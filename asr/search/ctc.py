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

NEVER = -1e30       # log 0, but safe to subtract from itself


@dataclass(frozen=True)
class Forward:
    """Forward variables of a prefix: column j stands for frame first - 1 + j."""

    label: Tensor       # (B, K, W + 1) log γⁿ
    blank: Tensor       # (B, K, W + 1) log γᵇ
    first: Tensor       # (B, K) first frame of the window


@dataclass(frozen=True)
class Extended:
    """Forward variables of prefixes extended by candidates, not yet chosen among."""

    label: Tensor       # (B, K, C, W + 1)
    blank: Tensor       # (B, K, C, W + 1)
    gain: Tensor        # (B, K, C) log ψ(g·c) - log ψ(g)
    candidates: Tensor  # (B, K, C) ids
    first: Tensor       # (B, K)


def frames_of(log_probs: Tensor, lengths: Tensor, first: Tensor, width: int) -> Tensor:
    """The window's frames of each hypothesis: (B, S, V), (B,), (B, K) → (B, K, W, V), float64.

    Frames outside the utterance hold a certain blank, so that the last column tells how a hypothesis would end.
    """
    frame = first.unsqueeze(2) + torch.arange(width, device=first.device)               # (B, K, W)
    outside = (frame < 0) | (frame >= lengths.view(-1, 1, 1))
    rows = torch.arange(len(lengths), device=first.device).view(-1, 1, 1)
    found = log_probs[rows, frame.clamp(0, log_probs.size(1) - 1)].double()
    certain = torch.full_like(found[0, 0, 0], NEVER)
    certain[0] = 0.0
    return torch.where(outside.unsqueeze(3), certain, found)


def start_forward(frames: Tensor, first: Tensor) -> Forward:
    """The empty prefix: blanks alone. `frames` (B, K, W, V) of `frames_of`, which begin at frame 0 or before."""
    blank = torch.nn.functional.pad(frames[..., 0].cumsum(2), (1, 0))
    return Forward(torch.full_like(blank, NEVER), blank, first)


def moved_to(forward: Forward, first: Tensor, frames: Tensor, last: Tensor) -> Forward:
    """The variables over a new window: `frames` (B, K, W, V) from `first`; `last` (B, K) is each prefix's last id."""
    columns = forward.label.size(2)
    width = frames.size(2) + 1
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
    step_label = torch.nn.functional.pad(frames.gather(3, last[:, :, None, None].expand(-1, -1, frames.size(2), 1))
                                         .squeeze(3), (1, 0)).masked_fill(~behind, 0.0).cumsum(2)
    step_blank = torch.nn.functional.pad(frames[..., 0], (1, 0)).masked_fill(~behind, 0.0).cumsum(2)
    held = torch.where(behind, label + step_label, label)
    entering = torch.where(behind, torch.nn.functional.pad(held, (1, 0))[..., :-1] - step_blank.roll(1, 2), NEVER)
    entering[..., 0] = NEVER
    gone = torch.where(behind, step_blank + torch.logaddexp(blank, entering.logcumsumexp(2)), blank)
    return Forward(held, gone, first)


def extend(forward: Forward, frames: Tensor, last: Tensor, candidates: Tensor) -> Extended:
    """All candidates of all prefixes at once.

    Args:
        frames: (B, K, W, V) log probabilities of the forward's window
        last: (B, K) last id of each prefix, 0 for the empty one
        candidates: (B, K, C) ids to extend by, none of them 0
    """
    spoken = frames.gather(3, candidates.unsqueeze(2).expand(-1, -1, frames.size(2), -1)).transpose(2, 3)  # (B,K,C,W)
    spoken = spoken.clamp(min=-1e4)                                                    # NEVER would drown the products
    silent = frames[..., 0].clamp(min=-1e4).unsqueeze(2)                               # (B, K, 1, W)
    both = torch.logaddexp(forward.blank, forward.label)[..., :-1].unsqueeze(2)
    repeated = (candidates == last.unsqueeze(2)).unsqueeze(3)
    inflow = torch.where(repeated, forward.blank[..., :-1].unsqueeze(2), both) + spoken      # φ_t p_t(c)
    gain = inflow.logsumexp(3)
    run = spoken.cumsum(3)
    label = run + (inflow - run).logcumsumexp(3)
    rest = silent.cumsum(3)
    blank = rest + (torch.nn.functional.pad((label - rest)[..., :-1], (1, 0), value=NEVER)).logcumsumexp(3)
    scale = gain.clamp(min=NEVER / 2).unsqueeze(3)
    def column(x: Tensor) -> Tensor:
        return torch.nn.functional.pad((x - scale).clamp(min=NEVER), (1, 0), value=NEVER)
    return Extended(column(label), column(blank), gain, candidates, forward.first)


def end_gain(forward: Forward, lengths: Tensor) -> Tensor:
    """(B, K): log probability that nothing follows, relative to ψ; NEVER while the window ends before the utterance."""
    reaches = forward.first + forward.label.size(2) - 1 >= lengths.unsqueeze(1)
    total = torch.logaddexp(forward.label[..., -1], forward.blank[..., -1])
    return torch.where(reaches, total, NEVER)


def choose(extended: Extended, rows: Tensor, ids: Tensor) -> Forward:
    """The variables of the hypotheses numbered b·K + k in `rows` (B', K'), each extended by its id."""
    candidates = extended.candidates.flatten(0, 1)[rows]                                # (B', K', C)
    place = (candidates == ids.unsqueeze(2)).long().argmax(2)
    return Forward(extended.label.flatten(0, 1)[rows, place], extended.blank.flatten(0, 1)[rows, place],
                   extended.first.flatten()[rows])
