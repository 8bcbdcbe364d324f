"""Labels, lexicons, TextGrids, NeMo manifests, folders: read as they are, refused where they are not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.cli import main
from asr.corpus.folder import read_folder
from asr.corpus.labels import Segments, read_lab, read_phn
from asr.corpus.lexicon import pronounce, pronounce_all, read_lexicon, words_of
from asr.corpus.nemo import nemo_row, read_nemo, write_nemo
from asr.corpus.records import Utterance, each_row, read_manifest, write_manifest
from asr.corpus.splits import recording_seconds
from asr.corpus.table import aligned
from asr.corpus.textgrid import read_textgrid
from asr.errors import AsrError


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command line."""
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    return int(stop.value.code or 0), printed.out, printed.err


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def write_audio(path: Path, seconds: float = 0.5, rate: int = 16000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, int(seconds * rate)), rate)
    return path


def test_phn_counts_in_samples_of_its_recording(tmp_path: Path) -> None:
    path = write(tmp_path / "a.phn", "0 8000 h#\n\n8000 12000 iy\n")
    assert read_phn(path) == Segments(("h#", "iy"), ((0.0, 0.5), (0.5, 0.75)))
    assert read_phn(path, rate=8000).times == ((0.0, 1.0), (1.0, 1.5))
    assert read_phn(path).as_extra() == {"phone_times": [[0.0, 0.5], [0.5, 0.75]]}


def test_lab_with_times_in_100_ns_or_phones_alone(tmp_path: Path) -> None:
    timed = write(tmp_path / "a.lab", "0 5000000 sil -3.5\n5000000 7500000 aa\n")
    assert read_lab(timed) == Segments(("sil", "aa"), ((0.0, 0.5), (0.5, 0.75)))
    assert read_lab(write(tmp_path / "b.lab", "sil\naa\n")) == Segments(("sil", "aa"))
    assert read_lab(write(tmp_path / "c.lab", "sil aa b\n")) == Segments(("sil", "aa", "b"))
    assert Segments(("a",)).as_extra() == {}
    with pytest.raises(AsrError, match="some lines begin with a number and some do not"):
        read_lab(write(tmp_path / "d.lab", "0 50 sil\naa\n"))
    (tmp_path / "e.lab").write_bytes(b"\xff\xfe\n")
    with pytest.raises(AsrError, match="not UTF-8 text"):
        read_lab(tmp_path / "e.lab")


def test_lexicon_takes_the_first_pronunciation_and_drops_stress(tmp_path: Path) -> None:
    path = write(tmp_path / "l.txt", ";;; comment\n# another\n \t# a third\nREAD  R EH1 D\nREAD(2)  R IY1 D\n"
                                     "D'ARTAGNAN  D AH0 R T # and so on\nnew\t0.99\t0.5\tN UW1\n")
    assert read_lexicon(path) == {"read": ("R", "EH", "D"), "d'artagnan": ("D", "AH", "R", "T"),
                                  "new": ("N", "UW")}
    assert read_lexicon(path, stress=True)["read"] == ("R", "EH1", "D")
    (tmp_path / "latin.txt").write_bytes("DÉJÀ  D EY1 ZH\n".encode("latin-1"))
    assert read_lexicon(tmp_path / "latin.txt") == {"déjà": ("D", "EY", "ZH")}


@pytest.mark.parametrize(("text", "message"), [
    ("WORD\n", r"l\.txt:1: the word 'WORD' has no phones"), (";;; nothing\n", "holds no word")])
