"""One step of the recogniser for the search: attention decoder, CTC prefix scores, and the guards of long input."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from asr import config
from asr.model import decoder
from asr.model.attention import Aids, Gaze, Memory, Window
from asr.model.recognizer import BLANK, Recognizer
from asr.search import ctc
from asr.search.beam import Step

SPOKEN = 0.1            # probability of anything but the blank that counts as speech
HOPELESS = -1e3         # log score of what the CTC branch holds impossible: scores stay numbers to compare
MORE_CANDIDATES = 5     # ids beyond the beam's width for which the CTC score is computed, best by attention


@dataclass(frozen=True)
class SearchState:
    """Everything that is known of the hypotheses of B utterances."""

    memory: Memory
    decoder: decoder.State
    ctc_log_probs: Tensor | None            # (B, S, V)
    speech: Tensor | None                   # (B, S) the next frame in which something is said, or the length
    forward: ctc.Forward | None             # None before the first step
    pending: ctc.Extended | None = None     # between a step and the pick behind it


class AttentionStepper:
    """A `beam.Stepper` around a recogniser. Notes of a step: the focus (encoder frame) and the weights' entropy."""

    def __init__(self, network: Recognizer, settings: config.Decode) -> None:
        self.network = network
        self.settings = settings
        self.aids = aids_of(network, settings)
        self.looks = network.decoder.attention.__class__.__name__ != "FinalState"
        self.ctc_weight = settings.ctc_weight if network.ctc is not None else 0.0
        embedded = network.decoder.embedding.weight
        self.drives = network.decoder.drive(torch.arange(len(embedded), device=embedded.device))    # once for all steps

    def frames(self, seconds: float) -> int:
        """Encoder frames in so many seconds."""
        return round(seconds / self.network.seconds)

    def start(self, memory: Memory) -> SearchState:
        """One empty hypothesis for each utterance of the memory."""
        log_probs = self.network.ctc_log_probs(memory) if self.network.ctc is not None else None
        state = self.network.decoder.start(memory)
        if self.aids.window is not None:        # the middle of an evenly spread α_0 is the middle of the recording
            weights = torch.zeros_like(state.gaze.weights)
            weights[:, :, 0] = 1.0
            state = replace(state, gaze=Gaze(weights, None))
        return SearchState(memory, state, log_probs, next_speech(log_probs, memory), None)

    def step(self, last: Tensor, state: SearchState) -> tuple[Step, SearchState]:
        """The last ids (B, K) → log probabilities of the next (B, K, V) and the state behind."""
        centre = self.settings.window.centre
        state = self.over_silence(state)
        before = state.decoder.gaze.focus(centre)
        log_probs, after = self.network.decoder.step(last, state.memory, state.decoder, self.aids, self.drives)
        focus, weights = after.gaze.focus(centre), after.gaze.weights
        entropy = -(weights * weights.clamp(min=1e-10).log()).sum(2)
        state = replace(state, decoder=after)
        if self.ctc_weight:
            log_probs, state = self._with_ctc(log_probs, last, state)
        if self.looks:
            log_probs = self._guarded(log_probs, before, focus, state.memory.lengths)
        lead = self.settings.pace * self.network.seconds * focus.float() if self.settings.pace and self.looks else None
        return Step(log_probs, torch.stack([focus.float(), entropy], dim=2), lead), state

    def pick(self, state: SearchState, rows: Tensor, ids: Tensor) -> SearchState:
        """The state of the hypotheses numbered in `rows` (B', K'), extended by `ids`."""
        K = state.decoder.hidden.size(1)
        memory, log_probs, speech = state.memory, state.ctc_log_probs, state.speech
        if len(rows) != len(memory.lengths):
            utterances = rows[:, 0] // K
            memory = memory.pick(utterances)
            S = memory.values.size(1)
            log_probs = None if log_probs is None else log_probs[utterances, :S]
            speech = None if speech is None else speech[utterances, :S]
        forward = state.forward
        if state.pending is not None:
            forward = ctc.choose(state.pending, rows, ids)
        elif forward is not None:
            forward = ctc.picked(forward, rows)
        picked = state.decoder.pick(rows)
        if picked.gaze.first is None and picked.gaze.weights.size(2) > memory.values.size(1):
            gaze = picked.gaze._replace(weights=picked.gaze.weights[..., :memory.values.size(1)])
            picked = replace(picked, gaze=gaze)
        return SearchState(memory, picked, log_probs, speech, forward)

    def over_silence(self, state: SearchState) -> SearchState:
        """Move each focus behind which a whole window is silent to just before the next speech.

        The decoder is made to emit a phone a step and has none for a pause, so a window that holds nothing else would
        never be left. What is silent, the CTC branch knows; a model without one has no such help.
        """
        window = self.aids.window
        if window is None or state.speech is None:
            return state
        gaze = state.decoder.gaze
        focus = gaze.focus(window.centre)
        ahead = state.speech.gather(1, (focus + 2).clamp(0, state.speech.size(1) - 1)) - focus
        shift = torch.where(ahead >= window.ahead, ahead - max(2, window.ahead // 4), 0)
        first = shift if gaze.first is None else gaze.first + shift
        return replace(state, decoder=replace(state.decoder, gaze=Gaze(gaze.weights, first)))

    def _with_ctc(self, attention: Tensor, last: Tensor, state: SearchState) -> tuple[Tensor, SearchState]:
        """Attention and CTC prefix scores, weighted; ids that attention finds hopeless are left out."""
        assert state.ctc_log_probs is not None
        gaze, lengths = state.decoder.gaze, state.memory.lengths
        first = torch.zeros_like(last) if gaze.first is None else gaze.first
        frames = ctc.frames_of(state.ctc_log_probs, lengths, first, gaze.weights.size(2))
        if state.forward is None:
            forward = ctc.start_forward(frames, first)
        else:
            forward = ctc.moved_to(state.forward, first, frames, last)
        many = min(self.settings.beam + MORE_CANDIDATES, attention.size(2) - 1)
        candidates = attention[:, :, 1:].topk(many, dim=2).indices + 1
        extended = ctc.extend(forward, frames, last, candidates)
        weight = self.ctc_weight
        both = torch.full_like(attention, float("-inf"))
        gain = extended.gain.clamp(min=HOPELESS).to(attention.dtype)
        both.scatter_(2, candidates, (1 - weight) * attention.gather(2, candidates) + weight * gain)
        both[:, :, 0] = (1 - weight) * attention[:, :, 0] + weight * ctc.end_gain(forward, lengths).to(attention.dtype)
        end = both[:, :, 0]         # what the window does not reach cannot be ended: forbidden, not merely unlikely
        both[:, :, 0] = end.masked_fill(end < weight * ctc.NEVER / 2, float("-inf"))
        return both, replace(state, forward=forward, pending=extended)

    def _guarded(self, log_probs: Tensor, before: Tensor, focus: Tensor, lengths: Tensor) -> Tensor:
        """No end while the focus is far from the end, and no hypothesis whose focus jumps while another's does not.

        Every pause looks like an end to a decoder that sees a window, so the end waits for the last frames.
        """
        settings = self.settings
        forbidden = torch.zeros_like(log_probs, dtype=torch.bool)
        if settings.eos_gate:
            forbidden[:, :, 0] = focus < lengths.unsqueeze(1) - 1 - self.frames(settings.eos_gate)
        jump = focus - before
        jumped = torch.zeros_like(jump, dtype=torch.bool)
        if settings.jump_back:
            jumped |= jump < -self.frames(settings.jump_back)
        if settings.jump_ahead:
            jumped |= jump > self.frames(settings.jump_ahead)
        jumped &= ~jumped.all(dim=1, keepdim=True)
        return log_probs.masked_fill(forbidden | jumped.unsqueeze(2), float("-inf"))


def next_speech(log_probs: Tensor | None, memory: Memory) -> Tensor | None:
    """(B, S, V) of the CTC branch → (B, S) the next frame, from each on, that holds speech; without any, the length."""
    if log_probs is None:
        return None
    spoken = (1 - log_probs[:, :, BLANK].exp() > SPOKEN) & memory.mask
    frames = torch.arange(spoken.size(1), device=spoken.device)
    frames = torch.where(spoken, frames, memory.lengths.unsqueeze(1))
    return frames.flip(1).cummin(dim=1).values.flip(1)


def aids_of(network: Recognizer, settings: config.Decode) -> Aids:
    """The attention's aids at decode time, in encoder frames."""
    window = None
    if settings.window.enabled and network.decoder.attention.__class__.__name__ != "FinalState":
        window = Window(max(1, round(settings.window.back / network.seconds)),
                        max(1, round(settings.window.ahead / network.seconds)), settings.window.centre)
    normaliser = "" if settings.normaliser == "as-trained" else settings.normaliser
    return Aids(window, settings.beta, settings.beta_log_length, settings.keep, normaliser)


def no_wider(settings: config.Decode, seconds: float) -> config.Decode:
    """The settings with a window of which neither half is longer than what is searched together: more holds nothing."""
    window = settings.window.model_copy(update={"back": min(settings.window.back, seconds),
                                                "ahead": min(settings.window.ahead, seconds)})
    return settings.model_copy(update={"window": window})
