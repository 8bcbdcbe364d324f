"""The adapters: what they keep, what they leave out, and what they say about a corpus that is not whole."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile

from asr.corpus.inventories import inventory, normalise_ipa
from asr.corpus.lexicon import read_lexicon
from asr.corpus.records import Utterance, read_manifest
from asr.corpus.splits import check_splits, describe_splits, write_splits
from asr.errors import AsrError

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared" / "data"


def recipe(name: str) -> ModuleType:
    """The module `recipes/NAME/prepare.py`."""
    spec = importlib.util.spec_from_file_location(f"recipe_{name}", ROOT / "recipes" / name / "prepare.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def shared(name: str) -> Path:
    if not (SHARED / name).is_dir():
        pytest.skip(f"../shared/data/{name} is not here")
    return SHARED / name


def write_audio(path: Path, seconds: float = 0.1, rate: int = 16000, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(seed).normal(0, 0.1, int(seconds * rate))
    soundfile.write(path, samples, rate)
    return path


def sphere(samples: int = 160) -> bytes:
    """A SPHERE file as on the LDC's disc: a header of 1,024 bytes, 16-bit samples, low byte first."""
    header = (f"NIST_1A\n   1024\nchannel_count -i 1\nsample_count -i {samples}\nsample_rate -i 16000\n"
              "sample_n_bytes -i 2\nsample_byte_format -s2 01\nsample_sig_bits -i 16\nend_head\n")
    return header.encode().ljust(1024, b" ") + np.arange(samples, dtype="<i2").tobytes()


def timit_tree(root: Path, speakers: list[str], upper: bool = True) -> Path:
    """A tree like the LDC's with tiny recordings: ten sentences a speaker, SA1 and SA2 among them."""
    audio = sphere()
    for speaker in speakers:
        folder = root / "TIMIT" / "TRAIN" / "DR1" / (speaker.upper() if upper else speaker)
        folder.mkdir(parents=True)
        for sentence in ["SA1", "SA2", *(f"SI{n}" for n in range(3)), *(f"SX{n}" for n in range(5))]:
            stem = sentence if upper else sentence.lower()
            (folder / f"{stem}{'.WAV' if upper else '.wav'}").write_bytes(audio)
            (folder / f"{stem}{'.PHN' if upper else '.phn'}").write_text("0 80 h#\n80 120 iy\n120 160 h#\n")
    return root


def standard_speakers() -> dict[str, str]:
    speakers: dict[str, str] = recipe("timit").standard_speakers()
    return speakers


def test_timits_speakers_are_462_and_50_and_24_all_distinct() -> None:
    text = (ROOT / "recipes" / "timit" / "speakers.tsv").read_text()
    assert text.startswith("# ")
    assert "Source" in text.splitlines()[0]
    rows = [line.split("\t") for line in text.splitlines()[2:]]
    assert Counter(split for split, _ in rows) == {"train": 462, "dev": 50, "test": 24}
    assert len({speaker for _, speaker in rows}) == 536
    test = [speaker for split, speaker in rows if split == "test"]
    assert Counter(speaker[0] for speaker in test) == {"m": 16, "f": 8}     # two men and a woman of each region
    train = Counter(speaker[0] for split, speaker in rows if split == "train")
    assert train == {"m": 326, "f": 136}                                    # as the corpus's documentation counts


def test_a_whole_timit_has_3696_and_400_and_192_utterances(tmp_path: Path) -> None:
    corpus = timit_tree(tmp_path, [*standard_speakers(), "mxyz9"])      # and a test speaker whom nobody uses
    splits = recipe("timit").splits(corpus)
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 3696, "dev": 400, "test": 192}
    assert {name: len({u.speaker for u in rows}) for name, rows in splits.items()} == {
        "train": 462, "dev": 50, "test": 24}
    everything = [utterance for rows in splits.values() for utterance in rows]
    assert not [u.id for u in everything if "_sa" in u.id or u.speaker == "mxyz9"]
    one = everything[0]
    assert one.phones == ("h#", "iy", "h#")
    assert one.extra["phone_times"] == [[0.0, 0.005], [0.005, 0.0075], [0.0075, 0.01]]
    assert one.duration == 0.01
    check_splits(splits)


