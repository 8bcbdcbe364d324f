"""Search over a recording of any length, in memory that does not depend on it.

The encoder's frames come in blocks. The beam walks on while the window of every hypothesis lies inside what has been
encoded; what lies behind all windows is forgotten; phones on which all hypotheses agree are given out and leave the
beam. At a long silence they all meet, as at an end, and the best goes on alone: what was said before is given out, and
memory need not hold the silence for one that lags behind.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from asr import config
from asr.model.attention import Gaze, Memory, moved
from asr.model.recognizer import Recognizer
from asr.search.beam import Beam, Ending, expand, start_beam
from asr.search.ctc import silence_gain
from asr.search.stepper import AttentionStepper, SearchState, next_speech, no_wider

PAUSE = 5.0             # s of silence at which hypotheses meet, and at which spans are cut
STUCK_STEPS = 25        # steps in which the best focus must advance …
STUCK_SECONDS = 0.4     # … by so much, or it is pushed on


@dataclass(frozen=True)
class Settled:
    """Phones that will not change any more."""

    ids: list[int]
    log_probs: list[float]
    foci: list[float]           # encoder frames from the start of the recording
    entropies: list[float]
    score: float                # log probability of the whole hypothesis, on the last piece
    encoded: int                # encoder frames heard so far
    ended: str = ""             # "eos" or "limit" on the last piece
    pushed: int = 0             # times that the focus had to be pushed on since the last piece
    again: bool = False         # found in a second try, by safer settings
    pause: bool = False         # a long silence follows


@dataclass(frozen=True)
class Rest:
    """A hypothesis that has come to a long silence and waits there for the others."""

    beam: Beam[SearchState]     # this one alone
    total: float                # its score, and the CTC branch's that it has left nothing out before the silence
    origin: int                 # frame that its gaze is counted from
    steps: int                  # when it came


def walking_lag(long: config.Long) -> float:
    """Seconds between the end of what is encoded and the last phone that is given out, at most, where there is speech.

    Phones settle within a span; as long may they wait for a second try (second.py). Before them lie the block that
    was encoded last, and of a silence so much that it is known to be long.
    """
    return 2 * widest(long)


def widest(long: config.Long) -> float:
    """Seconds of a window on either side of the focus, at most: no more than phones wait, so that memory is bounded."""
    return long.span + long.block + PAUSE


class LongSearch:
    """One recording, searched as it arrives."""

    def __init__(self, network: Recognizer, settings: config.Decode) -> None:
        if not settings.window.enabled or network.decoder.attention.__class__.__name__ == "FinalState":
            raise ValueError("long input needs the attention's window")
        self.network, self.settings = network, no_wider(settings, widest(settings.long))
        self.stepper = AttentionStepper(network, self.settings)
        self.origin = 0             # encoder frame that column 0 of the memory stands for
        self.encoded = 0            # frames encoded so far
        self.complete = False       # the recording has ended
        self.pushed = 0
        self.progress: list[float] = []     # the best hypothesis's focus at each of the last steps
        self.stuck, self.leap = -1.0, 0     # the furthest frame where it was pushed on, and how far the last time
        self.best_end: tuple[Ending, Beam[SearchState], Tensor] | None = None
        self.rest: Rest | None = None
        self.told = 0               # phones at the front of the beam that have been given out
        self.pause = round(PAUSE / network.seconds)

    @torch.inference_mode()
    def run(self, blocks: Iterable[Tensor]) -> Iterator[Settled]:
        """Encoder frames (n, D), block by block → phones as they settle, the last piece with `ended` set."""
        source = iter(blocks)
        state = self._begin(source)
        if state is None:
            yield Settled([], [], [], [], 0.0, 0, "eos")
            return
        beam = start_beam(state, 1, state.memory.values.device)
        steps = 0
        while True:
            beam = self._supply(beam, source)
            beam = self._parked(beam, steps)
            if self.rest is not None and self._met(beam, steps):
                beam, settled = self._awoken(beam)
                yield settled
                continue
            if self.complete and steps > self.settings.longest * self.encoded * self.network.seconds + 10:
                yield self._last(beam, "limit")
                return
            before = beam
            may_end = torch.tensor([self.complete and self.rest is None], device=beam.scores.device)
            beam, endings, notes = expand(self.stepper, beam, self.settings.beam, self.settings.length_bonus, may_end)
            steps += 1
            beam.notes[:, :, -1, 0] += self.origin          # foci are told in frames of the recording
            notes[:, :, 0] += self.origin
            for ending in endings:
                if self.best_end is None or ending.score > self.best_end[0].score:
                    self.best_end = ending, before, notes
            if self.best_end is not None and self.best_end[0].score >= float(beam.scores[0].max()):
                yield self._last(beam, "eos")
                return
            beam = self._unstick(beam)
            if self.best_end is None and self.rest is None:
                beam, piece = self._settle(beam)
                if piece is not None:
                    yield piece

    # Memory: grows at the front, is forgotten behind.

    def _begin(self, source: Iterator[Tensor]) -> SearchState | None:
        first = next((block for block in source if len(block)), None)
        if first is None:
            return None
        self.encoded = len(first)
        lengths = torch.tensor([len(first)], device=first.device)
        memory = self.network.decoder.attention.remember(first.unsqueeze(0), lengths)
        return self.stepper.start(memory)

    def _supply(self, beam: Beam[SearchState], source: Iterator[Tensor]) -> Beam[SearchState]:
        """Encode on until every live window lies inside the memory; forget what lies behind all of them.

        Where nothing is said as far as is known, the foci move to its end and reading goes on, until the silence is
        over or so long that a hypothesis rests before it.
        """
        window = self.stepper.aids.window
        assert window is not None
        while True:
            beam = replace(beam, state=self.stepper.over_silence(beam.state))
            beam = self._forget(beam, int(self._foci(beam).min()) - window.width)
            walking = self._foci(beam, besides=self._resting(beam))
            if self.complete or not len(walking) \
                    or int(walking.max()) + window.ahead + 1 < beam.state.memory.values.size(1):
                return beam
            block = next(source, None)
            if block is None:
                self.complete = True
            elif len(block):
                beam = replace(beam, state=self._extended(beam.state, block))
                self.encoded += len(block)

    def _forget(self, beam: Beam[SearchState], frames: int) -> Beam[SearchState]:
        """Forget the first frames of the memory, if that is worth a copy of the others."""
        window = self.stepper.aids.window
        assert window is not None
        if frames <= window.width or beam.state.decoder.gaze.first is None:
            return beam
        self.origin += frames
        self.progress = [focus - frames for focus in self.progress]
        return replace(beam, state=self._forgotten(beam.state, frames))

    def _extended(self, state: SearchState, block: Tensor) -> SearchState:
        lengths = torch.tensor([len(block)], device=block.device)
        new = self.network.decoder.attention.remember(block.unsqueeze(0), lengths)
        memory = Memory(torch.cat([state.memory.values, new.values], dim=1),
                        torch.cat([state.memory.keys, new.keys], dim=1), state.memory.lengths + lengths)
        log_probs = state.ctc_log_probs
        more = self.network.ctc_log_probs(new) if log_probs is not None else None
        gaze = state.decoder.gaze
        if gaze.first is None:      # before the first step the weights cover the memory
            gaze = Gaze(torch.nn.functional.pad(gaze.weights, (0, len(block))), None)
        joined = torch.cat([log_probs, more], dim=1) if log_probs is not None and more is not None else None
        return replace(state, memory=memory, ctc_log_probs=joined, speech=next_speech(joined, memory),
                       decoder=replace(state.decoder, gaze=gaze))

    def _forgotten(self, state: SearchState, frames: int) -> SearchState:
        memory, gaze = moved(state.memory, state.decoder.gaze, frames)
        forward = state.forward
        if forward is not None:
            forward = replace(forward, first=forward.first - frames)
        log_probs = None if state.ctc_log_probs is None else state.ctc_log_probs[:, frames:]
        return replace(state, memory=memory, ctc_log_probs=log_probs, speech=next_speech(log_probs, memory),
                       forward=forward, decoder=replace(state.decoder, gaze=gaze))

    # A long silence: hypotheses rest before it until the best is known.

    def _resting(self, beam: Beam[SearchState]) -> Tensor:
        """(1, K) live hypotheses whose focus has moved over a long silence since their last phone."""
        live = beam.scores.isfinite()
        if self.best_end is not None or beam.ids.size(2) <= self.told:      # what was said has been given out
            return torch.zeros_like(live)
        focus = beam.state.decoder.gaze.focus(self.settings.window.centre) + self.origin
        return live & (focus - beam.notes[:, :, -1, 0] > self.pause)

    def _parked(self, beam: Beam[SearchState], steps: int) -> Beam[SearchState]:
        """The beam without the hypotheses that rest; the best of them is remembered."""
        resting = self._resting(beam)
        if not bool(resting.any()):
            return beam
        forward, totals = beam.state.forward, beam.scores
        if forward is not None:             # else one that leaves out the last phones would get here first
            totals = totals + self.stepper.ctc_weight * silence_gain(forward)
        row = int(totals.masked_fill(~resting, -math.inf)[0].argmax())
        if self.rest is None or float(totals[0, row]) > self.rest.total:
            since = steps if self.rest is None else self.rest.steps
            self.rest = Rest(self._alone(beam, row), float(totals[0, row]), self.origin, since)
        return replace(beam, scores=beam.scores.masked_fill(resting, -math.inf))

    def _alone(self, beam: Beam[SearchState], row: int) -> Beam[SearchState]:
        rows = torch.tensor([[row]], device=beam.scores.device)
        return Beam(self.stepper.pick(beam.state, rows, beam.last[:, row:row + 1]), beam.scores[:, row:row + 1],
                    beam.ids[:, row:row + 1], beam.log_probs[:, row:row + 1], beam.notes[:, row:row + 1])

    def _met(self, beam: Beam[SearchState], steps: int) -> bool:
        """Whether none that is still on its way can be better than the one that rests, or all have had their time."""
        assert self.rest is not None
        return self.rest.total >= float(beam.scores.max()) or steps - self.rest.steps > self.settings.long.settle

    def _awoken(self, beam: Beam[SearchState]) -> tuple[Beam[SearchState], Settled]:
        """The one that rested goes on alone, in the memory as it is by now; all that it has said is given out."""
        assert self.rest is not None
        best, gone, self.rest = self.rest.beam, self.origin - self.rest.origin, None
        piece = self._piece(best.ids[0, 0], best.log_probs[0, 0], best.notes[0, 0], best.ids.size(2))
        gaze, forward = best.state.decoder.gaze, best.state.forward
        assert gaze.first is not None
        state = replace(best.state, memory=beam.state.memory, ctc_log_probs=beam.state.ctc_log_probs,
                        speech=beam.state.speech, forward=forward and replace(forward, first=forward.first - gone),
                        decoder=replace(best.state.decoder, gaze=Gaze(gaze.weights, gaze.first - gone)))
        self.told, self.progress = 1, []        # the next step asks for the last phone
        return replace(best, state=state, ids=best.ids[:, :, -1:], log_probs=best.log_probs[:, :, -1:],
                       notes=best.notes[:, :, -1:]), replace(piece, pause=True)

    # The focus: pushed on when it is stuck.

    def _foci(self, beam: Beam[SearchState], besides: Tensor | None = None) -> Tensor:
        """Foci of the live hypotheses, in frames of the memory; with `besides` (1, K), of those that are not in it."""
        gaze = beam.state.decoder.gaze
        if gaze.first is None:      # the first window lies around frame 0
            return torch.zeros_like(beam.last)
        foci = gaze.focus(self.settings.window.centre)
        live = beam.scores.isfinite()
        if besides is not None:
            return foci[live & ~besides]
        return foci[live] if bool(live.any()) else foci.flatten()

    def _unstick(self, beam: Beam[SearchState]) -> Beam[SearchState]:
        """Push the focus on when the best hypothesis says phone after phone about the same spot.

        Where it comes back to it, the next push is twice as far, so that every search comes to an end.
        """
        self.progress.append(float(beam.state.decoder.gaze.focus(self.settings.window.centre)[0, 0]))
        self.progress = self.progress[-STUCK_STEPS:]
        window = self.stepper.aids.window
        assert window is not None
        at_end = self.complete and self.progress[-1] >= beam.state.memory.values.size(1) - 1 - window.ahead
        if len(self.progress) < STUCK_STEPS or at_end \
                or (self.progress[-1] - self.progress[0]) * self.network.seconds > STUCK_SECONDS:
            return beam
        here = self.origin + self.progress[-1]
        self.leap = max(1, window.ahead // 2) if here > self.stuck else 2 * self.leap
        self.stuck, self.progress = max(self.stuck, here), []
        self.pushed += 1
        return self._shifted(beam, torch.full_like(beam.ids[:, :, -1], self.leap))

    def _shifted(self, beam: Beam[SearchState], frames: Tensor) -> Beam[SearchState]:
        """Every gaze moved ahead by its number of frames (1, K)."""
        gaze = beam.state.decoder.gaze
        if gaze.first is None or not bool(frames.any()):
            return beam
        decoder = replace(beam.state.decoder, gaze=Gaze(gaze.weights, gaze.first + frames))
        return replace(beam, state=replace(beam.state, decoder=decoder))

    # Phones: given out once all hypotheses agree on them.

    def _settle(self, beam: Beam[SearchState]) -> tuple[Beam[SearchState], Settled | None]:
        """Give out the prefix that all live hypotheses share; where none settles for long, the best decides."""
        live = beam.scores[0].isfinite()
        same = (beam.ids[0] == beam.ids[0, :1]).cumprod(dim=1)              # (K, u)
        length = beam.ids.size(2)
        foci = beam.notes[0, 0, :, 0]
        late = int((foci < foci[-1] - self.settings.long.span / self.network.seconds).cumprod(0).sum())
        overdue = max(length - self.settings.long.settle, min(late, length - 1))
        if overdue > 0:
            live &= same[:, overdue - 1] > 0
            beam = replace(beam, scores=beam.scores.masked_fill(~live.unsqueeze(0), -math.inf))
        agreed = min(int(same[live].sum(dim=1).min()), length - 1)          # one phone stays: the last
        if agreed < 1:
            return beam, None
        settled = None
        if agreed > self.told:
            settled = self._piece(beam.ids[0, 0], beam.log_probs[0, 0], beam.notes[0, 0], agreed)
        self.told = 0
        return replace(beam, ids=beam.ids[:, :, agreed:], log_probs=beam.log_probs[:, :, agreed:],
                       notes=beam.notes[:, :, agreed:]), settled

    def _last(self, beam: Beam[SearchState], ended: str) -> Settled:
        """What is left when the search is over."""
        if self.best_end is not None:
            ending, before, notes = self.best_end
            row = ending.row
            log_probs = torch.cat([before.log_probs[0, row], before.log_probs.new_tensor([ending.log_prob])])
            every = torch.cat([before.notes[0, row], notes[0, row].unsqueeze(0)])
            piece = self._piece(before.ids[0, row], log_probs, every, len(every))
            return replace(piece, ended="eos", score=ending.score)
        piece = self._piece(beam.ids[0, 0], beam.log_probs[0, 0], beam.notes[0, 0], beam.ids.size(2))
        return replace(piece, ended=ended, score=float(beam.scores[0, 0]))

    def _piece(self, ids: Tensor, log_probs: Tensor, notes: Tensor, count: int) -> Settled:
        """The first `count` phones of a hypothesis that have not been given out."""
        pushed, self.pushed = self.pushed, 0
        kept = slice(self.told, count)
        return Settled(ids[kept].tolist(), log_probs[kept].tolist(), notes[kept, 0].tolist(), notes[kept, 1].tolist(),
                       0.0, self.encoded, pushed=pushed)
