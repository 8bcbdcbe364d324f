"""recipes/espeak: voices, sentences, times, and the same bytes again."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import soundfile

from asr.corpus.records import Utterance, read_manifest
from asr.errors import AsrError

pytest.importorskip("espeakng_loader", reason="espeakng-loader (extra 'espeak') is not installed")

RECIPE = Path(__file__).parents[1] / "recipes" / "espeak"
SMALL = ("--train-hours", "0.01", "--dev-utterances", "2", "--test-utterances", "12")
VOICES = {"train": ["m1", "f1", "klatt5"], "dev": ["m6"], "test": ["f3", "paul"]}     # f3 breathes: noise
SPLITS = ("train", "dev", "test")


def synthesise(out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    table = out.with_name("voices.tsv")
    rows = [f"{split}\t{voice}\n" for split in SPLITS for voice in VOICES[split]]
    table.write_text("".join(["split\tvoice\n", *rows]))
    return subprocess.run([sys.executable, str(RECIPE / "prepare.py"), str(out), "--voices", str(table), *options],
                          capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("espeak") / "corpus"
    done = synthesise(out, *SMALL, "-j", "2")
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def recipe() -> Iterator[dict[str, ModuleType]]:
    """The recipe's modules, imported as its own command does."""
    names = ("espeak", "sentences", "prepare")
    before = {name: sys.modules.pop(name, None) for name in names}
    sys.path.insert(0, str(RECIPE))
    try:
        yield {name: __import__(name) for name in names}
    finally:
        sys.path.remove(str(RECIPE))
        for name in names:
            sys.modules.pop(name, None)
            if before[name] is not None:
                sys.modules[name] = before[name]    # type: ignore[assignment]


def rows(corpus: Path, split: str) -> list[Utterance]:
    return read_manifest(corpus / f"{split}.jsonl", need_phones=True)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_nothing_of_the_test_is_heard_in_training(corpus: Path) -> None:
    for one, other in (("train", "dev"), ("train", "test"), ("dev", "test")):
        for held in ("speaker", "phones"):
            assert not {getattr(row, held) for row in rows(corpus, one)} & \
                {getattr(row, held) for row in rows(corpus, other)}, held
        assert not {row.extra["words"] for row in rows(corpus, one)} & \
            {row.extra["words"] for row in rows(corpus, other)}


def test_every_voice_speaks_and_the_sizes_are_those_asked_for(corpus: Path) -> None:
    for split in SPLITS:
        assert {row.speaker for row in rows(corpus, split)} == set(VOICES[split])
    assert len(rows(corpus, "test")) == 12
    assert len(rows(corpus, "dev")) == 2
    seconds = sum(row.duration or 0 for row in rows(corpus, "train"))
    longest = max(row.duration or 0 for row in rows(corpus, "train"))
    assert 36 <= seconds <= 36 + longest * len(VOICES["train"])


def test_held_back_voices_are_women_and_men() -> None:
    table = [line.split("\t") for line in (RECIPE / "voices.tsv").read_text().splitlines() if line[0] != "#"][1:]
    assert len({voice for _, voice, _ in table}) == len(table)
    test = [sex for split, _, sex in table if split == "test"]
    assert min(test.count("female"), test.count("male")) >= 2


def test_audio_is_what_the_manifest_says(corpus: Path) -> None:
    for split in SPLITS:
        for row in rows(corpus, split):
            info = soundfile.info(row.audio)
            assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16")
            assert row.duration == info.frames / 16000


def test_times_are_in_order_one_for_each_phone(corpus: Path) -> None:
    for split in SPLITS:
        for row in rows(corpus, split):
            times = row.extra["phone_times"]
            assert len(times) == len(row.phones or ())
            flat = [second for interval in times for second in interval]
            assert flat == sorted(flat)
            assert flat[0] >= 0.05
            assert flat[-1] <= (row.duration or 0) - 0.04
            assert all(end - start > 0.005 for start, end in times)


