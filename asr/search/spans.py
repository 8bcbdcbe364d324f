"""The second road for long recordings: spans between quiet places, decoded as a batch and stitched by time.

Walking through an hour phone by phone keeps the processor on one small step after another; eight spans at a time cost
little more than one. The frames come from the same encoder blocks, so a span hears what lies around it. A cut is made
in a long silence, where there is one, and else at the quietest place of the second half. There both sides overlap, and
are stitched on a phone that both have heard (seams.py).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from asr import config
from asr.model.attention import Memory
from asr.model.recognizer import BLANK, Recognizer
from asr.search.longform import PAUSE, Settled, walking_lag
from asr.search.recognise import search_memory
from asr.search.recording import hand_back
from asr.search.seams import seam
from asr.search.stepper import SPOKEN

# Silences of PAUSE part two spans; where shorter ones did, each span's edge said a phone too many.
PAD = 0.3           # s of a silence that a span keeps at either end
SMOOTH = 0.06       # s on each side over which quietness is averaged
SHORTEST = 4        # frames of the longest span at least
SAME = 0.12         # s: a phone that two spans hear no further apart is one
LIFT = 4.0          # added to a level in standard deviations of the training data, so that few lie below 0
LEAST, MOST = 0.2, 10.0     # never so sure of the blank that it would count as silence; and what `quietest` tells apart


@dataclass(frozen=True)
class Span:
    """A stretch to search, in encoder frames of the recording."""

    start: int
    end: int
    shared: bool = False    # its end may lie in the next span as well


@dataclass
class Cutter:
    """Cuts a growing recording into spans. Lengths in encoder frames."""

    longest: int
    overlap: int            # on each side of a cut
    pause: int              # silence that parts two spans
    pad: int
    smooth: int
    quiet: Tensor = field(default_factory=lambda: torch.zeros(0))       # log probability of the blank, from `begin` on
    begin: int = 0          # frame of quiet[0]; what lies before has been given out

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
        where = (1 - self.quiet.exp() > SPOKEN).nonzero().flatten()     # frames in which something is said
        begin, known = self.begin, len(self.quiet)
        if len(where) == 0:
            self._advance(known if complete else known - self.pad)
            return
        if int(where[0]) > self.pad:            # silence before the first word is passed over
            self._advance(int(where[0]) - self.pad)
            return
        pause = self._pause(where)
        if pause is not None:
            yield Span(begin, begin + min(pause + self.pad, known))
            self._advance(pause)
        elif complete and known <= self.longest + self.overlap:
            yield Span(begin, begin + known)
            self._advance(known)
        else:
            cut = self._quietest(max(self.longest // 2, 3 * self.overlap), self.longest)    # no frame is in three spans
            yield Span(begin, begin + min(cut + self.overlap, known), shared=True)
            self._advance(cut - self.overlap)

    def _pause(self, where: Tensor) -> int | None:
        """The end of speech behind which a long silence begins, so near that what is cut off would all be shared."""
        gaps = torch.diff(where, append=torch.tensor([len(self.quiet)]))
        long = ((gaps > self.pause) & (where < self.longest + self.overlap)).nonzero().flatten()
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


class Loudness:
    """What a model without a CTC branch has to tell quiet places by: the energy of the features that it is fed.

    It orders places, no more: how quiet a silence is depends on the recording, so none is left out for being quiet.
    A thread that works ahead may add levels while the search takes them.
    """

    def __init__(self, mels: int, stride: int) -> None:
        self.mels, self.stride = mels, stride
        self.levels = deque[Tensor]()       # of feature frames that the search has not come to yet

    def features(self, pieces: Iterable[Tensor]) -> Iterator[Tensor]:
        """Normalised features (t, F) on their way to the encoder."""
        for piece in pieces:
            self.levels.append(piece[:, :self.mels].mean(dim=1).cpu())
            yield piece

    def quiet(self, frames: int) -> Tensor:
        """Of the next encoder frames (n,), what stands for the blank's log probability: less where it is louder."""
        wanted, known = frames * self.stride, [torch.zeros(0)]
        while self.levels and wanted > sum(map(len, known)):
            known.append(self.levels.popleft())
        now = torch.cat(known)
        self.levels.appendleft(now[wanted:])
        now = torch.nn.functional.pad(now[:wanted], (0, max(0, wanted - len(now))))
        return -torch.nn.functional.softplus(now.view(frames, self.stride).mean(dim=1) + LIFT).clamp(LEAST, MOST)


class Held:
    """Encoder frames of a growing recording that are still to be searched, block by block as they came."""

    def __init__(self) -> None:
        self.blocks: list[tuple[int, Tensor]] = []      # first frame in the recording, (n, D)
        self.end = 0                                    # frames that came

    def add(self, block: Tensor) -> None:
        """The next (n, D); copied, for it may be a corner of a large batch that a view would keep in memory."""
        self.blocks.append((self.end, block.clone()))
        self.end += len(block)

    def padded(self, spans: Sequence[Span]) -> tuple[Tensor, Tensor]:
        """The spans side by side, zeros behind each: (B, S, D) and their lengths (B,)."""
        block = self.blocks[0][1]
        values = block.new_zeros(len(spans), max(span.end - span.start for span in spans), block.size(1))
        for row, span in zip(values, spans, strict=True):
            for first, block in self.blocks:
                begin, end = max(span.start, first), min(span.end, first + len(block))
                if begin < end:
                    row[begin - span.start:end - span.start] = block[begin - first:end - first]
        return values, torch.tensor([span.end - span.start for span in spans], device=values.device)

    def forget(self, frame: int) -> None:
        """All blocks that end before this frame."""
        self.blocks = [(first, block) for first, block in self.blocks if first + len(block) > frame]


