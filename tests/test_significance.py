"""Intervals and comparisons against scipy and brute force."""

import math
import random
from itertools import product

import numpy as np
import pytest
import scipy.stats

from asr.errors import AsrError
from asr.scoring.protocol import PLAIN, Protocol
from asr.scoring.score import score
from asr.scoring.significance import compare, holm, interval, mapsswe, segment_differences


def system(seed, rate, utterances=120, speakers=None):
    """A score of hypotheses with about so many errors, against references that all seeds share."""
    rng, words = random.Random(seed), random.Random(0)
    references = {f"u{i}": words.choices("abcdefgh", k=words.randrange(5, 30)) for i in range(utterances)}
    hypotheses = {id: [p if rng.random() > rate else rng.choice("abcdefgh") for p in phones if rng.random() > rate / 3]
                  for id, phones in references.items()}
    names = {f"u{i}": f"s{i % speakers}" for i in range(utterances)} if speakers else None
    return score(references, hypotheses, speakers=names)


def sums(result, key):
    groups = {}
    for row in result.rows:
        errors, phones = groups.get(key(row), (0, 0))
        groups[key(row)] = (errors + row.counts.errors, phones + row.counts.phones)
    return np.array(list(groups.values()), dtype=float)


@pytest.mark.parametrize("speakers", [None, 20])
def test_the_interval_is_scipys_percentile_bootstrap(speakers):
    result = system(1, 0.2, speakers=speakers)
    errors, phones = sums(result, (lambda row: row.speaker) if speakers else (lambda row: row.id)).T
    theirs = scipy.stats.bootstrap((errors, phones), lambda e, n, axis: 100 * e.sum(axis) / n.sum(axis), paired=True,
                                   vectorized=True, n_resamples=20_000, method="percentile", rng=7).confidence_interval
    ours = interval(result, samples=20_000)
    assert (ours.units, ours.unit) == ((20, "speakers") if speakers else (120, "utterances"))
    assert ours.low == pytest.approx(theirs.low, abs=0.15)
    assert ours.high == pytest.approx(theirs.high, abs=0.15)
    assert ours.low < result.total.per < ours.high


def test_speakers_who_differ_widen_the_interval():
    references = {f"u{i}": ["a"] * 20 for i in range(200)}
    hypotheses = {f"u{i}": (["a"] * 20 if i % 10 < 5 else ["a"] * 14 + ["b"] * 6) for i in range(200)}
    by_speaker = interval(score(references, hypotheses, speakers={f"u{i}": str(i % 10) for i in range(200)}))
    by_utterance = interval(score(references, hypotheses))
    assert by_speaker.high - by_speaker.low > 3 * (by_utterance.high - by_utterance.low)


def test_an_utterance_without_speaker_or_a_single_speaker_means_utterances_are_drawn():
    references = {"a": ["x"], "b": ["y"], "c": ["z"]}
    assert interval(score(references, references, speakers={"a": "s", "b": "t"})).unit == "utterances"
    assert interval(score(references, references, speakers=dict.fromkeys(references, "s"))).unit == "utterances"


def test_the_same_seed_gives_the_same_interval_and_another_seed_another():
    result = system(1, 0.2)
    assert interval(result, 200, seed=3) == interval(result, 200, seed=3)
    assert interval(result, 200, seed=3) != interval(result, 200, seed=4)


def test_many_utterances_are_drawn_in_blocks_like_few(monkeypatch):
    result = system(1, 0.2)
    whole = interval(result, 5000)
    monkeypatch.setattr("asr.scoring.significance.BLOCK", 1000)
    blocks = interval(result, 5000)
    assert (blocks.low, blocks.high) == (pytest.approx(whole.low, abs=0.3), pytest.approx(whole.high, abs=0.3))


def test_one_utterance_or_no_phone_has_no_interval():
    assert interval(score({"a": ["x"]}, {"a": ["y"]})) is None
    assert interval(score({"a": [], "b": []}, {"a": ["y"], "b": []})) is None


def test_an_interval_with_empty_references_is_finite():
    found = interval(score({"a": [], "b": ["x"]}, {"a": ["y"], "b": ["x"]}))
    assert math.isfinite(found.high)


def test_the_difference_is_paired():
    one, two = system(1, 0.2), system(2, 0.2)
    found = compare(one, two, samples=20_000)
    errors = np.column_stack([sums(one, lambda row: row.id), sums(two, lambda row: row.id)[:, 0]])
    theirs = scipy.stats.bootstrap(tuple(errors.T), lambda a, n, b, axis: 100 * (a - b).sum(axis) / n.sum(axis),
                                   paired=True, vectorized=True, n_resamples=20_000, method="percentile", rng=7)
    assert found.difference == pytest.approx(one.total.per - two.total.per)
    assert found.interval.low == pytest.approx(theirs.confidence_interval.low, abs=0.15)
    assert found.interval.high == pytest.approx(theirs.confidence_interval.high, abs=0.15)
    shifted = theirs.bootstrap_distribution - found.difference
    assert found.p == pytest.approx((abs(shifted) >= abs(found.difference)).mean(), abs=0.02)


