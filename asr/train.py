"""`asr train`: from stores or manifests to a model file, measured by real decoding after every epoch.

The run folder holds `config.yaml`, `log.jsonl`, `model.asr` (the best so far, at the end the average of the best if
that is better), `epochs/` (the best few), `plots/`, and `last.pt`, from which `--resume` goes on.
"""

from __future__ import annotations

import contextlib
import datetime
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from asr.bandwidth import audio_rate
from asr.config import Config, Features, dump_config
from asr.corpus.phones import PhoneSet, composed
from asr.corpus.records import Utterance
from asr.errors import AsrError
from asr.files import Steady, locking, writing
from asr.frontend.batches import Loader
from asr.frontend.fbank import Moments, Normaliser, feature_width
from asr.frontend.store import INDEX, FeatureSource, open_source
from asr.model.file import load_model, save_model
from asr.model.recognizer import Recognizer
from asr.scoring.score import score
from asr.search.recognise import recognise
from asr.training.checkpoint import load_run_state
from asr.training.distributed import Processes, make_repeatable, pick_device, processes
from asr.training.init import carry_over
from asr.training.journal import Journal, read_log
from asr.training.loop import Trainer
from asr.training.times import fit_times


@dataclass(frozen=True)
class Data:
    """What a run trains on and is measured by."""

    train: FeatureSource
    dev: FeatureSource
    phones: PhoneSet
    normaliser: Normaliser


@dataclass(frozen=True)
class FirstOf:
    """The first utterances of a source alone."""

    source: FeatureSource
    count: int

    @property
    def utterances(self) -> Sequence[Utterance]:
        """In the manifest's order."""
        return self.source.utterances[:self.count]

    @property
    def features(self) -> Features:
        """As the source has them."""
        return self.source.features

    def frames(self, i: int, speed: float = 1.0) -> int:
        """T of utterance i."""
        return self.source.frames(i, speed)

    def static(self, i: int, speed: float = 1.0) -> Tensor:
        """Frames of utterance i: (T, S)."""
        return self.source.static(i, speed)

    def moments(self) -> Moments:
        """Of the whole source."""
        return self.source.moments()


def train(config: Config, train_path: Path, dev_path: Path, run: Path, *, device: str = "auto",
          resume: bool = False, init: Path | None = None, names: dict[str, str] | None = None) -> dict[str, Any]:
    """Train a model; gives the figures of the finished model.

    Args:
        train_path, dev_path: stores of `asr prep`, or manifests
        run: the run folder
        resume: go on where a run in this folder stopped; start it if there is none
        init: a model whose weights to begin with; `names` maps our phones to the model's

    Raises:
        AsrError: about data, config or run folder
        Stopped: a signal arrived, the state is saved
    """
    if run.exists() and not run.is_dir():
        raise AsrError(f"{run}: is a file: name a folder")
    where = pick_device(device)
    if config.train.deterministic:
        make_repeatable(where)
    steady = Steady(path / INDEX if path.is_dir() else path for path in (train_path, dev_path))
    with processes(where) as group, locking(run) if group.main else contextlib.nullcontext():
        if group.main:
            for part in run.rglob(".*.part"):       # of one that was killed in the middle of a file
                part.unlink(missing_ok=True)
        state, remark = _open_run(run, config, resume)
        finished = _entries(run, "done") if state is not None and (run / "model.asr").exists() else []
        if finished:
            if group.main:
                print(f"{run}: finished already, dev PER {finished[-1]['per']:.2f} %", file=sys.stderr)
            return {key: value for key, value in finished[-1].items() if key != "event"}
        data = open_data(config, train_path, dev_path)
        if group.main:
            with writing(run / "config.yaml") as file:
                file.write(dump_config(config))
        torch.manual_seed(config.train.seed)
        network = Recognizer(config, feature_width(config.features), len(data.phones)).to(where)
        journal = Journal(run, main=group.main, epochs=config.train.epochs,
                          progress=state["progress"] if state else None)
        if remark:
            journal.say(remark)
        if init is not None and state is None:
            journal.say(f"{init}: {carry_over(network, data.phones, load_model(init), names)}")
        session = Session(config, data, network, group, run, journal, steady,
                          {"train": str(train_path), "dev": str(dev_path), "init": str(init) if init else None,
                           "audio_rate": audio_rate(data.train.utterances)})
        try:
            return session.run_all(state)
        finally:
            journal.close()