def test_a_timit_that_is_not_whole_is_refused_unless_it_is_called_a_sample(tmp_path: Path) -> None:
    corpus = timit_tree(tmp_path, ["fcjf0", "mdab0"])
    with pytest.raises(AsrError, match=r"not a whole TIMIT: train 8 of 3,696, dev 0 of 400, test 8 of 192 utterances; "
                                       r"missing speakers: fadg0 faem0 fajw0 faks0 falk0 …: mend the copy, or use "):
        recipe("timit").splits(corpus)
    splits = recipe("timit").splits(corpus, sample=True)
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 16, "dev": 0, "test": 0}


def test_a_sample_of_training_speakers_gets_a_split_of_its_own(tmp_path: Path) -> None:
    corpus = timit_tree(tmp_path, ["fvmh0", "marc0", "fapb0", "maeb0", "mcpm0", "falr0"], upper=False)
    splits = recipe("timit").splits(corpus)
    assert {name: sorted({u.speaker for u in rows}) for name, rows in splits.items()} == {
        "train": ["fvmh0", "marc0"], "dev": ["fapb0", "maeb0"], "test": ["falr0", "mcpm0"]}


def test_nltks_layout_and_words(tmp_path: Path) -> None:
    for speaker in ("fvmh0", "fapb0", "mcpm0"):
        folder = tmp_path / f"dr1-{speaker}"
        write_audio(folder / "sx26.flac", 0.5)
        (folder / "sx26.phn").write_text("0 4000 h#\n4000 8000 m\n")
        (folder / "sx26.txt").write_text("0 8000 Most young rise.\n")
    (tmp_path / "dr1-fvmh0" / "sx26.wrd").write_text("0 4000 most\n4000 8000 young\n")
    splits = recipe("timit").splits(tmp_path)
    assert splits["train"][0].extra["words"] == "most young"
    assert splits["train"][0].extra["word_times"] == [[0.0, 0.25], [0.25, 0.5]]
    assert "word_times" not in splits["test"][0].extra
    assert splits["test"][0].extra["words"] == "Most young rise."
    assert (splits["test"][0].id, splits["test"][0].speaker) == ("mcpm0_sx26", "mcpm0")


@pytest.mark.parametrize(("spoil", "message"), [
    (lambda folder: (folder / "SI1.PHN").write_text("0 80 h#\n80 x iy\n"),
     r"SI1\.PHN:2: '80 x iy' is not of the form 'start_sample end_sample phone'"),
    (lambda folder: (folder / "SI1.PHN").write_text("80 0 h#\n"), r"SI1\.PHN:1: '80 0 h#' is not of the form"),
    (lambda folder: (folder / "SI1.WAV").unlink(), r"SI1\.PHN: has no audio beside it"),
    (lambda folder: (folder / "SI1.WAV").write_bytes(b"nothing"), r"SI1\.WAV: is no audio that can be read"),
])
def test_timit_names_the_file_that_is_bad(tmp_path: Path, spoil: object, message: str) -> None:
    corpus = timit_tree(tmp_path, ["fvmh0"])
    spoil(corpus / "TIMIT" / "TRAIN" / "DR1" / "FVMH0")     # type: ignore[operator]
    with pytest.raises(AsrError, match=message):
        recipe("timit").splits(corpus)


def test_two_copies_of_timit_are_refused(tmp_path: Path) -> None:
    timit_tree(tmp_path / "a", ["fvmh0"])
    timit_tree(tmp_path / "b", ["fvmh0"], upper=False)
    with pytest.raises(AsrError, match="is the same utterance: name one copy of the corpus only"):
        recipe("timit").splits(tmp_path)
    with pytest.raises(AsrError, match="no TIMIT here"):
        recipe("timit").splits(tmp_path / "a" / "TIMIT" / "TRAIN" / "DR1" / "FVMH0" / "nothing")


