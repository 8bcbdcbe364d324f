"""Two searches of overlapping stretches, stitched."""

import random

import pytest

from asr.search.seams import seam

Phones = list[tuple[int, float]]


def stitched(left: Phones, right: Phones, middle: float, tolerance: float = 2.0) -> list[int]:
    kept, left_out = seam(left, right, middle, tolerance)
    return [id for id, _ in left[:kept] + right[left_out:]]


@pytest.mark.parametrize("seed", range(50))
def test_errors_at_the_edges_do_not_show(seed: int) -> None:
    """Each side hears the truth, but for phones near its own edge, and places that shake a little."""
    draw = random.Random(seed)
    truth = [(draw.randrange(1, 40), 10.0 * u) for u in range(20)]

    def heard(edge: range) -> Phones:
        wrong = [(id, focus + draw.uniform(-0.9, 0.9)) for id, focus in truth]
        for u in edge:
            kind = draw.randrange(3)
            wrong[u:u + 1] = [[], [(99, wrong[u][1])], [wrong[u], (98, wrong[u][1] + 0.1)]][kind]
        return wrong
    left, right = heard(range(19, 15, -1)), heard(range(3, -1, -1))
    assert stitched(left, right, 95.0) == [id for id, _ in truth]


def test_the_seam_is_in_the_middle_of_what_both_hear() -> None:
    both = [(u, 10.0 * u) for u in range(1, 10)]
    assert seam(both, both, 50.0, 2.0) == (5, 5)
    assert seam(both, both[3:], 50.0, 2.0) == (6, 3), "two agreements on either side speak for the phone at 60"


def test_the_same_phone_at_another_place_is_another() -> None:
    assert stitched([(1, 0.0), (2, 10.0), (1, 20.0)], [(1, 20.5), (3, 30.0)], 15.0) == [1, 2, 1, 3]
    assert stitched([(1, 0.0), (1, 10.0)], [(1, 30.0)], 20.0) == [1, 1, 1]


def test_a_phone_that_lies_on_the_cut_is_said_once() -> None:
    """Where each kept its own half, this one would be lost or doubled: one hears it before the middle, one behind."""
    left, right = [(4, 40.0), (5, 49.6)], [(5, 50.4), (6, 60.0)]
    assert stitched(left, right, 50.0) == [4, 5, 6]
    left, right = [(4, 40.0), (5, 50.4)], [(5, 49.6), (6, 60.0)]
    assert stitched(left, right, 50.0) == [4, 5, 6]


def test_without_agreement_each_keeps_its_half() -> None:
    assert stitched([(1, 10.0), (2, 60.0)], [(3, 20.0), (4, 70.0)], 50.0) == [1, 4]
    assert stitched([], [(3, 20.0), (4, 70.0)], 50.0) == [4]
    assert stitched([(1, 10.0)], [], 50.0) == [1]
    assert stitched([], [], 50.0) == []
