"""Absolute figures of one machine, a GPU above all: an epoch told apart, a beam over a test set, an hour in one go.

    python tools/bench_device.py [--device cuda|cpu] [--only epoch,beam,hour] [--config conf/timit.yaml]

The data are noise of TIMIT's amount and lengths (3,696 utterances, 3.1 h), the weights are random, the work is real:
the trainer's updates, the search, `asr decode`'s way through a long recording. Beside an epoch stand its two floors:
operations over the measured rate of matrices, and bytes that the decoder's loop must fetch over the measured bandwidth.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import click
import numpy as np
import torch
from bench_work import ROOT
from torch import Tensor

from asr.config import Config, Features, load_config
from asr.corpus.phones import PhoneSet
from asr.corpus.records import Utterance
from asr.frontend.batches import Loader
from asr.frontend.fbank import Moments, Normaliser, feature_width, static_width
from asr.frontend.store import OnTheFly
from asr.model import unrolled
from asr.model.file import load_model, save_model
from asr.model.recognizer import Recognizer
from asr.search.recognise import recognise
from asr.training import optim
from asr.training.distributed import Processes, pick_device
from asr.training.loop import Trainer
from asr.transcriber import Tally, Transcriber

GOALS = {"epoch": 10.0, "beam": 2.0, "hour": 15.0}          # s on one GPU
RATE = 12.0                                                 # phones a second, about TIMIT's
PHONES = PhoneSet(["h#", *(f"p{number:02}" for number in range(60))])


class Noise:
    """A feature source of noise: utterances of 3 s on average, between 1 and 8, and as many phones as TIMIT's."""

    def __init__(self, features: Features, count: int) -> None:
        self.features, draw = features, np.random.default_rng(1)
        self.seconds = draw.normal(3.0, 0.9, count).clip(1, 8)
        self.utterances: Sequence[Utterance] = [
            Utterance(str(n), Path(f"{n}.wav"), phones=tuple(PHONES.decode(draw.integers(1, len(PHONES), length))))
            for n, length in enumerate(np.round(RATE * self.seconds).astype(int))]
        self.noise = torch.randn(2000, static_width(features))

    def frames(self, i: int, speed: float = 1.0) -> int:
        """T of utterance i."""
        return round(1000 / self.features.hop * self.seconds[i] / speed)

    def static(self, i: int, speed: float = 1.0) -> Tensor:
        """Frames of utterance i: (T, S)."""
        return self.noise[:self.frames(i, speed)]

    def moments(self) -> Moments:
        """Mean 0, variance 1."""
        width = feature_width(self.features)
        return Moments(1, torch.zeros(width, dtype=torch.float64), torch.ones(width, dtype=torch.float64))


class Watch:
    """Seconds by part, the device waited for on either side of each."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.seconds = device, Counter[str]()

    def around(self, work: Callable[..., Any], part: str) -> Callable[..., Any]:
        """The work, watched."""
        def watched(*args: Any, **kwargs: Any) -> Any:
            began = self.now()
            try:
                return work(*args, **kwargs)
            finally:
                self.seconds[part] += self.now() - began
        return watched

    def now(self) -> float:
        """The time, when the device has done all it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