def open_data(config: Config, train_path: Path, dev_path: Path) -> Data:
    """Open both sets and check one against the other."""
    source, dev = open_source(train_path, config.features), open_source(dev_path, config.features)
    for path, found in ((train_path, source), (dev_path, dev)):
        silent = [u.id for u in found.utterances if not u.phones]
        if silent:
            raise AsrError(f"{path}: utterance {silent[0]!r} has no phones ({len(silent)} such in all): "
                           "transcribe it or take its row out")
    kept = dev.utterances if config.train.unseen == "keep" else []
    phones = PhoneSet.of(u.phones or () for u in [*source.utterances, *kept])
    for utterance in dev.utterances:
        phones.encode(utterance.phones or (), f"{dev_path}: {utterance.id}")
    return Data(source, dev, phones, Normaliser.of(source.moments()))


def _open_run(run: Path, config: Config, resume: bool) -> tuple[dict[str, Any] | None, str]:
    """The state to go on from, if any, and a remark about it."""
    state, remark = load_run_state(run)
    if state is not None and not resume:
        raise AsrError(f"{run}: holds a run already: add --resume to go on with it, or name another --run")
    if state is not None:
        ours, theirs = config.model_dump(), _laid_over(Config().model_dump(), state["config"])
        if theirs != ours:
            raise AsrError(f"{run}: was begun with another config: {_difference(theirs, ours)}; use that, or name "
                           "another --run")
    return state, remark


