"""`asr align` and the times of `asr decode`, end to end with a tiny model."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from asr.align import Aligner
from asr.cli import main
from asr.config import Config
from asr.corpus.labels import Segments
from asr.corpus.phones import PhoneSet
from asr.corpus.records import Hypothesis, Utterance, read_hypotheses, read_manifest
from asr.corpus.textgrid import read_textgrid
from asr.errors import AsrError
from asr.frontend.fbank import Normaliser
from asr.frontend.store import OnTheFly
from asr.model.file import load_model, save_model
from asr.model.frames import FrameClassifier
from asr.transcriber import Tally, Transcriber

PHONES = PhoneSet(["a", "b", "c"])


@pytest.fixture
def model_file(tmp_path: Path, tiny_network: Callable[..., Any], tiny_config: Callable[..., Config]) -> Path:
    """A tiny model with random weights; with `gain`, its classifier has opinions."""
    config = tiny_config("times.width=6")
    network = tiny_network(phones=4, gain=2.0)
    torch.manual_seed(2)
    classifier = FrameClassifier(config.times, 8, network.encoder.width, network.encoder.stride, 4)
    with torch.no_grad():
        for weights in classifier.parameters():
            weights.mul_(3)
    path = tmp_path / "m.asr"
    save_model(path, network, config, PHONES, Normaliser(torch.full((8,), -8.0), torch.full((8,), 4.0)), {},
               classifier=classifier)
    return path


def run(*arguments: object, expect: int = 0) -> None:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    assert stop.value.code == expect


def tiles(hypothesis: Hypothesis, seconds: float) -> bool:
    borders = [(p.start, p.end) for p in hypothesis.phones]
    return (borders[0][0], borders[-1][1]) == (0.0, pytest.approx(seconds)) and all(
        start <= end and end == following for (start, end), (following, _) in itertools.pairwise(borders))


@pytest.mark.parametrize("method", ["auto", "frames", "ctc", "attention"])
def test_phones_tile_each_utterance_and_are_the_transcripts(model_file: Path, manifest: Callable[..., Path],
                                                            tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                                            method: str) -> None:
    path, out = manifest("test", 4), tmp_path / "out.jsonl"
    run("align", model_file, path, "--method", method, "--out", out, "--device", "cpu")
    found = read_hypotheses(out)
    for utterance, hypothesis in zip(read_manifest(path), found, strict=True):
        assert (hypothesis.id, tuple(p.phone for p in hypothesis.phones)) == (utterance.id, utterance.phones)
        assert tiles(hypothesis, 0.1 * len(hypothesis.phones) - 0.005)    # of whole frames
        assert all(0 <= p.confidence <= 1 for p in hypothesis.phones)
        assert hypothesis.health == {"times": "frames" if method == "auto" else method}
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"4 utterance(s), 1.1 s of speech aligned by {found[0].health['times']} in ")


def test_grids_are_read_back_and_the_scorer_takes_what_is_printed(
        model_file: Path, manifest: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = manifest("test", 2, phone_times=[[0.0, 0.1], [0.1, 0.2]])
    rows = path.read_text().splitlines()
    path.write_text(rows[0] + "\n")                         # two phones, two times
    run("align", model_file, path, "-f", "textgrid", "-f", "ctm", "--out", tmp_path / "grids")
    segments = read_textgrid(tmp_path / "grids" / "test-0.TextGrid")
    run("align", model_file, path)
    printed = capsys.readouterr().out
    row = json.loads(printed)
    assert segments.phones == tuple(row["text"].split())
    assert segments.times == tuple((p["start"], p["end"]) for p in row["phones"])
    assert len((tmp_path / "grids" / "hypotheses.ctm").read_text().splitlines()) == 2
    (tmp_path / "hyp.jsonl").write_text(printed)
    run("score", path, tmp_path / "hyp.jsonl", "--boundaries")
    assert "boundaries: 1 of 1 phone starts measured, those of phones recognised rightly" in capsys.readouterr().out


def test_words_have_a_tier_where_the_manifest_tells_their_times_or_their_phones(
        model_file: Path, manifest: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = manifest("test", 5), tmp_path / "out"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    many = len(rows[0]["text"].split())
    for row, known in zip(rows, ({"words": "one two", "word_times": [[0.01, 0.05], [0.05, 0.1]]},
                                 {"words": "one two", "word_phones": [1, len(rows[1]["text"].split()) - 1]},
                                 {"words": "one two"}, {}, {"words": "one two", "word_phones": [many + 9, 1]}),
                          strict=True):
        row.update(known)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run("align", model_file, path, "-f", "textgrid", "-f", "jsonl", "--out", out, expect=1)
    assert "asr: test-4: its row: 'word_phones' are no numbers of phones that make up its " in capsys.readouterr().err
    found = {hypothesis.id: hypothesis for hypothesis in read_hypotheses(out / "hypotheses.jsonl")}
    assert list(found) == ["test-0", "test-1", "test-2", "test-3"]
    phones = found["test-1"].phones
    by_phones = [[phones[0].start, phones[0].end], [phones[1].start, phones[-1].end]]
    assert [found[f"test-{n}"].extra.get("word_times") for n in range(4)] == [
        [[0.01, 0.05], [0.05, 0.1]], by_phones, None, None]
    for n, times in ((0, ((0.01, 0.05), (0.05, 0.1))), (1, tuple(map(tuple, by_phones)))):
        assert read_textgrid(out / f"test-{n}.TextGrid", "words") == Segments(("one", "two"), times)
    for n in (2, 3):        # said, but when is not known
        with pytest.raises(AsrError, match="its interval tiers are 'phones'"):
            read_textgrid(out / f"test-{n}.TextGrid", "words")


def test_what_is_recognised_has_no_words(model_file: Path, manifest: Callable[..., Path], tmp_path: Path) -> None:
    path = manifest("test", 1, words="one", word_times=[[0.0, 0.1]])
    run("decode", model_file, path, "-f", "textgrid", "--out", tmp_path)
    assert '"words"' not in (tmp_path / "test-0.TextGrid").read_text()


def test_what_cannot_be_aligned_is_named_and_the_rest_is_done(
        model_file: Path, manifest: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = manifest("test", 4)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[0]["text"] = "a x"
    rows[1]["text"] = " ".join(["a"] * 40)
    del rows[2]["text"]
    rows.append({"id": "gone", "audio_filepath": "gone.wav", "text": "a"})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run("align", model_file, path, "--out", tmp_path / "out.jsonl", expect=1)
    assert [found.id for found in read_hypotheses(tmp_path / "out.jsonl")] == ["test-3"]
    told = {line.split(": ")[1]: line for line in capsys.readouterr().err.splitlines() if line.startswith("asr: ")}
    assert "unknown phone 'x'" in told["test-0"]
    assert "40 phones need 79 frames at least, and there are 28" in told["test-1"]
    assert told["test-2"] == "asr: test-2: has no phones: there is nothing to align"
    assert [line for line in told.values() if "gone.wav" in line]
    assert len(told) == 4


def test_a_method_that_the_model_lacks_is_told(tmp_path: Path, model_file: Path, manifest: Callable[..., Path],
                                               capsys: pytest.CaptureFixture[str]) -> None:
    loaded = load_model(model_file)
    save_model(model_file, loaded.network, loaded.config, loaded.phones, loaded.normaliser, {})
    run("align", model_file, manifest("test", 1), "--method", "frames", expect=1)
    assert "asr: times by 'frames': the model has no classifier of frames" in capsys.readouterr().err


def test_an_id_in_two_manifests_is_told(tmp_path: Path, model_file: Path, manifest: Callable[..., Path],
                                        capsys: pytest.CaptureFixture[str]) -> None:
    path, other = manifest("test", 1), tmp_path / "again.jsonl"
    other.write_text(path.read_text())
    run("align", model_file, path, other, expect=1)
    assert "its id 'test-0' is that of" in capsys.readouterr().err


def aligned(model_file: Path, path: Path, *, size: int = 16, after: float = 30.0, margin: float = 1.5,
            times: str = "auto") -> tuple[list[Hypothesis], Tally]:
    model, tally = load_model(model_file), Tally()
    decode = model.config.decode
    settings = decode.model_copy(update={"batch_size": size, "times": times, "long": decode.long.model_copy(
        update={"after": after, "block": 0.1, "margin": margin})})
    aligner = Aligner(model, settings, torch.device("cpu"))
    return list(aligner.run(OnTheFly(read_manifest(path), aligner.features), tally)), tally


def test_batches_do_not_move_borders_nor_does_reading_in_blocks(model_file: Path,
                                                                manifest: Callable[..., Path]) -> None:
    path = manifest("test", 5)
    together, _ = aligned(model_file, path)
    alone, _ = aligned(model_file, path, size=1)
    blocks, _ = aligned(model_file, path, after=0.05)       # margins reach over the whole recording
    for other in (alone, blocks):
        for one, two in zip(together, other, strict=True):
            assert [p.phone for p in one.phones] == [p.phone for p in two.phones]
            assert [p.start for p in one.phones] == pytest.approx([p.start for p in two.phones])
            assert [p.confidence for p in one.phones] == pytest.approx([p.confidence for p in two.phones], abs=1e-4)
    assert tiles(blocks[0], 0.2)                            # of all samples


def test_where_nothing_is_aligned_the_reasons_alone_are_told(model_file: Path, manifest: Callable[..., Path],
                                                             capsys: pytest.CaptureFixture[str]) -> None:
    path = manifest("test", 1)
    row = json.loads(path.read_text())
    del row["text"]
    path.write_text(json.dumps(row) + "\n")
    run("align", model_file, path, "--device", "cpu", expect=1)
    assert capsys.readouterr() == ("", "asr: test-0: has no phones: there is nothing to align\n")


def test_long_recordings_that_fail_are_named(model_file: Path, manifest: Callable[..., Path]) -> None:
    path = manifest("test", 2)
    found, tally = aligned(model_file, path, after=0.05, times="attention")
    assert found == []
    assert [reason for _, reason in tally.failures] == 2 * [
        "longer than 0.05 s, and there the attention gives no times: take a model with a CTC branch, or cut the "
        "recording"]
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[0]["text"] = " ".join(["a"] * 40)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found, tally = aligned(model_file, path, after=0.05)
    assert [hypothesis.id for hypothesis in found] == ["test-1"]
    assert tally.failures[0][1].startswith("the recording ends about phone ")


@pytest.mark.parametrize("times", ["auto", "ctc", "attention"])
@pytest.mark.parametrize("after", [30.0, 0.05])
def test_what_is_recognised_tiles_too_and_lies_where_it_would_be_aligned(
        model_file: Path, manifest: Callable[..., Path], tmp_path: Path, times: str, after: float) -> None:
    model, path = load_model(model_file), manifest("test", 3)
    decode = model.config.decode
    settings = decode.model_copy(update={"beam": 2, "times": times, "fallback": False, "eos_gate": 0.0,
                                         "long": decode.long.model_copy(update={"after": after, "road": "stream"})})
    transcriber = Transcriber(model, settings, torch.device("cpu"))
    source = OnTheFly(read_manifest(path), transcriber.features)
    found = [hypothesis for hypothesis in transcriber.run(source, Tally()) if hypothesis.phones]
    assert found
    for hypothesis in found:
        assert tiles(hypothesis, float(hypothesis.extra["duration"]))
    if times == "auto" and after == 30.0:
        known = [Utterance(h.id, Path(h.extra["audio_filepath"]), phones=tuple(p.phone for p in h.phones))
                 for h in found]
        aligner = Aligner(model, settings, torch.device("cpu"))
        again = {h.id: h for h in aligner.run(OnTheFly(known, aligner.features), Tally())}
        assert again
        for hypothesis in found:
            if hypothesis.id in again:                      # more phones than frames have no place
                assert [p.start for p in again[hypothesis.id].phones] \
                    == pytest.approx([p.start for p in hypothesis.phones])
