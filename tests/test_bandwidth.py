"""Narrow-band audio is warned of once a recording, and only where the model was trained on more."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from command import asr

from asr import bandwidth
from asr.bandwidth import Bandwidth, audio_rate
from asr.config import Config
from asr.corpus.phones import PhoneSet
from asr.corpus.records import Utterance
from asr.frontend.fbank import Normaliser
from asr.model.file import load_header, save_model
from asr.model.recognizer import Recognizer

WARNING = ("asr: {}: at 8 kHz it holds nothing above 4 kHz, and the model was trained on sound up to 8 kHz: expect "
           "many more errors\n")


@pytest.fixture
def make(tmp_path: Path, tiny_network: Callable[..., Recognizer], tiny_config: Callable[..., Config]
         ) -> Callable[..., Path]:
    """`make("features.rate=8000", audio_rate=8000)`: a model file."""
    def model(*overrides: str, **provenance: int) -> Path:
        path = tmp_path / "m.asr"
        save_model(path, tiny_network(*overrides), tiny_config(*overrides), PhoneSet(["a", "b", "c", "sil"]),
                   Normaliser(torch.zeros(8), torch.ones(8)), provenance)
        return path
    return model


def sound(path: Path, rate: int, seconds: float = 0.5) -> Path:
    noise = np.random.default_rng(rate).standard_normal(int(rate * seconds))
    soundfile.write(path, 0.1 * noise, rate)
    return path


def test_once_a_recording(make: Callable[..., Path], tmp_path: Path) -> None:
    model = make()
    narrow, long = sound(tmp_path / "n.wav", 8000), sound(tmp_path / "l.wav", 8000, 1.5)
    wide = sound(tmp_path / "w.wav", 16000)
    rows = tmp_path / "m.jsonl"
    rows.write_text("".join(f'{{"id": "{i}", "audio_filepath": "n.wav", "offset": 0.{i}, "duration": 0.2}}\n'
                            for i in range(3)))
    for inputs, warned in [([wide], []), ([wide, narrow], [narrow]), ([long], [long]), ([rows], [narrow])]:
        done = asr("decode", model, *inputs, "-o", "decode.long.after=1.0", "-f", "txt")
        assert done.code == 0
        assert [line for line in done.err.splitlines(keepends=True) if "kHz" in line] == [
            WARNING.format(path) for path in warned]


def test_what_is_piped(make: Callable[..., Path], tmp_path: Path) -> None:
    done = asr("decode", make(), "-", stdin=sound(tmp_path / "n.wav", 8000).read_bytes())
    assert done.err.startswith(WARNING.format("standard input"))
    assert done.code == 0


def test_what_the_model_was_trained_to_hear(make: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    def warned(model: Path, rate: int) -> bool:
        Bandwidth(load_header(model)).notice(Path("x.wav"), rate)
        return "expect many more errors" in capsys.readouterr().err
    assert [warned(make(), rate) for rate in (8000, 11025, 15000, 15500, 16000, 48000)] == [True] * 3 + [False] * 3
    assert not warned(make("features.rate=8000"), 8000)
    assert not warned(make("features.high=3800.0"), 8000)
    assert not warned(make(audio_rate=8000), 8000)              # the features' rate is more than it ever heard
    assert warned(make("features.rate=24000", audio_rate=16000), 8000)
    assert not warned(make("features.rate=24000", audio_rate=16000), 16000)


def test_many_are_counted(make: Callable[..., Path], monkeypatch: pytest.MonkeyPatch,
                          capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(bandwidth, "NAMED", 2)
    found = Bandwidth(load_header(make()))
    for number in (1, 2, 3, 3, 4, 1):
        found.notice(Path(f"{number}.wav"), 8000)
    found.close()
    assert capsys.readouterr().err == WARNING.format("1.wav") + WARNING.format("2.wav") + (
        "asr: and 2 more recordings of too low a sample rate\n")


def test_the_rate_of_a_training_set(tmp_path: Path) -> None:
    paths = {rate: sound(tmp_path / f"{rate}.wav", rate, 0.1) for rate in (8000, 16000, 44100)}
    def rows(*counts: tuple[int, int]) -> list[Utterance]:
        return [Utterance(f"{rate}-{i}", paths[rate]) for rate, count in counts for i in range(count)]
    assert audio_rate(rows((16000, 5))) == 16000
    assert audio_rate(rows((44100, 15), (16000, 5))) == 16000
    assert audio_rate(rows((16000, 95), (8000, 5))) == 16000    # a slip, not what the model knows
    assert audio_rate(rows((16000, 850), (8000, 150))) == 8000
    assert audio_rate([Utterance("x", tmp_path / "no.wav")]) is None


def test_a_run_notes_it(tmp_path: Path, manifest: Callable[..., Path], tiny_config: Callable[..., Config]) -> None:
    from asr.train import train
    config = tiny_config("train.epochs=1", "train.plots=0", "train.average=0", "times.width=0")
    train(config, manifest("train", 4), manifest("dev", 2), tmp_path / "run", device="cpu")
    assert load_header(tmp_path / "run" / "model.asr").provenance["audio_rate"] == 16000
