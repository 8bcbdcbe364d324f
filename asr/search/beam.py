"""Beam search, batched over utterances and hypotheses.

The search knows nothing of networks: a `Stepper` gives the log probabilities of the next id and keeps its own state,
which the search reorders. Id 0 ends a hypothesis. Width 1 is greedy search; a beam as wide as the space is
exhaustive search.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

S = TypeVar("S")


class Step(NamedTuple):
    """What a stepper says of the next id of each hypothesis."""

    log_probs: Tensor       # (B, K, V) of the next id; -inf forbids
    notes: Tensor           # (B, K, N) float, remembered for the id chosen (say, where the attention looked)
    lead: Tensor | None = None      # (B, K), added to the scores while the best continuations are chosen, and then not


class Stepper(Protocol[S]):
    """One step of a model, for B utterances with K hypotheses each."""

    def step(self, last: Tensor, state: S) -> tuple[Step, S]:
        """The last ids (B, K) and the state → what comes next, and the state behind it."""

    def pick(self, state: S, rows: Tensor, ids: Tensor) -> S:
        """The state of the hypotheses numbered b·K + k in `rows` (B', K'), each extended by its id in `ids`."""


class Found(NamedTuple):
    """A finished hypothesis."""

    ids: list[int]          # without the final 0
    score: float            # log probability, bonus included
    log_probs: list[float]  # of each id, and of the end
    notes: Tensor           # (U + 1, N), one row for each id and the end
    ended: str              # "eos", or "limit": it was cut at the length limit
    again: bool = False     # found in a second try, by safer settings


@dataclass(frozen=True)
class Beam(Generic[S]):
    """Live hypotheses of B utterances, best first (by score and lead)."""

    state: S
    scores: Tensor      # (B, K) float64; -inf: an empty place
    ids: Tensor         # (B, K, u) int64
    log_probs: Tensor   # (B, K, u) float32
    notes: Tensor       # (B, K, u, N) float32

    @property
    def last(self) -> Tensor:
        """(B, K), the id that each hypothesis ends with; 0 before the first."""
        return self.ids[:, :, -1] if self.ids.size(2) else torch.zeros_like(self.scores, dtype=torch.long)


class Ending(NamedTuple):
    """A hypothesis of the beam that chose to end; its row counts within the utterance."""

    utterance: int
    row: int
    score: float
    log_prob: float


def start_beam(state: S, utterances: int, device: torch.device) -> Beam[S]:
    """One empty hypothesis for each utterance."""
    empty = torch.zeros(utterances, 1, 0, device=device)
    return Beam(state, torch.zeros(utterances, 1, dtype=torch.float64, device=device), empty.long(), empty,
                empty.unsqueeze(3))


def expand(stepper: Stepper[S], beam: Beam[S], width: int, bonus: float = 0.0,
           may_end: Tensor | None = None) -> tuple[Beam[S], list[Ending], Tensor]:
    """One step: the `width` best continuations of each utterance, and those that end.

    A hypothesis ends when its end is among the `width` best of all continuations. Hypotheses of as many ids may have
    come further or less far: the step's `lead` makes them comparable, like the future cost of phrase-based translation.

    Args:
        bonus: log probability added for every id
        may_end: (B,) bool; where False, the end is forbidden

    Returns:
        the next beam, the endings (rows of the given beam), and the notes (B, K, N) of this step for the endings.
    """
    step, state = stepper.step(beam.last, beam.state)
    log_probs = step.log_probs
    if may_end is not None:
        log_probs = log_probs.clone()
        log_probs[:, :, 0].masked_fill_(~may_end.unsqueeze(1), -math.inf)
    B, K, V = log_probs.shape
    total = beam.scores.unsqueeze(2) + log_probs.double()
    total[:, :, 1:] += bonus
    ranked = total if step.lead is None else total + step.lead.double().unsqueeze(2)
    best = ranked.flatten(1).topk(min(2 * width, K * V), dim=1).indices     # half of them may be ends, not more
    scores, row, ids = total.flatten(1).gather(1, best), best // V, best % V

    endings = []
    ends = (ids == 0) & (torch.arange(ids.size(1), device=ids.device) < width) & scores.isfinite()
    for b, place in ends.nonzero().tolist():
        k = int(row[b, place])
        endings.append(Ending(b, k, float(scores[b, place]), float(log_probs[b, k, 0])))

    order = (ids == 0).long().argsort(dim=1, stable=True)[:, :min(width, max(1, K * (V - 1)))]
    scores, row, ids = scores.gather(1, order), row.gather(1, order), ids.gather(1, order)
    scores = scores.masked_fill(ids == 0, -math.inf)
    empty = scores == -math.inf         # an empty place mirrors the best, so that it differs from no live hypothesis
    row, ids = torch.where(empty, row[:, :1], row), torch.where(empty, ids[:, :1], ids)
    utterance = torch.arange(B, device=ids.device).unsqueeze(1)
    chosen = log_probs[utterance, row, ids].float()
    return Beam(
        stepper.pick(state, utterance * K + row, ids), scores,
        torch.cat([beam.ids[utterance, row], ids.unsqueeze(2)], dim=2),
        torch.cat([beam.log_probs[utterance, row], chosen.unsqueeze(2)], dim=2),
        torch.cat([with_notes(beam.notes, step.notes)[utterance, row], step.notes[utterance, row].unsqueeze(2)], dim=2),
    ), endings, step.notes


def with_notes(notes: Tensor, like: Tensor) -> Tensor:
    """Empty notes get the width that the stepper writes."""
    return notes if notes.size(3) == like.size(2) else notes.new_zeros(*notes.shape[:3], like.size(2))


def search(stepper: Stepper[S], state: S, limits: Sequence[int], *, width: int, nbest: int = 1, bonus: float = 0.0,
           shortest: Sequence[int] | None = None, device: torch.device | None = None) -> list[list[Found]]:
    """The `nbest` best sequences of each utterance, best first.

    An utterance leaves the batch when its `nbest` finished hypotheses cannot be beaten by a live one (scores only
    fall while `bonus` is 0), or at its length limit, where the best live ones count as finished if none has ended.

    Args:
        state: the stepper's, for one empty hypothesis of each utterance
        limits: most ids of each utterance
        shortest: fewest ids of each utterance
    """
    device = device or torch.device("cpu")
    finished: list[list[Found]] = [[] for _ in limits]
    who = list(range(len(limits)))                      # the utterances still in the beam
    beam = start_beam(state, len(limits), device)
    for u in range(max(limits, default=-1) + 1):
        may_end = torch.tensor([u >= shortest[b] for b in who], device=device) if shortest is not None else None
        before = beam
        beam, endings, notes = expand(stepper, beam, width, bonus, may_end)
        for end in endings:
            where = (end.utterance, end.row)
            finished[who[end.utterance]].append(Found(
                before.ids[where].tolist(), end.score, [*before.log_probs[where].tolist(), end.log_prob],
                torch.cat([before.notes[where], notes[where].unsqueeze(0)]) if u else notes[where].unsqueeze(0), "eos"))
        staying = []
        best = beam.scores.amax(dim=1).tolist()
        for b, utterance in enumerate(who):
            done = sorted(finished[utterance], key=lambda f: -f.score)[:nbest]
            finished[utterance] = done
            if u < limits[utterance] and best[b] > -math.inf and (len(done) < nbest or done[-1].score < best[b]):
                staying.append(b)
            elif not done:
                finished[utterance] = cut(before, b, nbest)
        if not staying:
            break
        if len(staying) < len(who):
            beam = keep(stepper, beam, torch.tensor(staying, device=device))
            who = [who[b] for b in staying]
    return finished


def cut(beam: Beam[S], utterance: int, nbest: int) -> list[Found]:
    """The live hypotheses of an utterance as they stand, when none ended in time."""
    found = []
    for k in range(min(nbest, beam.scores.size(1))):
        score = float(beam.scores[utterance, k])
        if score > -math.inf:
            found.append(Found(beam.ids[utterance, k].tolist(), score, beam.log_probs[utterance, k].tolist(),
                               beam.notes[utterance, k], "limit"))
    return found


def keep(stepper: Stepper[S], beam: Beam[S], utterances: Tensor) -> Beam[S]:
    """The beam of some utterances alone."""
    K = beam.scores.size(1)
    rows = utterances.unsqueeze(1) * K + torch.arange(K, device=utterances.device)
    state = stepper.pick(beam.state, rows, beam.last[utterances])
    return Beam(state, beam.scores[utterances], beam.ids[utterances], beam.log_probs[utterances],
                beam.notes[utterances])
