"""A score as text: the summary with its %PER line, tables, aligned prints, confusions. Pure functions of a score."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from asr.scoring.score import Counts, Row, Score, total
from asr.scoring.significance import Interval


def per_line(counts: Counts) -> str:
    """The line that people's scripts read."""
    return (f"%PER {counts.per:.1f} [ {counts.errors} / {counts.phones}, {counts.insertions} ins, "
            f"{counts.deletions} del, {counts.substitutions} sub ]")


def summary(score: Score, interval: Interval | None) -> str:
    """Protocol, %PER, %SER and the interval, a line each; notes before them."""
    lines = [f"note: {note}" for note in score.notes]
    protocol = score.protocol
    lines.append(f"protocol {protocol.name}: {score.total.phones:,} reference phones "
                 f"in {len(score.rows):,} utterances, table {protocol.digest}")
    lines.append(per_line(score.total))
    lines.append(f"%SER {score.ser:.1f} [ {score.wrong} / {len(score.rows)} ]")
    lines.append(interval_line(interval))
    return "\n".join(lines) + "\n"


def interval_line(interval: Interval | None) -> str:
    """The interval in words."""
    if interval is None:
        return "95 % interval: none, there are not two utterances to resample"
    return (f"95 % interval {interval.low:.1f} to {interval.high:.1f} "
            f"({interval.samples:,} resamples of {interval.units:,} {interval.unit})")


def table(rows: Iterable[Sequence[Any]], header: Sequence[str], left: int = 1) -> str:
    """Columns aligned: the first `left` to the left, the others to the right."""
    cells = [list(header), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    return "".join("  ".join(cell.ljust(width) if i < left else cell.rjust(width)
                             for i, (cell, width) in enumerate(zip(row, widths, strict=True))).rstrip() + "\n"
                   for row in cells)


def group_table(groups: Mapping[str, Sequence[Row]], name: str) -> str:
    """PER and edits of groups of rows, a line each."""
    lines = []
    for group, rows in groups.items():
        counts = total(rows)
        lines.append((group, len(rows), counts.phones, f"{counts.per:.1f}", counts.insertions, counts.deletions,
                      counts.substitutions))
    return table(lines, (name, "utterances", "phones", "PER", "ins", "del", "sub"))
