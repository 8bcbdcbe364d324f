"""The aligned print, in the manner of sclite's pra: reference over hypothesis, the kind of each error below."""

from __future__ import annotations

from asr.scoring.align import pairs
from asr.scoring.report import pad, width
from asr.scoring.score import Row, Score

COLUMNS = 100       # of a line, where a longer utterance is broken
GAP = "***"         # where one side has no phone


def pra(score: Score) -> str:
    """Every utterance, in the order of the references."""
    return "\n".join(utterance_pra(row) for row in score.rows)


def utterance_pra(row: Row) -> str:
    """One utterance: S under a substitution, D under a deletion, I under an insertion."""
    counts = row.counts
    lines = [f"id: ({row.id})"]
    if row.speaker is not None:
        lines.append(f"speaker: {row.speaker}")
    lines.append(f"scores: {counts.phones} phones, {counts.insertions} ins, {counts.deletions} del, "
                 f"{counts.substitutions} sub, PER {counts.per:.1f}")
    block: list[tuple[str, str, str]] = []
    used = 0
    for reference, hypothesis in pairs(row.alignment, row.reference, row.hypothesis):
        cell = (reference or GAP, hypothesis or GAP, kind(reference, hypothesis))
        wide = max(map(width, cell)) + 1
        if block and used + wide > COLUMNS:
            lines += _block(block)
            block, used = [], 0
        block.append(cell)
        used += wide
    return "\n".join([*lines, *_block(block)]) + "\n"


def kind(reference: str | None, hypothesis: str | None) -> str:
    """`I`, `D`, `S`, or nothing where they are equal."""
    if reference is None:
        return "I"
    if hypothesis is None:
        return "D"
    return "" if reference == hypothesis else "S"


def _block(cells: list[tuple[str, str, str]]) -> list[str]:
    widths = [max(map(width, cell)) for cell in cells]
    return [(f"{name:<6}" + " ".join(pad(cell[i], wide) for cell, wide in zip(cells, widths, strict=True))).rstrip()
            for i, name in enumerate(("REF:", "HYP:", "EVAL:"))]
