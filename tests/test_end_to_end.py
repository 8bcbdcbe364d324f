"""The whole line through its real commands: sounds, a store, a model that has learnt something, phones, a score."""

from __future__ import annotations

import json
import random
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from command import Done, asr

PITCH = {"a": 300, "e": 800, "i": 1800, "o": 3600}          # Hz
CONFIG = """\
features: {mels: 16}
encoder: {width: 24, pyramid: [1, 2], dropout: 0.0}
attention: {width: 16, filters: 4, taps: 9}
decoder: {width: 24, embedding: 8, output_width: 24, dropout: 0.0}
train: {epochs: 10, batch_frames: 200, lr: 0.01, warmup: 20, ctc_weight: 0.5, label_smoothing: 0.05, plots: 0,
        precision: float32}
decode: {beam: 4}
"""


def write_corpus(folder: Path, name: str, count: int, seed: int) -> Path:
    """Utterances of two to four different phones, each a swelling tone of its own pitch, in a little noise."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        phones = [str(p) for p in rng.permutation(list(PITCH))[:rng.integers(2, 5)]]
        tones = [np.hanning(n) * np.sin(2 * np.pi * PITCH[phone] * np.arange(n) / 16000)
                 for phone, n in zip(phones, rng.integers(1300, 1900, len(phones)), strict=True)]
        sound = 0.3 * np.concatenate(tones)
        file = f"{name}-{number:02d}.wav"
        soundfile.write(folder / file, sound + 0.005 * rng.standard_normal(len(sound)), 16000)
        rows.append({"id": f"{name}-{number:02d}", "audio_filepath": file, "text": " ".join(phones),
                     "speaker": f"s{number % 3}"})
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


class Line:
    """A folder in which prep and train have run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.train, self.dev = write_corpus(folder, "train", 80, 0), write_corpus(folder, "dev", 16, 1)
        self.config, self.run, self.model = folder / "c.yaml", folder / "run", folder / "run" / "model.asr"
        self.config.write_text(CONFIG)
        for name in ("train", "dev"):
            done = asr("prep", folder / f"{name}.jsonl", folder / name, "--config", self.config, "-j", 1)
            assert done.code == 0, done.err
        self.trained = self.training(self.folder / "train", self.run)
        assert self.trained.code == 0, self.trained.err

    def training(self, source: Path, run: Path, *more: object) -> Done:
        return asr("train", "--config", self.config, "--train", source, "--dev", self.folder / "dev", "--run", run,
                   "--device", "cpu", *more)

    def log(self, run: str = "run", event: str = "epoch") -> list[dict[str, Any]]:
        lines = map(json.loads, (self.folder / run / "log.jsonl").read_text().splitlines())
        return [line for line in lines if line["event"] == event]

    def decode(self, *arguments: object, stdin: bytes = b"") -> list[dict[str, Any]]:
        done = asr("decode", self.model, *arguments, "--device", "cpu", stdin=stdin)
        assert done.code == 0, done.err
        return [json.loads(line) for line in done.out.splitlines()]


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Line:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "torch.utils.tensorboard", None)     # slow to import, and nothing of ours
        return Line(tmp_path_factory.mktemp("line"))


def references(line: Line) -> dict[str, str]:
    return {row["id"]: row["text"] for row in map(json.loads, line.dev.read_text().splitlines())}


def test_it_learns_to_tell_four_tones_apart(line: Line) -> None:
    figures = line.log(event="done")[-1]
    assert figures["per"] < 20
    assert line.log()[0]["per"] > figures["per"]
    assert line.trained.err.splitlines()[-1] == f"best dev PER {figures['per']:.2f} %: {line.model}"


def test_the_score_is_the_one_that_training_saw(line: Line) -> None:
    """Greedy, without the fallback: as the dev set was measured."""
    hypotheses = line.folder / "greedy.jsonl"
    done = asr("decode", line.model, line.dev, "--out", hypotheses, "--device", "cpu", "-o", "decode.beam=1",
               "-o", "decode.fallback=false")
    assert (done.code, done.out) == (0, "")
    scored = asr("score", line.dev, hypotheses)
    assert scored.code == 0, scored.err
    per = next(text for text in scored.out.splitlines() if text.startswith("%PER"))
    assert float(per.split()[1]) == pytest.approx(line.log(event="done")[-1]["per"], abs=0.06)


def test_decode_and_score_through_a_pipe(line: Line) -> None:
    hypotheses = asr("decode", line.model, line.dev, "--device", "cpu").out
    piped = asr("score", line.dev, "-", stdin=hypotheses.encode())
    assert piped.code == 0
    assert "protocol plain: " in piped.out
    words = next(text for text in piped.out.splitlines() if text.startswith("%PER")).split()
    assert float(words[1]) < 20
    assert words[5] == str(sum(len(text.split()) for text in references(line).values())) + ","


