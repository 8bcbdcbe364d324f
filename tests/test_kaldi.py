"""Kaldi data directories: what was written is read back, and no command runs unasked."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.cli import main
from asr.corpus.kaldi import read_kaldi, read_table, write_kaldi
from asr.corpus.records import Utterance, read_manifest
from asr.errors import AsrError

SHARED = Path(__file__).parents[2] / "shared" / "data"


def write_audio(path: Path, seconds: float = 0.5) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, int(seconds * 16000)), 16000)
    return path


def data_dir(folder: Path, **tables: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in tables.items():
        (folder / name.replace("wav_scp", "wav.scp")).write_text(text, encoding="utf-8")
    return folder


def test_whole_recordings_are_read_back(tmp_path: Path) -> None:
    rows = [Utterance("Zoe-1", write_audio(tmp_path / "a.wav"), 0.0, 0.5, ("p", "ŋ"), "Zoe"),
            Utterance("ann-2", write_audio(tmp_path / "b.wav"), 0.0, 0.5, (), "ann"),
            Utterance("ann-10", write_audio(tmp_path / "c.flac"), 0.0, 0.5, ("q",), "ann")]
    write_kaldi(rows, tmp_path / "data")
    # The C locale: capitals before small letters, 1 before 2.
    assert (tmp_path / "data" / "text").read_text() == "Zoe-1 p ŋ\nann-10 q\nann-2\n"
    assert (tmp_path / "data" / "spk2utt").read_text() == "Zoe Zoe-1\nann ann-10 ann-2\n"
    assert (tmp_path / "data" / "utt2dur").read_text() == "Zoe-1 0.5\nann-10 0.5\nann-2 0.5\n"
    assert not (tmp_path / "data" / "segments").exists()
    assert read_kaldi(tmp_path / "data") == [rows[0], rows[2], rows[1]]


def test_parts_of_recordings_are_read_back_through_segments(tmp_path: Path) -> None:
    one, two = write_audio(tmp_path / "x" / "a.wav", 2000 / 16), write_audio(tmp_path / "y" / "a.wav")
    rows = [Utterance("u1", one, 0.0, 0.25, ("p",), "s"), Utterance("u2", one, 100.123456, 0.25, ("q",), "s"),
            Utterance("u3", two, 0.1, 0.4, ("r",), "s")]
    write_kaldi(rows, tmp_path / "data")
    assert (tmp_path / "data" / "segments").read_text() == "u1 a 0 0.25\nu2 a 100.123456 100.373456\nu3 a-2 0.1 0.5\n"
    assert read_kaldi(tmp_path / "data") == rows


def test_a_shortened_recording_alone_gets_segments_as_well(tmp_path: Path) -> None:
    rows = [Utterance("u", write_audio(tmp_path / "a.wav"), 0.0, 0.25, ("p",), "s")]
    write_kaldi(rows, tmp_path / "data")
    assert read_kaldi(tmp_path / "data") == rows


def test_ids_can_be_made_to_sort_like_their_speakers(tmp_path: Path) -> None:
    rows = [Utterance("u1", write_audio(tmp_path / "a.wav"), 0.0, 0.5, ("p",), "zoe"),
            Utterance("ann-u2", tmp_path / "a.wav", 0.0, 0.5, ("p",), "ann"), Utterance("lone", tmp_path / "a.wav")]
    write_kaldi([*rows[:2]], tmp_path / "data", prefix_speaker=True)
    assert (tmp_path / "data" / "utt2spk").read_text() == "ann-u2 ann\nzoe-u1 zoe\n"
    write_kaldi(rows[2:], tmp_path / "alone")
    assert (tmp_path / "alone" / "utt2spk").read_text() == "lone lone\n"
    assert not (tmp_path / "alone" / "text").exists()


@pytest.mark.parametrize(("rows", "message"), [
    ([Utterance("a b", Path("a.wav"), phones=("p",))], "'a b' has a space in it"),
    ([Utterance("a", Path("a.wav"), phones=("p",), speaker="x y")], "'x y' has a space in it"),
    ([Utterance("a", Path("a.wav"), phones=("p",)), Utterance("b", Path("a.wav"))], "utterance 'b' has no phones"),
    ([Utterance("a", Path("missing.wav"), phones=("p",))], r"missing\.wav: is not there"),
    ([Utterance("a", Path("in here.wav"), phones=("p",))], r"in here\.wav: has a space in it"),
])
def test_what_kaldi_cannot_hold_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: list[Utterance],
                                           message: str) -> None:
    monkeypatch.chdir(tmp_path)
    write_audio(tmp_path / "a.wav")
    write_audio(tmp_path / "in here.wav")
    with pytest.raises(AsrError, match=message):
        write_kaldi(rows, tmp_path / "data")


def test_relative_paths_start_from_the_folder_or_above(tmp_path: Path) -> None:
    audio = write_audio(tmp_path / "corpus" / "WAVE" / "a.flac")
    folder = data_dir(tmp_path / "corpus" / "data" / "train", wav_scp="a\tWAVE/a.flac\n", text="a p q\n")
    assert read_kaldi(folder) == [Utterance("a", audio, 0.0, 0.5, ("p", "q"))]
    elsewhere = data_dir(tmp_path / "else" / "a" / "b" / "c" / "d", wav_scp="a WAVE/a.flac\n")
    with pytest.raises(AsrError, match=r"wav\.scp:1: .*a\.flac is not there: name the folder .* with --root"):
        read_kaldi(elsewhere)
    assert read_kaldi(elsewhere, root=tmp_path / "corpus")[0].audio == audio


def test_a_command_runs_only_when_it_is_allowed(tmp_path: Path) -> None:
    audio, touched = write_audio(tmp_path / "a.wav"), tmp_path / "touched"
    folder = data_dir(tmp_path / "data", wav_scp=f"a touch {touched}; cat {audio} |\n", text="a p\n")
    with pytest.raises(AsrError, match=r"wav\.scp:1: 'touch .* is a shell command: convert .* --allow-pipes"):
        read_kaldi(folder)
    assert not touched.exists()
    rows = read_kaldi(folder, allow_pipes=True, audio=tmp_path / "kept")
    assert touched.exists()
    assert rows[0].audio == tmp_path / "kept" / "a.wav"
    assert rows[0].audio.read_bytes() == audio.read_bytes()
    assert rows[0].duration == 0.5


def test_a_command_that_fails_or_escapes_is_an_error(tmp_path: Path) -> None:
    failing = data_dir(tmp_path / "one", wav_scp="a echo no >&2; exit 3 |\n")
    with pytest.raises(AsrError, match="failed with 3: no"):
        read_kaldi(failing, allow_pipes=True, audio=tmp_path / "kept")
    escaping = data_dir(tmp_path / "two", wav_scp=f"../a cat {write_audio(tmp_path / 'a.wav')} |\n")
    with pytest.raises(AsrError, match=r"'\.\./a' cannot be the name of a file: rename the recording"):
        read_kaldi(escaping, allow_pipes=True, audio=tmp_path / "kept")


def test_recordings_in_an_archive(tmp_path: Path) -> None:
    """Key, space, WAV file, and the next: as wav-copy writes them."""
    archive, samples = b"", {"a": np.arange(1600, dtype=np.int16), "b": np.arange(800, dtype=np.int16) - 400}
    scp = ""
    for key, own in samples.items():
        wav = io.BytesIO()
        soundfile.write(wav, own, 16000, format="WAV")
        archive += f"{key} ".encode()
        scp += f"{key} wav.ark:{len(archive)}\n"
        archive += wav.getvalue()
    (tmp_path / "wav.ark").write_bytes(archive)
    rows = read_kaldi(data_dir(tmp_path, wav_scp=scp), audio=tmp_path / "kept")
    assert [(row.id, row.duration) for row in rows] == [("a", 0.1), ("b", 0.05)]
    for row in rows:
        assert np.array_equal(soundfile.read(row.audio, dtype="int16")[0], samples[row.id])
    for place, message in ((1, "no WAV begins there: make wav.scp again"), (99999999999999999999, ""),
                           (len(archive), "no WAV begins there"), (2, "header promises")):
        if place == 2:
            (tmp_path / "wav.ark").write_bytes(archive[:1000])
        bad = data_dir(tmp_path / "bad", wav_scp=f"a {tmp_path / 'wav.ark'}:{place}\n")
        with pytest.raises(AsrError, match=rf"no recording at .*wav\.ark:{place}: .*{message}"):
            read_kaldi(bad, audio=tmp_path / "kept")


@pytest.mark.parametrize(("tables", "message"), [
    ({"text": "b p\n"}, r"text: has no line for 'a': run utils/fix_data_dir\.sh"),
    ({"utt2spk": "b s\n"}, "utt2spk: has no line for 'a'"),
    ({"utt2dur": "a long\n"}, "utt2dur:1: 'long' is no number of seconds: mend it"),
    ({"text": "a p\na q\n"}, "text:2: 'a' was in line 1 already: take one out"),
    ({"segments": "u a 0.5\n"}, "segments:1: expected 'utterance recording start end'"),
    ({"segments": "u b 0 0.5\n"}, r"segments:1: recording 'b' is not in wav\.scp"),
    ({"segments": "u a 0.5 0.5\n"}, r"segments:1: 'u' ends at 0\.5 s, which is not after 0\.5 s: mend the times"),
])
def test_a_bad_table_is_named(tmp_path: Path, tables: dict[str, str], message: str) -> None:
    folder = data_dir(tmp_path / "data", wav_scp=f"a {write_audio(tmp_path / 'a.wav')}\n", **tables)
    with pytest.raises(AsrError, match=message):
        read_kaldi(folder)


def test_a_missing_or_empty_table(tmp_path: Path) -> None:
    with pytest.raises(AsrError, match=r"wav\.scp: cannot be read"):
        read_kaldi(tmp_path)
    with pytest.raises(AsrError, match=r"wav\.scp: is empty"):
        read_kaldi(data_dir(tmp_path, wav_scp="\n"))
    assert read_table(tmp_path / "nothing", optional=True) == {}


def test_export_and_import_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = data_dir(tmp_path / "data", wav_scp=f"a {write_audio(tmp_path / 'a.wav')}\n", text="a read me\n")
    (tmp_path / "lexicon").write_text("READ R EH1 D\nME M IY0\n")
    with pytest.raises(SystemExit) as stop:
        main(["import", "kaldi", str(folder), "--lexicon", str(tmp_path / "lexicon")])
    assert not stop.value.code
    (tmp_path / "m.jsonl").write_text(capsys.readouterr().out)
    (row,) = read_manifest(tmp_path / "m.jsonl")
    assert (row.phones, row.extra) == (("R", "EH", "D", "M", "IY"), {"words": "read me", "word_phones": [3, 2]})
    with pytest.raises(SystemExit) as stop:
        main(["export", "kaldi", str(tmp_path / "m.jsonl"), str(tmp_path / "out")])
    assert not stop.value.code
    assert (tmp_path / "out" / "text").read_text() == "a R EH D M IY\n"


def test_speechocean762_is_a_kaldi_directory_with_relative_flac() -> None:
    corpus = SHARED / "speechocean762"
    if not corpus.is_dir():
        pytest.skip("../shared/data/speechocean762 is not here")
    rows = read_kaldi(corpus / "dev")
    assert (len(rows), rows[0].audio.resolve()) == (200, corpus.resolve() / "WAVE/SPEAKER0567/005670043.flac")
