"""`asr score` as people use it: whole outputs, exit codes, one-line errors."""

import io
import json
import resource
import subprocess
import sys
from html.parser import HTMLParser

import pytest

from asr.cli import main

REFERENCE = """\
{"id": "a-1", "audio_filepath": "a.wav", "text": "sil k ae t", "speaker": "kim", \
"phone_times": [[0, 0.1], [0.1, 0.2], [0.2, 0.3], [0.3, 0.5]]}
{"id": "a-2", "audio_filepath": "b.wav", "text": "sil d ao g sil", "speaker": "lee", \
"phone_times": [[0, 0.1], [0.1, 0.2], [0.2, 0.3], [0.3, 0.4], [0.4, 0.5]]}
{"id": "a-3", "audio_filepath": "c.wav", "text": "", "speaker": "lee", "phone_times": []}
"""
GOOD = "sil k ae t (a-1)\nsil d aa g sil (a-2)\n(a-3)\n"
BAD = "sil k eh t t (a-1)\nd aa g (a-2)\nsil (a-3)\n"
CTM = """\
a-1 1 0.000 0.100 sil 1.0
a-1 1 0.105 0.110 k 1.0
a-1 1 0.215 0.100 ae 1.0
a-1 1 0.345 0.100 t 1.0
a-2 1 0.000 0.100 sil 1.0
a-2 1 0.100 0.100 d 1.0
a-2 1 0.200 0.100 aa 1.0
a-2 1 0.300 0.100 g 1.0
a-2 1 0.470 0.030 sil 1.0
;; empty a-3
"""
LAST_LINES = """\
protocol plain: 9 reference phones in 3 utterances, table f42c6176
%PER 11.1 [ 1 / 9, 0 ins, 0 del, 1 sub ]
%SER 33.3 [ 1 / 3 ]
95 % interval 0.0 to 20.0 (1,000 resamples of 2 speakers, so few that it is rough)
"""


@pytest.fixture
def asr(tmp_path, monkeypatch, capsys):
    """Run a command line in a folder with the files above; gives exit code, output and talk."""
    monkeypatch.chdir(tmp_path)
    for name, text in (("ref.jsonl", REFERENCE), ("good.trn", GOOD), ("bad.trn", BAD), ("good.ctm", CTM)):
        (tmp_path / name).write_text(text, encoding="utf-8")

    def run(line, stdin=""):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode()), encoding="utf-8"))
        with pytest.raises(SystemExit) as stop:
            main(line.split())
        printed = capsys.readouterr()
        return stop.value.code or 0, printed.out, printed.err
    return run


def test_the_last_lines_are_protocol_per_ser_and_interval(asr):
    assert asr("score ref.jsonl good.trn") == (0, LAST_LINES, "")


def test_hypotheses_come_on_standard_input(asr):
    assert asr("score ref.jsonl -", stdin=GOOD) == (0, LAST_LINES, "")
    rows = '{"id": "a-3", "text": ""}\n{"id": "a-2", "text": "sil d aa g sil"}\n{"id": "a-1", "text": "sil k ae t"}\n'
    assert asr("score ref.jsonl -", stdin=rows) == (0, LAST_LINES, "")


def test_tables_stand_before_the_score(asr):
    assert asr("score ref.jsonl bad.trn --by speaker --by length --samples 200")[1] == """\
speaker  utterances  phones   PER  ins  del  sub
kim               1       4  50.0    1    0    1
lee               2       5  80.0    1    2    1

length  utterances  phones   PER  ins  del  sub
0                1       0   inf    1    0    0
1-10             2       9  55.6    1    2    2

protocol plain: 9 reference phones in 3 utterances, table f42c6176
%PER 66.7 [ 6 / 9, 2 ins, 2 del, 2 sub ]
%SER 100.0 [ 3 / 3 ]
95 % interval 50.0 to 80.0 (200 resamples of 2 speakers, so few that it is rough)
"""


def test_all_protocols_show_how_far_the_number_moves(asr):
    code, out, _ = asr("score ref.jsonl bad.trn --all-protocols --protocol timit39 --samples 200")
    assert code == 0
    assert out == """\
protocol           phones   PER  ins  del  sub     table
plain                   9  66.7    2    2    2  f42c6176
timit39                 9  55.6    2    2    1  cc8a3d7f
timit39-merge-sil       9  55.6    2    2    1  d3bea402
timit39-no-sil          6  33.3    1    0    1  4c91ee30
timit48                 9  66.7    2    2    2  d1c027af
the same hypotheses score from 33.3 to 66.7
no score by timit61: reference a-1: phone 'sil' is not in the table of protocol timit61: --protocol plain takes \
phones as they are

protocol timit39: 9 reference phones in 3 utterances, table cc8a3d7f
%PER 55.6 [ 5 / 9, 2 ins, 2 del, 1 sub ]
%SER 100.0 [ 3 / 3 ]
95 % interval 50.0 to 60.0 (200 resamples of 2 speakers, so few that it is rough)
"""


