"""The training loop: epochs of updates, a measure of the dev set behind each, and a state to go on from.

Every update draws its random numbers from a generator seeded with (seed, update, rank), so that a run which was
stopped and resumed in mid-epoch walks exactly where an uninterrupted one would.
"""

from __future__ import annotations

import math
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from asr.config import Config
from asr.errors import AsrError, Stopped
from asr.frontend.batches import Batch, Loader
from asr.model.recognizer import Recognizer
from asr.training import optim
from asr.training.checkpoint import fingerprint, save_run_state
from asr.training.distributed import Processes
from asr.training.journal import Journal
from asr.training.memory import is_out_of_memory, split
from asr.training.warnings import warnings_of

LOG_EVERY = 20      # updates between two lines of log.jsonl
FIGURES = ("loss", "ctc", "attention", "accuracy", "diagonal")  # of an update: means over the phones of all ranks
NEAR = 0.2          # of an utterance's length: how far from the diagonal a step may look and still count as near it


@dataclass
class Progress:
    """Where a run stands; all that is plain data in its state."""

    epoch: int = 0              # the epoch being run
    batch: int = 0              # batches of it that are done
    update: int = 0             # updates in all, skipped ones counted
    skipped: int = 0            # updates whose gradient was not finite
    skipped_in_a_row: int = 0
    decay: float = 1.0          # of the plateau schedule
    stale: int = 0              # epochs since the best dev PER
    seconds: float = 0.0        # spent training, over all resumptions
    history: list[dict[str, Any]] = field(default_factory=list)     # one entry an epoch: dev PER and the like
    done: bool = False
    counted: int = 0            # updates of this epoch whose figures are in `sums`
    sums: dict[str, float] = field(default_factory=dict)
    fits: int = 0               # padded frames that memory holds at a time, once it did not hold a batch; 0: all did

    @property
    def best(self) -> float:
        """The lowest dev PER so far, in percent."""
        return min((entry["per"] for entry in self.history), default=math.inf)

    def count(self, report: dict[str, float]) -> None:
        """Count an update's figures in, unless its loss is not finite."""
        if math.isfinite(report["loss"]):
            self.counted += 1
            self.sums = {key: self.sums.get(key, 0.0) + report[key] for key in FIGURES}

    def means(self) -> dict[str, float]:
        """The means of the figures of this epoch, and begin anew."""
        means = {key: round(self.sums.get(key, 0.0) / max(1, self.counted), 7) for key in FIGURES}
        self.counted, self.sums = 0, {}
        return means