def test_a_lexicon_that_is_none(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(AsrError, match=message):
        read_lexicon(write(tmp_path / "l.txt", text))
    with pytest.raises(AsrError, match=r"missing\.txt: cannot be read"):
        read_lexicon(tmp_path / "missing.txt")


def test_words_lose_punctuation_and_keep_apostrophes() -> None:
    assert words_of("“Don’t,” she said - 'twas well-known!") == ["don't", "she", "said", "'twas", "well-known"]
    assert words_of("… - ' _") == []


def test_words_are_looked_up_whole_then_without_quotes_and_hyphens() -> None:
    lexicon = {"twas": ("T",), "well": ("W",), "known": ("N",), "email": ("E",), "rock'n": ("R",)}
    words = ["'twas", "well-known", "e-mail", "rock'n", "zzz"]
    assert pronounce(words, lexicon) == (("T", "W", "N", "E", "R"), ["zzz"])


def test_all_unknown_words_are_named(tmp_path: Path) -> None:
    rows = [Utterance("a", tmp_path / "a.wav", phones=("Hello", "you")), Utterance("b", tmp_path / "b.wav")]
    done = pronounce_all(rows, {"hello": ("H",), "you": ("Y", "U")}, "l.txt")
    assert (done[0].phones, done[0].extra, done[1].phones) == (
        ("H", "Y", "U"), {"words": "hello you", "word_phones": [1, 2]}, None)
    with pytest.raises(AsrError, match=r"l\.txt: has no pronunciation of 1 words: you: add them to the lexicon"):
        pronounce_all(rows, {"hello": ("H",)}, "l.txt")


def textgrid(tiers: dict[str, list[tuple[float, float, str]]], end: float = 1.0) -> str:
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "0", str(end), "<exists>", str(len(tiers))]
    for name, intervals in tiers.items():
        lines += ['"IntervalTier"', f'"{name}"', "0", str(end), str(len(intervals))]
        for start, stop, label in intervals:
            lines += [str(start), str(stop), '"' + label.replace('"', '""') + '"']
    return "\n".join(lines) + "\n"


PHONES = [(0.0, 0.2, ""), (0.2, 0.5, "t͡ʃ"), (0.5, 1.0, 'a"')]
WORDS = [(0.0, 0.2, ""), (0.2, 1.0, "cha")]


def test_textgrid_gives_the_phone_tier_by_its_usual_names(tmp_path: Path) -> None:
    expected = Segments(("t͡ʃ", 'a"'), ((0.2, 0.5), (0.5, 1.0)))
    for name in ("phones", "Phone", "ann - phones", "segments"):
        path = write(tmp_path / "a.TextGrid", textgrid({"words": WORDS, name: PHONES}))
        assert read_textgrid(path) == expected, name
    assert read_textgrid(write(tmp_path / "b.TextGrid", textgrid({"anything": PHONES}))) == expected
    assert read_textgrid(path, "words").phones == ("cha",)


def test_textgrid_without_such_a_tier_names_those_there_are(tmp_path: Path) -> None:
    path = write(tmp_path / "a.TextGrid", textgrid({"words": WORDS, "notes": WORDS}))
    with pytest.raises(AsrError, match="has no tier 'phones': its interval tiers are 'words', 'notes'; choose"):
        read_textgrid(path)
    with pytest.raises(AsrError, match="has no tier 'x'"):
        read_textgrid(path, "x")
    with pytest.raises(AsrError, match="no TextGrid that praatio can read"):
        read_textgrid(write(tmp_path / "b.TextGrid", "nothing of the kind\n"))
    with pytest.raises(AsrError, match="cannot be read: No such file"):
        read_textgrid(tmp_path / "c.TextGrid")


def test_folder_takes_the_labels_with_times_first(tmp_path: Path) -> None:
    for name in ("ann/one", "ann/two", "bob/three", "four", "ann/odd[1]"):
        write_audio(tmp_path / f"{name}.wav")
    write(tmp_path / "ann/one.phn", "0 4000 a\n")
    write(tmp_path / "ann/one.txt", "x y\n")
    write(tmp_path / "ann/two.TextGrid", textgrid({"phones": PHONES}))
    write(tmp_path / "bob/three.lab", "b\nc\n")
    write(tmp_path / "ann/odd[1].txt", "d e\nf\n")
    rows = {u.id: u for u in read_folder(tmp_path)}
    assert {name: (u.phones, u.speaker) for name, u in rows.items()} == {
        "ann-one": (("a",), "ann"), "ann-two": (("t͡ʃ", 'a"'), "ann"), "bob-three": (("b", "c"), "bob"),
        "four": (None, None), "ann-odd[1]": (("d", "e", "f"), "ann")}
    assert rows["ann-one"].extra == {"phone_times": [[0.0, 0.25]]}
    assert rows["four"].duration == 0.5
    only = {u.id: u.phones for u in read_folder(tmp_path, labels="txt", speaker="none")}
    assert only["ann-one"] == ("x", "y")
    assert only["ann-two"] is None


