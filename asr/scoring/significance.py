"""How far to trust a score, and whether one system is better than another.

Intervals are percentile bootstrap intervals (Bisani and Ney 2004) over speakers, since the utterances of one speaker
are not independent; over utterances where speakers are not known. Two systems are compared on the same resamples, and
by the matched-pairs sentence-segment word error test (MAPSSWE; Gillick and Cox 1989).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import NormalDist
from typing import TYPE_CHECKING

from asr.errors import AsrError
from asr.scoring.score import Row, Score

if TYPE_CHECKING:
    import numpy as np

SAMPLES = 1000
BLOCK = 2_000_000       # drawn indices held at a time
TINY = 1e-300           # where a p would leave the range of numbers
BUFFER = 2              # phones in a row that both systems must get right between two segments (Gillick and Cox)


@dataclass(frozen=True, slots=True)
class Interval:
    """Where 95 % of the resampled values lie, in per cent."""

    low: float
    high: float
    samples: int
    units: int
    unit: str       # `speakers` or `utterances`: what was drawn


@dataclass(frozen=True, slots=True)
class Comparison:
    """The difference between two systems on the same utterances; negative: the first makes fewer errors."""

    difference: float       # PER of the first minus PER of the second, in per cent of the reference phones
    interval: Interval
    p: float                # of a difference at least so large if there were none, by the bootstrap
    segments: int           # MAPSSWE: stretches in which either system errs
    z: float                # MAPSSWE's statistic
    p_mapsswe: float        # two-sided


def interval(score: Score, samples: int = SAMPLES, seed: int = 1) -> Interval | None:
    """The 95 % interval of a score's PER; None where fewer than two units could be drawn or no phone is there."""
    unit, sums = _units([score])
    if len(sums) < 2 or not score.total.phones:
        return None
    low, high = _percentiles(_resample(sums, samples, seed)[:, 0])
    return Interval(low, high, samples, len(sums), unit)


def compare(first: Score, second: Score, samples: int = SAMPLES, seed: int = 1) -> Comparison:
    """Compare two systems on the same references.

    p is that of the bootstrap shifted to the hypothesis of no difference: the share of resampled differences that lie
    at least as far from the observed one as that lies from zero, the observed one counted in (so it is never 0).

    Raises:
        AsrError: the scores are of different protocols or references, or there is too little to compare.
    """
    check_comparable(first, second)
    unit, sums = _units([first, second])
    if len(sums) < 2 or not first.total.phones:
        raise AsrError(f"{len(sums)} {unit} cannot be resampled: a comparison needs two utterances at least: "
                       "score each system by itself")
    resampled = _resample(sums, samples, seed)
    differences = resampled[:, 0] - resampled[:, 1]
    observed = first.total.per - second.total.per
    reached = int((abs(differences - observed) >= abs(observed) - 1e-9).sum())
    low, high = _percentiles(differences)
    segments, z, p = mapsswe(first, second)
    return Comparison(observed, Interval(low, high, samples, len(sums), unit), (reached + 1) / (samples + 1),
                      segments, z, p)


def check_comparable(first: Score, second: Score) -> None:
    """The numbers mean the same thing.

    Raises:
        AsrError: they do not.
    """
    one, two = first.protocol, second.protocol
    if one.digest != two.digest:
        raise AsrError(f"scores of protocols {one.name} ({one.digest}) and {two.name} ({two.digest}) cannot be "
                       "compared: score both by the same protocol")
    references = {row.id: row.reference for row in first.rows}
    other = {row.id: row.reference for row in second.rows}
    if references != other:
        odd = next(id for id in [*references, *other] if references.get(id) != other.get(id))
        raise AsrError(f"the two scores have different references, for instance of {odd!r}: score both "
                       "against the same ones")


