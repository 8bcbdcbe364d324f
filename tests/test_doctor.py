"""`asr doctor`: every illness is found, named, and left out of what --fix writes."""

from __future__ import annotations

import hashlib
import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import soundfile
from safetensors.numpy import save_file

from asr.cli import main
from asr.config import Config, override_config
from asr.corpus.records import Utterance, read_manifest, write_manifest
from asr.doctor import Diagnosis, examine
from asr.errors import AsrError
from asr.frontend.soundness import clipped_share, listen
from asr.machine import Finding, examine_machine, torch_pair

RATE = 16000


def noise(seconds: float = 1.0, level: float = 0.1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, level, int(seconds * RATE)).clip(-0.9, 0.9)


def row(folder: Path, name: str, samples: np.ndarray | None = None, phones: str = "a b c d",
        **extra: object) -> Utterance:
    """An utterance whose recording is written; noise of its own unless samples are given."""
    samples = noise(seed=zlib.crc32(name.encode())) if samples is None else samples
    soundfile.write(folder / f"{name}.wav", samples, RATE, subtype="PCM_16")
    return Utterance(name, folder / f"{name}.wav", phones=tuple(phones.split()), **extra)     # type: ignore[arg-type]


def data_findings(diagnosis: Diagnosis) -> list[tuple[str, str, str, int, str]]:
    """What was found in the data, good news aside."""
    return [(f.level, f.check, f.where, f.count, f.detail) for f in diagnosis.findings
            if f.where != "machine" and f.level in ("error", "warning")]


def diagnose(tmp_path: Path, *splits: list[Utterance], **options: object) -> Diagnosis:
    paths = [tmp_path / f"{name}.jsonl" for name in ("train", "dev", "test")[:len(splits)]]
    for path, rows in zip(paths, splits, strict=True):
        write_manifest(path, rows)
    return examine(paths, **options)    # type: ignore[arg-type]


def test_sound_data_are_called_sound(tmp_path: Path) -> None:
    diagnosis = diagnose(tmp_path, [row(tmp_path, "u1", speaker="ann"), row(tmp_path, "u2", speaker="bob")],
                         [row(tmp_path, "u3", speaker="eve", duration=1.0)])
    assert data_findings(diagnosis) == []
    assert diagnosis.good
    assert diagnosis.table().splitlines()[-3:] == [
        "ok     audio                 train.jsonl     2  0.001 h; 16,000 Hz; 1 channel",
        "ok     audio                 dev.jsonl       1  0.000 h; 16,000 Hz; 1 channel",
        "0 errors, 0 warnings"]


