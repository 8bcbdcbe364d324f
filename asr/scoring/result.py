"""What one run of `asr score` finds out: systems, and how they compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from asr.scoring.boundaries import Boundaries
from asr.scoring.score import Row, Score, by_length, by_speaker
from asr.scoring.significance import Comparison, Interval, compare, holm

GROUPS = {"speaker": by_speaker, "length": by_length}


@dataclass(frozen=True, slots=True)
class System:
    """A system, scored."""

    name: str
    score: Score
    interval: Interval | None
    boundaries: Boundaries | None = None
    by: tuple[str, ...] = ()                    # keys of GROUPS that are asked for
    elsewhere: tuple[Score, ...] = ()           # the same under every protocol that knows the phones
    unknown: tuple[str, ...] = ()               # protocols that do not, …
    reason: str = ""                            # … and the first one's complaint

    @property
    def groups(self) -> dict[str, dict[str, list[Row]]]:
        """The rows in the groups asked for."""
        return {name: GROUPS[name](self.score) for name in self.by}


@dataclass(frozen=True, slots=True)
class Pair:
    """Two systems compared, and p values corrected for the number of comparisons."""

    first: str
    second: str
    comparison: Comparison
    p_holm: float
    p_mapsswe_holm: float


@dataclass(frozen=True, slots=True)
class Result:
    """All of it."""

    systems: tuple[System, ...]
    pairs: tuple[Pair, ...] = ()


def compare_all(systems: Sequence[System], samples: int, seed: int) -> tuple[Pair, ...]:
    """Compare every system with every other, with Holm's correction over all comparisons.

    Raises:
        AsrError: two of the scores mean different things.
    """
    both = list(combinations(systems, 2))
    found = [compare(first.score, second.score, samples, seed) for first, second in both]
    bootstrap, matched = holm([c.p for c in found]), holm([c.p_mapsswe for c in found])
    return tuple(Pair(first.name, second.name, comparison, p, q)
                 for (first, second), comparison, p, q in zip(both, found, bootstrap, matched, strict=True))