def loudness(row: Utterance, start: float, end: float) -> float:
    samples, rate = soundfile.read(row.audio)
    return float(np.sqrt(np.mean(samples[round(start * rate):round(end * rate)] ** 2)))


def test_vowels_are_loud_edges_silent_and_closures_quiet(corpus: Path) -> None:
    """Were the times off by a few hundredths of a second, vowels would reach into closures and pauses."""
    closures, bursts = [], []
    for row in rows(corpus, "test"):
        times, phones = row.extra["phone_times"], row.phones or ()
        vowels = [loudness(row, *time) for phone, time in zip(phones, times, strict=True) if phone[0] in "aeiouæɑɔɛɜɪ"]
        edge = max(loudness(row, 0, times[0][0] - 0.01), loudness(row, times[-1][1] + 0.03, row.duration or 0))
        assert min(vowels) > 5 * edge
        for number, (phone, (start, end)) in enumerate(zip(phones, times, strict=True)):
            if phone in "ptk" and number and times[number - 1][1] == start and end - start > 0.05:
                closures.append(loudness(row, start + 0.002, start + 0.012))
                bursts.append(loudness(row, end - 0.03, end))
    assert len(closures) > 10
    assert np.median(closures) < 0.1 * np.median(bursts)


def test_resampling_keeps_times(recipe: dict[str, ModuleType], tmp_path: Path) -> None:
    samples = np.zeros(22050, np.int16)
    samples[11025] = 20000
    prepare = recipe["prepare"]
    speech = recipe["espeak"].Speech(samples, 22050, [("t", 11025, 11026)])
    job = prepare.Job(tmp_path, prepare.Plan(), "test", "m1", [], 1.0, 1)
    out, lead = prepare._finish(speech, job, random.Random(1), np.random.default_rng(1))
    assert abs(int(np.abs(out).argmax()) - (0.5 + lead) * 16000) <= 1


def test_noise_is_as_loud_as_asked_and_in_training_alone(recipe: dict[str, ModuleType], tmp_path: Path) -> None:
    prepare = recipe["prepare"]
    tone = (8000 * np.sin(np.arange(44100) / 8)).astype(np.int16)
    speech = recipe["espeak"].Speech(tone, 22050, [("a", 0, 44100)])
    lead = int(prepare.EDGE[0] * 16000)
    measured = {}
    for split in ("train", "test"):
        job = prepare.Job(tmp_path, prepare.Plan(noise=10.0), split, "m1", [], 1.0, 1)
        out, _ = prepare._finish(speech, job, random.Random(1), np.random.default_rng(1))
        edge, middle = out[:lead].astype(float), out[lead * 5:-lead * 5].astype(float)
        measured[split] = 10 * np.log10(np.mean(middle ** 2) / np.mean(edge ** 2))
    assert 9 < measured["train"] < 31
    assert measured["test"] > 60


def test_the_same_bytes_whatever_the_number_of_processes(corpus: Path, tmp_path: Path) -> None:
    assert synthesise(tmp_path / "again", *SMALL, "-j", "1").returncode == 0
    assert contents(tmp_path / "again") == contents(corpus)


