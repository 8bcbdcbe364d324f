"""Formats: golden text, read back what was written, and a defined result for whatever comes in."""

import io
import json
import os
import random
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from praatio import textgrid as praat

from asr.corpus.records import Hypothesis, TimedPhone, hypothesis_row
from asr.corpus.words import timed_words
from asr.errors import AsrError
from asr.formats.ctm import ctm_lines
from asr.formats.files import file_of_id, id_of_file
from asr.formats.reading import read_transcripts
from asr.formats.srt import clock, srt
from asr.formats.text import kaldi_line, txt_line
from asr.formats.textgrid import textgrid, tile
from asr.formats.trn import trn_line
from asr.formats.writers import WRITERS, write_hypotheses

STRANGE = "@ { } / ( ) % %40 (x) \" ;; aɪ̃ t͡ʃ S s"       # what trn, ctm and TextGrid use for themselves


def hypothesis(id, text, step=0.1, **extra):
    phones = tuple(TimedPhone(phone, round(i * step, 4), round((i + 1) * step, 4), 0.5)
                   for i, phone in enumerate(text.split()))
    return Hypothesis(id, phones, -1.5, {"ok": True}, extra)


KIM = hypothesis("kim", "sil k æ t", duration=0.5)
EMPTY = hypothesis("nobody", "", duration=0.5)
ALL = [KIM, hypothesis("a", STRANGE), EMPTY]


def test_lines_of_every_text_format():
    assert trn_line(KIM) == "sil k æ t (kim)\n"
    assert trn_line(EMPTY) == "(nobody)\n"
    assert kaldi_line(KIM) == "kim sil k æ t\n"
    assert kaldi_line(EMPTY) == "nobody\n"
    assert txt_line(KIM) == "kim\tsil k æ t\n"
    assert txt_line(EMPTY) == "nobody\t\n"
    assert ctm_lines(EMPTY) == ";; empty nobody\n"
    assert ctm_lines(KIM) == """\
kim 1 0.000 0.100 sil 0.5000
kim 1 0.100 0.100 k 0.5000
kim 1 0.200 0.100 æ 0.5000
kim 1 0.300 0.100 t 0.5000
"""


def test_trn_escapes_what_means_something_to_sclite():
    assert trn_line(hypothesis("f (1)", "@ { a/b")) == "%40 %7B a%2Fb (f %281%29)\n"


def test_textgrid_of_a_hypothesis():
    grid = textgrid(hypothesis("x", "k æ", words='the "cat"', word_times=[[0.1, 0.2], [0.2, 0.4]], duration=0.5))
    assert "\n".join(map(str.rstrip, grid.split("\n"))) == '''\
File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 0.5
tiers? <exists>
size = 2
item []:
    item [1]:
        class = "IntervalTier"
        name = "words"
        xmin = 0
        xmax = 0.5
        intervals: size = 4
        intervals [1]:
            xmin = 0
            xmax = 0.1
            text = ""
        intervals [2]:
            xmin = 0.1
            xmax = 0.2
            text = "the"
        intervals [3]:
            xmin = 0.2
            xmax = 0.4
            text = """cat"""
        intervals [4]:
            xmin = 0.4
            xmax = 0.5
            text = ""
    item [2]:
        class = "IntervalTier"
        name = "phones"
        xmin = 0
        xmax = 0.5
        intervals: size = 3
        intervals [1]:
            xmin = 0
            xmax = 0.1
            text = "k"
        intervals [2]:
            xmin = 0.1
            xmax = 0.2
            text = "æ"
        intervals [3]:
            xmin = 0.2
            xmax = 0.5
            text = ""
'''


def test_words_without_times_have_no_tier():
    assert textgrid(hypothesis("x", "k æ", words="the cat")) == textgrid(hypothesis("x", "k æ"))


