"""Alignment of recordings of any length: a Viterbi search that follows the transcript along, in bounded memory.

Of the 2U + 1 states of a path (a pause, the first phone, a pause, …) only a band is alive, which moves on with the
best of them; of the pointers back only the last minute is kept, and what lies before it is settled. That equals the
whole search as long as the best path stays inside the band and is found again within a minute.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from torch import Tensor

from asr.errors import AsrError
from asr.model.frames import PAUSE
from asr.search.times import Evidence, EvidenceStream, Placed

BAND = 512          # states alive: 256 phones, some twenty seconds of speech
LAG = 6000          # rows whose pointers are kept before the older half is settled
Rows = np.ndarray


class Follower:
    """The path of a growing transcript through growing evidence.

    Memory: `lag` rows of V log probabilities and `band` pointers, whatever the length; and 8 bytes a phone, or 16 where
    `confident`: where the path's own confidences will be asked for.
    """

    def __init__(self, band: int = BAND, lag: int = LAG, *, confident: bool = True) -> None:
        if band < 8 or band % 4:
            raise ValueError(f"a band of {band} states: it must be a multiple of 4, and 8 at least")
        self.band, self.lag, self.confident = band, lag, confident
        self.ids = array("i")
        self.base = 0                                       # the band's first state; 2i + 1 is phone i
        self.scores = np.full(band, -np.inf)
        self.begun = False
        self.back: list[tuple[int, Rows, Rows]] = []        # base, pointers (band,), log probabilities (V,) of a row
        self.settled = 0                                    # rows before these
        self.first = array("i")                             # row in which each phone begins, as far as settled
        self.sums = array("f")                              # of its probability, over …
        self.counts = array("i")                            # … so many rows
        self._label()

    def expect(self, ids: Sequence[int]) -> None:
        """More phones of the transcript."""
        self.ids.extend(ids)
        self._label()

    def listen(self, rows: Tensor) -> None:
        """More evidence: (n, V) log probabilities."""
        for row in rows.float().numpy():
            self._step(row)
            if len(self.back) >= self.lag:
                self._settle(self.base + int(self.scores.argmax()), len(self.back) // 2)

    def finish(self) -> Sequence[int]:
        """The first row of each phone.

        Raises:
            AsrError: the path did not get to the end of the transcript.
        """
        if not self.ids:
            return []
        ends = [state for state in (2 * len(self.ids) - 1, 2 * len(self.ids))
                if 0 <= state - self.base < self.band and np.isfinite(self.scores[state - self.base])]
        if not ends:
            where = (self.base + int(self.scores.argmax())) // 2
            raise AsrError(f"the recording ends about phone {where:,} of {len(self.ids):,}: is the transcript "
                           "of another recording?")
        self._settle(max(ends, key=lambda state: self.scores[state - self.base]), len(self.back))
        self._fill(len(self.ids), self.settled)
        return self.first

    def confidences(self) -> Iterator[float]:
        """The mean probability of each phone over its rows, once all is finished."""
        assert self.confident, "they have not been kept"
        return (total / max(1, count) for total, count in zip(self.sums, self.counts, strict=True))

    def _label(self) -> None:
        """What the band's states say, which of them exist, and which may be entered over the pause before them."""
        begin, size = self.base // 2, self.band // 2        # the base is even
        ids = np.full(size + 1, PAUSE)                      # of phones begin - 1 … begin + size - 1
        known = self.ids[max(0, begin - 1):begin + size]
        ids[begin == 0:][:len(known)] = known
        self.exists = np.arange(self.base, self.base + self.band) <= 2 * len(self.ids)
        self.labels = np.full(self.band, PAUSE)
        self.labels[1::2] = ids[1:]
        self.skips = np.zeros(self.band, dtype=bool)
        self.skips[1::2] = ids[1:] != ids[:-1]

    def _step(self, row: Rows) -> None:
        emitted = np.where(self.exists, row[self.labels], -np.inf)
        pointers = np.zeros(self.band, dtype=np.int8)
        if self.begun:
            best = self.scores.copy()
            moved = best[1:] < self.scores[:-1]
            best[1:][moved] = self.scores[:-1][moved]
            pointers[1:][moved] = 1
            skipped = (best[2:] < self.scores[:-2]) & self.skips[2:]
            best[2:][skipped] = self.scores[:-2][skipped]
            pointers[2:][skipped] = 2
        else:
            best = np.where(np.arange(self.band) < 2, 0.0, -np.inf)
            self.begun = True
        self.scores = best + emitted
        self.back.append((self.base, pointers, row))
        if int(self.scores.argmax()) > 3 * self.band // 4:
            self._advance(self.band // 2)

    def _advance(self, states: int) -> None:
        self.base += states
        self.scores = np.concatenate([self.scores[states:], np.full(states, -np.inf)])
        self._label()

    def _settle(self, state: int, count: int) -> None:
        """Follow the pointers back from a state of the last row, and keep what is said of the first `count` rows."""
        path = []
        for base, pointers, _ in reversed(self.back):
            path.append(state)
            state -= int(pointers[state - base])
        for number, (state, (_, _, row)) in enumerate(zip(reversed(path), self.back[:count], strict=False)):
            if state % 2:
                phone = state // 2
                self._fill(phone + 1, self.settled + number)
                if self.confident:
                    self.sums[phone] += float(np.exp(row[self.ids[phone]]))
                    self.counts[phone] += 1
        self.back, self.settled = self.back[count:], self.settled + count

    def _fill(self, phones: int, row: int) -> None:
        """Phones that have not begun begin here."""
        missing = phones - len(self.first)
        self.first.extend([row] * missing)
        if self.confident:
            self.sums.extend([0.0] * missing)
            self.counts.extend([0] * missing)


class Timekeeper:
    """Times of a long recording's phones, while it is encoded and searched.

        frames → keeper.features → encoder → keeper.evident → keeper.blocks → search; keeper.settle for what the search
        settles; finish

    All up to `evident` may be done ahead by a thread of its own, and all from `blocks` on by another.

    Evidence waits until the phones that it may hold have settled, `held` seconds of it at most: what is older is taken
    for a pause. Without `confident` there are `starts`, but no `finish`: the search knows how sure it was.
    """

    def __init__(self, evidence: Evidence, held: float, *, confident: bool = True) -> None:
        self.evidence = evidence
        self.stream = EvidenceStream(evidence)
        self.follower = Follower(confident=confident)
        self.waiting: list[Tensor] = []
        self.rows = 0                                       # that wait
        self.passed = 0                                     # that the follower has heard
        self.held = round(held / evidence.step)

    def features(self, pieces: Iterable[Tensor]) -> Iterator[Tensor]:
        """Features (t, F) on their way to the encoder."""
        return self.stream.features(pieces)

    def evident(self, blocks: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Encoder frames (n, D), each with the rows of evidence that they settle."""
        for block in blocks:
            yield block, self.stream.rows(block)

    def blocks(self, pairs: Iterable[tuple[Tensor, Tensor]]) -> Iterator[Tensor]:
        """Encoder frames (n, D) on their way to the search; their evidence waits here."""
        for block, rows in pairs:
            self._wait(rows)
            self._listen(self.passed + self.rows - self.held)
            yield block
        rest = self.stream.finish()
        if rest is not None:
            self._wait(rest)

    def expect(self, ids: Sequence[int]) -> None:
        """Phones that are known beforehand."""
        self.follower.expect(ids)

    def settle(self, ids: Sequence[int], foci: Sequence[float]) -> None:
        """Phones that have settled, and the encoder frames at which the attention saw them."""
        if ids:
            self.follower.expect(ids)
            self._listen(int(foci[len(ids) - 1] * self.evidence.network.seconds / self.evidence.step))

    def finish(self) -> Placed:
        """The times of all phones.

        Raises:
            AsrError: the phones have no place in the recording.
        """
        return Placed(array("d", self.starts()), array("d", self.follower.confidences()))

    def starts(self) -> Iterator[float]:
        """In seconds, one after another, made as they are taken: hours are not held twice.

        Raises:
            AsrError: at once, as `finish`.
        """
        self._listen(self.passed + self.rows)
        return map(self.evidence.seconds, self.follower.finish())

    def _wait(self, rows: Tensor) -> None:
        self.waiting.append(rows)
        self.rows += len(rows)

    def _listen(self, end: int) -> None:
        """Hand the follower all rows before `end`."""
        while self.waiting and self.passed < end:
            rows = self.waiting[0][:end - self.passed]
            self.follower.listen(rows)
            self.passed, self.rows = self.passed + len(rows), self.rows - len(rows)
            left = self.waiting[0][len(rows):]
            self.waiting = [left, *self.waiting[1:]] if len(left) else self.waiting[1:]
