"""The work that tools/bench.py has done and timed: each function prepares it and gives what is timed.

Peers do the same on the same shapes. `TINY` is for the tests of the harness.
"""

from __future__ import annotations

import atexit
import json
import random
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "conf" / "bench.yaml"


@dataclass(frozen=True)
class Shape:
    """How much there is to do."""

    utterances: int = 16
    frames: int = 300
    phones: int = 35
    long_frames: int = 6000
    long_phones: int = 700
    mels: int = 40
    ids: int = 42
    files: int = 200            # of 3 s
    pairs: int = 10_000         # of 40 phones
    matrix: int = 1000          # of the yardstick

    @property
    def flops(self) -> float:
        """Of a training step's products, forward and back, as the peers' README counts them (80.3 G for ours)."""
        return 80.3e9 * self.utterances * self.frames / 4800


SHAPES = {"peers": Shape(), "tiny": Shape(2, 24, 3, 60, 5, 8, 9, 2, 20, 32)}


def yardstick(shape: Shape) -> Callable[[], object]:
    """Five products of matrices in float32: 10 GFLOP."""
    import torch
    x = torch.randn(shape.matrix, shape.matrix)
    def run() -> object:
        y = x
        for _ in range(5):
            y = x @ y
            y = y / y.norm()
        return y
    return run


def train(shape: Shape, precision: str) -> Callable[[], object]:
    """The project's own update: forward, back, clipping, AdamW."""
    from asr.training.distributed import Processes
    update, batch = trainer(shape, Processes(0, 1, _cpu()), f"train.precision={precision}")
    return lambda: update(batch, 0.0)


def trainer(shape: Shape, processes: Any, *options: str) -> tuple[Callable[[Any, float], Any], Any]:
    """The trainer's update, and a batch of random numbers for it."""
    import torch

    from asr.config import load_config
    from asr.frontend.batches import Batch
    from asr.training.loop import Trainer
    config, B, U = load_config(CONFIG, options), shape.utterances, shape.phones
    phones = torch.randint(1, shape.ids, (B, U))
    end, rows = torch.zeros(B, 1, dtype=torch.long), B * processes.world
    batch = Batch(tuple(map(str, range(B))), torch.randn(B, shape.frames, shape.mels), torch.full((B,), shape.frames),
                  torch.cat([end, phones], 1), torch.cat([phones, end], 1), torch.full((B,), U + 1), rows * (U + 1),
                  rows)
    nothing: Any = _Nothing()
    own = Trainer(network(shape, *options).to(processes.device).train(), nothing, config, processes, Path(), nothing,
                  nothing, nothing)
    return own.update, batch


class _Nothing:
    """Stands where the trainer's update asks for nothing: its loader, its journal."""

    utterances: tuple[()] = ()

    @property
    def source(self) -> _Nothing:
        """The loader's, whose utterances are fingerprinted."""
        return self


def decode(shape: Shape, beam: int, *, long: bool = False, precision: str = "float32") -> Callable[[], object]:
    """Search for exactly so many phones in each utterance of a batch, or in one of 60 s, with the window."""
    import torch

    from asr.config import load_config
    from asr.search.beam import search
    from asr.search.recognise import encode
    from asr.search.stepper import AttentionStepper
    rows, frames, phones = (1, shape.long_frames, shape.long_phones) if long \
        else (shape.utterances, shape.frames, shape.phones)
    settings = load_config(CONFIG, [f"decode.beam={beam}", f"decode.window.enabled={str(long).lower()}",
                                    f"decode.precision={precision}"]).decode
    recogniser, feats = network(shape).eval(), torch.randn(rows, frames, shape.mels)
    lengths = torch.full((rows,), frames)

    @torch.inference_mode()
    def run() -> object:
        memory = encode(recogniser, feats, lengths, settings)
        stepper = AttentionStepper(recogniser, settings)
        found = search(stepper, stepper.start(memory), [phones] * rows, width=beam, shortest=[phones] * rows)
        assert all(len(best[0].ids) == phones for best in found), "the work is not done"
        return found
    return run


def network(shape: Shape, *options: str) -> Any:
    """The network of conf/bench.yaml with random weights."""
    import torch

    from asr.config import load_config
    from asr.model.recognizer import Recognizer
    torch.manual_seed(1)
    return Recognizer(load_config(CONFIG, options), shape.mels, shape.ids)


def prep(shape: Shape, suffix: str) -> Callable[[], object]:
    """Features of files of 3 s: read, computed, written."""
    from asr.config import load_config
    from asr.prep import prepare
    config, folder = load_config(CONFIG), noise_files(shape.files, suffix)
    stores = (folder / f"store{n}" for n in range(10 ** 6))
    return lambda: prepare(folder / "all.jsonl", next(stores), config, jobs=1)


def noise_files(count: int, suffix: str) -> Path:
    """A folder with recordings of 3 s of noise, and a manifest of them, `all.jsonl`; it goes with the process."""
    import numpy as np
    import soundfile
    folder, noise = Path(tempfile.mkdtemp(prefix="bench-")), np.random.default_rng(1)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for number in range(count):
        soundfile.write(folder / f"{number}.{suffix}", 0.1 * noise.standard_normal(48000).clip(-5, 5), 16000)
    rows = [{"id": str(n), "audio_filepath": f"{n}.{suffix}", "duration": 3.0, "text": "a"} for n in range(count)]
    (folder / "all.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def scoring(shape: Shape) -> Callable[[], object]:
    """Pairs of 40 phones, aligned and counted."""
    from asr.scoring.score import score
    draw = random.Random(1)
    phones = [f"p{n:02}" for n in range(39)]
    references = {str(n): [draw.choice(phones) for _ in range(40)] for n in range(shape.pairs)}
    hypotheses = {id: [p if draw.random() < 0.85 else draw.choice(phones) for p in row if draw.random() > 0.05]
                  for id, row in references.items()}
    return lambda: score(references, hypotheses)


def _cpu() -> Any:
    import torch
    return torch.device("cpu")


WORK: dict[str, Callable[[Shape], Callable[[], object]]] = {
    "yardstick": yardstick,
    "train": lambda shape: train(shape, "float32"), "train_bf16": lambda shape: train(shape, "bf16"),
    "greedy": lambda shape: decode(shape, 1), "greedy_bf16": lambda shape: decode(shape, 1, precision="bf16"),
    "beam": lambda shape: decode(shape, 10), "beam_bf16": lambda shape: decode(shape, 10, precision="bf16"),
    "greedy_long": lambda shape: decode(shape, 1, long=True), "beam_long": lambda shape: decode(shape, 10, long=True),
    "prep_wav": lambda shape: prep(shape, "wav"), "prep_flac": lambda shape: prep(shape, "flac"), "score": scoring}
