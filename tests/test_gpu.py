"""CUDA gives what the CPU gives, within rounding; and a short training runs on it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from click.testing import CliRunner
from command import asr
from decoding import Bench

from asr.config import Config
from asr.model.recognizer import Recognizer
from asr.search.recognise import recognise
from asr.train import train

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")]

Make = Callable[..., Recognizer]
FRAMES = torch.tensor([60, 41, 18])
INPUTS, TARGETS = torch.tensor([[0, 2, 3], [0, 1, 0], [0, 4, 4]]), torch.tensor([[2, 3, 0], [1, 0, -100], [4, 4, 0]])


def feats() -> torch.Tensor:
    torch.manual_seed(6)
    return torch.randn(3, 60, 8)


@pytest.mark.parametrize("kind", ["content", "location", "hybrid", "none"])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_loss_and_gradients(kind: str, cell: str, tiny_network: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    options = (f"attention.kind={kind}", f"encoder.cell={cell}", f"decoder.cell={cell}")
    grads = []
    for device in ("cpu", "cuda"):
        network = tiny_network(*options).to(device).train()
        loss = network(*(x.to(device) for x in (feats(), FRAMES, INPUTS, TARGETS)), smoothing=0.1)
        (loss.attention + loss.ctc).backward()
        grads.append([loss.attention, loss.ctc, loss.right, *(p.grad for p in network.parameters())])
    for cpu, cuda in zip(*grads, strict=True):
        assert (cpu is None) == (cuda is None)
        if cpu is not None:
            torch.testing.assert_close(cuda.cpu(), cpu, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("window", ["true", "false"])
@pytest.mark.parametrize("beam", [1, 4])
def test_decoding(window: str, beam: int, tiny_network: Make, tiny_config: Callable[..., Config],
                  monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    network = tiny_network(phones=7, gain=3.0)
    decode = tiny_config(f"decode.window.enabled={window}", f"decode.beam={beam}").decode
    cpu = recognise(network, feats(), FRAMES, decode)
    cuda = recognise(network.to("cuda"), feats().to("cuda"), FRAMES.to("cuda"), decode)
    for one, two in zip(cpu, cuda, strict=True):
        assert one[0].ids == two[0].ids
        assert one[0].score == pytest.approx(two[0].score, abs=1e-3)


@pytest.mark.parametrize("beam", [1, 4])
def test_what_is_encoded_ahead_on_another_stream(beam: int, tiny_network: Make, tiny_config: Callable[..., Config],
                                                 tmp_path: Path) -> None:
    """The same hypotheses, be the recordings short or long; many, so that memory is used again and again."""
    keys = (f"decode.beam={beam}", "decode.batch_size=2", "decode.longest=8", "decode.long.after=1.0",
            "decode.long.block=0.5", "decode.long.span=0.5", "decode.long.overlap=0.1", "decode.long.batch=2")
    bench = Bench(tmp_path, tiny_config(*keys), tiny_network(*keys, phones=4, seed=3, gain=4.0), 100)
    for number in (10, 50, 51):
        sound = 0.1 * np.random.default_rng(number).standard_normal(20 * 16000)
        soundfile.write(bench.path(number), sound, 16000)
    found = []
    for overlap in ("never", "always", "auto"):
        out = tmp_path / f"{overlap}.jsonl"
        done = asr("decode", bench.model, bench.sounds, "--out", out, "--device", "cuda", "-o",
                   f"decode.overlap={overlap}")
        assert done.code == 0, done.err
        found.append([(row["id"], row["text"]) for row in map(json.loads, out.read_text().splitlines())])
    assert len(found[0]) == 100
    assert found[1] == found[0]
    assert found[2] == found[0]


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_short_training(precision: str, tiny_config: Callable[..., Config], manifest: Callable[..., Path],
                          tmp_path: Path) -> None:
    config = tiny_config("features.mels=8", "train.epochs=2", "train.batch_frames=130", "train.plots=0",
                         f"train.precision={precision}")
    figures = train(config, manifest("train", 6), manifest("dev", 2), tmp_path / "run", device="cuda")
    assert math.isfinite(figures["per"])
    assert (tmp_path / "run" / "model.asr").exists()


def test_deterministic_trainings_are_the_same(tiny_config: Callable[..., Config], manifest: Callable[..., Path],
                                              tmp_path: Path) -> None:
    """Without the CTC branch, whose gradient has no kernel that repeats its bits."""
    config = tiny_config("features.mels=8", "train.epochs=2", "train.batch_frames=130", "train.plots=0",
                         "train.deterministic=true", "train.ctc_weight=0", "train.precision=float32")
    paths = manifest("train", 6), manifest("dev", 2)
    try:
        for run in ("one", "two"):
            train(config, *paths, tmp_path / run, device="cuda")
    finally:
        torch.use_deterministic_algorithms(False)
    assert (tmp_path / "one" / "model.asr").read_bytes() == (tmp_path / "two" / "model.asr").read_bytes()


def test_the_device_is_measured_by_one_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """`tools/bench_device.py`: all three figures, at a hundredth of the work."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "tools"))
    import bench_device
    done = CliRunner().invoke(bench_device.main, ["--device", "cuda", "--size", "0.01", "--json"])
    assert done.exit_code == 0, done.output
    figures = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["figure"] for row in figures] == ["epoch", "beam", "hour"]
    assert figures[2]["failures"] == []
