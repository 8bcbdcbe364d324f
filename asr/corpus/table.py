"""A table for reading: columns side by side, words on the left, numbers on the right."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Sequence


def aligned(rows: Sequence[Sequence[str]], words: Collection[int] = (0,)) -> str:
    """Rows of cells as lines; `words` names the columns of words. Every row has as many cells as the first."""
    widths = [max(map(width, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(_padded(cell, size, place in words) for place, (cell, size)
                               in enumerate(zip(row, widths, strict=True))).rstrip() for row in rows)


def width(text: str) -> int:
    """Columns that a text takes on a terminal: marks stand over the letters before them."""
    return sum(not unicodedata.combining(character) for character in text)


def _padded(cell: str, size: int, left: bool) -> str:
    space = " " * (size - width(cell))
    return cell + space if left else space + cell