def _laid_over(defaults: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    """A config with the keys that were not there yet when it was written."""
    return defaults | {key: _laid_over(defaults[key], value) if isinstance(defaults.get(key), dict) else value
                       for key, value in known.items()}


def _difference(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> str:
    """The first key in which two configs differ."""
    for key in old:
        if old[key] != new.get(key):
            if isinstance(old[key], dict) and isinstance(new.get(key), dict):
                return _difference(old[key], new[key], f"{prefix}{key}.")
            return f"{prefix}{key} was {old[key]!r} and is {new.get(key)!r} now"
    return "it has a key that is gone"


class Session:
    """One run: a trainer, the measure of its dev set, and the files it leaves."""

    def __init__(self, config: Config, data: Data, network: Recognizer, group: Processes, run: Path,
                 journal: Journal, steady: Steady, sources: dict[str, Any]) -> None:
        self.config, self.data, self.network, self.group = config, data, network, group
        self.run, self.journal, self.steady, self.sources = run, journal, steady, sources
        dev = FirstOf(data.dev, config.train.dev_utterances or len(data.dev.utterances))
        self.dev = Loader(dev, data.phones, data.normaliser, config, rank=group.rank, world=group.world, train=False)
        self.references = {u.id: u.phones or () for u in dev.utterances}

    def run_all(self, state: dict[str, Any] | None) -> dict[str, Any]:
        """Train from the state on, then choose between the best epoch and the average of the best."""
        data, config = self.data, self.config
        loader = Loader(data.train, data.phones, data.normaliser, config, rank=self.group.rank, world=self.group.world)
        self.trainer = trainer = Trainer(self.network, loader, config, self.group, self.run, self.journal, self.measure,
                                         self.epoch_done)
        if state is not None:
            trainer.load_state(state)
        self.journal.say(f"{len(data.train.utterances):,} utterances to train on, {len(self.references):,} to measure "
                         f"by, {len(data.phones) - 1} phones, {self.network.parameters_count():,} weights, "
                         f"{self.group.world} process(es) on {self.group.device.type}")
        trainer.train()
        return self.finish(trainer.progress.history)

    def measure(self) -> dict[str, Any]:
        """PER of the dev set by real decoding, in percent, with its insertions, deletions and substitutions.

        Raises:
            AsrError: a manifest or a store has changed since the run began; its state has been saved
        """
        try:
            self.steady.check(f"the state of {self.run} is saved; bring back what was there and add --resume, or name "
                              "another --run")
        except AsrError:
            self.trainer.save()
            raise
        settings = self.config.decode.model_copy(update={"beam": self.config.train.dev_beam, "nbest": 1,
                                                           "fallback": False})
        self.network.eval()
        found: dict[str, list[str]] = {}
        for batch in self.dev.epoch(0):
            batch = batch.to(self.group.device)
            for id, best in zip(batch.ids, recognise(self.network, batch.feats, batch.frames, settings), strict=True):
                found[id] = self.data.phones.decode(best[0].ids) if best else []
        everything = {id: phones for part in self.group.gather(found) for id, phones in part.items()}
        total = score(self.references, {id: everything[id] for id in self.references}).total
        return {"per": round(total.per, 4), "ins": total.insertions, "del": total.deletions,
                "sub": total.substitutions}

    def epoch_done(self, epoch: int, figures: dict[str, Any]) -> None:
        """Keep the weights if the epoch is among the best, and draw where attention looked."""
        self._keep(epoch, figures)
        if self.config.train.plots:
            from asr.training.plots import plot_attention
            plot_attention(self.network, self.data.phones, self.dev, self.config.train.plots,
                           self.run / "plots" / f"{epoch + 1:03d}")

    def _keep(self, epoch: int, figures: dict[str, Any]) -> None:
        """`epochs/NNN.asr` of the best few, and the best of them as `model.asr`."""
        folder = self.run / "epochs"
        self.save(folder / f"{epoch + 1:03d}.asr", {"epoch": epoch + 1, "dev_per": figures["per"]})
        history = [entry for entry in _entries(self.run, "epoch")
                   if (folder / f"{entry['epoch'] + 1:03d}.asr").exists()]
        ranked = sorted(history, key=lambda entry: (entry["per"], entry["epoch"]))
        keep = max(1, self.config.train.average)
        for entry in ranked[keep:]:
            (folder / f"{entry['epoch'] + 1:03d}.asr").unlink()
        if ranked and ranked[0]["epoch"] == epoch:
            self.save(self.run / "model.asr", {"epoch": epoch + 1, "dev_per": figures["per"]})

    def finish(self, history: list[dict[str, Any]]) -> dict[str, Any]:
        """The average of the best epochs becomes `model.asr` if the dev set says that it is better."""
        best = min(history, key=lambda entry: (entry["per"], entry["epoch"]))
        figures = {"per": best["per"], "epoch": best["epoch"] + 1, "averaged": 1}
        self.group.gather(None)         # wait for the main process to have written the last epoch's weights
        files = sorted((self.run / "epochs").glob("*.asr"))
        if self.config.train.average > 1 and len(files) > 1:
            states = [load_model(path).network.state_dict() for path in files]
            mean = {name: torch.stack([state[name] for state in states]).mean(0) for name in states[0]}
            self.network.load_state_dict(mean)
            averaged = self.measure()
            self.journal.say(f"average of {len(files)} epochs: dev PER {averaged['per']:.2f} %")
            if averaged["per"] <= best["per"]:
                figures = {"per": averaged["per"], "epoch": best["epoch"] + 1, "averaged": len(files)}
                if self.group.main:
                    self.save(self.run / "model.asr", {"dev_per": averaged["per"], "averaged": len(files)})
        self.add_times()
        self.journal.log("done", **figures)
        self.journal.say(f"best dev PER {figures['per']:.2f} %: {self.run / 'model.asr'}")
        return figures

    def add_times(self) -> None:
        """Where phone times are known, train the classifier of frames on the finished model's encoder."""
        path = self.run / "model.asr"
        if self.group.main:
            model = load_model(path, str(self.group.device))
            classifier = fit_times(model.network, self.data.train, model.phones, model.normaliser, model.config)
            if classifier is not None:
                self.journal.say("trained a classifier of frames on phone_times, for the borders of phones")
                save_model(path, model.network, model.config, model.phones, model.normaliser, model.header.provenance,
                           classifier=classifier)
        self.group.gather(None)

    def save(self, path: Path, figures: dict[str, Any]) -> None:
        """Write the network as it stands, with where it comes from."""
        provenance = {**self.sources, **figures, "utterances": len(self.data.train.utterances),
                      "seed": self.config.train.seed, "torch": torch.__version__, "machine": platform.machine(),
                      "date": datetime.date.today().isoformat()}
        save_model(path, self.network, self.config, self.data.phones, self.data.normaliser, provenance)


def _entries(run: Path, event: str) -> list[dict[str, Any]]:
    """What the log tells of epochs (`epoch`), or of the end (`done`)."""
    return [entry for entry in read_log(run / "log.jsonl") if entry.get("event") == event]


def read_names(path: Path) -> dict[str, str]:
    """Lines of `our-phone<TAB>its-phone`, for `--init` with other names.

    Raises:
        AsrError: naming the line that is no pair.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise AsrError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise AsrError(f"{path}: is no UTF-8 text: give lines of two phones") from error
    names = {}
    for number, line in enumerate(lines, start=1):
        if line.strip() and not line.startswith("#"):
            fields = line.split()
            if len(fields) != 2:
                raise AsrError(f"{path}:{number}: expected two phones, ours and the model's, not {line!r}")
            names[composed(fields[0])] = composed(fields[1])
    return names