def test_systems_are_compared_pair_by_pair(asr, tmp_path):
    (tmp_path / "same.trn").write_text(GOOD, encoding="utf-8")
    code, out, _ = asr("score ref.jsonl good.trn --compare bad.trn --compare same.trn")
    assert code == 0
    assert out.startswith(f"system good.trn\n{LAST_LINES}\nsystem bad.trn\n")
    assert asr("score ref.jsonl good.trn bad.trn same.trn")[1] == out
    assert out[out.index("first "):] == """\
first     second    difference     95 % interval      p  p Holm  segments      z  p MAPSSWE  p Holm
good.trn  bad.trn       -55.56  -60.00 to -50.00  0.001   0.003         3  -5.00     <0.001  <0.001
good.trn  same.trn       +0.00    +0.00 to +0.00  1.000   1.000         1  +0.00      1.000   1.000
bad.trn   same.trn      +55.56  +50.00 to +60.00  0.001   0.003         3  +5.00     <0.001  <0.001
note: fewer than 10 speakers or 30 segments: do not build on these p
difference: PER of the first minus PER of the second; negative: the first is better
interval and p: 1,000 paired resamples of 2 speakers; MAPSSWE: matched pairs of segments
p Holm: corrected for all comparisons
"""


def test_boundaries_are_measured(asr):
    code, out, _ = asr("score ref.jsonl good.ctm --boundaries")
    assert code == 0
    assert out == """\
boundaries: 6 of 7 phone starts measured, those of phones recognised rightly; starts at 0 s do not count
mean error 22.5 ms, median 10.0 ms, bias +22.5 ms
within 10 ms 50.0 %, 20 ms 66.7 %, 25 ms 66.7 %, 50 ms 83.3 %

""" + LAST_LINES


def test_json_holds_everything_and_can_be_compared_again(asr, tmp_path):
    assert asr("score ref.jsonl good.ctm -f json --by speaker --boundaries --all-protocols --out new/score.json") == (
        0, "", "")
    data = json.loads((tmp_path / "new" / "score.json").read_text(encoding="utf-8"))
    assert data["comparisons"] == []
    system, = data["systems"]
    assert system["name"] == "good.ctm"
    assert system["protocol"] == {"name": "plain", "digest": "f42c6176", "about": "phones as they are"}
    assert system["total"] == {"per": pytest.approx(100 / 9), "errors": 1, "phones": 9, "insertions": 0,
                               "deletions": 0, "substitutions": 1}
    assert system["by"]["speaker"]["lee"]["per"] == 20
    assert system["confusions"] == [["ao", "aa", 1]]
    assert system["boundaries"]["measured"] == 6
    assert [p["name"] for p in system["protocols"]] == ["plain", "timit39", "timit39-merge-sil", "timit39-no-sil",
                                                        "timit48"]
    assert [row["hypothesis"] for row in system["rows"]] == ["sil k ae t", "sil d aa g sil", ""]
    assert asr("score ref.jsonl good.trn --compare new/score.json")[1].startswith(f"system good.trn\n{LAST_LINES}")


def test_a_core_test_of_another_size_is_noted(asr, tmp_path):
    lines = "".join(f"{'aa ' * 37}(s{i % 24}_{i})\n" for i in range(192))
    (tmp_path / "core.trn").write_text(lines)
    assert asr("score core.trn core.trn --protocol timit39")[1].startswith(
        "note: TIMIT's core test has 7,215 reference phones under timit39, this one 7,104: its labels are not the "
        "standard ones, so do not compare this number with published ones\nprotocol timit39: 7,104 "
        "reference phones in 192 utterances, table cc8a3d7f\n%PER 0.0 ")
    assert asr("score core.trn core.trn --protocol timit39 -f pra")[2].startswith("asr: note: TIMIT's core test has ")


def test_a_score_is_no_reference(asr):
    asr("score ref.jsonl bad.trn -f json --out bad.json")
    refused = ("asr: bad.json: is a score, which holds what was recognised: give the references that it was scored "
               "against\n")
    assert asr("score bad.json good.trn") == (1, "", refused)
    assert asr("score bad.json bad.json --protocol timit39") == (1, "", refused)


def test_an_infinite_per_is_null_in_json(asr):
    _, out, _ = asr("score ref.jsonl bad.trn -f json --by length")
    system, = json.loads(out, parse_constant=pytest.fail)["systems"]
    assert system["by"]["length"]["0"]["per"] is None


def test_a_score_of_another_protocol_is_not_compared(asr):
    asr("score ref.jsonl good.trn -f json --out old.json")
    assert asr("score ref.jsonl good.trn --compare old.json --protocol timit39") == (
        1, "", "asr: old.json: was scored by another protocol (table f42c6176) than timit39 (cc8a3d7f), and scores "
               "of different protocols cannot be compared: score its hypotheses anew\n")


