"""recipes/fsdd: digits of many voices, and what is done to a recording before a model learns from it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile
import torch

from asr.config import Features, parse_config
from asr.corpus.phones import PhoneSet
from asr.corpus.records import Utterance, read_manifest
from asr.errors import AsrError
from asr.frontend.fbank import Fbank, Normaliser
from asr.model.file import load_model, save_model
from asr.model.recognizer import Recognizer

RECIPE = Path(__file__).parents[1] / "recipes" / "fsdd"
RATE = 8000


@pytest.fixture(scope="module")
def recipe() -> Iterator[dict[str, ModuleType]]:
    """The recipe's modules, imported as its own commands do."""
    names = ("prepare", "perturb", "synthesise", "espeak", "narrow")
    before, path = {name: sys.modules.pop(name, None) for name in names}, list(sys.path)
    sys.path.insert(0, str(RECIPE))
    try:
        yield {name: __import__(name) for name in names}
    finally:
        sys.path[:] = path
        for name in names:
            sys.modules.pop(name, None)
            if before[name] is not None:
                sys.modules[name] = before[name]    # type: ignore[assignment]


@pytest.fixture(scope="module")
def perturb(recipe: dict[str, ModuleType]) -> ModuleType:
    return recipe["perturb"]


def run(script: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(RECIPE / script), *map(str, arguments)], capture_output=True, text=True,
                          timeout=120, check=False)


def tone(hertz: float, seconds: float = 0.5) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(int(seconds * RATE)) / RATE).astype(np.float32) / 2


