"""A table for reading: columns side by side, the first on the left, numbers on the right."""

from __future__ import annotations

from collections.abc import Sequence


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as lines; every row has as many cells as the first."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.rjust(width) if place else cell.ljust(width) for place, (cell, width)
                               in enumerate(zip(row, widths, strict=True))).rstrip() for row in rows)
