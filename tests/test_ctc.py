"""CTC prefix scores against all paths, one by one."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from asr.search import ctc

V = 4


def collapsed(path: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(i for i, _ in itertools.groupby(path) if i)


def brute(log_probs: Tensor) -> tuple[dict[tuple[int, ...], float], dict[tuple[int, ...], float]]:
    """Probabilities of all label sequences, whole and as prefixes, over all paths of (T, V)."""
    whole: dict[tuple[int, ...], float] = {}
    prefix: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(log_probs.size(1)), repeat=len(log_probs)):
        p = math.exp(sum(float(log_probs[t, i]) for t, i in enumerate(path)))
        labels = collapsed(path)
        whole[labels] = whole.get(labels, 0.0) + p
        for n in range(len(labels) + 1):
            prefix[labels[:n]] = prefix.get(labels[:n], 0.0) + p
    return whole, prefix


def walk(log_probs: Tensor, lengths: Tensor, prefixes: list[list[int]], firsts: list[list[int]], width: int,
         ) -> tuple[Tensor, Tensor, Tensor]:
    """Prefix by prefix (rows of a batch, all of one length): log ψ, log ψ of all its extensions, log P(it and no more).

    `firsts[u]` is the window's first frame at step u for each row.
    """
    B = len(prefixes)
    every = torch.arange(1, V).expand(B, 1, -1)
    first = torch.tensor(firsts[0]).unsqueeze(1)
    frames = ctc.frames_of(log_probs, lengths, first, width)
    forward, last, psi = ctc.start_forward(frames, first), torch.zeros(B, 1, dtype=torch.long), torch.zeros(B, 1)
    psi = psi.double()
    for u in range(len(prefixes[0]) + 1):
        first = torch.tensor(firsts[u]).unsqueeze(1)
        frames = ctc.frames_of(log_probs, lengths, first, width)
        forward = ctc.moved_to(forward, first, frames, last)
        extended = ctc.extend(forward, frames, last, every)
        if u < len(prefixes[0]):
            last = torch.tensor([[row[u]] for row in prefixes])
            psi = psi + extended.gain.gather(2, last.unsqueeze(2) - 1).squeeze(2)
            forward = ctc.choose(extended, torch.arange(B).unsqueeze(1), last)
    return psi[:, 0], (psi.unsqueeze(2) + extended.gain)[:, 0], psi[:, 0] + ctc.end_gain(forward, lengths)[:, 0]


PREFIXES = [[1], [2, 2], [1, 2, 1], [3, 3, 3], [2, 1, 1], [1, 3]]


@pytest.mark.parametrize("window", ["whole", "larger", "twice"])
@pytest.mark.parametrize("prefix", [[], *PREFIXES], ids=str)
def test_prefix_scores_are_sums_over_all_paths(prefix: list[int], window: str) -> None:
    torch.manual_seed(0)
    lengths = torch.tensor([6, 5, 3])
    log_probs = (1.5 * torch.randn(3, 6, V)).log_softmax(2)
    first, width = {"whole": (0, 6), "larger": (-3, 15), "twice": (0, 12)}[window]
    psi, more, end = walk(log_probs, lengths, [prefix] * 3, [[first] * 3] * (len(prefix) + 1), width)
    for b, length in enumerate(lengths.tolist()):
        whole, prefixes = brute(log_probs[b, :length])
        for found, expected in [(psi[b], prefixes.get(tuple(prefix), 0.0)), (end[b], whole.get(tuple(prefix), 0.0)),
                                *((more[b, c - 1], prefixes.get((*prefix, c), 0.0)) for c in range(1, V))]:
            assert math.exp(float(found)) == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_hypotheses_of_one_utterance_are_scored_side_by_side() -> None:
    torch.manual_seed(1)
    log_probs = torch.randn(2, 6, V).log_softmax(2)
    lengths, K = torch.tensor([6, 4]), 3
    first = torch.zeros(2, 1, dtype=torch.long)
    frames = ctc.frames_of(log_probs, lengths, first, 6)
    none = torch.zeros(2, 1, dtype=torch.long)
    extended = ctc.extend(ctc.start_forward(frames, first), frames, none, torch.arange(1, V).expand(2, 1, -1))
    rows, ids = torch.tensor([[0, 0, 0], [1, 1, 1]]), torch.tensor([[1, 2, 3], [3, 2, 1]])
    forward = ctc.choose(extended, rows, ids)
    psi = extended.gain.flatten(0, 1)[rows, ids - 1]
    frames = ctc.frames_of(log_probs, lengths, forward.first, 6)
    candidates = torch.tensor([[[1, 3], [2, 1], [3, 2]]]).expand(2, K, 2)       # a different choice for each
    gains = ctc.extend(forward, frames, ids, candidates).gain
    for b, length in enumerate(lengths.tolist()):
        _, prefixes = brute(log_probs[b, :length])
        for k in range(K):
            for c in range(2):
                expected = prefixes.get((int(ids[b, k]), int(candidates[b, k, c])), 0.0)
                assert math.exp(float(psi[b, k] + gains[b, k, c])) == pytest.approx(expected, rel=1e-6, abs=1e-12)


def peaky(labels: list[int], every: int, size: int) -> Tensor:
    """(S, V) log probabilities with a sharp peak for each label, `every` frames apart, and blanks between."""
    torch.manual_seed(2)
    logits = 0.5 * torch.randn(size, V)
    logits[:, 0] += 8
    for number, label in enumerate(labels):
        logits[every * number + 2, 0] -= 8
        logits[every * number + 2, label] += 9
    return logits.log_softmax(1)


def test_a_moving_window_stays_close_to_the_whole() -> None:
    labels = [1, 2, 2, 3, 1, 1, 2, 3, 3, 3, 1, 2]
    log_probs, lengths = peaky(labels, 6, 75).unsqueeze(0), torch.tensor([75])
    exact = walk(log_probs, lengths, [labels], [[0]] * 13, 75)
    moving = walk(log_probs, lengths, [labels], [[6 * u - 7] for u in range(13)], 24)
    assert abs(float(moving[0] - exact[0])) < 0.01
    assert abs(float(moving[2] - exact[2])) < 0.01
    assert int(moving[1].argmax()) == int(exact[1].argmax())


def test_a_window_that_moves_within_what_it_knows_is_exact() -> None:
    """Nothing is cut off on either side of the peaks: the scores over the window's move are those without it."""
    log_probs, lengths = peaky([1, 2, 3], 8, 24).unsqueeze(0), torch.tensor([24])
    still = walk(log_probs, lengths, [[1, 2, 3]], [[0]] * 4, 24)
    ahead = walk(log_probs, lengths, [[1, 2, 3]], [[0], [0], [0], [0]], 40)
    grown = walk(log_probs, lengths, [[1, 2, 3]], [[-8], [-8], [-4], [-1]], 48)
    for other in (ahead, grown):
        for one, two in zip(still, other, strict=True):
            torch.testing.assert_close(one, two, atol=1e-9, rtol=0)