class Trainer:
    """Trains a network on a loader's batches.

    Args:
        measure: called behind each epoch on every rank; gives the dev set's figures, `per` among them
        epoch_done: called on the main process with the figures, to keep weights and draw plots
    """

    def __init__(self, network: Recognizer, loader: Loader, config: Config, processes: Processes, run: Path,
                 journal: Journal, measure: Callable[[], dict[str, Any]],
                 epoch_done: Callable[[int, dict[str, Any]], None]) -> None:
        self.network, self.loader, self.config, self.settings = network, loader, config, config.train
        self.processes, self.run, self.journal = processes, run, journal
        self.measure, self.epoch_done = measure, epoch_done
        self.device = processes.device
        self.optimizer = optim.build_optimizer(network, self.settings, self.device)
        processes.share(network)
        self.bf16 = self.settings.precision == "bf16" or (self.settings.precision == "auto"
                                                          and self.device.type == "cuda")
        self.progress = Progress()
        self.data = fingerprint(loader.source.utterances)
        self.stop_signal = 0
        self._saved = time.monotonic()

    def state(self) -> dict[str, Any]:
        """Everything needed to go on."""
        return {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict(),
                "progress": asdict(self.progress), "config": self.config.model_dump(), "data": self.data}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a state.

        Raises:
            AsrError: it is of a run on other utterances
        """
        if state.get("data", self.data) != self.data:       # states of earlier versions do not tell
            raise AsrError(f"{self.run}: was begun with other utterances to train on, or other phones for them: bring "
                           "those back, or name another --run")
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.progress = Progress(**state["progress"])

    def train(self) -> None:
        """Run all epochs that are left.

        Raises:
            Stopped: after a signal, when the state has been saved
            AsrError: the loss is not finite, time and again
        """
        with self._signals():
            while self.progress.epoch < self.settings.epochs and not self.progress.done:
                self._epoch()
        self.progress.done = True
        self.save()

    def save(self) -> None:
        """Write the state (on the main process)."""
        self._saved = time.monotonic()
        if self.processes.main:
            save_run_state(self.run, self.state())

    def _epoch(self) -> None:
        p = self.progress
        updates = self.loader.updates(p.epoch)
        if self.device.type == "cuda" and not p.update:
            self._rehearse()
        started, frames = time.monotonic(), 0
        self.network.train()
        self.journal.begin_epoch(p.epoch, updates, p.batch)
        for batch in self.loader.epoch(p.epoch, skip=p.batch):
            report = self.update(batch, (p.epoch + p.batch / updates) / self.settings.epochs)
            p.batch, p.update = p.batch + 1, p.update + 1
            p.count(report)
            frames += int(batch.frames.sum())
            seconds = time.monotonic() - started
            self.journal.update(report, frames * self.processes.world / seconds)
            if p.update % LOG_EVERY == 0:
                self.journal.log("update", epoch=p.epoch, **{k: _rounded(v) for k, v in report.items()})
            self._save_if_due()
        p.seconds += time.monotonic() - started
        self._close_epoch(frames * self.processes.world / max(time.monotonic() - started, 1e-9))

    def _close_epoch(self, speed: float) -> None:
        """Measure the dev set, keep the figures, decide how to go on."""
        p = self.progress
        figures = {"epoch": p.epoch, "update": p.update, **p.means(), **self.measure(),
                   "frames_per_second": round(speed), "seconds": round(p.seconds, 1), "skipped": p.skipped}
        better = figures["per"] < p.best
        p.stale = 0 if better else p.stale + 1
        p.history.append(figures)
        if self.settings.schedule == "plateau" and p.stale and p.stale % max(1, self.settings.plateau_patience) == 0:
            p.decay *= self.settings.plateau_factor
        if self.processes.main:
            self.journal.log("epoch", **figures)
            self.journal.end_epoch(figures, better)
            for warning in warnings_of(p.history, self.settings):
                self.journal.log("warning", update=p.update, text=warning)
                self.journal.say(f"warning: {warning}")
            self.epoch_done(p.epoch, figures)
        p.epoch, p.batch = p.epoch + 1, 0
        p.done = bool(self.settings.patience) and p.stale >= self.settings.patience
        self.save()

    def update(self, batch: Batch, progress: float) -> dict[str, float]:
        """One step of the optimiser on one batch; gives its figures."""
        p, settings = self.progress, self.settings
        rate = optim.learning_rate(settings, p.update, progress, p.decay)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        report = self._gradient(batch)
        self._freeze()
        norm = float(optim.gradient_norm(self.network, settings.clip))
        if math.isfinite(norm):
            self.optimizer.step()
            if settings.column_norm:
                optim.limit_columns(self.network, settings.column_norm)
            p.skipped_in_a_row = 0
        else:
            self._skip()
        return {"update": p.update, "lr": rate, "norm": norm, **report}

    def _gradient(self, batch: Batch) -> dict[str, float]:
        """Put the gradient of all ranks' shares into the weights, in as many parts as memory asks for; its figures.

        Ranks meet behind the backward pass, once it is known that memory held all shares. In mid-pass, where
        DistributedDataParallel has them meet, those would wait for good whose neighbour has to begin anew.
        """
        while True:
            own = self._own_gradient(batch)
            *figures, lacking = self.processes.sum(own.clone()).tolist()
            if not lacking:
                self.processes.sum_gradients(self.network)
                return dict(zip(FIGURES, figures, strict=True))
            self._make_room(batch, bool(own[-1]))

    def _own_gradient(self, batch: Batch) -> Tensor:
        """Put this rank's gradient into the weights; its figures, and 1 behind them if memory did not hold it."""
        settings, p = self.settings, self.progress
        noise = settings.weight_noise if p.epoch >= settings.weight_noise_epoch else 0.0
        torch.manual_seed(hash((settings.seed, p.update, self.processes.rank)) & 0x7FFFFFFF)
        self.optimizer.zero_grad(set_to_none=True)
        sums = torch.zeros(len(FIGURES) + 1, device=self.device)
        try:
            with optim.noisy_weights(self.network, noise):
                for part in split(batch, p.fits):
                    loss, figures = self._loss(part.to(self.device))
                    loss.backward()
                    sums[:-1] += figures
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            sums = torch.zeros_like(sums)
            sums[-1] = 1
        return sums

    def _make_room(self, batch: Batch, lacking: bool) -> None:
        """Memory did not hold a rank's share: from now on, none computes more than half of what that tried at a time.

        Args:
            lacking: whether it was this rank's.
        """
        p, longest = self.progress, int(batch.frames.max())
        tried = min(p.fits or sys.maxsize, len(batch.ids) * longest)
        self.optimizer.zero_grad(set_to_none=True)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        own = (tried, longest, batch.ids[int(batch.frames.argmax())]) if lacking else None
        shares = [share for share in self.processes.gather(own) if share]
        for tried, longest, id in shares:
            if tried <= longest:
                raise AsrError(f"{self.run}: out of memory at update {p.update}, in a batch whose longest utterance is "
                               f"{id!r} ({longest:,} frames): lower train.batch_frames, or leave the longest "
                               "utterances out")
        tried = min(tried for tried, _, _ in shares)
        p.fits = min(max(longest, tried // 2) for tried, longest, _ in shares)
        self.journal.log("split", update=p.update, frames=p.fits)
        self.journal.say(f"update {p.update}: out of memory with {tried:,} frames at a time: from now on batches are "
                         f"computed in parts of {p.fits:,}, which changes nothing but the time")

    def _rehearse(self) -> None:
        """Try the batch with the most padded frames, so that memory runs out now or never."""
        sizes = [len(items) * max(map(self.loader.frames, items)) for items in self.loader.batches(self.progress.epoch)]
        for batch in self.loader.epoch(self.progress.epoch, skip=sizes.index(max(sizes))):
            self._gradient(batch)
            break
        self.optimizer.zero_grad(set_to_none=True)

    def _loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """This rank's part of the loss, which is a mean over the phones of all ranks, and of the figures."""
        settings = self.settings
        warming = self.progress.update < settings.ctc_warmup and self.network.ctc is not None
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            loss = self.network(batch.feats, batch.frames, batch.inputs, batch.targets,
                                smoothing=settings.label_smoothing, sampling=settings.scheduled_sampling,
                                ctc_only=warming)
        weight = (1.0 if warming else settings.ctc_weight) if self.network.ctc is not None else 0.0
        total = batch.weight * ((1 - weight) * loss.attention + weight * loss.ctc) / batch.tokens
        near = _near_diagonal(loss.weights, batch.frames, batch.labels)
        own = batch.weight * torch.stack([loss.ctc, loss.attention, 100 * loss.right, 100 * near]) / batch.tokens
        return total, torch.cat([total.reshape(1), own]).detach()

    def _freeze(self) -> None:
        """Layers that stand still get no gradient, and so no step and no decay."""
        freeze = self.settings.freeze
        if self.progress.update < freeze.updates:
            for layer in self.network.encoder.layers[:freeze.layers]:
                for p in layer.parameters():
                    p.grad = None

    def _skip(self) -> None:
        """A gradient that is not finite changes nothing; too many in a row end the run."""
        p = self.progress
        p.skipped, p.skipped_in_a_row = p.skipped + 1, p.skipped_in_a_row + 1
        self.journal.log("skipped", update=p.update, in_a_row=p.skipped_in_a_row)
        if p.skipped_in_a_row >= self.settings.bad_updates:
            raise AsrError(f"{self.run}: the gradient was not finite in {p.skipped_in_a_row} updates in a row (update "
                           f"{p.update}): lower train.lr, or look for broken data with `asr doctor`")

    def _save_if_due(self) -> None:
        """Save by the clock or the count; after a signal, save and stop."""
        p, settings = self.progress, self.settings
        by_count = settings.checkpoint_updates and p.update % settings.checkpoint_updates == 0
        by_clock = settings.checkpoint_minutes and time.monotonic() - self._saved > 60 * settings.checkpoint_minutes
        wanted = self.processes.agree(self.stop_signal or int(bool(by_clock or by_count)))
        if wanted:
            self.save()
        if wanted > 1:      # signals count from 2
            raise Stopped(wanted, f"{self.run}: stopped at update {p.update}, state saved; "
                                  "the same command with --resume goes on")

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """SIGINT and SIGTERM end the run behind the update at hand."""
        def ask(number: int, frame: object) -> None:
            self.stop_signal = number
        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _near_diagonal(weights: Tensor | None, frames: Tensor, labels: Tensor) -> Tensor:
    """How many steps look where speech at a steady pace would be: weights (B, U, S), frames and steps of each row (B,).

    An attention that has aligned is near the diagonal almost always, one that has not about as often as by chance.
    """
    if weights is None:
        return labels.new_zeros((), dtype=torch.float32)
    _, U, S = weights.shape
    steps = torch.arange(U, device=weights.device)
    ends = S * frames / frames.max()                            # (B,) encoder frames of each row
    paces = (steps + 0.5) / labels.clamp(min=1).unsqueeze(1)
    away = ((weights.argmax(2) + 0.5) / ends.unsqueeze(1) - paces).abs()
    return ((away < NEAR) & (steps < labels.unsqueeze(1))).sum().float()


def _rounded(value: float) -> float:
    return float(f"{value:.6g}") if math.isfinite(value) else math.inf