def test_words_lie_where_their_phones_do(tmp_path):
    spoken = hypothesis("x", "ð ə k æ t", words="the uh cat", word_phones=[2, 0, 3])
    (tmp_path / "x.TextGrid").write_text(textgrid(spoken), encoding="utf-8")
    grid = praat.openTextgrid(str(tmp_path / "x.TextGrid"), includeEmptyIntervals=True)
    assert grid.tierNames == ("words", "phones")
    assert [(round(e.start, 2), round(e.end, 2), e.label) for e in grid.getTier("words").entries] == [
        (0.0, 0.2, "the"), (0.2, 0.2, "uh"), (0.2, 0.5, "cat")]
    by_hand = replace(spoken, extra=spoken.extra | {"word_times": [[0.01, 0.2], [0.2, 0.21], [0.25, 0.5]]})
    assert timed_words(by_hand.extra, by_hand.phones, "x") == [
        (0.01, 0.2, "the"), (0.2, 0.21, "uh"), (0.25, 0.5, "cat")]
    assert timed_words({"words": "uh", "word_phones": [0]}, (), "x") == [(0.0, 0.0, "uh")]


@pytest.mark.parametrize(("extra", "message"), [
    ({"words": "the cat", "word_times": [[0, 1]]}, "x: its 'words' and 'word_times' do not fit: give the words as "),
    ({"word_phones": [1, 1]}, "x: its 'words' and 'word_phones' do not fit: give the words as text between spaces"),
    ({"words": ["the", "cat"], "word_phones": [1, 1]}, "x: its 'words' and 'word_phones' do not fit"),
    ({"words": "the cat", "word_times": 7}, "x: its 'words' and 'word_times' do not fit"),
    ({"words": "the cat", "word_times": [0, 1]}, r"x: 'word_times' are not \[\[start, end\], …\]: a pair of seconds"),
    ({"words": "the cat", "word_times": [[0, 1], "a"]}, r"x: 'word_times' are not \[\[start, end\], …\]"),
    ({"words": "the cat", "word_phones": [1, 2]}, "x: 'word_phones' are no numbers of phones that make up its 2"),
    ({"words": "the cat", "word_phones": [3, -1]}, "x: 'word_phones' are no numbers of phones that make up its 2"),
    ({"words": "the cat", "word_phones": [True, 1]}, "x: 'word_phones' are no numbers of phones that make up its 2"),
])
def test_words_that_do_not_fit_are_told(extra, message):
    with pytest.raises(AsrError, match=message):
        textgrid(hypothesis("x", "k æ", **extra))


def test_srt_has_cues_that_end_at_pauses_and_are_of_like_length():
    phones = (*(TimedPhone("a", i, i + 1) for i in range(4)), TimedPhone("b", 4.5, 4.7), TimedPhone("c", 3661.5, 3662))
    assert srt(Hypothesis("x", phones, 0.0)) == """\
1
00:00:00,000 --> 00:00:02,000
a a

2
00:00:02,000 --> 00:00:04,000
a a

3
00:00:04,500 --> 00:00:04,700
b

4
01:01:01,500 --> 01:01:02,000
c
"""
    assert clock(59.9996) == "00:01:00,000"


@pytest.mark.parametrize("seed", range(20))
def test_intervals_tile_the_recording_whatever_they_were(seed):
    rng = random.Random(seed)
    duration = rng.choice([0.0005, 0.3, 2.0])
    times = [(rng.uniform(-0.1, 2.5), rng.uniform(-0.1, 2.5)) for _ in range(rng.randrange(1, 30))]
    if seed % 2:
        times = sorted((min(t), max(t)) for t in times)
    tiles = tile([(start, end, str(i)) for i, (start, end) in enumerate(times)], duration)
    assert tiles[0][0] == 0
    assert tiles[-1][1] == duration
    assert all(one[1] == two[0] for one, two in pairwise(tiles))
    assert all(end > start for start, end, _ in tiles)
    assert [label for _, _, label in tiles if label] == [str(i) for i in range(len(times))]


def test_intervals_that_tile_already_stay():
    intervals = [(0.0, 0.2, "a"), (0.2, 0.7, "b")]
    assert tile(intervals, 0.7) == intervals
    assert tile(intervals, 1.0) == [*intervals, (0.7, 1.0, "")]
    assert tile([], 1.0) == [(0, 1.0, "")]