def test_prints_of_several_systems_are_named(asr):
    _, out, _ = asr("score ref.jsonl good.trn bad.trn -f pra")
    assert out.count("id: (a-1)") == 2
    assert out.startswith("system good.trn\nid: (a-1)\nspeaker: kim\nscores: 4 phones, 0 ins, 0 del, 0 sub, PER 0.0\n"
                          "REF:  sil k ae t\nHYP:  sil k ae t\nEVAL:\n\nid: (a-2)\n")
    assert "system bad.trn\ncount  reference" in asr("score ref.jsonl good.trn bad.trn -f confusions")[1]


def unclosed(page):
    """Tags that are open at the end of a page, or closed in the wrong place."""
    open_tags = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, _: open_tags.append(tag) if tag not in ("meta", "br") else None
    parser.handle_endtag = lambda tag: open_tags.pop() if open_tags[-1:] == [tag] else open_tags.append(f"/{tag}")
    parser.feed(page)
    return open_tags


def test_the_page_needs_nothing_beside_it_and_escapes_what_it_shows(asr, tmp_path):
    (tmp_path / "odd.trn").write_text("<b>&x</b> (<i>)\n")
    (tmp_path / "odd.hyp.trn").write_text("<script> (<i>)\n")
    code, page, _ = asr("score odd.trn odd.hyp.trn -f html")
    assert code == 0
    assert "%PER 100.0 [ 1 / 1, 0 ins, 0 del, 1 sub ]" in page
    assert "&lt;script&gt;" in page
    assert "<script" not in page
    assert "<b>" not in page
    assert "http" not in page
    page = asr("score ref.jsonl good.ctm --boundaries --compare bad.trn -f html")[1]
    assert page == ""       # bad.trn has no times
    page = asr("score ref.jsonl good.ctm --compare bad.trn -f html")[1]
    assert unclosed(page) == []
    for text in ("By speaker", "By length", "Confusions", "Comparisons", "p MAPSSWE"):
        assert text in page


@pytest.mark.parametrize(("line", "error"), [
    ("score ref.jsonl gone.trn", "gone.trn: cannot be read: No such file or directory"),
    ("score ref.jsonl part.trn", "part.trn: 2 of 3 references have no hypothesis: a-2 a-3; 1 of 2 hypotheses have no "
                                 "reference: b: the two sides must hold the same ids"),
    ("score ref.jsonl good.trn --protocol timit61", "ref.jsonl: a-1: phone 'sil' is not in the table of protocol "
                                                    "timit61: --protocol plain takes phones as they are"),
    ("score phn.trn odd.trn --protocol timit61", "odd.trn: hypothesis a-1: phone 'AXR' is not in the table of protocol "
                                                 "timit61: did you mean 'axr'?"),
    ("score ref.jsonl good.trn --boundaries", "good.trn: 2 of 3 utterances have no times, 'a-1' for one: "
     "--boundaries needs 'phone_times' in a manifest, TextGrids, .PHN or ctm files, or what `asr decode -f "
     "jsonl` writes"),
    ("score ref.jsonl sub.srt", "sub.srt: subtitles do not tell which utterance is which: give what `asr decode` "
                                "writes as jsonl, trn, ctm, TextGrid or text"),
    ("score ref.jsonl sub.txt", "sub.txt: subtitles do not tell which utterance is which: give what `asr decode` "
                                "writes as jsonl, trn, ctm, TextGrid or text"),
    ("score good.trn part.trn --hyp-format ctm", "part.trn:1: expected 'recording channel start duration phone "
     "[confidence]', not 'sil (a-1)'"),
])
def test_what_is_wrong_is_one_line_and_exit_1(asr, tmp_path, line, error):
    for name, text in (("part", "sil (a-1)\nx (b)\n"), ("phn", "h# (a-1)"), ("odd", "AXR (a-1)")):
        (tmp_path / f"{name}.trn").write_text(text)
    (tmp_path / "sub.srt").write_text("")
    (tmp_path / "sub.txt").write_text("1\n00:00:00,000 --> 00:00:01,000\nsil a\n")
    assert asr(line) == (1, "", f"asr: {error}\n")


@pytest.mark.parametrize("line", ["score ref.jsonl", "score ref.jsonl good.trn -f xml",
                                  "score ref.jsonl good.trn --by day", "score ref.jsonl good.trn --samples 3"])
def test_wrong_use_exits_with_2(asr, line):
    code, out, err = asr(line)
    assert (code, out) == (2, "")
    assert "Usage: asr score" in err


@pytest.mark.parametrize(("line", "error"), [
    ("score ref.jsonl good.trn --protocol timit40", "timit40: no such protocol: choose plain, timit39, "
     "timit39-merge-sil, timit39-no-sil, timit48, timit61, or give a .yaml file"),
    ("score ref.jsonl - --compare -", "-: standard input can be read once only: give files for the others"),
])
def test_a_command_line_that_no_files_could_make_right_exits_with_2(asr, line, error):
    assert asr(line) == (2, "", f"asr: {error}\n")


def test_help_answers_at_once():
    start = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "asr", "score", "--help"], check=True, capture_output=True)
    end = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert end.ru_utime + end.ru_stime - start.ru_utime - start.ru_stime < 0.3