@pytest.mark.parametrize("layout", ["flac", "ldc_layout"])
def test_the_timit_sample(layout: str) -> None:
    splits = recipe("timit").splits(shared("timit_sample") / layout)
    assert {name: (len(rows), sum(len(u.phones) for u in rows)) for name, rows in splits.items()} == {
        "train": (48, 1851), "dev": (16, 645), "test": (32, 1206)}


def speechocean_tree(root: Path, splits: tuple[str, ...] = ("train", "dev", "test")) -> Path:
    lines = []
    for place, split in enumerate(splits):
        (root / split).mkdir(parents=True)
        ids = [f"{place}{speaker}0" for speaker in range(10)]
        for name in ids:
            write_audio(root / "WAVE" / f"{name}.flac")
            lines += [f"{name}.1 T_B UW1_E", f"{name}.0 AH0_S", f"{name}.10 Z_S"]
        (root / split / "wav.scp").write_text("".join(f"{name}\tWAVE/{name}.flac\n" for name in ids))
        (root / split / "utt2spk").write_text("".join(f"{name}\t{name[:2]}\n" for name in ids))
        (root / split / "text").write_text("".join(f"{name}\tA TWO Z\n" for name in ids))
    (root / "resource").mkdir()
    (root / "resource" / "text-phone").write_text("\n".join(lines) + "\n")
    return root


def test_speechocean762_drops_stress_and_position_and_keeps_the_order_of_words(tmp_path: Path) -> None:
    splits = recipe("speechocean762").splits(speechocean_tree(tmp_path))
    assert [len(rows) for rows in splits.values()] == [10, 10, 10]
    one = splits["test"][0]
    assert (one.phones, one.speaker, one.extra) == (
        ("AH", "T", "UW", "Z"), "20", {"words": "a two z", "word_phones": [1, 2, 1]})


def test_speechocean762_without_dev_holds_a_tenth_of_the_training_speakers_back(tmp_path: Path) -> None:
    splits = recipe("speechocean762").splits(speechocean_tree(tmp_path, ("train", "test")))
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 9, "dev": 1, "test": 10}
    check_splits(splits)


def test_speechocean762_names_what_is_missing(tmp_path: Path) -> None:
    corpus = speechocean_tree(tmp_path)
    (corpus / "dev" / "utt2spk").write_text("100\t10\n")
    with pytest.raises(AsrError, match="utterance '110' is not in utt2spk"):
        recipe("speechocean762").splits(corpus)
    (corpus / "resource" / "text-phone").write_text("100.x AH0\n")
    with pytest.raises(AsrError, match=r"text-phone:1: expected 'UTTERANCE\.WORD PHONE …'"):
        recipe("speechocean762").splits(corpus)


def test_speechocean762_as_it_is_shared() -> None:
    splits = recipe("speechocean762").splits(shared("speechocean762"))
    assert {name: (len(rows), sum(len(u.phones) for u in rows)) for name, rows in splits.items()} == {
        "train": (2040, 40331), "dev": (200, 4020), "test": (479, 9571)}
    assert len({phone for rows in splits.values() for u in rows for phone in u.phones}) == 39
    check_splits(splits)


def fsdd_tree(root: Path) -> Path:
    for speaker in ("george", "theo", "lucas", "jackson"):
        for digit in range(10):
            write_audio(root / "recordings" / f"{digit}_{speaker}_0.wav", 0.2 + digit / 100, 8000, seed=digit)
    return root


def test_fsdd_splits_by_speaker_and_takes_phones_from_the_dictionary(tmp_path: Path) -> None:
    splits = recipe("fsdd").splits(fsdd_tree(tmp_path))
    assert {name: sorted({u.speaker for u in rows}) for name, rows in splits.items()} == {
        "train": ["jackson", "lucas"], "dev": ["george"], "test": ["theo"]}
    seven = next(u for u in splits["dev"] if u.id == "7_george_0")
    assert (" ".join(seven.phones), seven.extra["words"]) == ("S EH V AH N", "seven")
    assert len({phone for u in splits["dev"] for phone in u.phones}) == 19