def pitch(samples: np.ndarray) -> float:
    """Hz of the strongest component."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.fft.rfftfreq(len(samples), 1 / RATE)[spectrum.argmax()])


# What is done to a recording -----------------------------------------------------------------------------------------

def test_a_voice_changes_pitch_and_length_and_a_tempo_the_length_alone(perturb: ModuleType) -> None:
    speech = tone(500)
    for factor in (0.8, 1.25):
        assert pitch(perturb.change_voice(speech, RATE, factor)) == pytest.approx(500 * factor, rel=0.02)
        assert len(perturb.change_voice(speech, RATE, factor)) == pytest.approx(len(speech) / factor, abs=2)
        assert pitch(perturb.change_tempo(speech, RATE, factor)) == pytest.approx(500, rel=0.02)
        assert len(perturb.change_tempo(speech, RATE, factor)) == pytest.approx(len(speech) / factor, abs=2)
    assert len(perturb.change_tempo(speech[:100], RATE, 1.25)) == 80       # shorter than the window


def test_a_filter_gives_each_frequency_its_gain_and_shifts_nothing(perturb: ModuleType) -> None:
    speech = np.random.default_rng(1).normal(size=RATE).astype(np.float32) / 10
    flat = np.zeros(len(perturb.NODES))
    assert np.allclose(perturb.filter_by(speech, RATE, flat), speech, atol=1e-6)
    gains = np.where(np.array(perturb.NODES) == 1000, 6.0, -12.0)
    for hertz, expected in ((1000, 6.0), (300, -12.0), (4000 - 1, -24.0)):
        found = perturb.filter_by(tone(hertz, 1.0), RATE, gains)[1000:-1000]
        gain = 20 * np.log10(perturb.level_of(found) / perturb.level_of(tone(hertz, 1.0)[1000:-1000]))
        assert gain == pytest.approx(expected, abs=0.3)


def test_a_part_of_a_pass_is_over_some_of_the_speakers(perturb: ModuleType) -> None:
    digits = [Utterance(f"0_{speaker}_0", Path("x.wav"), speaker=speaker) for speaker in "abcdefghij"]
    jobs = perturb._jobs(digits, 2.3, Path("audio"), seed=1)
    assert Counter(job.name[-1] for job in jobs) == {"0": 10, "1": 10, "2": 3}
    assert jobs == perturb._jobs(digits, 2.3, Path("audio"), seed=1)
    assert perturb._jobs(digits, 0, Path("audio"), seed=1) == []


def test_noise_is_as_far_below_the_speech_as_asked_and_pink_is_darker_than_white(perturb: ModuleType) -> None:
    speech = tone(500, 2.0)
    dark = {}
    for colour in (0.0, 1.0, 2.0):
        noise = perturb.add_noise(speech, RATE, 10.0, colour, np.random.default_rng(1)) - speech
        assert 20 * np.log10(perturb.level_of(speech) / perturb.level_of(noise)) == pytest.approx(10, abs=0.1)
        power = np.abs(np.fft.rfft(noise)) ** 2
        dark[colour] = power[:len(power) // 4].sum() / power.sum()
    assert 0.2 < dark[0.0] < 0.3 < dark[1.0] < dark[2.0]


def test_an_echo_comes_behind_the_sound_and_dies_away(perturb: ModuleType) -> None:
    click = np.zeros(RATE, dtype=np.float32)
    click[1000] = 1.0
    heard = perturb.reverberate(click, RATE, 0.2, -6.0, np.random.default_rng(1))
    assert len(heard) == len(click)
    assert np.abs(heard[:1000]).max() < 1e-6
    assert np.abs(heard[1000 + RATE // 5 + 1:]).max() < 1e-6
    echo = heard[1001:1001 + RATE // 5]
    assert 10 * np.log10((echo ** 2).sum()) == pytest.approx(-6, abs=0.3)
    early, late = echo[:400], echo[-400:]
    assert perturb.level_of(late) < perturb.level_of(early) / 100


def test_a_tight_cut_takes_the_quiet_from_both_ends_and_nothing_between(perturb: ModuleType) -> None:
    speech = np.concatenate([np.zeros(800), tone(500, 0.2), np.zeros(400), tone(500, 0.2), np.zeros(1600)])
    speech += np.random.default_rng(1).normal(0, 1e-3, len(speech))
    assert len(perturb.tighten(speech, RATE, -30.0)) == pytest.approx(1600 + 400 + 1600, abs=160)
    assert len(perturb.tighten(np.zeros(500, dtype=np.float32), RATE, -30.0)) == 500
    assert len(perturb.tighten(tone(500, 0.005), RATE, -30.0)) == 40        # less than a frame


def test_what_is_recorded_again_fits_into_16_bits(perturb: ModuleType) -> None:
    chance = np.random.default_rng(1)
    peaks = [float(np.abs(perturb.rerecord(tone(500), RATE, chance)).max()) for _ in range(60)]
    assert max(peaks) == 1.0                    # the clipped ones
    assert min(peaks) < 0.05
    assert np.isfinite(perturb.rerecord(np.zeros(800, dtype=np.float32), RATE, chance)).all()


# A model of 16 kHz for 8 kHz -----------------------------------------------------------------------------------------

def test_the_bands_that_are_left_are_the_same_filters(recipe: dict[str, ModuleType]) -> None:
    wide = Features(mels=40)
    small = recipe["narrow"].narrow_features(wide, RATE)
    assert (small.rate, small.mels, small.high) == (8000, 29, 3758.4)
    low, all_bands = Fbank(small).bank, Fbank(wide).bank            # (bins of 31.25 Hz, bands)
    assert torch.allclose(low[:-1], all_bands[:len(low) - 1, :29], atol=1e-3)
    with pytest.raises(AsrError, match="hears 8000 Hz: name a rate below that"):
        recipe["narrow"].narrow_features(small, RATE)
    with pytest.raises(AsrError, match="energy or deltas"):
        recipe["narrow"].narrow_features(Features(deltas=1), RATE)


def test_a_narrowed_model_hears_what_the_wide_one_does_where_the_upper_bands_are_silent(
        tmp_path: Path, recipe: dict[str, ModuleType]) -> None:
    config = parse_config({"encoder": {"width": 8, "pyramid": [2, 1]}, "attention": {"width": 8},
                           "decoder": {"width": 8, "embedding": 4, "output_width": 8}}, "test")
    torch.manual_seed(1)
    network = Recognizer(config, 40, 3).eval()
    normaliser = Normaliser(torch.zeros(40), torch.ones(40))
    save_model(tmp_path / "wide.asr", network, config, PhoneSet(["A", "B"]), normaliser, {"seed": 1})
    done = run("narrow.py", tmp_path / "wide.asr", tmp_path / "narrow.asr")
    assert done.returncode == 0, done.stderr
    assert done.stderr == f"{tmp_path / 'narrow.asr'}: features: {{rate: 8000, mels: 29, high: 3758.4}}\n"
    x = torch.randn(2, 12, 29)
    heard, _ = network.encoder(torch.nn.functional.pad(x, (0, 11)), torch.tensor([12, 9]))
    found, _ = load_model(tmp_path / "narrow.asr").network.encoder(x, torch.tensor([12, 9]))
    assert torch.allclose(heard, found, atol=1e-6)


# The two commands ----------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """FSDD in small: of each speaker every digit once, a tone between two silences."""
    root = tmp_path_factory.mktemp("fsdd")
    (root / "recordings").mkdir()
    for number, speaker in enumerate(("george", "theo", "lucas", "jackson")):
        for digit in range(10):
            speech = np.pad(tone(300 + 100 * number + 10 * digit, 0.2 + digit / 100), 300)
            soundfile.write(root / "recordings" / f"{digit}_{speaker}_0.wav", speech, RATE)
    return root


def test_disturbed_digits_are_of_the_training_speakers_each_as_often_as_asked(tmp_path: Path, corpus: Path) -> None:
    other = tmp_path / "other"
    (other / "recordings").mkdir(parents=True)
    for path in (corpus / "recordings").glob("*_theo_*"):       # what is not FSDD's is all for training
        shutil.copy(path, other / "recordings" / path.name.replace("theo", "en-us+m1"))
    options = (corpus, "--passes", "3", "--synthetic", other, "--synthetic-passes", "2")
    for folder, jobs in (("a", "1"), ("b", "2")):
        done = run("perturb.py", options[0], tmp_path / folder, *options[1:], "-j", jobs)
        assert done.returncode == 0, done.stderr
    rows = read_manifest(tmp_path / "a" / "train.jsonl")
    said = Counter((row.speaker, word) for row in rows for word in row.extra["words"].split())
    assert Counter(said.values()) == {3: 20, 2: 10}
    assert {speaker for speaker, _ in said} == {"lucas", "jackson", "en-us+m1"}
    for row in rows:
        times = row.extra["word_times"]
        assert len(times) == len(row.extra["words"].split())
        assert times[-1][1] == pytest.approx(row.duration, abs=1e-4)
        assert soundfile.info(row.audio).duration == pytest.approx(row.duration, abs=1e-4)
        assert row.audio.read_bytes() == (tmp_path / "b" / "audio" / row.audio.name).read_bytes()


def test_voices_say_ten_digits_in_fsdds_layout_whatever_the_number_of_processes(tmp_path: Path,
                                                                                recipe: dict[str, ModuleType]) -> None:
    pytest.importorskip("espeakng_loader", reason="espeakng-loader (extra 'espeak') is not installed")
    (tmp_path / "voices.tsv").write_text("split\tvoice\ntrain\tm1\ntest\tf3\n")
    table = (RECIPE / "accents.tsv").read_text().splitlines()
    few = [line for line in table if line.split("\t")[0] in ("language", "en", "el")]
    (tmp_path / "accents.tsv").write_text("\n".join(few) + "\n")
    options = ("--voices", tmp_path / "voices.tsv", "--accents", tmp_path / "accents.tsv")
    for folder, jobs in (("a", "1"), ("b", "2"), ("a", "2")):      # the last time over what is there
        done = run("synthesise.py", tmp_path / folder, *options, "-j", jobs)
        assert done.returncode == 0, done.stderr
    rows = recipe["prepare"].recordings(tmp_path / "a")
    assert Counter(row.speaker for row in rows) == {"en+m1": 20, "en+f3": 20, "el+m1": 10, "el+f3": 10}
    assert all(0.1 < row.duration < 1.2 for row in rows)
    for row in rows:
        assert row.audio.read_bytes() == (tmp_path / "b" / "recordings" / row.audio.name).read_bytes()
        samples, rate = soundfile.read(row.audio)
        assert rate == RATE
        loud = np.flatnonzero(np.abs(samples) > 0.02 * np.abs(samples).max())
        assert loud[0] < 0.12 * rate
        assert len(samples) - loud[-1] < 0.12 * rate


def test_every_accent_is_one_that_espeak_has_and_spells_ten_digits(recipe: dict[str, ModuleType]) -> None:
    pytest.importorskip("espeakng_loader", reason="espeakng-loader (extra 'espeak') is not installed")
    accents = recipe["synthesise"].read_accents()
    synthesiser = recipe["espeak"].Synthesiser()
    for accent in accents:
        synthesiser.voice(accent.language, "m1")
        counts = [len(synthesiser.say(word).phones) for word in accent.spellings]
        assert all(1 <= count <= 7 for count in counts), (accent.language, counts)     # letters spelt out are more


def test_folders_and_tables_of_others_are_refused(tmp_path: Path, recipe: dict[str, ModuleType], corpus: Path) -> None:
    pytest.importorskip("espeakng_loader", reason="espeakng-loader (extra 'espeak') is not installed")
    done = run("synthesise.py", corpus)
    assert done.returncode == 1
    assert done.stderr == (f"prepare: {corpus}: holds recordings that this recipe did not make: give it a folder of "
                           "its own\n")
    table = tmp_path / "accents.tsv"
    table.write_text("# a table\nlanguage\ttakes\tzero\nde\t1\tnull\n")
    with pytest.raises(AsrError, match=r"accents\.tsv:3: expected a language, a number of takes and ten spellings"):
        recipe["synthesise"].read_accents(table)
    with pytest.raises(AsrError, match=r"none\.tsv: cannot be read"):
        recipe["synthesise"].read_accents(tmp_path / "none.tsv")
    with pytest.raises(AsrError, match="no FSDD here"):
        recipe["prepare"].recordings(tmp_path)