@pytest.mark.parametrize(("samples", "level", "check", "detail"), [
    (np.zeros(RATE), "error", "silent audio", "u: peak 0 of full scale"),
    (noise(level=0.001), "warning", "quiet audio", "u: 60 dB below full scale"),
    (np.concatenate([noise(0.75), np.resize([1] * 4 + [-1] * 4, RATE // 4)]), "warning", "clipped audio",
     "u: 25.0 % of the samples at full scale"),
    (noise(level=0.05) + 0.3, "warning", "DC shift", "u: mean +0.300 of full scale"),
])
def test_audio_that_sounds_wrong(tmp_path: Path, samples: np.ndarray, level: str, check: str, detail: str) -> None:
    assert data_findings(diagnose(tmp_path, [row(tmp_path, "u", samples)])) == [
        (level, check, "train.jsonl", 1, detail)]


def test_clipping_is_runs_at_full_scale_not_single_peaks() -> None:
    x = np.zeros(1000)
    x[[1, 5, 9, 20, 21]] = 1.0
    assert clipped_share(x) == 0
    x[100:103] = -1.0
    x[200:207] = 1.0
    assert clipped_share(x) == 0.01


def test_listen_measures_the_stretch_of_the_utterance(tmp_path: Path) -> None:
    samples = np.concatenate([np.zeros(RATE), noise(level=0.1)])
    sound = listen(Utterance("u", row(tmp_path, "u", samples).audio, offset=1.0, duration=0.5))
    assert (sound.seconds, sound.recording, sound.channels, sound.rate) == (0.5, 2.0, 1, RATE)
    assert sound.rms == pytest.approx(0.1, rel=0.05)
    assert sound.digest != listen(Utterance("u", tmp_path / "u.wav")).digest


def test_audio_that_cannot_be_read(tmp_path: Path) -> None:
    good = row(tmp_path, "good")
    (tmp_path / "broken.wav").write_bytes((tmp_path / "good.wav").read_bytes()[:30])
    rows = [good, Utterance("gone", tmp_path / "gone.wav", phones=("a",)),
            Utterance("broken", tmp_path / "broken.wav", phones=("a",)),
            Utterance("beyond", good.audio, offset=0.5, duration=3.0, phones=("a", "b"))]
    ((level, check, _, count, detail),) = data_findings(diagnose(tmp_path, rows))
    assert (level, check, count) == ("error", "bad audio", 3)
    assert "gone.wav" in detail
    assert "broken.wav" in detail


def test_mixed_rates_and_channels_are_noted(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(seed=1), 8000)
    soundfile.write(tmp_path / "b.wav", np.stack([noise(seed=2), noise(seed=3)], axis=1), RATE)
    diagnosis = diagnose(tmp_path, [Utterance(name, tmp_path / f"{name}.wav", phones=("a", "b", "c")) for name in "ab"])
    (note,) = [f for f in diagnosis.findings if f.check == "audio"]
    assert (note.level, note.detail) == ("note", "0.001 h; 8,000 (1), 16,000 (1) Hz; 1 (1), 2 (1) channels")


def test_a_duration_that_misses_the_recording(tmp_path: Path) -> None:
    whole, shared = row(tmp_path, "whole", duration=0.5), row(tmp_path, "shared", duration=0.5)
    rest = Utterance("rest", shared.audio, offset=0.5, duration=0.5, phones=("a", "b"))
    assert data_findings(diagnose(tmp_path, [whole, shared, rest])) == [
        ("warning", "duration", "train.jsonl", 1, "whole: 0.5 s of a recording of 1 s")]


def test_transcripts_that_do_not_fit(tmp_path: Path) -> None:
    rows = [row(tmp_path, "slow", phones="a", samples=noise(2, seed=1)), row(tmp_path, "fast", phones="a b " * 14),
            row(tmp_path, "long", phones="a b " * 20), row(tmp_path, "twins", phones="a " * 16),
            row(tmp_path, "empty", phones=""), Utterance("none", row(tmp_path, "none").audio)]
    # One second is 98 frames, and 25 after the pyramid; a phone twice in a row needs a blank between for CTC.
    assert data_findings(diagnose(tmp_path, rows)) == [
        ("warning", "phones a second", "train.jsonl", 3, "slow: 0.5; fast: 28.0; long: 40.0"),
        ("error", "transcript too long", "train.jsonl", 3, "fast: 28 phones for 25 encoder frames; "
         "long: 40 phones for 25 encoder frames; twins: 16 phones for 25 encoder frames"),
        ("warning", "empty transcript", "train.jsonl", 1, "empty"),
        ("warning", "no transcript", "train.jsonl", 1, "none")]
    fine = override_config(Config(), ["encoder.pyramid=[1, 2]"])
    assert "transcript too long" not in {f[1] for f in data_findings(diagnose(tmp_path, rows, config=fine))}


def test_what_the_splits_share_goes_out_of_the_earlier_one(tmp_path: Path) -> None:
    common = noise(seed=42)
    train = [row(tmp_path, "u1", speaker="ann"), row(tmp_path, "u2", common, speaker="bob"), row(tmp_path, "u3")]
    test = [row(tmp_path, "u4", speaker="ann"), row(tmp_path, "u5", common, speaker="eve"),
            Utterance("u3", row(tmp_path, "u6").audio, phones=("a", "b"))]
    assert data_findings(diagnose(tmp_path, train, test, fix=tmp_path / "fixed")) == [
        ("error", "speaker in dev.jsonl too", "train.jsonl", 1, "u1: ann"),
        ("error", "audio in dev.jsonl too", "train.jsonl", 1, "u2: as u5"),
        ("error", "id in dev.jsonl too", "train.jsonl", 1, "u3")]
    with pytest.raises(AsrError, match="holds no utterance"):
        read_manifest(tmp_path / "fixed" / "train.jsonl")
    assert read_manifest(tmp_path / "fixed" / "dev.jsonl") == test


def test_doubles_in_one_manifest(tmp_path: Path) -> None:
    same, other = noise(seed=1), noise(seed=2)
    rows = [row(tmp_path, "u1", same), row(tmp_path, "u2", same), row(tmp_path, "u3", other),
            row(tmp_path, "u4", other, phones="a b c x")]
    assert data_findings(diagnose(tmp_path, rows)) == [
        ("warning", "same audio twice", "train.jsonl", 1, "u2: as u1"),
        ("error", "same audio, other phones", "train.jsonl", 2, "u3: as u4; u4: as u3")]


def test_sa_sentences_unseen_phones_and_long_lists(tmp_path: Path) -> None:
    train = [row(tmp_path, f"fcjf0_sa{n}") for n in (1, 2)] + [row(tmp_path, f"m{n}-SA1") for n in range(3)]
    test = [row(tmp_path, "sa3", phones="a x y x"), row(tmp_path, "visa1")]
    assert data_findings(diagnose(tmp_path, train, test)) == [
        ("error", "SA sentence", "train.jsonl", 5, "fcjf0_sa1; fcjf0_sa2; m0-SA1 …"),
        ("warning", "unseen phones", "dev.jsonl", 0, "2 of 6 kinds, 37.5 % of all, are not in train.jsonl: x y")]


def test_bad_rows_are_named_by_line_and_the_others_examined(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    write_manifest(path, [row(tmp_path, "good"), row(tmp_path, "good2")])
    text = path.read_text()
    path.write_text(text + '{"id": "x"}\n' + text.splitlines()[0] + "\n{\n")
    diagnosis = examine([path], fix=tmp_path / "fixed")
    assert [(f[1], f[3]) for f in data_findings(diagnosis)] == [
        ("bad row", 2), ("id used twice", 1), ("same audio twice", 1)]
    assert [u.id for u in read_manifest(tmp_path / "fixed" / "m.jsonl")] == ["good", "good2"]
    lines = (tmp_path / "fixed" / "left-out.tsv").read_text().splitlines()
    assert lines[0] == "manifest\tline\tid\treason"
    assert lines[1].startswith("m.jsonl\t3\tline 3\tbad row: 3: the row has no 'audio_filepath'")
    assert lines[2] == "m.jsonl\t4\tgood\tid used twice: in line 1 already"
    assert lines[3].startswith("m.jsonl\t5\tline 5\tbad row: 5: not JSON")
    assert len(lines) == 4


def test_fix_writes_what_the_doctor_calls_sound(tmp_path: Path) -> None:
    diagnose(tmp_path, [row(tmp_path, "u1"), row(tmp_path, "u2", np.zeros(RATE)), row(tmp_path, "u3_sa1")],
             [row(tmp_path, "u4")], fix=tmp_path / "fixed")
    again = examine([tmp_path / "fixed" / "train.jsonl", tmp_path / "fixed" / "dev.jsonl"])
    assert data_findings(again) == []
    assert again.good


def test_phones_that_the_model_does_not_know(tmp_path: Path) -> None:
    save_file({"none": np.zeros(1, np.float32)}, tmp_path / "m.asr", {
        "format": "asr-1", "phones": json.dumps(["a", "b"]), "provenance": "{}",
        "config": json.dumps(override_config(Config(), ["encoder.pyramid=[1]"]).model_dump()),
        "sha256": hashlib.sha256(b"").hexdigest()})
    rows = [row(tmp_path, "u1", phones="a b a b"), row(tmp_path, "u2", phones="a x"),
            row(tmp_path, "u3", phones="a b " * 20)]
    assert data_findings(diagnose(tmp_path, rows, model=tmp_path / "m.asr")) == [
        ("error", "phone unknown to the model", "train.jsonl", 1, "u2: x"),
        ("warning", "phones a second", "train.jsonl", 1, "u3: 40.0")]


def test_manifests_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    diagnosis = examine([tmp_path / "empty.jsonl", tmp_path / "gone.jsonl"])
    assert [(f[1], f[2]) for f in data_findings(diagnosis)] == [("manifest", "empty.jsonl"), ("manifest", "gone.jsonl")]
    with pytest.raises(AsrError, match=r"m\.jsonl: two manifests have this name"):
        examine([tmp_path / "a" / "m.jsonl", tmp_path / "b" / "m.jsonl"])


def test_the_machine_is_fit_and_a_bad_pair_is_not() -> None:
    checks = {finding.check: finding for finding in examine_machine()}
    assert list(checks) == ["Python", "torch and torchaudio", "CUDA", "memory", "disk", "extras"]
    assert checks["torch and torchaudio"].level == "ok"
    assert torch_pair("2.11.0+cu128", "2.11.0").level == "ok"
    assert torch_pair("2.12.0", "2.11.0") == Finding(
        "error", "torch and torchaudio", "machine", 0, "2.12.0 and 2.11.0: torchaudio works beside its own torch "
        "alone: install the pair that pyproject.toml names")
    assert "libcudart is missing: install" in torch_pair("2.11.0", "2.11.0", "libcudart is missing").detail


def test_the_command_exits_with_1_on_errors_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_manifest(tmp_path / "good.jsonl", [row(tmp_path, "u1"), row(tmp_path, "u2", phones="a")])
    write_manifest(tmp_path / "bad.jsonl", [row(tmp_path, "u3", np.zeros(RATE))])
    for arguments, code in (["good.jsonl"], 0), (["good.jsonl", "bad.jsonl", "--fix", str(tmp_path / "out")], 1):
        with pytest.raises(SystemExit) as stop:
            main(["doctor", *(str(tmp_path / name) if name.endswith("l") else name for name in arguments)])
        assert int(stop.value.code or 0) == code
    printed = capsys.readouterr()
    assert printed.out.splitlines()[-1] == "1 error, 0 warnings"
    assert printed.err == (f"2 of 3 rows kept in {tmp_path / 'out'}; the reasons for the others are in "
                           f"{tmp_path / 'out' / 'left-out.tsv'}\n")
    with pytest.raises(SystemExit) as stop:
        main(["doctor", str(tmp_path / "good.jsonl"), "-o", "encoder.pyramit=[1]"])
    assert stop.value.code == 2
    assert "did you mean 'encoder.pyramid'?" in capsys.readouterr().err
