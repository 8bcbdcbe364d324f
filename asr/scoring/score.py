"""Phone error rates: counted per utterance, pooled over the set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from asr.errors import AsrError
from asr.scoring.align import align
from asr.scoring.protocol import PLAIN, Protocol

if TYPE_CHECKING:
    from asr.scoring.align import Alignment

LENGTHS = (10, 20, 30, 50, 100, 200, 500, 1000, 2000, 5000)     # upper bounds of the length groups, reference phones


@dataclass(frozen=True, slots=True)
class Counts:
    """Errors against reference phones; counts add up."""

    phones: int = 0             # reference phones
    insertions: int = 0
    deletions: int = 0
    substitutions: int = 0
    clamped: int = 0            # errors that a clamping protocol does not count

    @property
    def errors(self) -> int:
        """Insertions, deletions and substitutions, as far as the protocol counts them."""
        return self.insertions + self.deletions + self.substitutions - self.clamped

    @property
    def per(self) -> float:
        """Phone error rate in per cent; over 100 where insertions abound, infinite for errors against nothing."""
        if self.phones:
            return 100 * self.errors / self.phones
        return float("inf") if self.errors else 0.0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.phones + other.phones, self.insertions + other.insertions, self.deletions + other.deletions,
                      self.substitutions + other.substitutions, self.clamped + other.clamped)


@dataclass(frozen=True, slots=True)
class Row:
    """One utterance, scored: the phones as the protocol leaves them, and how they align."""

    id: str
    reference: tuple[str, ...]
    hypothesis: tuple[str, ...]
    alignment: Alignment = field(repr=False)
    counts: Counts
    speaker: str | None = None


@dataclass(frozen=True, slots=True)
class Score:
    """A set of utterances, scored by a protocol."""

    rows: tuple[Row, ...]       # in the order of the references
    total: Counts
    protocol: Protocol

    @property
    def wrong(self) -> int:
        """Utterances with an error in them, whether the protocol counts it or not."""
        return sum(row.reference != row.hypothesis for row in self.rows)

    @property
    def ser(self) -> float:
        """Sentence error rate: utterances with an error, in per cent."""
        return 100 * self.wrong / len(self.rows) if self.rows else 0.0

    @property
    def notes(self) -> list[str]:
        """What a reader of the number should know: a standard set that has not its standard size."""
        speakers = len({row.speaker for row in self.rows} - {None})
        phones, utterances = self.total.phones, len(self.rows)
        notes = []
        for split in self.protocol.splits:
            standard = f"TIMIT's {split.name} has {split.phones:,} reference phones under {self.protocol.name}"
            if utterances == split.utterances and speakers in (0, split.speakers) and phones != split.phones:
                notes.append(f"{standard}, this one {phones:,}: its labels are not the standard ones, so do not "
                             "compare this number with published ones")
            elif utterances != split.utterances and speakers == split.speakers:
                notes.append(f"{standard} in {split.utterances} utterances of {speakers} speakers, this set of "
                             f"{speakers} speakers has {phones:,} in {utterances}: if it should be that one, leave out "
                             "the SA sentences and nothing else")
        return notes


def score(references: Mapping[str, Sequence[str]], hypotheses: Mapping[str, Sequence[str]],
          protocol: Protocol = PLAIN, speakers: Mapping[str, str] | None = None) -> Score:
    """Score hypotheses against references, paired by id.

    Args:
        references: phones by utterance id.
        hypotheses: phones by utterance id; the ids are the references'.
        protocol: what is folded, dropped and merged on both sides first.
        speakers: speaker by utterance id, where known.

    Raises:
        AsrError: naming ids that are on one side only, or a phone that the protocol does not know.
    """
    check_ids(references, hypotheses)
    speakers = speakers or {}
    refs = [protocol(phones, f"reference {id}") for id, phones in references.items()]
    hyps = [protocol(hypotheses[id], f"hypothesis {id}") for id in references]
    rows = tuple(
        Row(id, tuple(ref), tuple(hyp), alignment, count(len(ref), alignment, protocol.clamp), speakers.get(id))
        for id, ref, hyp, alignment in zip(references, refs, hyps, align(refs, hyps), strict=True))
    return Score(rows, total(rows), protocol)


def check_ids(references: Iterable[str], hypotheses: Iterable[str]) -> None:
    """Both sides have the same ids.

    Raises:
        AsrError: naming those that are on one side only.
    """
    refs, hyps = dict.fromkeys(references), dict.fromkeys(hypotheses)
    missing = [id for id in refs if id not in hyps]
    unknown = [id for id in hyps if id not in refs]
    complaints = []
    if missing:
        complaints.append(f"{len(missing):,} of {len(refs):,} references have no hypothesis: {_some(missing)}")
    if unknown:
        complaints.append(f"{len(unknown):,} of {len(hyps):,} hypotheses have no reference: {_some(unknown)}")
    if complaints:
        raise AsrError("; ".join(complaints) + ": the two sides must hold the same ids")


def count(phones: int, alignment: Alignment, clamp: bool = False) -> Counts:
    """Count the edits of an alignment."""
    insertions = deletions = substitutions = 0
    for chunk in alignment:
        if chunk.type == "insert":
            insertions += chunk.hyp_end_idx - chunk.hyp_start_idx
        elif chunk.type == "delete":
            deletions += chunk.ref_end_idx - chunk.ref_start_idx
        elif chunk.type == "substitute":
            substitutions += chunk.ref_end_idx - chunk.ref_start_idx
    over = max(0, insertions + deletions + substitutions - phones) if clamp else 0
    return Counts(phones, insertions, deletions, substitutions, over)


def total(rows: Iterable[Row]) -> Counts:
    """The sum over rows: PER is pooled, never a mean of utterances' PERs."""
    return sum((row.counts for row in rows), Counts())


def by_speaker(score: Score) -> dict[str, list[Row]]:
    """Rows by speaker, sorted by name; those without one come last, under `-`."""
    groups: dict[str, list[Row]] = {}
    for row in score.rows:
        groups.setdefault(row.speaker or "-", []).append(row)
    return dict(sorted(groups.items(), key=lambda group: (group[0] == "-", group[0])))


def by_length(score: Score) -> dict[str, list[Row]]:
    """Rows by number of reference phones, short before long; groups without a row are left out."""
    bounds = [-1, 0, *LENGTHS]
    groups: dict[str, list[Row]] = {}
    for low, high in zip(bounds, [*bounds[1:], float("inf")], strict=True):
        name = "0" if high == 0 else f"{low + 1}-{high}" if high != float("inf") else f"over {low}"
        rows = [row for row in score.rows if low < row.counts.phones <= high]
        if rows:
            groups[name] = rows
    return groups


def _some(ids: Sequence[str], most: int = 10) -> str:
    return " ".join(ids[:most]) + (f" … and {len(ids) - most:,} more" if len(ids) > most else "")