def test_an_old_prefix_goes_on_behind_its_window() -> None:
    """Columns that come into view are what the recursion over all frames gives for them, label held or blanks after."""
    torch.manual_seed(3)
    log_probs, lengths = torch.randn(1, 9, V).log_softmax(2), torch.tensor([9])
    first, last = torch.zeros(1, 1, dtype=torch.long), torch.tensor([[2]])
    def two_of(width: int) -> ctc.Forward:
        frames = ctc.frames_of(log_probs, lengths, first, width)
        extended = ctc.extend(ctc.start_forward(frames, first), frames, 0 * last, last.unsqueeze(2))
        chosen = ctc.choose(extended, torch.zeros(1, 1, dtype=torch.long), last)
        gain = extended.gain[..., :1]
        return ctc.Forward(chosen.label + gain, chosen.blank + gain, first)
    narrow, wide = two_of(4), two_of(9)
    moved = ctc.moved_to(narrow, first, ctc.frames_of(log_probs, lengths, first, 9), last)
    torch.testing.assert_close(moved.label[..., :5], wide.label[..., :5])
    frames = log_probs[0].double()
    label, blank = float(narrow.label[0, 0, 4]), float(narrow.blank[0, 0, 4])
    for t in range(4, 9):       # nothing new begins: only what was there goes on
        label, blank = label + float(frames[t, 2]), float(torch.logaddexp(torch.tensor(blank), torch.tensor(label))
                                                          + frames[t, 0])
        assert float(moved.label[0, 0, t + 1]) == pytest.approx(label, abs=1e-5)
        assert float(moved.blank[0, 0, t + 1]) == pytest.approx(blank, abs=1e-5)


