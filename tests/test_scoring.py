"""Alignment and counting: the fewest edits, pooled, paired by id; and the measures built on them."""

import math
import random
import subprocess
import sys
import time

import pytest

from asr.corpus.records import TimedPhone
from asr.errors import AsrError
from asr.scoring.align import pairs
from asr.scoring.boundaries import boundaries
from asr.scoring.confusions import by_class, classify, confusions, confusions_text
from asr.scoring.pra import COLUMNS, pra
from asr.scoring.protocol import Protocol, load_protocol
from asr.scoring.score import Counts, by_length, by_speaker, score
from asr.scoring.significance import interval

split = str.split     # phones of a text


def edit_distance(reference, hypothesis):
    """By the book: Wagner and Fischer's table."""
    row = list(range(len(hypothesis) + 1))
    for i, r in enumerate(reference, start=1):
        before, row[0] = row[0], i
        for j, h in enumerate(hypothesis, start=1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (r != h))
    return row[-1]


def random_set(seed, utterances=60, phones=("a", "b", "c", "aɪ", "t͡ʃ")):
    rng = random.Random(seed)
    draw = lambda: {f"u{i}": rng.choices(phones, k=rng.randrange(12)) for i in range(utterances)}  # noqa: E731
    return draw(), draw()


def test_errors_are_the_fewest_edits_and_the_alignment_reads_both_sides_back():
    references, hypotheses = random_set(1)
    result = score(references, hypotheses)
    for row in result.rows:
        assert row.counts.errors == edit_distance(references[row.id], hypotheses[row.id])
        both = list(pairs(row.alignment, row.reference, row.hypothesis))
        assert [r for r, _ in both if r is not None] == references[row.id]
        assert [h for _, h in both if h is not None] == hypotheses[row.id]
        edits = (sum(r is None for r, _ in both), sum(h is None for _, h in both),
                 sum(r is not None and h is not None and r != h for r, h in both))
        assert edits == (row.counts.insertions, row.counts.deletions, row.counts.substitutions)


def test_per_is_pooled_and_never_clamped():
    result = score({"a": ["x"], "b": ["x"] * 9}, {"a": ["y"] * 11, "b": ["x"] * 9})
    assert result.total == Counts(phones=10, insertions=10, substitutions=1)
    assert result.total.per == pytest.approx(110)
    assert result.rows[0].counts.per == pytest.approx(1100)
    assert result.ser == 50


def test_a_clamping_protocol_counts_no_more_errors_than_phones():
    result = score({"a": ["x"], "b": ["x"] * 9}, {"a": ["y"] * 11, "b": ["x"] * 9}, Protocol("clamped", clamp=True))
    assert (result.total.errors, result.total.per) == (1, 10)
    assert result.total.insertions == 10


def test_an_empty_reference_counts_what_is_inserted():
    result = score({"a": [], "b": ["x", "y"], "c": []}, {"a": ["x"], "b": [], "c": []})
    assert result.total == Counts(phones=2, insertions=1, deletions=2)
    assert result.wrong == 2
    assert math.isinf(score({"a": []}, {"a": ["x"]}).total.per)
    assert score({"a": []}, {"a": []}).total.per == 0


def test_case_and_characters_tell_phones_apart():
    assert score({"a": ["S", "@", "a b", "{", "e"]}, {"a": ["s", "@", "a b", "{", "é"]}).total.substitutions == 2


def test_pairs_by_id_in_any_order():
    result = score({"a": ["x"], "b": ["y"]}, {"b": ["y"], "a": ["x"]})
    assert [row.id for row in result.rows] == ["a", "b"]
    assert result.total.errors == 0


def test_ids_on_one_side_only_are_named():
    with pytest.raises(AsrError) as error:
        score({"a": [], "b": [], "c": []}, {"a": [], "d": []})
    assert str(error.value) == ("2 of 3 references have no hypothesis: b c; 1 of 2 hypotheses have no reference: d: "
                                "the two sides must hold the same ids")
    with pytest.raises(AsrError, match=r"12 of 12 references have no hypothesis: 0 1 2 3 4 5 6 7 8 9 … and 2 more"):
        score({str(i): [] for i in range(12)}, {})


def test_groups_hold_every_row_once():
    references, hypotheses = random_set(2)
    references["long"] = hypotheses["long"] = ["a"] * 6000
    speakers = {f"u{i}": f"s{i % 3}" for i in range(50)}
    result = score(references, hypotheses, speakers=speakers)
    for groups in (by_speaker(result), by_length(result)):
        assert sorted(row.id for rows in groups.values() for row in rows) == sorted(references)
    assert list(by_speaker(result)) == ["s0", "s1", "s2", "-"]
    assert list(by_length(result)) == ["0", "1-10", "11-20", "over 5000"]


def test_an_hour_in_one_utterance_aligns_within_a_second():
    rng = random.Random(3)
    phones = [f"p{i}" for i in range(40)]
    reference = rng.choices(phones, k=36_000)
    hypothesis = [rng.choice(phones) if rng.random() < 0.1 else phone for phone in reference if rng.random() > 0.1]
    start = time.process_time()
    result = score({"hour": reference}, {"hour": hypothesis})
    assert time.process_time() - start < 1
    assert 15 < result.total.per < 20


def test_a_hypothesis_ten_times_too_long_is_mostly_insertions():
    reference = split("a b c d") * 25
    result = score({"loop": reference}, {"loop": reference * 10})
    assert result.total == Counts(phones=100, insertions=900)
    assert result.total.per == 900