@pytest.mark.parametrize("name", [name for name in WRITERS if name != "srt"])      # subtitles are for players
def test_what_is_written_is_read_back(name, tmp_path):
    write_hypotheses(ALL, name, tmp_path)
    written = tmp_path if name == "textgrid" else tmp_path / WRITERS[name].file
    read = {t.id: t for t in read_transcripts(str(written))}
    assert {id: t.phones for id, t in read.items()} == {h.id: tuple(p.phone for p in h.phones) for h in ALL}
    if name in ("jsonl", "ctm", "textgrid"):
        for h in ALL:
            for phone, time in zip(h.phones, read[h.id].times, strict=True):
                assert time == (pytest.approx(phone.start), pytest.approx(phone.end))


def test_praatio_reads_tiers_that_tile_the_recording(tmp_path):
    write_hypotheses([KIM], "textgrid", tmp_path / "kim.TextGrid")
    grid = praat.openTextgrid(str(tmp_path / "kim.TextGrid"), includeEmptyIntervals=True)
    entries = grid.getTier("phones").entries
    assert [e.label for e in entries] == ["sil", "k", "æ", "t", ""]
    assert (entries[0].start, entries[-1].end, grid.maxTimestamp) == (0, 0.5, 0.5)


def test_kaldi_and_ctm_are_sorted_as_in_the_c_locale(tmp_path):
    unsorted = [hypothesis(id, "a") for id in ("b", "a-1", "é", "a_1", "Z", "a1")]
    for name in ("kaldi", "ctm"):
        write_hypotheses(unsorted, name, tmp_path / name)
        ids = [line.split()[0] for line in (tmp_path / name).read_text(encoding="utf-8").splitlines()]
        assert ids == ["Z", "a-1", "a1", "a_1", "b", "é"]


def test_several_formats_go_to_one_folder(tmp_path):
    out = tmp_path / "new"
    assert write_hypotheses(iter(ALL), ["jsonl", "textgrid", "srt", "kaldi", "trn", "ctm", "txt", "trn"], out) == 3
    assert sorted(os.listdir(out)) == ["a.TextGrid", "a.srt", "hypotheses.ctm", "hypotheses.jsonl", "hypotheses.trn",
                                       "hypotheses.txt", "kim.TextGrid", "kim.srt", "nobody.TextGrid", "nobody.srt",
                                       "text"]
    rows = [json.loads(line) for line in (out / "hypotheses.jsonl").read_text(encoding="utf-8").splitlines()]
    assert rows == [hypothesis_row(h) for h in ALL]


@pytest.mark.parametrize(("formats", "out", "message"), [
    ("wav", None, "-f wav: no such format: choose among jsonl, txt, trn, ctm, kaldi, textgrid, srt"),
    (["jsonl", "trn"], None, r"2 formats \(jsonl, trn\) need a folder: give --out FOLDER"),
    ("textgrid", None, "textgrid of several utterances needs a folder: give --out FOLDER"),
    ("srt", "x.srt", "srt of several utterances needs a folder"),
    (["jsonl", "trn"], "there.txt", "need a folder"),
])
def test_what_cannot_go_somewhere_is_said(formats, out, message, tmp_path, capsys):
    (tmp_path / "there.txt").write_text("old")
    with pytest.raises(AsrError, match=message):
        write_hypotheses(ALL, formats, None if out is None else tmp_path / out)
    assert capsys.readouterr().out == ""
    assert os.listdir(tmp_path) == ["there.txt"]


def test_a_textgrid_shows_no_binary_fractions():
    """0.1 + 0.2 and its like are written with four digits at most, and the intervals still tile the recording."""
    phones = tuple(TimedPhone("a", 0.0415 * n + 0.0415, 0.0415 * n + 0.083) for n in range(9))
    lines = textgrid(Hypothesis("x", phones, 0.0, extra={"duration": 0.1 + 0.3 + 0.2 + 1e-9})).splitlines()
    numbers = [line.split()[-1] for line in lines if "xmin =" in line or "xmax =" in line]
    assert all(len(number) <= len("0.1234") for number in numbers)
    assert numbers[5:-1:2] == numbers[6::2]
    assert numbers[-1] == "0.6"


def test_one_textgrid_goes_to_standard_output_or_a_file(tmp_path, capsys):
    write_hypotheses([KIM], "textgrid")
    assert capsys.readouterr().out == textgrid(KIM)
    write_hypotheses([KIM], "textgrid", tmp_path / "x.TextGrid")
    assert (tmp_path / "x.TextGrid").read_text(encoding="utf-8") == textgrid(KIM)