def mapsswe(first: Score, second: Score) -> tuple[int, float, float]:
    """The matched-pairs test: number of segments, z and the two-sided p.

    A segment is a stretch in which either system errs; two segments are `BUFFER` reference phones apart that both
    systems recognise, with nothing inserted between. z is the mean difference of errors over its standard error, taken
    as normal. Where every segment differs by the same, that error is 0, and the exact sign test stands in.
    """
    by_id = {row.id: row for row in second.rows}
    differences = [d for row in first.rows for d in segment_differences(row, by_id[row.id])]
    n = len(differences)
    mean = sum(differences) / n if n else 0.0
    variance = sum((d - mean) ** 2 for d in differences) / (n - 1) if n > 1 else 0.0
    if variance:
        z = mean / math.sqrt(variance / n)
        return n, z, math.erfc(abs(z) / math.sqrt(2))
    if not mean:
        return n, 0.0, 1.0
    p = max(2.0 ** (1 - n), TINY)
    return n, math.copysign(NormalDist().inv_cdf(p / 2), mean), p


def segment_differences(first: Row, second: Row) -> list[int]:
    """Errors of the first system minus errors of the second, for each segment of an utterance."""
    one, two = _errors_by_place(first), _errors_by_place(second)
    differences = []
    current: tuple[int, int] | None = None      # errors of both in the segment under way
    right = 0                                   # phones in a row that both recognised
    for place, errors in enumerate(zip(one, two, strict=True)):
        if errors != (0, 0):
            if current is not None and right >= BUFFER:
                differences.append(current[0] - current[1])
                current = None
            current = (errors[0] + (current or (0, 0))[0], errors[1] + (current or (0, 0))[1])
            right = 0
        elif place % 2:
            right += 1
    if current is not None:
        differences.append(current[0] - current[1])
    return differences


def holm(ps: Sequence[float]) -> list[float]:
    """p values corrected for their number (Holm 1979), in the order given."""
    corrected = [0.0] * len(ps)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[index]))
        corrected[index] = highest
    return corrected


def _errors_by_place(row: Row) -> list[int]:
    """Errors in the gaps (even places: insertions) and on the phones (odd places) of a reference."""
    places = [0] * (2 * len(row.reference) + 1)
    for chunk in row.alignment:
        if chunk.type == "insert":
            places[2 * chunk.ref_start_idx] += chunk.hyp_end_idx - chunk.hyp_start_idx
        elif chunk.type != "equal":
            for i in range(chunk.ref_start_idx, chunk.ref_end_idx):
                places[2 * i + 1] += 1
    return places


def _units(scores: Sequence[Score]) -> tuple[str, np.ndarray]:
    """Errors of each score and reference phones, summed over each unit that is drawn: (units, scores + 1)."""
    import numpy as np
    first = scores[0].rows
    speakers = [row.speaker for row in first]
    by_speaker = None not in speakers and len(set(speakers)) > 1
    errors = [{row.id: row.counts.errors for row in score.rows} for score in scores]
    table = np.array([[*(column[row.id] for column in errors), row.counts.phones] for row in first], dtype=np.float64)
    if not by_speaker:
        return "utterances", table
    order = sorted(range(len(first)), key=lambda i: str(speakers[i]))
    sums = [table[list(group)].sum(0) for _, group in groupby(order, key=lambda i: speakers[i])]
    return "speakers", np.array(sums)


def _resample(sums: np.ndarray, samples: int, seed: int) -> np.ndarray:
    """PER in per cent of every system in every resample: (samples, systems). Drawn in blocks, to bound the memory."""
    import numpy as np
    rng = np.random.default_rng(seed)
    units = len(sums)
    block = max(1, BLOCK // units)
    drawn = [sums[rng.integers(0, units, (min(block, samples - done), units), dtype=np.int32)].sum(1)
             for done in range(0, samples, block)]
    totals = np.concatenate(drawn)
    return 100 * totals[:, :-1] / np.maximum(totals[:, -1:], 1)     # only empty references drawn: against one phone


def _percentiles(values: np.ndarray) -> tuple[float, float]:
    import numpy as np
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