def patience(long: config.Long) -> float:
    """Seconds of a recording that are held back at most before spans are searched: full batches of long spans need no
    more, and behind a few spans a silence of hours is not waited for."""
    return long.batch * long.span + long.overlap + PAUSE + long.block


def blocks_ahead(long: config.Long) -> int:
    """Blocks that are encoded while a batch of spans is searched, at most: as many as fill the next batch."""
    return math.ceil(long.batch * long.span / long.block)


def lag(long: config.Long) -> float:
    """Seconds between the end of what is encoded and the last phone that has settled, at most, on either road."""
    return max(walking_lag(long), patience(long) + long.block + long.span + long.overlap)


class SpanSearch:
    """One recording, searched span by span in batches."""

    def __init__(self, network: Recognizer, settings: config.Decode, loudness: Loudness | None = None) -> None:
        """`loudness` finds quiet places where the network has no CTC branch."""
        self.network, self.settings, self.loudness = network, settings, loudness
        def frames(seconds: float, least: int = 1) -> int:
            return max(least, round(seconds / network.seconds))
        long = settings.long
        longest = frames(long.span, SHORTEST)
        self.cutter = Cutter(longest, min(frames(long.overlap, 0), longest // 4), frames(PAUSE), frames(PAD),
                             frames(SMOOTH))
        self.held = Held()
        self.patience = frames(patience(long))

    @torch.inference_mode()
    def run(self, blocks: Iterable[Tensor]) -> Iterator[Settled]:
        """Encoder frames (n, D), block by block → the phones of each span, in order and stitched."""
        before: tuple[Span, Settled] | None = None
        for span, piece in self._pieces(blocks):
            if before is not None:
                settled, piece = self._stitched(*before, span, piece)
                yield settled
            before = (span, piece) if span.shared else None
            if before is None:
                yield piece
        if before is not None:
            yield before[1]

    def _pieces(self, blocks: Iterable[Tensor]) -> Iterator[tuple[Span, Settled]]:
        """The spans and what was found in each."""
        waiting: list[Span] = []
        batch = self.settings.long.batch
        for block in blocks:
            self.held.add(block)
            waiting += self.cutter.push(self._quiet(block))
            while len(waiting) >= batch or (waiting and self.held.end - waiting[0].start > self.patience):
                first, waiting = waiting[:batch], waiting[batch:]
                yield from self._search(first, waiting)
            self._forget(waiting)
        waiting += self.cutter.finish()
        while waiting:
            first, waiting = waiting[:batch], waiting[batch:]
            yield from self._search(first, waiting)

    def _stitched(self, span: Span, piece: Settled, after: Span, later: Settled) -> tuple[Settled, Settled]:
        """Two pieces without what both say of the frames that their spans share."""
        if span.end <= after.start:
            return piece, later
        first = next((u for u, focus in enumerate(piece.foci) if focus >= after.start), len(piece.ids))
        last = next((u for u in reversed(range(len(later.ids))) if later.foci[u] < span.end), -1) + 1
        kept, left_out = seam(list(zip(piece.ids[first:], piece.foci[first:], strict=True)),
                              list(zip(later.ids[:last], later.foci[:last], strict=True)),
                              (after.start + span.end) / 2, SAME / self.network.seconds)
        return _part(piece, 0, first + kept), _part(later, left_out, len(later.ids))

    def _quiet(self, values: Tensor) -> Tensor:
        """(n,) log probability of the blank, or what stands for it."""
        if self.network.ctc is None:
            return self.loudness.quiet(len(values)) if self.loudness is not None else torch.full((len(values),), -MOST)
        return self.network.ctc(values).float().log_softmax(-1)[:, BLANK].cpu()

    def _forget(self, waiting: list[Span]) -> None:
        """Frames before all that is still to be searched."""
        self.held.forget(min([self.cutter.begin, *(span.start for span in waiting)]))

    def _search(self, spans: list[Span], waiting: list[Span]) -> Iterator[tuple[Span, Settled]]:
        """Search some spans; those in `waiting` come later, and all else is forgotten before the search begins."""
        values, lengths = self.held.padded(spans)
        self._forget(waiting)
        hand_back()
        memory: Memory = self.network.decoder.attention.remember(values, lengths)
        for span, found in zip(spans, search_memory(self.network, memory, self.settings), strict=True):
            if not found:
                continue
            best = found[0]
            said = len(best.ids)
            foci = [focus + span.start for focus in best.notes[:said, 0].tolist()]
            yield span, Settled(list(best.ids), list(best.log_probs[:said]), foci, best.notes[:said, 1].tolist(),
                                sum(best.log_probs[:said]), self.held.end, best.ended, again=best.again)


def _part(piece: Settled, first: int, last: int) -> Settled:
    """Some of its phones."""
    log_probs = piece.log_probs[first:last]
    return replace(piece, ids=piece.ids[first:last], log_probs=log_probs, foci=piece.foci[first:last],
                   entropies=piece.entropies[first:last], score=sum(log_probs))