@pytest.mark.parametrize("name", ["jsonl", "txt", "trn"])
def test_lines_are_out_before_the_next_hypothesis_is_asked_for(name, monkeypatch):
    class Stream(io.StringIO):
        seen = ""

        def flush(self):
            self.seen = self.getvalue()
    stream = Stream()
    monkeypatch.setattr(sys, "stdout", stream)

    def one_by_one():
        for number, h in enumerate(ALL):
            assert stream.seen.count("\n") == number
            yield h
    write_hypotheses(one_by_one(), name)
    assert stream.seen.count("\n") == 3


def test_a_failure_leaves_what_was_there(tmp_path):
    (tmp_path / "x.jsonl").write_text("old")

    def fails():
        yield KIM
        raise AsrError("the recording ends early")
    with pytest.raises(AsrError, match="ends early"):
        write_hypotheses(fails(), "jsonl", tmp_path / "x.jsonl")
    assert (tmp_path / "x.jsonl").read_text() == "old"
    assert os.listdir(tmp_path) == ["x.jsonl"]


@pytest.mark.parametrize("id", ["../../x", "/etc/x", "..", ".", ".hidden", "a b", "c:\\x", "a%2Fb", "é/ø", "line\nend"])
def test_no_id_leaves_the_folder_and_every_file_tells_its_id(id, tmp_path):
    folder = tmp_path / "deep" / "er"
    write_hypotheses([hypothesis(id, "a"), KIM], "textgrid", folder)
    assert len(os.listdir(folder)) == 2
    assert [p.name for p in tmp_path.rglob("*") if p.is_file() and p.parent != folder] == []
    assert id_of_file(Path(file_of_id(id) + ".TextGrid")) == id
    assert {t.id for t in read_transcripts(str(folder))} == {id, "kim"}


@pytest.mark.parametrize(("write", "form"), [(kaldi_line, "Kaldi text"), (ctm_lines, "ctm")])
def test_an_id_with_spaces_is_refused_where_spaces_separate(write, form):
    with pytest.raises(AsrError, match=f"id 'my file' has a space in it, which {form} cannot hold: write jsonl, txt"):
        write(hypothesis("my file", "a"))


@pytest.mark.parametrize("name", ["jsonl", "txt", "trn", "textgrid"])
def test_an_id_with_spaces_survives_elsewhere(name, tmp_path):
    write_hypotheses([hypothesis("my (best) file", "a b")], name, tmp_path)
    read, = read_transcripts(str(tmp_path if name == "textgrid" else tmp_path / WRITERS[name].file))
    assert (read.id, read.phones) == ("my (best) file", ("a", "b"))


def test_phones_without_times_have_no_textgrid_and_no_subtitles():
    untimed = Hypothesis("x", (TimedPhone("a", 0, 0),), 0.0)
    with pytest.raises(AsrError, match="x: its phones have no times, so there is no TextGrid of it"):
        textgrid(untimed)
    with pytest.raises(AsrError, match="x: its phones have no times, so there are no subtitles of it"):
        srt(untimed)


LINES = {"x.trn": "sil k (a)\n\n(b)\n", "x.ctm": ";; a comment\na 1 0.1 0.2 k\na 1 0.0 0.1 sil 0.9\n;; empty b\n",
         "text": "a sil k\nb\n", "x.txt": "a\tsil k\nb\t\n", "odd.name": "sil k (a)\n(b)\n",
         "x.jsonl": '{"id": "a", "text": "sil k"}\n\n{"id": "b", "phones": []}\n',
         "m.jsonl": '{"id": "a", "audio_filepath": "a.wav", "text": "sil k"}\n'
                    '{"id": "b", "audio_filepath": "b.wav", "text": ""}\n'}


@pytest.mark.parametrize("name", [*LINES])
@pytest.mark.parametrize("encode", [
    lambda text: text.encode(), lambda text: text.replace("\n", "\r\n").encode("utf-8-sig"),
    lambda text: text.rstrip("\n").encode()])
def test_all_line_formats_are_told_apart_with_crlf_and_bom_and_without_a_last_newline(name, encode, tmp_path):
    (tmp_path / name).write_bytes(encode(LINES[name]))
    read = {t.id: t.phones for t in read_transcripts(str(tmp_path / name))}
    assert read == {"a": ("sil", "k"), "b": ()}


