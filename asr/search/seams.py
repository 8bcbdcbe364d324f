"""Where two overlapping stretches of one recording are stitched: in the middle of what both have heard alike.

A search is least to be trusted at the edges of what it is given: it begins and ends there in the midst of speech. Two
stretches that share a second or two hear the same phones at the same places but for those near their edges, so the
seam lies on a phone on which they agree, as far from both edges as there is one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

REACH = 2       # agreements on either side that speak for one


def seam(left: Sequence[tuple[int, float]], right: Sequence[tuple[int, float]], middle: float,
         tolerance: float) -> tuple[int, int]:
    """How many phones of the left to keep and how many of the right to leave out.

    Args:
        left, right: phones (id, focus) that either found where they overlap, in order
        middle: of the overlap, in the unit of the foci
        tolerance: two of the same id whose foci are no further apart are taken for one phone

    Returns:
        Behind the agreement with most others around it, of several the nearest to the middle. Where there is none,
        each side keeps its own half.
    """
    pairs = _agreements(left, right, tolerance)
    if not pairs:
        return sum(focus < middle for _, focus in left), sum(focus < middle for _, focus in right)
    company = [sum(max(abs(u - i), abs(v - j)) == abs(p - q) <= REACH for q, (u, v) in enumerate(pairs))
               for p, (i, j) in enumerate(pairs)]
    best = max(range(len(pairs)), key=lambda p: (company[p], -abs(left[pairs[p][0]][1] - middle)))
    i, j = pairs[best]
    return i + 1, j + 1


def behind(left: Sequence[tuple[int, float]], right: Sequence[tuple[int, float]], tolerance: float) -> int:
    """How many phones of the right to leave out where all of the left stays.

    Args:
        as `seam`; both may hold phones from before they overlap

    Returns:
        The right goes on behind the last agreement, without what it places where the left has something else to say.
    """
    if not left:
        return 0
    pairs = _agreements(left, right, tolerance)
    i, j = pairs[-1] if pairs else (-1, -1)
    if i == len(left) - 1:
        return j + 1
    return max(j + 1, sum(focus <= left[-1][1] + tolerance / 2 for _, focus in right))


def _agreements(left: Sequence[tuple[int, float]], right: Sequence[tuple[int, float]],
                tolerance: float) -> list[tuple[int, int]]:
    """The most pairs (i, j) of the same phone at the same place, in order on both sides."""
    most = np.zeros((len(left) + 1, len(right) + 1), dtype=np.int32)      # [i, j]: of left[i:] and right[j:]
    same = [[a == b and abs(f - g) <= tolerance for b, g in right] for a, f in left]
    for i in reversed(range(len(left))):
        for j in reversed(range(len(right))):
            most[i, j] = most[i + 1, j + 1] + 1 if same[i][j] else max(most[i + 1, j], most[i, j + 1])
    pairs, i, j = [], 0, 0
    while i < len(left) and j < len(right):
        if same[i][j]:
            pairs.append((i, j))
            i, j = i + 1, j + 1
        elif most[i + 1, j] >= most[i, j + 1]:
            i += 1
        else:
            j += 1
    return pairs
