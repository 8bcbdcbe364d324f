"""How exact the times are: where phones begin, against where they should."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from asr.corpus.records import TimedPhone
from asr.errors import AsrError
from asr.scoring.align import index_pairs
from asr.scoring.score import Score

TOLERANCES = (10, 20, 25, 50)       # ms
AT_ONCE = 0.001                     # s: a phone that begins within this of the recording's start cannot be misplaced


@dataclass(frozen=True, slots=True)
class Boundaries:
    """How far the starts of the phones that were recognised right lie from the reference's."""

    errors: tuple[float, ...]       # s, hypothesis minus reference: positive is late
    starts: int                     # starts in the reference, those of phones not recognised included

    @property
    def mean(self) -> float:
        """Mean absolute error, s; 0 where nothing was measured."""
        return statistics.fmean(map(abs, self.errors)) if self.errors else 0.0

    @property
    def median(self) -> float:
        """Median absolute error, s."""
        return statistics.median(map(abs, self.errors)) if self.errors else 0.0

    @property
    def bias(self) -> float:
        """Mean error with its sign, s: positive where the hypothesis is late."""
        return statistics.fmean(self.errors) if self.errors else 0.0

    def within(self, milliseconds: float) -> float:
        """The share, in per cent of those measured, that is not further off; a rounding error of 1 µs is forgiven."""
        return 100 * sum(abs(error) <= milliseconds / 1000 + 1e-6 for error in self.errors) / max(1, len(self.errors))


def boundaries(score: Score, references: Mapping[str, Sequence[TimedPhone]],
               hypotheses: Mapping[str, Sequence[TimedPhone]]) -> Boundaries:
    """Measure the starts of phones that the score's alignment pairs as equal.

    Where the intervals tile the recording, a start is the boundary between two phones. Phones that begin with the
    recording are left out, since nobody could place them wrongly; so are ends, and phones that were not recognised,
    which is why `starts` says how many there were.

    Args:
        score: the score of these references and hypotheses.
        references: timed phones by id, before the score's protocol.
        hypotheses: the same of the hypotheses.
    """
    errors: list[float] = []
    starts = 0
    for row in score.rows:
        truth = _starts(score, references[row.id])
        heard = _starts(score, hypotheses[row.id])
        starts += sum(start >= AT_ONCE for start in truth)
        for i, j in index_pairs(row.alignment):
            if i is not None and j is not None and row.reference[i] == row.hypothesis[j] and truth[i] >= AT_ONCE:
                errors.append(heard[j] - truth[i])
    return Boundaries(tuple(errors), starts)


def need_times(phones: Mapping[str, Sequence[object]], times: Mapping[str, object], name: str) -> None:
    """Every utterance that has phones has their times.

    Raises:
        AsrError: naming one that has not.
    """
    without = [id for id in phones if phones[id] and id not in times]
    if without:
        raise AsrError(f"{name}: {len(without):,} of {len(phones):,} utterances have no times, {without[0]!r} for one: "
                       "--boundaries needs 'phone_times' in a manifest, TextGrids, .PHN or ctm files, "
                       "or what `asr decode -f jsonl` writes")


def _starts(score: Score, phones: Sequence[TimedPhone]) -> list[float]:
    return [phones[first].start for _, first, _ in score.protocol.spans([p.phone for p in phones])]
