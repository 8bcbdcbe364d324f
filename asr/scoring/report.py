"""A result as text, with the %PER line that people's scripts read. Pure functions of a result."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from asr.scoring.score import Counts, Row, Score, total

if TYPE_CHECKING:
    from asr.scoring.boundaries import Boundaries
    from asr.scoring.result import Pair, Result, System
    from asr.scoring.significance import Interval

FEW = 10            # units below which a bootstrap interval is rough
SEGMENTS = 30       # segments below which MAPSSWE's normal approximation is


def result_text(result: Result) -> str:
    """Tables that were asked for, then each system's summary, then the comparisons."""
    several = len(result.systems) > 1
    blocks = [(f"system {system.name}\n" if several else "") + system_text(system) for system in result.systems]
    if result.pairs:
        blocks.append(pairs_text(result.pairs))
    return "\n".join(blocks)


def system_text(system: System) -> str:
    """Tables, then the summary, whose lines are the last."""
    blocks = [group_table(groups, name) for name, groups in system.groups.items()]
    if system.elsewhere:
        blocks.append(protocols_text(system))
    if system.boundaries is not None:
        blocks.append(boundaries_text(system.boundaries))
    return "\n".join([*blocks, summary(system.score, system.interval)])


def summary(score: Score, interval: Interval | None) -> str:
    """Protocol, %PER, %SER and the interval, a line each; notes before them."""
    protocol = score.protocol
    lines = [f"note: {note}" for note in score.notes]
    lines.append(f"protocol {protocol.name}: {score.total.phones:,} reference phones "
                 f"in {len(score.rows):,} utterances, table {protocol.digest}")
    lines.append(per_line(score.total))
    lines.append(f"%SER {score.ser:.1f} [ {score.wrong} / {len(score.rows)} ]")
    lines.append(interval_line(interval))
    return "\n".join(lines) + "\n"


def per_line(counts: Counts) -> str:
    """The score line: `%PER 19.9 [ 1436 / 7215, 243 ins, 312 del, 881 sub ]`."""
    return (f"%PER {counts.per:.1f} [ {counts.errors} / {counts.phones}, {counts.insertions} ins, "
            f"{counts.deletions} del, {counts.substitutions} sub ]")


def interval_line(interval: Interval | None) -> str:
    """The interval in words."""
    if interval is None:
        return "95 % interval: none, there are not two utterances to resample"
    rough = ", so few that it is rough" if interval.units < FEW else ""
    return (f"95 % interval {interval.low:.1f} to {interval.high:.1f} "
            f"({interval.samples:,} resamples of {interval.units:,} {interval.unit}{rough})")


def group_table(groups: Mapping[str, Sequence[Row]], name: str) -> str:
    """PER and edits of groups of rows, a line each."""
    lines = []
    for group, rows in groups.items():
        counts = total(rows)
        lines.append((group, len(rows), counts.phones, f"{counts.per:.1f}", counts.insertions, counts.deletions,
                      counts.substitutions))
    return table(lines, (name, "utterances", "phones", "PER", "ins", "del", "sub"))


def protocols_text(system: System) -> str:
    """How far the number moves from protocol to protocol."""
    done = system.elsewhere
    lines = [(s.protocol.name, s.total.phones, f"{s.total.per:.1f}", s.total.insertions, s.total.deletions,
              s.total.substitutions, s.protocol.digest) for s in done]
    text = table(lines, ("protocol", "phones", "PER", "ins", "del", "sub", "table"))
    low, high = min(s.total.per for s in done), max(s.total.per for s in done)
    text += f"the same hypotheses score from {low:.1f} to {high:.1f}\n" if len(done) > 1 else ""
    return text + (f"no score by {', '.join(system.unknown)}: {system.reason}\n" if system.unknown else "")


def boundaries_text(boundaries: Boundaries) -> str:
    """How exact the times are."""
    from asr.scoring.boundaries import TOLERANCES
    shares = ", ".join(f"{t} ms {boundaries.within(t):.1f} %" for t in TOLERANCES)
    return (f"boundaries: {len(boundaries.errors):,} of {boundaries.starts:,} phone starts measured, "
            "those of phones recognised rightly; starts at 0 s do not count\n"
            f"mean error {1000 * boundaries.mean:.1f} ms, median {1000 * boundaries.median:.1f} ms, "
            f"bias {1000 * boundaries.bias:+.1f} ms\n"
            f"within {shares}\n")


def pairs_text(pairs: Sequence[Pair]) -> str:
    """The comparisons, a line each."""
    lines = []
    for pair in pairs:
        c = pair.comparison
        within = f"{c.interval.low:+.2f} to {c.interval.high:+.2f}"
        lines.append((pair.first, pair.second, f"{c.difference:+.2f}", within, p_value(c.p), p_value(pair.p_holm),
                      c.segments, f"{c.z:+.2f}", p_value(c.p_mapsswe), p_value(pair.p_mapsswe_holm)))
    text = table(lines, ("first", "second", "difference", "95 % interval", "p", "p Holm", "segments", "z", "p MAPSSWE",
                         "p Holm"), left=2)
    unit = pairs[0].comparison.interval
    rough = unit.units < FEW or any(pair.comparison.segments < SEGMENTS for pair in pairs)
    if rough:
        text += f"note: fewer than {FEW} {unit.unit} or {SEGMENTS} segments: do not build on these p\n"
    return text + ("difference: PER of the first minus PER of the second; negative: the first is better\n"
                   f"interval and p: {unit.samples:,} paired resamples of {unit.units:,} {unit.unit}; MAPSSWE: "
                   "matched pairs of segments\np Holm: corrected for all comparisons\n")


def p_value(p: float) -> str:
    """Three places; `<0.001` below what they can show."""
    return "<0.001" if p < 0.0005 else f"{p:.3f}"


def table(rows: Iterable[Sequence[Any]], header: Sequence[str], left: int = 1) -> str:
    """Columns aligned: the first `left` to the left, the others to the right."""
    cells = [list(header), *([str(cell) for cell in row] for row in rows)]
    widths = [max(width(row[i]) for row in cells) for i in range(len(header))]
    return "".join("  ".join(pad(cell, wide, right=i >= left)
                             for i, (cell, wide) in enumerate(zip(row, widths, strict=True))).rstrip() + "\n"
                   for row in cells)


def pad(text: str, wide: int, right: bool = False) -> str:
    """The text filled up with spaces to a width on the screen."""
    fill = " " * (wide - width(text))
    return fill + text if right else text + fill


def width(text: str) -> int:
    """Columns on the screen: marks that combine with the letter before, as IPA has them, take none."""
    return sum(not unicodedata.combining(letter) for letter in text)