def test_connected_digits_use_each_recording_once_a_pass_and_repeat_exactly(tmp_path: Path) -> None:
    corpus = fsdd_tree(tmp_path / "fsdd")
    first = recipe("fsdd").connected_splits(corpus, tmp_path / "a", passes=3, seed=1)
    again = recipe("fsdd").connected_splits(corpus, tmp_path / "b", passes=3, seed=1)
    other = recipe("fsdd").connected_splits(corpus, tmp_path / "c", passes=3, seed=2)
    words = Counter(word for u in first["train"] for word in u.extra["words"].split())
    assert words == dict.fromkeys(recipe("fsdd").WORDS, 2 * 3)      # two speakers, three passes
    assert Counter(word for u in first["test"] for word in u.extra["words"].split()) == dict.fromkeys(
        recipe("fsdd").WORDS, 1)
    assert {len(u.extra["words"].split()) for rows in first.values() for u in rows} <= set(range(1, 8))
    assert [u.extra for u in first["train"]] == [u.extra for u in again["train"]]
    assert [u.extra for u in first["train"]] != [u.extra for u in other["train"]]
    for one, two in zip(first["train"], again["train"], strict=True):
        assert one.audio.read_bytes() == two.audio.read_bytes()


def test_a_joined_recording_holds_its_digits_where_it_says(tmp_path: Path) -> None:
    splits = recipe("fsdd").connected_splits(fsdd_tree(tmp_path / "fsdd"), tmp_path / "audio", passes=1, seed=1)
    joined = next(u for u in splits["dev"] if len(u.extra["words"].split()) > 1)
    samples, rate = soundfile.read(joined.audio)
    assert rate == 8000
    assert len(samples) / rate == joined.duration
    for word, (start, end) in zip(joined.extra["words"].split(), joined.extra["word_times"], strict=True):
        digit = recipe("fsdd").WORDS.index(word)
        alone, _ = soundfile.read(tmp_path / "fsdd" / "recordings" / f"{digit}_george_0.wav")
        assert np.allclose(samples[round(start * rate):round(end * rate)], alone, atol=2e-4)
    gaps = [later[0] - earlier[1] for earlier, later in zip(joined.extra["word_times"],
                                                            joined.extra["word_times"][1:], strict=False)]
    assert all(0.049 < gap < 0.251 for gap in gaps)


def test_fsdd_names_a_strange_file(tmp_path: Path) -> None:
    with pytest.raises(AsrError, match="no FSDD here"):
        recipe("fsdd").splits(tmp_path)
    write_audio(tmp_path / "recordings" / "seven.wav")
    with pytest.raises(AsrError, match=r"seven\.wav: expected the name DIGIT_SPEAKER_INDEX\.wav"):
        recipe("fsdd").splits(tmp_path)


def test_fsdd_as_it_is_shared() -> None:
    splits = recipe("fsdd").splits(shared("fsdd"))
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 1500, "dev": 500, "test": 500}


TEXTGRID = '''File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 0.5
tiers? <exists>
size = 2
item []:
    item [1]:
        class = "IntervalTier"
        name = "word"
        xmin = 0
        xmax = 0.5
        intervals: size = 1
        intervals [1]:
            xmin = 0
            xmax = 0.5
            text = "ga"
    item [2]:
        class = "IntervalTier"
        name = "phone"
        xmin = 0
        xmax = 0.5
        intervals: size = 4
        intervals [1]:
            xmin = 0
            xmax = 0.1
            text = ""
        intervals [2]:
            xmin = 0.1
            xmax = 0.25
            text = "g"
        intervals [3]:
            xmin = 0.25
            xmax = 0.4
            text = "{vowel}"
        intervals [4]:
            xmin = 0.4
            xmax = 0.5
            text = ""
'''


