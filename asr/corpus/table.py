"""A table for reading: columns side by side, words on the left, numbers on the right."""

from __future__ import annotations

from collections.abc import Collection, Sequence


def aligned(rows: Sequence[Sequence[str]], words: Collection[int] = (0,)) -> str:
    """Rows of cells as lines; `words` names the columns of words. Every row has as many cells as the first."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) if place in words else cell.rjust(width) for place, (cell, width)
                               in enumerate(zip(row, widths, strict=True))).rstrip() for row in rows)
