"""A second try for the beam that walks (longform.py): where its attention went astray, that stretch is searched again.

Healthy speech is given out as it settles. Phones wait where something may be wrong: the focus steps back, it hardly
moves, or what was just said is said again. Mostly that is over with the next phone. Else the stretch is searched again,
by `fallback`'s settings, in encoder frames that are held for it, a second on either side among them; what is found
stands if its signs are better, and is stitched to what was said before and behind.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from asr import config
from asr.model.recognizer import Recognizer
from asr.search.health import loops, wanders
from asr.search.longform import LongSearch, Settled, walking_lag
from asr.search.recognise import fallback, search_memory
from asr.search.seams import behind, seam
from asr.search.spans import SAME, Held, Span

CALM = 10               # phones without a sign of trouble until a stretch is over, and a step back forgotten
PERIOD = 12             # phones at most that a loop repeats
CROWD, CROWDED = 5, 0.1     # so many phones within so many seconds: the focus hardly moves
ASIDE = 1.0             # s on either side of a stretch that are heard as well
KNOWN = 64              # phones that are remembered when they have been given out


class Said(NamedTuple):
    """A phone that has settled; or the end of all."""

    id: int
    log_prob: float
    focus: float        # encoder frames from the start of the recording
    entropy: float


def trouble(said: Sequence[Said], seconds: float) -> int | None:
    """Where those of the last phones begin that may be part of something wrong; None: all is well.

    Args:
        said: phones, the latest among them
        seconds: of an encoder frame
    """
    count = len(said)
    begins = [u for u in range(max(1, count - CALM), count) if said[u].focus < said[u - 1].focus]
    if count >= CROWD and (said[-1].focus - said[-CROWD].focus) * seconds < CROWDED:
        begins.append(count - CROWD)
    for period in range(1, min(PERIOD, count - 1) + 1):
        run = 0
        while run + period < count and said[-1 - run].id == said[-1 - run - period].id:
            run += 1
        if run >= min(period, 2):
            begins.append(count - run)
    return min(begins, default=None)


def is_astray(stretch: Sequence[Said], before: Sequence[Said] = ()) -> bool:
    """Whether the attention went astray in a stretch, maybe in a loop that began in the phones before it."""
    before = before[-PERIOD:]
    looped = any(last > len(before) for _, last in loops([said.id for said in (*before, *stretch)], PERIOD))
    steps = list(pairwise([*before[-1:], *stretch]))
    back = sum(b.focus < a.focus for a, b in steps)
    return looped or wanders(1 - back / max(1, len(steps)), back)


class SecondTry:
    """One recording, searched as it arrives, and again where that went wrong."""

    def __init__(self, network: Recognizer, settings: config.Decode) -> None:
        self.network, self.settings = network, settings
        self.safer = fallback(settings).model_copy(update={"fallback": False, "nbest": 1})
        self.walk = LongSearch(network, settings)
        self.held = Held()
        self.reach = self._frames(walking_lag(settings.long) + self.walk.settings.window.ahead + ASIDE)
        self.longest = self._frames(settings.long.span)                 # of a stretch that waits …
        self.most = math.ceil(settings.long.span * settings.longest)    # … and its phones
        self.given: list[Said] = []         # the last phones that were given out
        self.waiting: list[Said] = []       # those behind them
        self.doubt: int | None = None       # from which of these on there is a reason to wait
        self.calm = 0                       # phones since there was a new one
        self.pushed = 0                     # times that the focus was pushed on, about what waits
        self.gain = 0.0                     # log probability that second tries have added
        self.ended, self.end = "", list[Said]()

    @torch.inference_mode()
    def run(self, blocks: Iterable[Tensor]) -> Iterator[Settled]:
        """As `LongSearch.run`; what was found in a second try is marked `again`."""
        for piece in self.walk.run(self._kept(blocks)):
            if piece.pushed and self.doubt is None:
                self.doubt, self.calm = 0, 0
            self.pushed += piece.pushed
            said = [Said(*row) for row in zip([*piece.ids, 0], piece.log_probs, piece.foci, piece.entropies,
                                              strict=False)]
            for phone in said[:len(piece.ids)]:
                self.waiting.append(phone)
                if self._is_ripe():
                    yield from self._again(last=False)
            self.ended, self.end = piece.ended, said[len(piece.ids):]
            if piece.pause or piece.ended:
                yield from self._finished()
            count = len(self.waiting) if self.doubt is None else self.doubt
            if count or piece.ended:
                yield self._out(count, piece)

    def _frames(self, seconds: float) -> int:
        return math.ceil(seconds / self.network.seconds)

    def _kept(self, blocks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Encoder frames on their way to the first search; those that a stretch may still need are held."""
        for block in blocks:
            if len(block):
                self.held.add(block)
                self.held.forget(self.held.end - self.reach)
            yield block

    def _out(self, count: int, piece: Settled | None = None) -> Settled:
        """Give out the first phones that wait, as the first search found them; `piece` is the one that came last."""
        said, self.waiting = self.waiting[:count], self.waiting[count:]
        self._remember(said)
        settled = _settled(said, self.held.end)
        if piece is None:
            return settled
        settled = replace(settled, pause=piece.pause)
        if self.doubt is not None:
            self.doubt -= count
        else:
            settled, self.pushed = replace(settled, pushed=self.pushed), 0
        if not self.ended:
            return settled
        return replace(_settled([*said, *self.end], self.held.end), ids=settled.ids, pushed=settled.pushed,
                       score=piece.score + self.gain, ended=self.ended)

    def _remember(self, said: Sequence[Said]) -> None:
        self.given = [*self.given, *said][-KNOWN:]

    # Which phones wait, and for how long.

    def _is_ripe(self) -> bool:
        """Behind one phone more: whether the stretch that waits is to be searched again. Doubts that are over go."""
        begin = trouble([*self.given, *self.waiting], self.network.seconds)
        if begin is not None:
            begin = max(0, begin - len(self.given))
            self.doubt, self.calm = begin if self.doubt is None else min(begin, self.doubt), 0
        elif self.doubt is None:
            return False
        else:
            self.calm += 1
        stretch = self.waiting[self.doubt:]
        long = stretch[-1].focus - stretch[0].focus > self.longest or len(stretch) > self.most
        if not (self.calm or long):
            return False
        poor = self._is_poor()
        if not poor:
            self.doubt = None
        return poor and (long or self.calm >= CALM)

    def _is_poor(self) -> bool:
        """Whether what waits should not be trusted as it stands."""
        before, stretch = [*self.given, *self.waiting[:self.doubt]], self.waiting[self.doubt:]
        return bool(stretch) and (self.pushed > 0 or self.ended == "limit" or is_astray(stretch, before))

    def _finished(self) -> Iterator[Settled]:
        """Nothing that waits need wait any more: a long silence follows, or the end."""
        if self.ended == "limit" and self.doubt is None:
            self.doubt = 0
        if self.doubt is not None and self._is_poor():
            yield from self._again(last=True)
        self.doubt = None

    # The second try.

    def _again(self, *, last: bool) -> Iterator[Settled]:
        """Search the stretch that waits once more; give out what was found if it is better, and in any case go on.

        Args:
            last: no phone that is near follows
        """
        if self.doubt:
            yield self._out(self.doubt)
        stretch, calm, self.doubt, self.calm = self.waiting, self.calm >= CALM, None, 0
        begin, new, ended = self._search(stretch)
        said = new if ended != "eos" else new[:-1]
        if not said or ended == "limit" or is_astray(said):
            return
        first = behind(_places(said for said in self.given if said.focus >= begin), _places(said), self._same)
        kept, rest = (len(said), len(stretch)) if last else self._seam(said, stretch, calm)
        said = said[first:max(first, kept)]
        self.gain += sum(phone.log_prob for phone in said) - sum(phone.log_prob for phone in stretch[:rest])
        if self.ended:
            self.gain += new[-1].log_prob - sum(end.log_prob for end in self.end)
            self.ended, self.end = ended, new[-1:]
        self.waiting, self.pushed = stretch[rest:], 0
        self._remember(said)
        yield replace(_settled(said, self.held.end), again=True)

    def _search(self, stretch: Sequence[Said]) -> tuple[int, list[Said], str]:
        """Where the second search of a stretch begins, what it finds, the end among it, and how it ended."""
        aside = self._frames(ASIDE)
        begin = max(self.held.blocks[0][0], int(stretch[0].focus) - aside)
        end = self.held.end if self.ended else min(self.held.end, int(stretch[-1].focus) + 1 + aside)
        memory = self.network.decoder.attention.remember(*self.held.padded([Span(begin, end)]))
        found = search_memory(self.network, memory, self.safer)[0]
        if not found:
            return begin, [], "limit"
        best = found[0]
        notes = best.notes.tolist()
        return begin, [Said(id, log_prob, begin + focus, entropy) for id, log_prob, (focus, entropy)
                       in zip([*best.ids, 0], best.log_probs, notes, strict=False)], best.ended

    @property
    def _same(self) -> float:
        """Encoder frames by which one phone may lie apart in two searches."""
        return SAME / self.network.seconds

    def _seam(self, new: Sequence[Said], stretch: Sequence[Said], calm: bool) -> tuple[int, int]:
        """How many phones to keep of what is new, and which of the stretch is the first to go on behind them."""
        if not calm:
            return sum(said.focus <= stretch[-1].focus + self._same / 2 for said in new), len(stretch)
        tail = stretch[-CALM:]
        first = next((u for u, said in enumerate(new) if said.focus >= tail[0].focus - self._same), len(new))
        kept, left_out = seam(_places(new[first:]), _places(tail), (tail[0].focus + tail[-1].focus) / 2, self._same)
        return first + kept, len(stretch) - CALM + left_out


def _places(said: Iterable[Said]) -> list[tuple[int, float]]:
    return [(phone.id, phone.focus) for phone in said]


def _settled(said: Sequence[Said], encoded: int) -> Settled:
    return Settled([phone.id for phone in said], [phone.log_prob for phone in said], [phone.focus for phone in said],
                   [phone.entropy for phone in said], 0.0, encoded)
