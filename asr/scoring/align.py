"""Which phone of the hypothesis stands for which of the reference: the fewest edits, by jiwer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from jiwer import AlignmentChunk

    Alignment = Sequence[AlignmentChunk]    # runs of `equal`, `substitute`, `insert`, `delete`, in order


def align(references: Sequence[Sequence[str]], hypotheses: Sequence[Sequence[str]]) -> list[Alignment]:
    """Align every reference with the hypothesis of the same index, at unit costs.

    jiwer is handed lists of phones, so none of its text normalisation applies: a phone is a phone, whatever its case
    or characters, and empty sequences are sequences. Of several alignments with the fewest edits one is chosen, the
    same one every time.
    """
    import jiwer

    def as_they_are(sequences: Any) -> list[list[str]]:
        return [list(sequence) for sequence in sequences]

    if not references:      # nothing to do, and jiwer would divide by it
        return []
    lists = cast(Any, as_they_are)      # jiwer takes any callable, its annotations do not
    return list(jiwer.process_words(cast(Any, references), cast(Any, hypotheses), lists, lists).alignments)


def pairs(alignment: Alignment, reference: Sequence[str],
          hypothesis: Sequence[str]) -> Iterator[tuple[str | None, str | None]]:
    """The aligned phones in order: `(reference, hypothesis)`; None on the side where there is none."""
    for i, j in index_pairs(alignment):
        yield None if i is None else reference[i], None if j is None else hypothesis[j]


def index_pairs(alignment: Alignment) -> Iterator[tuple[int | None, int | None]]:
    """The aligned positions in order."""
    for chunk in alignment:
        if chunk.type == "insert":
            yield from ((None, j) for j in range(chunk.hyp_start_idx, chunk.hyp_end_idx))
        elif chunk.type == "delete":
            yield from ((i, None) for i in range(chunk.ref_start_idx, chunk.ref_end_idx))
        else:
            yield from zip(range(chunk.ref_start_idx, chunk.ref_end_idx),
                           range(chunk.hyp_start_idx, chunk.hyp_end_idx), strict=True)
