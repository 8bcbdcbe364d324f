"""The second road for long recordings: spans between quiet places, decoded as a batch and stitched by time.

Walking through an hour phone by phone keeps the processor on one small step after another; sixteen spans at a time
cost little more than one. The frames come from the same encoder blocks, so a span hears what lies around it. A cut is
made in a silence that outlasts the attention's window, where there is one, and else at the quietest place of the second
half. There both sides can be made to overlap, and each then keeps the phones on its own side; measured, an overlap says
more phones twice than it saves.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from asr import config
from asr.model.attention import Memory
from asr.model.recognizer import BLANK, Recognizer
from asr.search.longform import Settled
from asr.search.recognise import search_memory
from asr.search.recording import hand_back
from asr.search.stepper import SPOKEN

PAD = 0.3           # s of a silence that a span keeps at either end
SMOOTH = 0.06       # s on each side over which quietness is averaged


@dataclass(frozen=True)
class Span:
    """A stretch to search, in encoder frames of the recording; of its phones those in [keep_from, keep_to) count."""

    start: int
    end: int
    keep_from: float
    keep_to: float


@dataclass
class Cutter:
    """Cuts a growing recording into spans. Lengths in encoder frames."""

    longest: int
    overlap: int
    pause: int              # silence that parts two spans
    pad: int
    smooth: int
    quiet: Tensor = field(default_factory=lambda: torch.zeros(0))       # log probability of the blank, from `begin` on
    begin: int = 0          # frame of quiet[0]; what lies before has been given out
    carried: float = -math.inf      # phones before this belong to the span before

    def push(self, quiet: Tensor) -> Iterator[Span]:
        """More frames: (n,) log probabilities of the blank → the spans that are settled by them."""
        self.quiet = torch.cat([self.quiet, quiet])
        while len(self.quiet) >= self.longest + self.overlap + self.pause:
            yield from self._cut(complete=False)

    def finish(self) -> Iterator[Span]:
        """The spans that are left."""
        while len(self.quiet):
            yield from self._cut(complete=True)

    def _cut(self, *, complete: bool) -> Iterator[Span]:
        spoken = (1 - self.quiet.exp()) > SPOKEN
        where = spoken[:self.longest].nonzero().flatten()
        if len(where) == 0:                         # nothing is said
            self._advance(min(len(self.quiet), self.longest) if complete else self.longest - self.pad)
            return
        first = max(0, int(where[0]) - self.pad)
        pause = self._pause(where, len(self.quiet), complete)
        if pause is not None:
            yield Span(self.begin + first, self.begin + min(pause + self.pad, len(self.quiet)), self.carried, math.inf)
            self._advance(pause)
            self.carried = -math.inf
        elif complete and len(self.quiet) - first <= self.longest:
            yield Span(self.begin + first, self.begin + len(self.quiet), self.carried, math.inf)
            self._advance(len(self.quiet))
        else:
            cut = self._quietest(first + self.longest // 2, min(first + self.longest, len(self.quiet)))
            end = min(cut + self.overlap, len(self.quiet))
            yield Span(self.begin + first, self.begin + end, self.carried, self.begin + cut)
            self.carried = float(self.begin + cut)
            self._advance(max(first + 1, cut - self.overlap))

    def _pause(self, where: Tensor, known: int, complete: bool) -> int | None:
        """The first spoken frame's end behind which a long silence begins, within the longest span."""
        gaps = torch.diff(torch.cat([where, torch.tensor([known if complete else max(known, int(where[-1]) + 1)])]))
        if not complete and known > self.longest:   # what follows the last spoken frame within the span is known
            later = ((1 - self.quiet.exp()) > SPOKEN)[int(where[-1]) + 1:].nonzero().flatten()
            gaps[-1] = int(later[0]) + 1 if len(later) else known - int(where[-1])
        long = (gaps > self.pause).nonzero().flatten()
        return int(where[int(long[0])]) + 1 if len(long) else None

    def _quietest(self, low: int, high: int) -> int:
        """The frame in [low, high) about which the blank is surest."""
        width = 2 * self.smooth + 1
        padded = torch.nn.functional.pad(self.quiet.clamp(min=-10.0)[None, None], (self.smooth, self.smooth),
                                         mode="replicate")
        smooth = torch.nn.functional.avg_pool1d(padded, width, 1)[0, 0]
        return low + int(smooth[low:high].argmax())

    def _advance(self, frames: int) -> None:
        self.quiet, self.begin = self.quiet[frames:], self.begin + frames


class SpanSearch:
    """One recording, searched span by span in batches."""

    def __init__(self, network: Recognizer, settings: config.Decode) -> None:
        self.network, self.settings = network, settings
        def frames(seconds: float) -> int:
            return max(1, round(seconds / network.seconds))
        long = settings.long
        self.cutter = Cutter(frames(long.span), frames(long.overlap), frames(settings.window.ahead), frames(PAD),
                             frames(SMOOTH))
        self.values = torch.zeros(0, network.encoder.width)     # encoder frames from `first` on
        self.first = self.encoded = 0

    @torch.inference_mode()
    def run(self, blocks: Iterable[Tensor]) -> Iterator[Settled]:
        """Encoder frames (n, D), block by block → the phones of each span, in order."""
        waiting: list[Span] = []
        for block in blocks:
            self.values = torch.cat([self.values.to(block.device), block])
            self.encoded += len(block)
            waiting += self.cutter.push(self._quiet(block))
            while len(waiting) >= self.settings.long.batch:
                yield from self._search(waiting[:self.settings.long.batch])
                waiting = waiting[self.settings.long.batch:]
            self._forget(waiting)
        waiting += self.cutter.finish()
        for start in range(0, len(waiting), self.settings.long.batch):
            yield from self._search(waiting[start:start + self.settings.long.batch])

    def _quiet(self, values: Tensor) -> Tensor:
        """(n,) log probability of the blank; without a CTC branch no place is quieter than another."""
        if self.network.ctc is None:
            return torch.full((len(values),), -10.0)
        return self.network.ctc(values).float().log_softmax(-1)[:, BLANK].cpu()

    def _forget(self, waiting: list[Span]) -> None:
        """Frames before all that is still to be searched."""
        needed = min([self.cutter.begin, *(span.start for span in waiting)])
        self.values, self.first = self.values[needed - self.first:], needed

    def _search(self, spans: list[Span]) -> Iterator[Settled]:
        hand_back()
        stretches = [self.values[span.start - self.first:span.end - self.first] for span in spans]
        lengths = torch.tensor([len(stretch) for stretch in stretches], device=self.values.device)
        memory: Memory = self.network.decoder.attention.remember(
            torch.nn.utils.rnn.pad_sequence(stretches, batch_first=True), lengths)
        for span, found in zip(spans, search_memory(self.network, memory, self.settings), strict=True):
            if not found:
                continue
            best = found[0]
            foci = [focus + span.start for focus in best.notes[:, 0].tolist()]
            kept = [u for u in range(len(best.ids)) if span.keep_from <= foci[u] < span.keep_to]
            log_probs = [best.log_probs[u] for u in kept]
            yield Settled([best.ids[u] for u in kept], log_probs, [foci[u] for u in kept],
                          [float(best.notes[u, 1]) for u in kept], sum(log_probs), self.encoded, best.ended,
                          again=best.again)