def test_a_second_run_does_nothing_and_a_cut_one_goes_on(corpus: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(corpus, copy)
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*")}
    done = synthesise(copy, *SMALL)
    assert done.stderr.startswith(f"{copy}: up to date\n")
    assert {path: path.stat().st_mtime_ns for path in copy.rglob("*")} == before

    for name in ("train", "dev", "test"):                                   # as a kill leaves it: no manifest yet,
        (copy / f"{name}.jsonl").unlink()
    (copy / "wav" / "train" / "m1.jsonl").unlink()                          # one voice not finished,
    (copy / "wav" / "train" / "m1-0001.wav").write_bytes(b"RIFF")           # and a file of it cut short
    assert synthesise(copy, *SMALL).returncode == 0
    assert contents(copy) == contents(corpus)
    assert (copy / "wav" / "train" / "f1-0001.wav").stat().st_mtime_ns == \
        before[copy / "wav" / "train" / "f1-0001.wav"]


def test_other_options_clear_what_was_there(corpus: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(corpus, copy)
    (copy / "wav" / "train" / "m1-9999.wav").write_bytes(b"of long ago")
    lines = tmp_path / "lines.txt"
    numbers = ["eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun", "zehn", "elf", "zwölf"]
    lines.write_text("".join(f"Zeile {word} und {word} noch einmal hier.\n" for word in numbers))
    done = synthesise(copy, *SMALL, "--language", "de", "--sentences", str(lines), "--format", "flac")
    assert done.returncode == 0, done.stderr
    assert "was made with other options" in done.stderr
    assert {path.suffix for path in (copy / "wav").rglob("*.*")} == {".flac", ".jsonl"}
    assert "ʏ" in {phone for row in rows(copy, "train") for phone in row.phones or ()}     # fünf
    said = {split: {row.extra["words"] for row in rows(copy, split)} for split in SPLITS}
    assert not said["train"] & (said["test"] | said["dev"])


@pytest.mark.parametrize(("options", "message"), [
    (("--language", "xx"), "prepare: --language xx: espeak-ng has no such language: try en-us, de, fr, es, cmn, …\n"),
    (("--sentences", "SHORT"),
     "prepare: SHORT: holds 2 different sentences: at least 10 are needed, better thousands\n"),
])
def test_errors_in_one_line(tmp_path: Path, options: tuple[str, ...], message: str) -> None:
    short = tmp_path / "short.txt"
    short.write_text("One two.\nOne, two!\nThree four.\n\n")
    done = synthesise(tmp_path / "out", *SMALL, *(option.replace("SHORT", str(short)) for option in options))
    assert (done.returncode, done.stderr) == (1, message.replace("SHORT", str(short)))
    assert not (tmp_path / "out" / "train.jsonl").exists()


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "train.jsonl").write_text("precious")
    done = synthesise(out, *SMALL)
    assert done.returncode == 1
    assert done.stderr == f"prepare: {out}: holds files that this recipe did not make: give it a folder of its own\n"
    assert [path.name for path in out.iterdir()] == ["train.jsonl"]
    assert (out / "train.jsonl").read_text() == "precious"


@pytest.mark.parametrize(("table", "message"), [
    ("split\tvoice\ntrain\tm1\ntest\tf1\n", "names no voice for dev"),
    ("split\tvoice\ntrain\tm1\ndev\tf2\ntest\tm1\n", "names the voice 'm1' twice")])
def test_a_table_of_voices_keeps_the_splits_apart(recipe: dict[str, ModuleType], tmp_path: Path, table: str,
                                                  message: str) -> None:
    (tmp_path / "v.tsv").write_text(table)
    with pytest.raises(AsrError, match=message):
        recipe["prepare"].read_voices(tmp_path / "v.tsv")


def test_the_recipes_own_voices_all_speak(recipe: dict[str, ModuleType]) -> None:
    voices = recipe["prepare"].read_voices()
    synthesiser = recipe["espeak"].Synthesiser()
    for voice in [voice for split in SPLITS for voice in voices[split]]:
        synthesiser.voice("en-us", voice)
        assert [phone for phone, _, _ in synthesiser.say("Seven.").phones] == ["s", "ɛ", "v", "ə", "n"], voice


@pytest.mark.parametrize("language", ["fr", "de", "cmn", "tr"])
def test_numbers_are_read_in_any_language(recipe: dict[str, ModuleType], language: str) -> None:
    sentences = recipe["sentences"].deal({"train": ["m1"], "dev": ["m2"], "test": ["m3"]},
                                         {"train": 5, "dev": 1, "test": 1}, language, None, 1)["m1"]
    synthesiser = recipe["espeak"].Synthesiser()
    synthesiser.voice(language, "m1")
    assert all(len(synthesiser.say(sentence).phones) >= 4 for sentence in sentences)


@pytest.mark.parametrize(("entry", "section", "form", "word"), [
    ("cat", "animal", "", "cat"), ("cat", "animal", "s", "cats"), ("fox", "animal", "s", "foxes"),
    ("pony", "animal", "s", "ponies"), ("donkey", "animal", "s", "donkeys"), ("tooth/teeth", "thing", "s", "teeth"),
    ("bake", "transitive", "ed", "baked"), ("carry", "transitive", "ed", "carried"),
    ("enjoy", "transitive", "ed", "enjoyed"), ("tear/tore", "transitive", "ed", "tore"),
    ("tear/tore", "transitive", "s", "tears"), ("wash", "transitive", "s", "washes"),
    ("cut/cut", "transitive", "", "cut"), ("last_night", "time", "", "last night"),
])
def test_inflection(recipe: dict[str, ModuleType], entry: str, section: str, form: str, word: str) -> None:
    assert recipe["sentences"].inflect(entry, section, form) == word


def test_sentences_are_new_by_the_ten_thousand(recipe: dict[str, ModuleType]) -> None:
    sentences = recipe["sentences"]
    voices = {"train": ["a", "b"], "dev": ["c"], "test": ["d"]}
    dealt = sentences.deal(voices, {"train": 10000, "dev": 100, "test": 100}, "en-us", None, 1)
    everything = [sentences.plain(text) for part in dealt.values() for text in part]
    assert len(everything) == len(set(everything)) == 20200
    assert not [text for text in everything if "<" in text or "_" in text or "/" in text]
    fewer = sentences.deal(voices, {"train": 10, "dev": 100, "test": 100}, "en-us", None, 1)
    assert (fewer["c"], fewer["d"]) == (dealt["c"], dealt["d"])     # the test does not move with the training's size


def test_every_section_of_the_lexicon_is_used(recipe: dict[str, ModuleType]) -> None:
    sentences = recipe["sentences"]
    rules = sentences._read_rules(RECIPE / "grammar.txt")
    used = {slot for texts in rules.values() for text in texts for slot, _ in sentences.SLOT.findall(text)}
    assert set(sentences._read_lexicon(RECIPE / "lexicon.txt")) <= used
    assert set(rules) - {"sentence"} <= used


@pytest.mark.parametrize(("rules", "message"), [
    ("sentence: the <nuon>.", "<nuon> is no rule"), ("sentence the cat", ":1: expected 'symbol weight: expansion'")])
def test_a_grammar_with_a_fault_says_where(recipe: dict[str, ModuleType], tmp_path: Path, rules: str,
                                           message: str) -> None:
    (tmp_path / "g.txt").write_text(rules)
    with pytest.raises(AsrError, match=message):
        recipe["sentences"].Grammar(tmp_path / "g.txt")


def test_a_grammar_that_is_exhausted_says_so(recipe: dict[str, ModuleType], tmp_path: Path) -> None:
    (tmp_path / "g.txt").write_text("sentence: no.\nsentence: yes.\n")
    source: Any = recipe["sentences"]._new_sentences(recipe["sentences"].Grammar(tmp_path / "g.txt"), random.Random(1))
    assert {next(source), next(source)} == {"No.", "Yes."}
    with pytest.raises(AsrError, match="no more new sentences after 2"):
        next(source)


def test_stress_is_dropped_and_length_kept(recipe: dict[str, ModuleType]) -> None:
    normalise = recipe["espeak"].normalise
    assert [normalise(name) for name in ("ˈiː", "ˌoʊ", "ɔ̃", "")] == ["iː", "oʊ", "ɔ̃", ""]


def test_the_stamp_names_the_options(corpus: Path) -> None:
    stamp = json.loads((corpus / "espeak.json").read_text())
    assert stamp["plan"] == {"language": "en-us", "train_hours": 0.01, "dev_utterances": 2, "test_utterances": 12,
                             "seed": 1, "noise": None, "format": "wav"}