def test_phones_that_are_numbers_are_no_times(tmp_path):
    (tmp_path / "text").write_text("u1 1 2 3 4\n")
    assert read_transcripts(str(tmp_path / "text"))[0].phones == ("1", "2", "3", "4")


GRID = '''File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 1
tiers? <exists>
size = 1
item []:
    item [1]:
        class = "IntervalTier"
        name = "Phones"
        xmin = 0
        xmax = 1
        intervals: size = 3
        intervals [1]:
            xmin = 0.1
            xmax = 0.3
            text = "k"
        intervals [2]:
            xmin = 0.3
            xmax = 0.4
            text = ""
        intervals [3]:
            xmin = 0.6
            xmax = 0.9
            text = "æ"
'''


@pytest.mark.parametrize("encode", [
    lambda text: text.encode(), lambda text: text.replace("\n", "\r\n").encode(),
    lambda text: text.encode("utf-8-sig"), lambda text: text.encode("utf-16")])
def test_a_textgrid_with_gaps_has_the_phones_that_are_there(encode, tmp_path):
    (tmp_path / "u1.TextGrid").write_bytes(encode(GRID))
    read, = read_transcripts(str(tmp_path))
    assert (read.id, read.phones, read.times) == ("u1", ("k", "æ"), ((0.1, 0.3), (0.6, 0.9)))
    assert read_transcripts(str(tmp_path / "u1.TextGrid")) == [read]


def test_a_folder_that_decode_wrote_is_read_from_its_fullest_file(tmp_path):
    write_hypotheses(ALL, ["ctm", "jsonl", "textgrid", "kaldi"], tmp_path)
    (tmp_path / "kim.TextGrid").unlink()
    assert [t.id for t in read_transcripts(str(tmp_path))] == ["kim", "a", "nobody"]
    assert [t.id for t in read_transcripts(str(tmp_path), "textgrid")] == ["a", "nobody"]