def test_voxangeles_from_textgrids_with_one_spelling_for_one_symbol(tmp_path: Path) -> None:
    for name, vowel in (("abk-001-001", "a\N{COMBINING TILDE}"), ("aka-001-001", "ã"), ("gaa-001-001", "ã")):
        (tmp_path / name[:3]).mkdir()
        write_audio(tmp_path / name[:3] / f"{name}.wav", 0.5, seed=len(name) + ord(vowel[0]) + ord(name[1]))
        (tmp_path / name[:3] / f"{name}.TextGrid").write_text(TEXTGRID.replace("{vowel}", vowel))
    splits = recipe("voxangeles").splits(tmp_path)
    (train,), (dev,), (test,) = splits["train"], splits["dev"], splits["test"]
    assert (train.id, dev.id, test.id) == ("abk-001-001", "gaa-001-001", "aka-001-001")
    assert train.phones == test.phones == ("ɡ", "ã")
    assert train.extra["phone_times"] == [[0.1, 0.25], [0.25, 0.4]]
    assert (train.speaker, train.extra["lang"]) == ("abk-001", "abk")


def vox_table(root: Path, rows: list[tuple[str, str, int]]) -> Path:
    """Rows of (id, phones, seed of the audio)."""
    manifest, times = ["utt_id\tpath\twords\tphones"], ["utt_id\tstart\tend\tphone"]
    for name, phones, seed in rows:
        write_audio(root / "audio" / f"{name}.flac", seed=seed)
        manifest.append(f"{name}\taudio/{name}.flac\tw\t{phones}")
        times += [f"{name}\t{n / 100}\t{(n + 1) / 100}\t{phone}" for n, phone in enumerate(phones.split())]
    (root / "manifest.tsv").write_text("\n".join(manifest) + "\n")
    (root / "phone_times.tsv").write_text("\n".join(times) + "\n")
    return root


def test_voxangeles_leaves_out_recordings_that_occur_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus = vox_table(tmp_path, [("hni-1", "t a", 1), ("hni-2", "t i", 1), ("ace-1", "a", 2), ("ace-2", "a", 2)])
    assert [u.id for u in recipe("voxangeles").splits(corpus)["train"]] == ["ace-1"]
    assert capsys.readouterr().err == ("hni-1 and hni-2 hold the same audio: labels differ, all left out\n"
                                       "ace-1 and ace-2 hold the same audio: only the first is kept\n")