class Epoch:
    """An epoch of training on noise."""

    def __init__(self, config: Config, device: torch.device, count: int) -> None:
        self.config, self.device = config, device
        source = Noise(config.features, count)
        self.loader = Loader(source, PHONES, Normaliser.of(source.moments()), config, pin=device.type == "cuda")
        nothing: Any = None
        network = Recognizer(config, feature_width(config.features), len(PHONES)).to(device).train()
        self.trainer = Trainer(network, self.loader, config, Processes(0, 1, device), Path(), nothing, nothing, nothing)
        self.trainer.progress.update = config.train.ctc_warmup      # the whole loss

    def run(self, most: int = sys.maxsize) -> tuple[float, float]:
        """Seconds of an epoch, or of so many updates, and those of them in which data were waited for."""
        watch, waited = Watch(self.device), 0.0
        began, batches = watch.now(), self.loader.epoch(1)
        for _ in range(most):
            before = time.perf_counter()        # without asking the device, which goes on with what it has
            batch = next(batches, None)
            waited += time.perf_counter() - before
            if batch is None:
                break
            self.trainer.update(batch, 0.1)
        return watch.now() - began, waited

    def parts(self, most: int) -> dict[str, float]:
        """Seconds of an epoch's first updates by part, as they are when each is waited for."""
        watch, network = Watch(self.device), self.trainer.network
        backward = unrolled._Unrolled.backward
        with ExitStack() as stack:
            for owner, name, part in [
                    (network, "encode", "encoder, forward"), (unrolled, "unroll", "decoder's loop, forward"),
                    (network, "_ctc_loss", "CTC, forward"), (torch.Tensor, "backward", "backward"),
                    (self.trainer.optimizer, "step", "optimiser"), (optim, "gradient_norm", "optimiser")]:
                stack.enter_context(patch.object(owner, name, watch.around(getattr(owner, name), part)))
            stack.enter_context(patch.object(unrolled._Unrolled, "backward", staticmethod(
                watch.around(backward, "decoder's loop, backward"))))
            whole, waited = self.run(most)
        parts = {"waiting for data": waited, **watch.seconds}
        parts["backward"] -= parts["decoder's loop, backward"]
        return {**parts, "the rest": whole - sum(parts.values())}

    def floors(self) -> dict[str, float]:
        """Seconds that the epoch takes at least, by its operations and by the bytes of the decoder's loop."""
        encoder, attention, decoder = self.config.encoder, self.config.attention, self.config.decoder
        network, flops, fetched = self.trainer.network, 0.0, 0.0
        for items in self.loader.batches(1):
            T = max(map(self.loader.frames, items))
            U = 1 + max(len(self.loader.label_ids(item) or []) for item in items)
            S, inputs = T, feature_width(self.config.features)
            for join in encoder.pyramid:
                S = -(-S // join)
                flops += 2 * len(items) * S * 2 * 4 * encoder.width * (inputs * join + encoder.width)
                inputs = 2 * encoder.width
            D, H, A = network.encoder.width, decoder.width, attention.width
            flops += 2 * len(items) * U * (4 * H * (D + H + decoder.embedding) + H * A
                                           + S * (A * (attention.filters + 2) + D))
            fetched += len(items) * U * S * 4.0 * (2 * A + D)       # keys, hidden layer, values
        return {"operations": 3 * flops / matrix_rate(self.device, self.trainer.bf16),
                "bytes of the loop": 3 * fetched / bandwidth(self.device)}


def matrix_rate(device: torch.device, bf16: bool) -> float:
    """Operations a second in products of matrices."""
    size = 8192 if device.type == "cuda" else 1024
    x = torch.randn(size, size, device=device, dtype=torch.bfloat16 if bf16 else torch.float32)
    return 2 * size ** 3 / best_of(lambda: x @ x, device)


def bandwidth(device: torch.device) -> float:
    """Bytes a second, read and written."""
    x = torch.empty(1 << (28 if device.type == "cuda" else 25), device=device)
    y = torch.empty_like(x)
    return 8 * x.numel() / best_of(lambda: y.copy_(x), device)


def best_of(work: Callable[[], object], device: torch.device, rounds: int = 5) -> float:
    """Seconds of the fastest round."""
    watch, times = Watch(device), []
    for _ in range(rounds):
        began = watch.now()
        work()
        times.append(watch.now() - began)
    return min(times)


def epoch(config: Config, device: torch.device, count: int, updates: int) -> dict[str, Any]:
    """An epoch's seconds, its parts in the first updates of one, and its floors."""
    work = Epoch(config, device, count)
    work.run(5)                                 # warm
    seconds, waited = work.run()
    parts = work.parts(updates)
    loop = sum(value for part, value in parts.items() if "loop" in part) / sum(parts.values())
    return {"seconds": seconds, "waiting for data, share": waited / seconds, "the decoder's loop, share": loop,
            "parts": parts, "floors": work.floors()}


def beam(config: Config, device: torch.device, count: int) -> dict[str, Any]:
    """Beam 10 over utterances of 3 s, all at a time."""
    settings = config.decode.model_copy(update={"beam": 10, "longest": RATE, "shortest": RATE - 2, "fallback": False})
    network = Recognizer(config, feature_width(config.features), len(PHONES)).to(device).eval()
    feats = torch.randn(count, 300, feature_width(config.features), device=device)
    frames = torch.full((count,), 300, device=device)
    return {"seconds": best_of(lambda: recognise(network, feats, frames, settings), device, 3)}


def hour(config: Config, device: torch.device, seconds: int, model: Path | None) -> dict[str, Any]:
    """A recording of an hour of noise, from file to hypothesis; with a trained model, of whatever it hears in it."""
    import soundfile
    with tempfile.TemporaryDirectory() as name:
        folder, draw = Path(name), np.random.default_rng(1)
        with soundfile.SoundFile(folder / "hour.wav", "w", config.features.rate, 1) as file:
            for _ in range(seconds):
                file.write(0.05 * draw.standard_normal(config.features.rate).clip(-5, 5))
        if model is None:
            model = folder / "model.asr"
            width = feature_width(config.features)
            save_model(model, Recognizer(config, width, len(PHONES)), config, PHONES,
                       Normaliser(torch.zeros(width), torch.ones(width)), {})
        loaded = load_model(model)
        settings = loaded.config.decode.model_copy(update={"longest": RATE, "fallback": False})
        transcriber, tally = Transcriber(loaded, settings, device), Tally()
        source = OnTheFly([Utterance("hour", folder / "hour.wav")], transcriber.features)
        began = time.perf_counter()
        phones = sum(len(hypothesis.phones) for hypothesis in transcriber.run(source, tally))
        return {"seconds": time.perf_counter() - began, "phones": phones, "failures": tally.failures}


def lines(name: str, result: dict[str, Any], *, judged: bool) -> Iterator[str]:
    """The table of one figure, with its goal where all the work was done."""
    goal = GOALS[name]
    state = f"    goal {goal:g} s on a GPU: {'met' if result['seconds'] <= goal else 'not met'}" if judged else ""
    yield f"{name:<10} {result['seconds']:8.2f} s{state}"
    for key, value in result.items():
        if isinstance(value, dict):
            for part, seconds in value.items():
                share = f"{100 * seconds / sum(value.values()):5.1f} %" if key == "parts" else ""
                yield f"    {key}: {part:<28} {seconds:8.3f} s {share}".rstrip()
        elif key.endswith("share"):
            yield f"    {key}: {100 * value:.1f} %"


@click.command(help=__doc__)
@click.option("--device", type=click.Choice(["cuda", "cpu"]), default="cuda", show_default=True)
@click.option("--only", default="epoch,beam,hour", show_default=True)
@click.option("--config", "path", type=click.Path(path_type=Path, exists=True), default=ROOT / "conf" / "timit.yaml")
@click.option("--model", type=click.Path(path_type=Path, exists=True), help="For the hour; default: random weights.")
@click.option("-o", "options", multiple=True, help="Of the config, key=value.")
@click.option("--size", type=float, default=1.0, show_default=True, help="Share of the work, to try the tool.")
@click.option("--json", "as_json", is_flag=True)
def main(device: str, only: str, path: Path, model: Path | None, options: tuple[str, ...], size: float,
         as_json: bool) -> None:
    where, config = pick_device(device), load_config(path, options)
    torch.manual_seed(1)
    works: dict[str, Callable[[], dict[str, Any]]] = {
        "epoch": lambda: epoch(config, where, max(4, round(3696 * size)), max(1, round(100 * size))),
        "beam": lambda: beam(config, where, max(2, round(192 * size))),
        "hour": lambda: hour(config, where, max(40, round(3600 * size)), model)}
    for name in only.split(","):
        result = works[name]()
        print(json.dumps({"figure": name, **result}) if as_json else "\n".join(lines(name, result, judged=size >= 1)),
              flush=True)


if __name__ == "__main__":
    main()