def test_manifest_store_folder_files_and_standard_input_say_the_same(line: Line) -> None:
    """The store's features are rounded to float16, so that scores may differ a little, phones hardly ever."""
    folder = line.folder / "wavs"
    folder.mkdir()
    for number in range(4):
        shutil.copy(line.folder / f"dev-{number:02d}.wav", folder)
    from_manifest = {row["id"]: row for row in line.decode(line.dev)}
    from_store = {row["id"]: row for row in line.decode(line.folder / "dev")}
    assert list(from_store) == list(from_manifest) == list(references(line))
    assert sum(from_store[id]["text"] != row["text"] for id, row in from_manifest.items()) <= 1
    from_folder = {row["id"]: row for row in line.decode(folder)}
    assert list(from_folder) == [f"dev-{number:02d}" for number in range(4)]
    from_files = {row["id"]: row for row in line.decode(folder / "dev-02.wav", folder / "dev-01.wav")}
    assert list(from_files) == ["dev-02", "dev-01"]
    for rows in (from_folder, from_files):
        for id, row in rows.items():
            assert row["text"] == from_manifest[id]["text"]
            assert row["score"] == pytest.approx(from_manifest[id]["score"], abs=1e-3)
    heard, = line.decode("-", stdin=(folder / "dev-01.wav").read_bytes())
    assert (heard["id"], heard["text"]) == ("stdin", from_manifest["dev-01"]["text"])


def test_a_hypothesis_does_not_depend_on_its_neighbours(line: Line) -> None:
    """Batches of 1, 8 and 32 in any order: the same phones exactly, scores to 1e-4."""
    def rows(size: int, paths: list[Path]) -> dict[str, dict[str, Any]]:
        return {row["id"]: row for row in line.decode(*paths, "-o", f"decode.batch_size={size}")}
    paths = [line.folder / f"dev-{number:02d}.wav" for number in range(16)]
    wanted = rows(1, paths)
    assert len({row["text"] for row in wanted.values()}) > 8
    shuffled = random.Random(0).sample(paths, 16)
    for found in (rows(8, paths), rows(32, paths), rows(8, shuffled)):
        assert {id: row["text"] for id, row in found.items()} == {id: row["text"] for id, row in wanted.items()}
        for id, row in found.items():
            assert row["score"] == pytest.approx(wanted[id]["score"], abs=1e-4)


def test_a_long_recording_does_not_depend_on_how_many_spans_are_searched_together(line: Line) -> None:
    """Nor do its times: with one span at a time, evidence of them was let go before its phones had settled."""
    path = line.folder / "long.wav"
    soundfile.write(path, np.concatenate([soundfile.read(line.folder / f"train-{n:02d}.wav")[0] for n in range(50)]),
                    16000)
    spans = [f"decode.long.{key}" for key in ("after=1", "span=1.0", "overlap=0.25", "block=0.5", "margin=0.2")]
    def row(batch: int) -> dict[str, Any]:
        return line.decode(path, *(word for key in [*spans, f"decode.long.batch={batch}"] for word in ("-o", key)))[0]
    wanted = row(8)
    assert wanted["text"].count(" ") > 100
    for batch in (1, 3, 32):
        found = row(batch)
        assert found["text"] == wanted["text"]
        assert found["score"] == pytest.approx(wanted["score"], abs=1e-4)
        for one, other in zip(found["phones"], wanted["phones"], strict=True):
            assert (one["start"], one["end"]) == pytest.approx((other["start"], other["end"]), abs=1e-3)


def test_hypotheses_have_times_and_n_best(line: Line) -> None:
    for row in line.decode(line.dev, "-o", "decode.nbest=3"):
        assert row["text"] == " ".join(phone["phone"] for phone in row["phones"])
        edges = [time for phone in row["phones"] for time in (phone["start"], phone["end"])]
        assert edges == sorted(edges)
        assert edges[0] >= 0
        assert edges[-1] <= row["duration"] + 1e-3
        scores = [best["score"] for best in row["nbest"]]
        assert len(scores) == 3
        assert scores == sorted(scores, reverse=True)
        assert row["nbest"][0]["text"] == row["text"]


def test_python_says_what_the_command_says(line: Line) -> None:
    import asr as package
    found = package.load(line.model, device="cpu").transcribe(line.folder / "dev-03.wav")
    row, = line.decode(line.folder / "dev-03.wav")
    assert (found.id, found.text) == (row["id"], row["text"])
    assert found.score == pytest.approx(row["score"], abs=1e-4)


def test_a_finished_run_is_left_alone(line: Line) -> None:
    def files() -> dict[str, bytes]:
        return {str(p.relative_to(line.run)): p.read_bytes() for p in line.run.rglob("*") if p.is_file()}
    before = files()
    done = line.training(line.folder / "train", line.run, "--resume")
    best = min(entry["per"] for entry in line.log())
    assert (done.code, done.out, done.err) == (0, "", f"{line.run}: finished already, dev PER {best:.2f} %\n")
    assert files() == before


def test_a_manifest_trains_like_its_store(line: Line) -> None:
    """Features on the fly are not rounded to float16: the first epoch's loss is the same to a hundredth."""
    run = line.folder / "fly"
    done = line.training(line.train, run, "-o", "train.epochs=1", "-o", "train.schedule=constant", "-o",
                         "train.average=0")
    assert done.code == 0, done.err
    stored = line.training(line.folder / "train", line.folder / "stored", "-o", "train.epochs=1", "-o",
                           "train.schedule=constant", "-o", "train.average=0")
    assert stored.code == 0, stored.err
    (fly,), (store,) = line.log("fly"), line.log("stored")
    assert fly["loss"] == pytest.approx(store["loss"], rel=0.01)
    assert abs(fly["per"] - store["per"]) < 15