def test_many_utterances_are_scored_and_resampled_quickly():
    rng = random.Random(4)
    references = {str(i): rng.choices("abcdefghij", k=40) for i in range(1000)}
    hypotheses = {id: [rng.choice("abcdefghij") if rng.random() < 0.2 else phone for phone in phones]
                  for id, phones in references.items()}
    start = time.process_time()
    assert interval(score(references, hypotheses), samples=1000).units == 1000
    assert time.process_time() - start < 2


def test_scoring_imports_no_torch():
    code = ("import sys, asr.score, asr.formats.writers, asr.scoring.html; from asr.scoring.score import score; "
            "score({'a': ['x']}, {'a': ['x']}); sys.exit('torch' in sys.modules)")
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_confusions_count_every_phone_once():
    references, hypotheses = random_set(5)
    result = score(references, hypotheses)
    counts = confusions(result)
    assert sum(n for (reference, _), n in counts.items() if reference) == result.total.phones
    assert sum(n for (reference, _), n in counts.items() if reference is None) == result.total.insertions
    assert sum(by_class(counts).values()) == sum(counts.values())


@pytest.mark.parametrize(("phones", "classes"), [
    ("AA0 IY1 S T CH NG L SIL Y", "vowel vowel fricative stop affricate nasal approximant silence approximant"),
    ("ax-h dcl h# q axr hv en", "vowel silence silence stop vowel fricative nasal"),
    ("aɪ tʃ t͡s ŋ ɹ ʔ ç ẽ y ʰ sil ʘ", "vowel affricate affricate nasal approximant stop fricative vowel vowel other "
                                     "silence click"),
    ("pʰ dʒ ɾ x ə", "stop affricate approximant fricative vowel"),
    ("e o ?", "vowel vowel other"),
])
def test_phones_have_classes(phones, classes):
    assert list(classify(phones.split()).values()) == classes.split()


def test_confusions_are_printed_as_pairs_and_matrices():
    result = score({"a": split("s iy t ae iy")}, {"a": split("sh iy ae iy n")})
    assert confusions_text(result) == """\
count  reference  hypothesis  of reference
    1          -           n             -
    1          s          sh       100.0 %
    1          t           -       100.0 %

ref \\ hyp  vowel  nasal  fricative  stop  del
vowel          3      .          .     .    .
nasal          .      .          .     .    .
fricative      .      .          1     .    .
stop           .      .          .     .    1
ins            .      1          .     .

ref \\ hyp  ae  iy  n  s  sh  t  del
ae          1   .  .  .   .  .    .
iy          .   2  .  .   .  .    .
n           .   .  .  .   .  .    .
s           .   .  .  .   1  .    .
sh          .   .  .  .   .  .    .
t           .   .  .  .   .  .    1
ins         .   .  1  .   .  .
"""


def test_the_aligned_print_shows_every_edit():
    result = score({"u 1": split("sil k æ t"), "e": []}, {"u 1": split("k ẽ t s"), "e": []}, speakers={"u 1": "kim"})
    assert pra(result) == """\
id: (u 1)
speaker: kim
scores: 4 phones, 1 ins, 1 del, 1 sub, PER 75.0
REF:  sil k æ t ***
HYP:  *** k ẽ t s
EVAL: D     S   I

id: (e)
scores: 0 phones, 0 ins, 0 del, 0 sub, PER 0.0
REF:
HYP:
EVAL:
"""


def test_the_aligned_print_breaks_long_utterances():
    phones = [f"p{i}" for i in range(300)]
    lines = pra(score({"a": phones}, {"a": phones})).splitlines()
    assert max(map(len, lines)) <= COLUMNS + len("EVAL: ")
    assert " ".join(line[6:].strip() for line in lines if line.startswith("REF:")).split() == phones


def timed(text, times):
    return [TimedPhone(phone, start, end) for phone, start, end in zip(text.split(), times, times[1:], strict=False)]


def test_boundaries_are_measured_where_phones_are_right():
    truth = {"a": timed("sil k ae t", [0, 0.1, 0.2, 0.3, 0.4])}
    heard = {"a": timed("sil k eh t t", [0, 0.112, 0.2, 0.26, 0.33, 0.4])}
    result = score({"a": [p.phone for p in truth["a"]]}, {"a": [p.phone for p in heard["a"]]})
    found = boundaries(result, truth, heard)
    assert found.starts == 3
    assert len(found.errors) == 2                   # not sil, which begins with the recording, nor ae, which is eh
    assert found.errors[0] == pytest.approx(0.012)
    assert abs(found.errors[1]) in (pytest.approx(0.04), pytest.approx(0.03))   # either t may be the one inserted
    assert (found.within(10), found.within(20), found.within(50)) == (0, 50, 100)


def test_a_constant_shift_is_the_mean_the_median_and_the_bias():
    truth = {"a": timed("a b c d", [0, 0.1, 0.2, 0.3, 0.4])}
    early = {"a": [TimedPhone(p.phone, p.start - 0.02, p.end - 0.02) for p in truth["a"]]}
    phones = {"a": list("abcd")}
    found = boundaries(score(phones, phones), truth, early)
    assert (found.mean, found.median, found.bias) == (pytest.approx(0.02), pytest.approx(0.02), pytest.approx(-0.02))
    assert (found.within(10), found.within(20)) == (0, 100)


def test_boundaries_follow_the_fold():
    protocol = load_protocol("timit39-merge-sil")
    truth = {"a": timed("h# pcl p q aa", [0, 0.1, 0.2, 0.3, 0.4, 0.5])}
    heard = {"a": timed("sil p aa", [0, 0.21, 0.42, 0.5])}
    result = score({k: [p.phone for p in v] for k, v in truth.items()},
                   {k: [p.phone for p in v] for k, v in heard.items()}, protocol)
    assert result.total.errors == 0
    assert boundaries(result, truth, heard).errors == (pytest.approx(0.01), pytest.approx(0.02))