def test_a_tree_of_phn_files_is_timit(tmp_path):
    for path in ("TEST/DR1/FAKS0/SI943.PHN", "dr1-mdab0/sx49.phn", "other.phn"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("0 1600 h#\n1600 4000 aa\n")
    read = {t.id: t for t in read_transcripts(str(tmp_path))}
    assert {id: t.speaker for id, t in read.items()} == {"faks0_si943": "faks0", "mdab0_sx49": "mdab0", "other": None}
    assert read["faks0_si943"].times == ((0, 0.1), (0.1, 0.25))


@pytest.mark.parametrize("layout", ["flac", "ldc_layout"])
def test_timits_sample_is_read_in_both_layouts(layout):
    sample = Path(__file__).parents[2] / "shared" / "data" / "timit_sample"
    if not sample.is_dir():
        pytest.skip("../shared/data/timit_sample is not here")
    rows = [line.split("\t") for line in (sample / "manifest.tsv").read_text(encoding="utf-8").splitlines()]
    known = {row[0]: (row[1], tuple(row[5].split())) for row in rows[1:]}
    read = {t.id: (t.speaker, t.phones) for t in read_transcripts(str(sample / layout))}
    assert read
    assert all(known[id] == transcript for id, transcript in read.items())
    assert layout != "flac" or read.keys() == known.keys()


def test_a_kaldi_directory_tells_speakers(tmp_path):
    (tmp_path / "text").write_text("u1 a b\nu2\n")
    (tmp_path / "utt2spk").write_text("u1 kim\nu2 lee\n")
    assert [(t.id, t.phones, t.speaker) for t in read_transcripts(str(tmp_path))] == [("u1", ("a", "b"), "kim"),
                                                                                     ("u2", (), "lee")]


def test_a_manifest_tells_speaker_and_times(tmp_path):
    row = {"id": "a", "audio_filepath": "a.wav", "text": "k æ", "speaker": "kim", "phone_times": [[0, 0.1], [0.1, 0.3]]}
    path = tmp_path / "m.jsonl"
    path.write_text(json.dumps(row))
    read, = read_transcripts(str(path))
    assert (read.speaker, read.times) == ("kim", ((0, 0.1), (0.1, 0.3)))
    for times, message in [([[0, 1]], "'a' has 2 phones, 1 'phone_times'"), ([1, 2], r"are not \[\[start, end\], …\]")]:
        path.write_text(json.dumps(row | {"phone_times": times}))
        with pytest.raises(AsrError, match=message):
            read_transcripts(str(path))


@pytest.mark.parametrize(("name", "text", "message"), [
    ("x.trn", "a b\n", "x.trn:1: a trn line ends in its id, like 'k ae t (utt-1)': 'a b'"),
    ("x.trn", "a b ()\n", "x.trn:1: a trn line ends in its id"),
    ("x.trn", "a (u)\nb (u)\n", "x.trn: id 'u' occurs twice"),
    ("x.ctm", "a 1 0.0 k\n", "x.ctm:1: expected 'recording channel start duration phone"),
    ("x.ctm", "a 1 zero 0.1 k\n", "x.ctm:1: expected 'recording channel start duration phone"),
    ("x.trn", "", "x.trn: holds no utterance"),
    ("m.jsonl", '{"id": "a", "audio_filepath": "a.wav"}\n', "utterance 'a' has no 'text': its phones must be known"),
    ("x.jsonl", '{"id": "a"}\n', "x.jsonl:1: no hypothesis"),
    ("x.TextGrid", "nothing", "x.TextGrid: no TextGrid"),
    ("x.phn", "0 1600\n", "x.phn:1: '0 1600' is not of the form"),
    ("s.json", '{\n "systems": []\n}\n', "s.json: no score of one system, as `asr score -f json` writes it"),
])
def test_a_file_that_is_not_what_it_says_is_refused(name, text, message, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(AsrError, match=re.escape(message)):
        read_transcripts(str(tmp_path / name))


@pytest.mark.parametrize(("name", "text"), [
    ("x.ctm", "u 1 0.000 nan a 1.0\n"),
    ("x.jsonl", '{"id": "u", "phones": [{"phone": "a", "start": NaN, "end": 1}]}\n'),
    ("m.jsonl", '{"id": "u", "audio_filepath": "a.wav", "text": "a", "phone_times": [[0, Infinity]]}\n')])
def test_a_time_that_is_no_number_is_refused(name, text, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(AsrError, match=f"{name}: 'u' has a phone whose time is no number of seconds"):
        read_transcripts(str(tmp_path / name))


def test_what_cannot_be_read_is_named(tmp_path):
    with pytest.raises(AsrError, match=r"gone\.trn: cannot be read: No such file"):
        read_transcripts(str(tmp_path / "gone.trn"))
    with pytest.raises(AsrError, match=r"no transcripts here: expected \.TextGrid files, \.PHN files, a Kaldi 'text'"):
        read_transcripts(str(tmp_path))
    (tmp_path / "latin").write_bytes("é (u)".encode("latin-1"))
    with pytest.raises(AsrError, match="latin: not UTF-8 text"):
        read_transcripts(str(tmp_path / "latin"))


def test_sclite_counts_what_we_count(tmp_path):
    sclite = shutil.which("sclite") or shutil.which("sclite", path="/usr/lib/sctk/bin")
    if sclite is None:
        pytest.skip("sclite is not installed (Debian: apt install sctk)")
    references = [hypothesis("s_1", STRANGE), hypothesis("s_2", "a b c d"), hypothesis("s_3", "a")]
    hypotheses = [hypothesis("s_1", STRANGE.replace("@", "x").replace("S s", "s s")), hypothesis("s_2", "b c y d"),
                  hypothesis("s_3", "")]
    write_hypotheses(references, "trn", tmp_path / "ref.trn")
    write_hypotheses(hypotheses, "trn", tmp_path / "hyp.trn")
    printed = subprocess.run([sclite, "-r", "ref.trn", "trn", "-h", "hyp.trn", "trn", "-i", "wsj", "-s", "-o", "pra",
                              "stdout"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    counts = [tuple(map(int, line.split()[-4:])) for line in printed.splitlines() if line.startswith("Scores:")]
    phones = len(STRANGE.split())
    assert counts == [(phones - 2, 2, 0, 0), (3, 0, 1, 1), (0, 0, 1, 0)]    # right, sub, del, ins