def test_a_system_does_not_differ_from_itself():
    found = compare(system(1, 0.2), system(1, 0.2))
    assert (found.difference, found.p, found.z, found.p_mapsswe) == (0, 1, 0, 1)


def test_a_clear_difference_is_found_and_its_sign_is_the_second_systems_advantage():
    found = compare(system(1, 0.3), system(2, 0.1), samples=1000)
    assert found.difference > 0
    assert found.interval.low > 0
    assert found.p == pytest.approx(1 / 1001)
    assert found.p_mapsswe < 0.001
    other = compare(system(2, 0.1), system(1, 0.3), samples=1000)
    assert (other.difference, other.z) == (-found.difference, -found.z)


def test_chance_is_called_significant_about_as_often_as_p_says():
    ps = [(c.p, c.p_mapsswe) for c in (compare(system(2 * i, 0.2, 40), system(2 * i + 1, 0.2, 40), 200)
                                       for i in range(100))]
    for column in zip(*ps, strict=True):
        assert 0 <= sum(p < 0.05 for p in column) <= 13        # 5 expected; more than 13 has probability 0.0005
        assert 20 <= sum(p < 0.5 for p in column) <= 80


def row(reference, hypothesis):
    return score({"a": reference.split()}, {"a": hypothesis.split()}).rows[0]


@pytest.mark.parametrize(("reference", "first", "second", "segments"), [
    ("a b c d e f", "a b c d e f", "a b c d e f", []),
    ("a b c d e f", "x b c y e f", "a b c d e f", [1, 1]),          # two phones right between: two segments
    ("a b c d e f", "x b y d e f", "a b c d e f", [2]),             # one phone right between: one segment
    ("a b c d e f", "x b c d e f", "a b c y e f", [1, -1]),         # both must be right between
    ("a b c d e f", "x b c d e f", "a b y d e f", [0]),
    ("a b c d e f", "x b z c d e f", "a b c d e f", [2]),           # an insertion stands between b and c
    ("a b c d", "a b c d z z", "z a b c d", [-1, 2]),
    ("", "x y", "z", [1]),
    ("a b c d e f", "", "a b c d e f", [6]),
])
def test_segments_are_bounded_by_two_phones_that_both_recognise(reference, first, second, segments):
    assert segment_differences(row(reference, first), row(reference, second)) == segments


def test_segments_hold_all_errors():
    one, two = system(1, 0.2), system(2, 0.3)
    differences = [d for a, b in zip(one.rows, two.rows, strict=True) for d in segment_differences(a, b)]
    assert sum(differences) == one.total.errors - two.total.errors


def test_mapsswe_is_the_paired_t_statistic_of_the_segments_taken_as_normal():
    one, two = system(1, 0.2), system(2, 0.25)
    differences = [d for a, b in zip(one.rows, two.rows, strict=True) for d in segment_differences(a, b)]
    segments, z, p = mapsswe(one, two)
    statistic = scipy.stats.ttest_1samp(differences, 0).statistic
    assert segments == len(differences)
    assert z == pytest.approx(statistic)
    assert p == pytest.approx(2 * scipy.stats.norm.sf(abs(statistic)))


@pytest.mark.parametrize(("segments", "p"), [(1, 1.0), (2, 0.5), (5, 1 / 16), (2000, 1e-300)])
def test_segments_that_all_differ_by_one_are_a_sign_test(segments, p):
    references = {str(i): ["a"] for i in range(segments)}
    right, wrong = score(references, references), score(references, {id: ["b"] for id in references})
    n, z, found = mapsswe(wrong, right)
    assert (n, found) == (segments, p)
    assert 2 * scipy.stats.norm.sf(z) == pytest.approx(p)
    assert mapsswe(right, wrong) == (n, -z, found)


def test_holm_is_the_closed_test_of_bonferroni_corrections():
    """An hypothesis falls if every set of hypotheses that holds it falls by Bonferroni (Marcus, Peritz, Gabriel)."""
    rng = random.Random(5)
    for n in (1, 2, 4, 6):
        ps = [rng.choice([0.001, 0.01, 0.02, 0.04, 0.3, 1.0]) for _ in range(n)]
        for i, corrected in enumerate(holm(ps)):
            sets = [s for s in product([False, True], repeat=n) if s[i]]
            closed = max(min(1.0, sum(s) * min(p for p, inside in zip(ps, s, strict=True) if inside)) for s in sets)
            assert corrected == pytest.approx(closed)


def test_scores_that_mean_different_things_are_not_compared():
    references = {"a": ["x"], "b": ["y"]}
    plain = score(references, references)
    folded = score(references, references, Protocol("mine", fold={"x": "x", "y": "y"}))
    with pytest.raises(AsrError, match=f"protocols plain .{PLAIN.digest}. and mine .* cannot be compared"):
        compare(plain, folded)
    other = score({"a": ["x"], "b": ["z"]}, references)
    with pytest.raises(AsrError, match="different references, for instance of 'b'"):
        compare(plain, other)
    with pytest.raises(AsrError, match="1 utterances cannot be resampled"):
        compare(score({"a": ["x"]}, {"a": ["x"]}), score({"a": ["x"]}, {"a": ["x"]}))