def test_the_end_waits_until_the_window_reaches_it() -> None:
    log_probs, lengths = peaky([1], 6, 20).unsqueeze(0), torch.tensor([20])
    for width, reached in ((19, False), (20, True)):
        end = walk(log_probs, lengths, [[1]], [[0], [0]], width)[2]
        assert (float(end) > -10) is reached
        assert reached or float(end) <= ctc.NEVER / 2


def test_frames_outside_the_utterance_are_a_certain_blank() -> None:
    log_probs = torch.randn(1, 4, V).log_softmax(2)
    frames = ctc.frames_of(log_probs, torch.tensor([3]), torch.tensor([[-1]]), 6)
    zero = torch.tensor([[0]])
    seen = torch.stack([frames.of(zero, zero + id)[0, 0] for id in range(V)], dim=1)       # (W, V)
    assert seen.dtype == torch.float64
    torch.testing.assert_close(seen[1:4], log_probs[0, :3].double())
    for outside in (0, 4, 5):
        assert seen[outside].tolist() == [0.0] + [ctc.NEVER] * (V - 1)


def test_windows_of_one_utterance_are_each_its_own() -> None:
    torch.manual_seed(4)
    log_probs = torch.randn(2, 9, V).log_softmax(2)
    firsts = torch.tensor([[2, 0, 4], [-1, 3, 3]])
    frames = ctc.frames_of(log_probs, torch.tensor([9, 7]), firsts, 4)
    ids = torch.tensor([[1, 2, 3], [0, 1, 2]])
    found = frames.of(frames.every, ids)
    for b in range(2):
        for k in range(3):
            for j in range(4):
                t, id = int(firsts[b, k]) + j, int(ids[b, k])
                inside = 0 <= t < (9, 7)[b]
                outside = 0.0 if id == 0 else ctc.NEVER
                assert float(found[b, k, j]) == (float(log_probs[b, t, id]) if inside else outside)


def test_long_recordings_do_not_drown_in_rounding() -> None:
    labels = [1, 2, 3, 2] * 50
    log_probs, lengths = peaky(labels, 6, 1203).unsqueeze(0), torch.tensor([1203])
    psi, _, end = walk(log_probs, lengths, [labels], [[0]] * 201, 1203)
    expected = -torch.nn.functional.ctc_loss(log_probs.double().transpose(0, 1), torch.tensor([labels]), lengths,
                                             torch.tensor([200]), reduction="sum")
    assert float(end) == pytest.approx(float(expected), rel=1e-8)
    assert float(psi) > float(end)


def test_impossible_labels_stay_finite_and_hopeless() -> None:
    log_probs = torch.zeros(1, 2, V).log_softmax(2)
    _, more, end = walk(log_probs, torch.tensor([2]), [[1, 1, 1]], [[0]] * 4, 2)
    assert not bool(torch.cat([more[0], end]).isnan().any())
    assert bool((torch.cat([more[0], end]) < -1000).all())