def test_folder_knows_words_from_a_tier_beside_the_phones_and_from_wrd(tmp_path: Path) -> None:
    two = [(0.0, 0.3, "cha"), (0.3, 1.0, "cha cha")]
    for name, tiers in (("a", {"ann - words": WORDS, "phones": PHONES}), ("b", {"phones": PHONES}),
                        ("c", {"words": two, "phones": PHONES}), ("d", {"words": WORDS})):
        write_audio(tmp_path / f"{name}.wav")
        write(tmp_path / f"{name}.TextGrid", textgrid(tiers))
    write_audio(tmp_path / "e.wav", rate=8000)
    write(tmp_path / "e.phn", "0 4000 a\n4000 8000 b\n")
    write(tmp_path / "e.wrd", "0 8000 ab\n")
    rows = {u.id: u for u in read_folder(tmp_path)}
    words = {name: {key: value for key, value in row.extra.items() if key != "phone_times"}
             for name, row in rows.items()}
    assert words == {"a": {"words": "cha", "word_times": [[0.2, 1.0]]}, "b": {}, "c": {}, "d": {},
                     "e": {"words": "ab", "word_times": [[0.0, 1.0]]}}
    assert rows["d"].phones == ("cha",)         # the only tier there is, so its labels are taken for phones


def test_words_in_a_tier_with_times_keep_them_when_a_lexicon_gives_their_phones(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.wav")
    grid = tmp_path / "a.TextGrid"
    write(grid, textgrid({"words": [(0.0, 0.4, "Oh"), (0.4, 1.0, "cha")], "phones": PHONES}))
    lexicon = {"oh": ("OW",), "cha": ("CH", "AA")}
    (row,) = pronounce_all(read_folder(tmp_path, tier="words"), lexicon, "l")
    assert (row.phones, row.extra) == (("OW", "CH", "AA"), {
        "words": "oh cha", "word_phones": [1, 2], "word_times": [[0.0, 0.4], [0.4, 1.0]]})
    write(grid, textgrid({"words": [(0.0, 0.4, "oh, cha"), (0.4, 1.0, "-")], "phones": PHONES}))
    (row,) = pronounce_all(read_folder(tmp_path, tier="words"), lexicon, "l")
    assert row.extra == {"words": "oh cha", "word_phones": [1, 2]}      # which time is whose cannot be told


def test_folder_reads_phn_at_the_recordings_own_rate(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.flac", rate=8000)
    write(tmp_path / "a.phn", "0 4000 a\n")
    assert read_folder(tmp_path)[0].extra == {"phone_times": [[0.0, 0.5]]}


def test_folder_finds_the_speaker_in_the_name(tmp_path: Path) -> None:
    write_audio(tmp_path / "ann_one.wav")
    write_audio(tmp_path / "other.wav")
    assert [u.speaker for u in read_folder(tmp_path, speaker="_")] == ["ann", None]


def test_folder_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(AsrError, match="holds no recording"):
        read_folder(tmp_path)
    write_audio(tmp_path / "a.wav")
    write_audio(tmp_path / "a.flac")
    with pytest.raises(AsrError, match="gives the same id, 'a': keep one of the two"):
        read_folder(tmp_path)
    with pytest.raises(AsrError, match="'doc' is no label file that is known"):
        read_folder(tmp_path, labels="doc")


def test_import_folder_prints_a_manifest_with_absolute_paths(tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                                              monkeypatch: pytest.MonkeyPatch) -> None:
    write_audio(tmp_path / "in" / "a.wav")
    write(tmp_path / "in" / "a.txt", "read me\n")
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, "import", "folder", "in", "--lexicon", write(tmp_path / "l", "READ R\nME M IY0\n"))
    assert (code, err) == (0, "")
    assert json.loads(out) == {"id": "a", "audio_filepath": str(tmp_path / "in" / "a.wav"), "duration": 0.5,
                               "text": "R M IY", "words": "read me", "word_phones": [1, 2]}
    code, out, err = run(capsys, "import", "folder", "nowhere")
    assert (code, out) == (1, "")
    assert err == "asr: nowhere: holds no recording (.wav .flac .ogg .opus .mp3 .sph .aif .aiff)\n"


def test_nemo_reads_back_what_was_written(tmp_path: Path) -> None:
    rows = [Utterance("a", write_audio(tmp_path / "x.wav"), 0.1, 0.2, ("p", "q"), "ann", {"lang": "en"}),
            Utterance("b", tmp_path / "x.wav", 0.3, 0.2, ("r",))]
    path = write(tmp_path / "m.json", "\n".join(write_nemo(rows)) + "\n")
    assert read_nemo(path) == rows


def test_nemo_export_fills_in_durations(tmp_path: Path) -> None:
    row = nemo_row(Utterance("a", write_audio(tmp_path / "x.wav"), offset=0.1))
    assert row == {"audio_filepath": str(tmp_path / "x.wav"), "duration": 0.4, "id": "a", "offset": 0.1}
    with pytest.raises(AsrError, match=r"y\.wav: is not there"):
        nemo_row(Utterance("a", tmp_path / "y.wav"))


def test_nemo_rows_without_ids_are_named_after_their_audio(tmp_path: Path) -> None:
    path = write(tmp_path / "m.json", '{"audio_filepath": "a.wav", "text": "x y"}\n\n{"audio_filepath": "b.wav", '
                                      '"offset": 0}\n{"audio_filepath": "b.wav", "offset": 1, "speaker": 7}\n')
    rows = read_nemo(path)
    assert [(u.id, u.offset, u.speaker, u.phones) for u in rows] == [
        ("a", 0.0, None, ("x", "y")), ("b-0000", 0.0, None, None), ("b-0001", 1.0, "7", None)]
    assert rows[0].audio == tmp_path / "a.wav"


@pytest.mark.parametrize(("line", "message"), [
    ("{", r"m\.json:1: not JSON"), ('{"text": "a"}', r"m\.json:1: expected a JSON object with 'audio_filepath'"),
    ('{"audio_filepath": "a", "duration": "1"}', "'duration' is '1': it must be a number of seconds"),
    ('{"audio_filepath": "a", "id": "x"}\n{"audio_filepath": "b", "id": "x"}', "id 'x' stands for two rows")])
def test_nemo_names_the_bad_line(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(AsrError, match=message):
        read_nemo(write(tmp_path / "m.json", line + "\n"))


def test_import_and_export_nemo_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_manifest(tmp_path / "m.jsonl", [Utterance("a", write_audio(tmp_path / "x.wav"), 0.0, 0.5, ("p",), "ann")])
    code, out, _ = run(capsys, "export", "nemo", tmp_path / "m.jsonl")
    assert code == 0
    code, back, _ = run(capsys, "import", "nemo", write(tmp_path / "n.json", out))
    assert code == 0
    assert read_manifest(write(tmp_path / "back.jsonl", back)) == read_manifest(tmp_path / "m.jsonl")


def test_rows_one_by_one_are_those_of_the_manifest_and_bad_ones_are_errors(tmp_path: Path) -> None:
    path = write(tmp_path / "m.jsonl", '{"id": "a", "audio_filepath": "a.wav"}\n{"id": 3, "audio_filepath": "b"}\n\n'
                                       '{\n{"id": "c", "audio_filepath": "c.wav", "text": "x"}\n')
    rows = list(each_row(path))
    assert [line for line, _ in rows] == [1, 2, 4, 5]
    assert [u.id for _, u in rows if isinstance(u, Utterance)] == ["a", "c"]
    assert str(rows[1][1]).startswith(f"{path}:2: 'id' is 3")
    assert str(rows[2][1]).startswith(f"{path}:4: not JSON")
    good = write(tmp_path / "g.jsonl", '{"id": "a", "audio_filepath": "a.wav"}\n')
    assert [u for _, u in each_row(good)] == read_manifest(good)
    with pytest.raises(AsrError, match="cannot be read"):
        list(each_row(tmp_path / "nothing"))


def test_seconds_of_a_recording_that_is_none(tmp_path: Path) -> None:
    assert recording_seconds(write_audio(tmp_path / "a.wav")) == 0.5
    with pytest.raises(AsrError, match=r"b\.wav: is not there"):
        recording_seconds(tmp_path / "b.wav")
    with pytest.raises(AsrError, match=r"c\.wav: is no audio that can be read"):
        recording_seconds(write(tmp_path / "c.wav", "words"))


def test_a_table_counts_marks_with_their_letters() -> None:
    assert aligned([["phone", "n"], ["t͡ʃ", "1,000"], ["a", "1"]]) == "phone      n\nt͡ʃ     1,000\na          1"