def test_voxangeles_measures_training_by_words_that_it_can_know(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    splits = recipe("voxangeles").splits(vox_table(tmp_path, [("ace-1", "t a", 1), ("gaa-1", "a t", 2),
                                                              ("gaa-2", "a ʑʷ", 3), ("aka-1", "ʑʷ", 4)]))
    assert {name: [u.id for u in rows] for name, rows in splits.items()} == {
        "train": ["ace-1"], "dev": ["gaa-1"], "test": ["aka-1"]}        # of a test nothing is left out
    assert capsys.readouterr().err == "dev: 1 of 2 words have phones that are not in train: left out\n"


def test_voxangeles_checks_times_against_labels(tmp_path: Path) -> None:
    corpus = vox_table(tmp_path, [("ace-1", "a", 2)])
    (corpus / "phone_times.tsv").write_text("utt_id\tstart\tend\tphone\nace-1\t0\t1\te\n")
    with pytest.raises(AsrError, match=r"the phones of 'ace-1' are not those of manifest\.tsv"):
        recipe("voxangeles").splits(corpus)
    with pytest.raises(AsrError, match="no VoxAngeles here"):
        recipe("voxangeles").splits(tmp_path / "audio")


def test_voxangeles_as_it_is_shared() -> None:
    splits = recipe("voxangeles").splits(shared("voxangeles"))
    assert {name: (len(rows), sum(len(u.phones) for u in rows)) for name, rows in splits.items()} == {
        "train": (1164, 4705), "dev": (153, 780), "test": (263, 1096)}
    assert not {u.id for rows in splits.values() for u in rows} & {"hni-000-009", "hni-000-010"}
    check_splits(splits)


def lexicon_file(root: Path) -> Path:
    path = root / "lexicon.txt"
    path.write_text(";;; a comment\nHELLO  HH AH0 L OW1\nHELLO(2)  HH EH0 L OW1\nWORLD  W ER1 L D\n")
    return path


def librispeech_tree(root: Path) -> Path:
    for subset, speaker in (("train-clean-100", 1), ("train-other-500", 2), ("dev-clean", 3), ("test-clean", 4)):
        folder = root / subset / str(speaker) / "10"
        lines = []
        for number, sentence in enumerate(["HELLO WORLD", "HELLO THERE"]):
            write_audio(folder / f"{speaker}-10-{number:04d}.flac")
            lines.append(f"{speaker}-10-{number:04d} {sentence}\n")
        (folder / f"{speaker}-10.trans.txt").write_text("".join(lines))
    return root


def test_librispeech_takes_phones_from_the_lexicon_and_counts_unknown_words(tmp_path: Path) -> None:
    corpus = librispeech_tree(tmp_path / "LibriSpeech")
    splits, unknown, left_out = recipe("librispeech").splits(corpus, read_lexicon(lexicon_file(tmp_path)))
    assert {name: [u.id for u in rows] for name, rows in splits.items()} == {
        "train": ["1-10-0000", "2-10-0000"], "dev-clean": ["3-10-0000"], "test-clean": ["4-10-0000"]}
    assert " ".join(splits["train"][0].phones) == "HH AH L OW W ER L D"
    assert (unknown, left_out) == ({"there": 4}, 4)
    with pytest.raises(AsrError, match="no LibriSpeech here"):
        recipe("librispeech").splits(tmp_path, {})


def test_the_command_writes_manifests_and_the_list_of_unknown_words(tmp_path: Path) -> None:
    corpus, out = librispeech_tree(tmp_path / "LibriSpeech"), tmp_path / "out"
    done = subprocess.run([sys.executable, ROOT / "recipes/librispeech/prepare.py", corpus, out, "--lexicon",
                           lexicon_file(tmp_path)], capture_output=True, text=True, check=True)
    assert (out / "unknown-words.txt").read_text() == "there\t4\n"
    assert [u.id for u in read_manifest(out / "train.jsonl")] == ["1-10-0000", "2-10-0000"]
    assert done.stdout == ""
    assert done.stderr.splitlines()[1:] == [
        "split       utterances  speakers  hours  phones  kinds",
        "train                2         2  0.000      16      7",
        "dev-clean            1         1  0.000       8      7",
        "test-clean           1         1  0.000       8      7"]
    assert "4 utterances left out for 1 words" in done.stderr
    bad = subprocess.run([sys.executable, ROOT / "recipes/fsdd/prepare.py", corpus, out], capture_output=True,
                         text=True, check=False)
    assert (bad.returncode, bad.stderr.count("\n")) == (1, 1)
    assert bad.stderr.startswith("prepare: ")
    wrong = subprocess.run([sys.executable, ROOT / "recipes/commonvoice/prepare.py", corpus, out], capture_output=True,
                           text=True, check=False)
    assert wrong.returncode == 2
    assert "choose one: --lexicon FILE for phones, or --letters" in wrong.stderr


def commonvoice_table(root: Path) -> Path:
    for number, split in enumerate(("train", "test")):
        rows = ["client_id\tpath\tsentence\tup_votes"]
        for place, sentence in enumerate(['"Hello, world!', "Hello thére", "...", "World"]):
            write_audio(root / "clips" / f"{split}{place}.wav")
            rows.append(f"speaker{number}\t{split}{place}.wav\t{sentence}\t2")
        (root / f"{split}.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return root


def test_common_voice_with_a_lexicon(tmp_path: Path) -> None:
    corpus = commonvoice_table(tmp_path / "cv")
    splits, unknown, left_out = recipe("commonvoice").splits(corpus, read_lexicon(lexicon_file(tmp_path)))
    assert {name: [u.id for u in rows] for name, rows in splits.items()} == {
        "train": ["train0", "train3"], "test": ["test0", "test3"]}
    assert (splits["train"][0].extra, splits["train"][0].speaker) == (
        {"words": "hello world", "word_phones": [4, 4]}, "speaker0")
    assert (unknown, left_out) == ({"thére": 2}, 4)


def test_common_voice_with_letters_says_so_in_every_row(tmp_path: Path) -> None:
    splits, unknown, left_out = recipe("commonvoice").splits(commonvoice_table(tmp_path), None)
    assert [" ".join(u.phones) for u in splits["train"]] == ["h e l l o w o r l d", "h e l l o t h é r e", "w o r l d"]
    assert {u.extra["units"] for rows in splits.values() for u in rows} == {"letters"}
    assert (unknown, left_out) == ({}, 2)


def test_common_voice_names_a_missing_column(tmp_path: Path) -> None:
    (tmp_path / "train.tsv").write_text("path\ttext\na.mp3\thello\n")
    with pytest.raises(AsrError, match=r"train\.tsv: has no column 'sentence': it has path text"):
        recipe("commonvoice").splits(tmp_path, None)
    with pytest.raises(AsrError, match="no Common Voice here"):
        recipe("commonvoice").splits(tmp_path / "clips", None)


def test_splits_share_no_speaker_and_no_id(tmp_path: Path) -> None:
    def one(name: str, speaker: str | None) -> Utterance:
        return Utterance(name, tmp_path / "x.wav", duration=3600, phones=("a", "b"), speaker=speaker)
    with pytest.raises(AsrError, match="dev: speaker 's' is in train as well"):
        check_splits({"train": [one("a", "s")], "dev": [one("b", "s")]})
    with pytest.raises(AsrError, match="dev: utterance 'a' is in train already"):
        check_splits({"train": [one("a", None)], "dev": [one("a", None)]})
    with pytest.raises(AsrError, match="dev: the corpus gave no utterance"):
        write_splits({"train": [one("a", None)], "dev": []}, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert describe_splits({"train": [one("a", "s"), one("b", "s")]}) == (
        "split  utterances  speakers  hours  phones  kinds\n"
        "train           2         1  2.000       4      2")


def test_every_recipe_says_what_it_is_and_runs_with_what_is_there() -> None:
    for folder in sorted((ROOT / "recipes").iterdir()):
        if not (folder / "run.sh").exists():
            continue
        script = (folder / "run.sh").read_text()
        assert (folder / "run.sh").stat().st_mode & 0o111, folder
        if (folder / "prepare.py").exists():        # else it is made of others' corpora
            assert f"recipes/{folder.name}/prepare.py" in script
        subprocess.run(["bash", "-n", folder / "run.sh"], check=True)


@pytest.mark.parametrize(("table", "target"), [
    ("timit/from-arpabet.tsv", "arpabet"), ("voxangeles/from-arpabet.tsv", "arpabet"),
    ("speechocean762/from-espeak.tsv", "")])
def test_maps_for_another_models_weights(table: str, target: str) -> None:
    """Each phone begins with one that the other model has; IPA is spelt as the corpus's rows are."""
    from asr.train import read_names
    names = read_names(ROOT / "recipes" / table)
    assert len(names) > 38
    assert names == {normalise_ipa(phone): theirs for phone, theirs in names.items()} or table.startswith("timit")
    if target:
        assert set(names.values()) <= set(inventory(target))


def test_most_of_voxangeles_has_a_phone_to_begin_with() -> None:
    from asr.train import read_names
    names = read_names(ROOT / "recipes" / "voxangeles" / "from-arpabet.tsv")
    train = recipe("voxangeles").splits(shared("voxangeles"))["train"]
    said = [phone for utterance in train for phone in utterance.phones or ()]
    assert sum(phone in names for phone in said) > 0.97 * len(said)
