"""Training: resumed is uninterrupted, two processes are one, and a run that goes wrong says so."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from asr.config import Config, Train, dump_config
from asr.corpus.phones import PhoneSet
from asr.errors import AsrError, Stopped
from asr.frontend.fbank import Normaliser
from asr.model.file import Header, Model, load_model
from asr.model.recognizer import Recognizer
from asr.train import Session, open_data, read_names, train
from asr.training import optim
from asr.training.checkpoint import load_run_state, save_run_state
from asr.training.distributed import Processes, make_repeatable, pick_device
from asr.training.init import carry_over
from asr.training.journal import Journal
from asr.training.loop import Trainer

Make = Callable[..., Recognizer]
Configure = Callable[..., Config]
QUICK = ("features.mels=8", "features.window=25", "train.epochs=2", "train.batch_frames=130", "train.plots=0",
         "train.average=0", "train.lr=0.01", "train.warmup=3", "decode.longest=8", "encoder.dropout=0.2",
         "decoder.dropout=0.2", "train.dev_utterances=2")


@pytest.fixture(autouse=True)
def no_board(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)       # slow to import, and nothing of ours


@pytest.fixture
def quick(tiny_config: Configure, manifest: Callable[..., Path], tmp_path: Path) -> Callable[..., dict]:
    """`quick("run", "train.epochs=3", …)` trains on nine utterances in that run folder."""
    train_path, dev_path = manifest("train", 9), manifest("dev", 3, seed=1)
    def go(run: str, *overrides: str, **how: object) -> dict:
        return train(tiny_config(*QUICK, *overrides), train_path, dev_path, tmp_path / run, device="cpu", **how)
    return go


def weights(run: Path) -> dict[str, torch.Tensor]:
    state, _ = load_run_state(run)
    assert state is not None
    return state["network"]


def same_weights(one: Path, two: Path) -> bool:
    a, b = weights(one), weights(two)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def log(run: Path, event: str = "epoch") -> list[dict]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    changing = ("seconds", "frames_per_second")
    return [{k: v for k, v in line.items() if k not in changing} for line in lines if line["event"] == event]


class PowerCut(Exception):      # noqa: N818
    pass


EXTRAS = ("train.mask.time_masks=1", "train.mask.mel_masks=1", "train.scheduled_sampling=0.3",
          "train.weight_noise=0.01", "train.weight_noise_epoch=1", "train.join.probability=0.3", "train.ctc_warmup=2",
          "train.epochs=6", "train.average=2")


def test_three_epochs_and_three_are_six(quick: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    straight = quick("straight", *EXTRAS)
    whole = Trainer._epoch
    def cut(self: Trainer) -> None:
        if self.progress.epoch == 3:
            raise PowerCut
        whole(self)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_epoch", cut)
        with pytest.raises(PowerCut):
            quick("cut", *EXTRAS)
    assert len(log(tmp_path / "cut")) == 3
    assert quick("cut", *EXTRAS, resume=True) == straight
    assert same_weights(tmp_path / "straight", tmp_path / "cut")
    assert log(tmp_path / "straight") == log(tmp_path / "cut")
    a, b = (load_model(tmp_path / run / "model.asr").network.state_dict() for run in ("straight", "cut"))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert sorted(p.name for p in (tmp_path / "cut" / "epochs").iterdir()) \
        == sorted(p.name for p in (tmp_path / "straight" / "epochs").iterdir())


def test_stopped_at_any_update_and_resumed(quick: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ("train.batch_frames=60", "train.average=1")
    quick("straight", *options)
    update, updates = Trainer.update, log(tmp_path / "straight")[-1]["update"]
    assert updates > 8
    for stop in (1, updates // 2 - 1):      # the second is an epoch's last
        def interrupted(self: Trainer, *arguments: object, stop: int = stop) -> dict:
            if self.progress.update == stop:
                os.kill(os.getpid(), signal.SIGTERM)
            return update(self, *arguments)
        run = f"stopped-{stop}"
        with monkeypatch.context() as patch:
            patch.setattr(Trainer, "update", interrupted)
            with pytest.raises(Stopped) as stopped:
                quick(run, *options)
        assert stopped.value.code == 143
        assert str(stopped.value) == (f"{tmp_path / run}: stopped at update {stop + 1}, state saved; the same command "
                                      "with --resume goes on")
        quick(run, *options, resume=True)
        assert same_weights(tmp_path / "straight", tmp_path / run)
        assert log(tmp_path / "straight") == log(tmp_path / run)      # the figures of the whole epoch, too


def command(tiny_config: Configure, tmp_path: Path, run: str, *overrides: str) -> list[str]:
    (tmp_path / "c.yaml").write_text(dump_config(tiny_config(*QUICK, *overrides)))
    return ["train", "--config", str(tmp_path / "c.yaml"), "--train", str(tmp_path / "train.jsonl"), "--dev",
            str(tmp_path / "dev.jsonl"), "--run", str(tmp_path / run), "--device", "cpu"]


def test_sigterm_saves_and_exits_143(quick: Callable, tiny_config: Configure, tmp_path: Path) -> None:
    arguments = command(tiny_config, tmp_path, "killed", "train.epochs=2000", "train.checkpoint_updates=5")
    process = subprocess.Popen([sys.executable, "-m", "asr", *arguments], stderr=subprocess.PIPE, text=True)
    try:
        for line in process.stderr:
            if line.startswith("epoch   1/2000"):
                break
        process.send_signal(signal.SIGTERM)
        message = process.stderr.read().splitlines()[-1]
        assert process.wait(60) == 143
    finally:
        process.kill()
        process.stderr.close()
    state, remark = load_run_state(tmp_path / "killed")
    assert remark == ""
    assert message == (f"asr: {tmp_path / 'killed'}: stopped at update {state['progress']['update']}, state saved; the "
                       "same command with --resume goes on")


def test_workers_that_load_data_change_nothing(quick: Callable, tmp_path: Path) -> None:
    for workers in (0, 1, 2):
        quick(f"w{workers}", "train.epochs=1", "train.mask.time_masks=1", f"train.workers={workers}")
        assert same_weights(tmp_path / "w0", tmp_path / f"w{workers}")
        assert log(tmp_path / "w0") == log(tmp_path / f"w{workers}")


def test_two_processes_are_one(quick: Callable, tiny_config: Configure, tmp_path: Path) -> None:
    """The same loss curve and the same weights; some batches have one row, and a rank stands in."""
    still = ("train.batch_frames=60", "encoder.dropout=0", "decoder.dropout=0", "train.average=2",
             "train.epochs=2")
    quick("one", *still)
    arguments = command(tiny_config, tmp_path, "two", *still)
    done = subprocess.run([sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port",
                           str(29500 + os.getpid() % 1000), "-m", "--", "asr", *arguments],
                          capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    for one, two in zip(log(tmp_path / "one"), log(tmp_path / "two"), strict=True):
        for key in ("loss", "ctc", "attention"):
            assert two[key] == pytest.approx(one[key], abs=1e-5)
        assert (one["update"], one["per"]) == (two["update"], two["per"])
    a, b = weights(tmp_path / "one"), weights(tmp_path / "two")
    for name in a:
        torch.testing.assert_close(a[name], b[name], atol=2e-3, rtol=0)
    assert log(tmp_path / "one", "done") == log(tmp_path / "two", "done")


# The run folder.


def complaint(error: pytest.ExceptionInfo) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_run_folder_that_is_taken(quick: Callable, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quick("run", "train.epochs=1")
    where = tmp_path / "run"
    with pytest.raises(AsrError) as error:
        quick("run", "train.epochs=1")
    assert complaint(error) == f"{where}: holds a run already: add --resume to go on with it, or name another --run"
    with pytest.raises(AsrError) as error:
        quick("run", "train.epochs=1", "train.mask.mel_width=7", resume=True)
    assert complaint(error) == (f"{where}: was begun with another config: train.mask.mel_width was 8 and is 7 now; use "
                                "that, or name another --run")
    before = (where / "model.asr").read_bytes()
    capsys.readouterr()
    figures = quick("run", "train.epochs=1", resume=True)
    assert capsys.readouterr().err == f"{where}: finished already, dev PER {figures['per']:.2f} %\n"
    assert (where / "model.asr").read_bytes() == before
    (where / "last.pt").write_bytes(b"x")
    (where / "before.pt").unlink(missing_ok=True)
    with pytest.raises(AsrError) as error:
        quick("run", "train.epochs=1", resume=True)
    assert complaint(error) == (f"{where / 'last.pt'}: damaged (its checksum does not match), and there is none before "
                                "it: start again with another --run")


def test_a_run_of_an_earlier_version_goes_on(quick: Callable, tmp_path: Path) -> None:
    """Its config lacks keys that came later; they were as their defaults are."""
    quick("run", "train.epochs=1")
    state, _ = load_run_state(tmp_path / "run")
    del state["config"]["train"]["deterministic"], state["config"]["times"], state["data"]
    save_run_state(tmp_path / "run", state)
    quick("run", "train.epochs=1", resume=True)
    with pytest.raises(AsrError, match=r"train\.deterministic was False and is True now"):
        quick("run", "train.epochs=1", "train.deterministic=true", resume=True)


def test_a_file_is_no_run_folder(quick: Callable, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("mine")
    with pytest.raises(AsrError) as error:
        quick("run")
    assert complaint(error) == f"{tmp_path}/run: is a file: name a folder"
    assert (tmp_path / "run").read_text() == "mine"


def test_resume_of_nothing_begins(quick: Callable, tmp_path: Path) -> None:
    figures = quick("run", "train.epochs=1", resume=True)
    assert sorted(p.name for p in (tmp_path / "run").iterdir() if p.is_file() and not p.name.startswith(".")) \
        == ["before.pt", "config.yaml", "last.pt", "log.jsonl", "model.asr"]
    assert log(tmp_path / "run", "done") == [{"event": "done", **figures}]


def test_it_learns(quick: Callable, tmp_path: Path) -> None:
    quick("run", "train.epochs=12", "encoder.width=16", "decoder.width=16", "train.shortest_first=12",
          "encoder.dropout=0", "decoder.dropout=0")
    losses = [entry["loss"] for entry in log(tmp_path / "run")]
    assert losses[-1] < 0.75 * losses[0]


def test_data_that_do_not_fit(quick: Callable, tiny_config: Configure, manifest: Callable[..., Path],
                              tmp_path: Path) -> None:
    silent = manifest("silent", 2, text="")
    config = tiny_config(*QUICK)
    with pytest.raises(AsrError) as error:
        open_data(config, tmp_path / "train.jsonl", silent)
    assert complaint(error) == (f"{silent}: utterance 'silent-0' has no phones (2 such in all): transcribe it or take "
                                "its row out")
    strange = manifest("strange", 1, text="a zz")
    with pytest.raises(AsrError) as error:
        open_data(config, tmp_path / "train.jsonl", strange)
    assert complaint(error) == f"{strange}: strange-0: unknown phone 'zz': map it or take it out, the model knows a b c"


def test_the_first_dev_utterances_alone_are_decoded(quick: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    from asr import train as stage
    seen: list[int] = []
    recognise = stage.recognise
    def counting(network: Recognizer, feats: torch.Tensor, *rest: object) -> list:
        seen.append(len(feats))
        return recognise(network, feats, *rest)
    monkeypatch.setattr(stage, "recognise", counting)
    quick("run", "train.epochs=1", "train.dev_utterances=2")
    assert sum(seen) == 2


# Weights to begin with.


def model_of(network: Recognizer, config: Config, phones: list[str]) -> Model:
    return Model(Header(config, PhoneSet(phones), {}, "", {}), network, Normaliser(torch.zeros(8), torch.ones(8)))


def test_weights_are_carried_over_by_the_name_of_the_phone(tiny_network: Make, tiny_config: Configure) -> None:
    theirs, ours = tiny_network(phones=4, seed=1), tiny_network(phones=5, seed=2)
    fresh = {name: tensor.clone() for name, tensor in ours.state_dict().items()}
    taken = carry_over(ours, PhoneSet(["b", "x", "a", "new"]), model_of(theirs, tiny_config(), ["a", "b", "c"]),
                       {"x": "c"})
    assert (taken.phones, taken.new_phones, taken.new_tensors) == (("b", "x", "a"), ("new",), ())
    assert str(taken) == "3 phones carried over, 1 new: new"
    own, source = ours.state_dict(), theirs.state_dict()
    for name in ("decoder.embedding.weight", "decoder.output.phones.weight", "decoder.output.phones.bias",
                 "ctc.weight", "ctc.bias"):
        assert torch.equal(own[name][:4], source[name][[0, 2, 3, 1]])
        assert torch.equal(own[name][4], fresh[name][4])
    rest = [name for name in own if own[name].shape == source[name].shape]
    assert len(rest) > 10
    assert all(torch.equal(own[name], source[name]) for name in rest)


def test_weights_that_do_not_fit_begin_anew(tiny_network: Make, tiny_config: Configure) -> None:
    theirs, ours = tiny_network(phones=3, seed=1), tiny_network("decoder.width=9", phones=3, seed=2)
    taken = carry_over(ours, PhoneSet(["a", "b"]), model_of(theirs, tiny_config(), ["a", "b"]))
    assert all(name.startswith("decoder.") for name in taken.new_tensors)
    assert "decoder.cell.hidden.weight" in taken.new_tensors
    other = tiny_network("encoder.width=9", phones=3)
    with pytest.raises(AsrError) as error:
        carry_over(other, PhoneSet(["a", "b"]), model_of(theirs, tiny_config(), ["a", "b"]))
    assert complaint(error) == ("--init: none of the encoder's weights fit: use the model's own encoder and features "
                                "sections")


def test_init(quick: Callable, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quick("first", "train.epochs=1")
    capsys.readouterr()
    # A rate of almost nothing: what comes out is what went in.
    quick("second", "train.epochs=1", "train.lr=1.0e-12", "train.weight_decay=0",
          init=tmp_path / "first" / "model.asr")
    assert f"{tmp_path / 'first' / 'model.asr'}: 3 phones carried over\n" in capsys.readouterr().err
    one, two = weights(tmp_path / "first"), weights(tmp_path / "second")
    for name in one:
        torch.testing.assert_close(one[name], two[name], atol=1e-7, rtol=0)


def test_names(tmp_path: Path) -> None:
    path = tmp_path / "names.tsv"
    path.write_text("# ours its\naa\tɑ\n\n")
    assert read_names(path) == {"aa": "ɑ"}
    path.write_text("aa\n")
    with pytest.raises(AsrError) as error:
        read_names(path)
    assert complaint(error) == f"{path}:1: expected two phones, ours and the model's, not 'aa'"
    with pytest.raises(AsrError) as error:
        read_names(tmp_path / "none")
    assert complaint(error) == f"{tmp_path}/none: cannot be read: No such file or directory"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(AsrError) as error:
        read_names(path)
    assert complaint(error) == f"{path}: is no UTF-8 text: give lines of two phones"


# One update.


@pytest.fixture
def trainer(tiny_config: Configure, manifest: Callable[..., Path], tmp_path: Path) -> Callable[..., Trainer]:
    """A trainer that has not begun."""
    train_path, dev_path = manifest("train", 5), manifest("dev", 1)
    def make(*overrides: str) -> Trainer:
        from asr.frontend.batches import Loader
        config = tiny_config(*QUICK, *overrides)
        data = open_data(config, train_path, dev_path)
        torch.manual_seed(0)
        network = Recognizer(config, 8, len(data.phones)).train()
        (tmp_path / "run").mkdir(exist_ok=True)
        journal = Journal(tmp_path / "run", main=True, epochs=2)
        return Trainer(network, Loader(data.train, data.phones, data.normaliser, config), config,
                       Processes(0, 1, torch.device("cpu")), tmp_path / "run", journal, dict, lambda *_: None)
    return make


def test_a_gradient_that_is_not_finite_changes_nothing(trainer: Callable[..., Trainer], tmp_path: Path) -> None:
    this = trainer("train.bad_updates=3")
    batch = next(this.loader.epoch(0))
    this.update(batch, 0.0)
    before = {name: tensor.clone() for name, tensor in this.network.state_dict().items()}
    moments = json.dumps(this.optimizer.state_dict()["state"], default=lambda t: t.tolist())
    bad = type(batch)(**{**vars(batch), "feats": batch.feats * float("inf")})
    this.update(bad, 0.0)
    assert (this.progress.skipped, this.progress.skipped_in_a_row) == (1, 1)
    assert all(torch.equal(before[name], tensor) for name, tensor in this.network.state_dict().items())
    assert json.dumps(this.optimizer.state_dict()["state"], default=lambda t: t.tolist()) == moments
    this.update(batch, 0.0)
    assert (this.progress.skipped, this.progress.skipped_in_a_row) == (1, 0)
    assert not torch.equal(before["ctc.bias"], this.network.ctc.bias)
    this.update(bad, 0.0)
    this.update(bad, 0.0)
    with pytest.raises(AsrError) as error:
        this.update(bad, 0.0)
    assert complaint(error) == (f"{tmp_path / 'run'}: the gradient was not finite in 3 updates in a row (update 0): "
                                "lower train.lr, or look for broken data with `asr doctor`")
    this.journal.close()
    assert [line["in_a_row"] for line in log(tmp_path / "run", "skipped")] == [1, 1, 2, 3]


def test_layers_that_are_frozen_stand_still(trainer: Callable[..., Trainer]) -> None:
    this = trainer("train.freeze.layers=1", "train.freeze.updates=2", "train.weight_decay=0.1")
    batch = next(this.loader.epoch(0))
    for update in range(3):
        before = {name: tensor.clone() for name, tensor in this.network.state_dict().items()}
        this.update(batch, 0.0)
        this.progress.update += 1
        moved = {name for name, tensor in this.network.state_dict().items() if not torch.equal(before[name], tensor)}
        assert any(name.startswith("encoder.layers.0.") for name in moved) is (update == 2)
        assert any(name.startswith("encoder.layers.1.") for name in moved)
    this.journal.close()


def test_the_ctc_warm_up_leaves_the_decoder_alone(trainer: Callable[..., Trainer]) -> None:
    this = trainer("train.ctc_warmup=1", "train.ctc_weight=0.25")
    batch = next(this.loader.epoch(0))
    report = this.update(batch, 0.0)
    assert report["loss"] == pytest.approx(report["ctc"])
    this.progress.update += 1
    report = this.update(batch, 0.0)
    assert report["loss"] == pytest.approx(0.25 * report["ctc"] + 0.75 * report["attention"], rel=1e-5)
    this.journal.close()


def test_a_stand_in_counts_nothing(trainer: Callable[..., Trainer]) -> None:
    this = trainer("encoder.dropout=0", "decoder.dropout=0")
    batch = next(this.loader.epoch(0))
    this.network.zero_grad()
    loss, figures = this._loss(type(batch)(**{**vars(batch), "weight": 0.0}))
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert set(figures.tolist()) == {0.0}
    assert all(p.grad is None or float(p.grad.abs().max()) == 0.0 for p in this.network.parameters())
    this.journal.close()


def test_the_learning_rate() -> None:
    cosine = Train(lr=0.1, warmup=10, final_lr=0.02)
    rates = [optim.learning_rate(cosine, u, u / 100) for u in range(101)]
    assert rates[0] == pytest.approx(0.01, rel=1e-3)
    assert max(rates) == max(rates[8:12])
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert rates[50] == pytest.approx(0.1 * (0.02 + 0.98 / 2))
    assert rates[100] == pytest.approx(0.002)
    assert optim.learning_rate(cosine, 999, 1.5) == pytest.approx(0.002)
    flat = Train(lr=0.1, warmup=0, schedule="constant")
    assert optim.learning_rate(flat, 0, 0.9, 0.5) == 0.1
    plateau = Train(lr=0.1, warmup=4, schedule="plateau")
    assert [optim.learning_rate(plateau, u, 0.9, 0.5) for u in (0, 3, 99)] == pytest.approx([0.0125, 0.05, 0.05])


def test_the_plateau_and_patience(trainer: Callable[..., Trainer]) -> None:
    this = trainer("train.schedule=plateau", "train.plateau_patience=2", "train.plateau_factor=0.5", "train.patience=4",
                   "train.epochs=9")
    pers = iter([50.0, 40.0, 41.0, 42.0, 43.0, 44.0, 1.0])
    this.measure = lambda: {"per": next(pers)}
    decays = []
    this.epoch_done = lambda epoch, figures: decays.append(this.progress.decay)
    this.train()
    assert decays == [1.0, 1.0, 1.0, 0.5, 0.5, 0.25]
    assert (this.progress.epoch, this.progress.best, this.progress.done) == (6, 40.0, True)
    this.journal.close()


def test_noise_on_weights_is_taken_back_exactly(tiny_network: Make) -> None:
    network = tiny_network()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with optim.noisy_weights(network, 0.5):
        noisy = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    after = network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    changed = {name for name in before if not torch.equal(before[name], noisy[name])}
    assert changed == {name for name, p in network.named_parameters() if p.dim() > 1}
    difference = torch.cat([(noisy[name] - before[name]).flatten() for name in changed])
    assert float(difference.std()) == pytest.approx(0.5, rel=0.1)
    with pytest.raises(PowerCut), optim.noisy_weights(network, 0.5):
        raise PowerCut
    assert all(torch.equal(before[name], network.state_dict()[name]) for name in before)
    with optim.noisy_weights(network, 0.0):
        assert all(torch.equal(before[name], network.state_dict()[name]) for name in before)


def test_columns_are_limited() -> None:
    layer, filters = nn.Linear(3, 2), nn.Conv1d(1, 2, 4)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[3.0, 0.0, 4.0], [0.3, 0.0, 0.4]]))
        filters.weight.fill_(2.0)
        layer.bias.fill_(9.0)
    optim.limit_columns(nn.ModuleList([layer, filters]), 1.0)
    torch.testing.assert_close(layer.weight, torch.tensor([[0.6, 0.0, 0.8], [0.3, 0.0, 0.4]]))
    torch.testing.assert_close(filters.weight, torch.full((2, 1, 4), 0.5))
    assert layer.bias.tolist() == [9.0, 9.0]


def test_gradients_are_clipped(tiny_network: Make) -> None:
    network = tiny_network()
    for p in network.parameters():
        p.grad = torch.ones_like(p)
    norm = math.sqrt(network.parameters_count())
    assert float(optim.gradient_norm(network, 0.0)) == pytest.approx(norm)
    assert float(network.ctc.bias.grad[0]) == 1.0
    assert float(optim.gradient_norm(network, 2.0)) == pytest.approx(norm)
    assert float(network.ctc.bias.grad[0]) == pytest.approx(2 / norm, rel=1e-4)


def test_biases_do_not_decay(tiny_network: Make) -> None:
    for name, kind in (("adamw", torch.optim.AdamW), ("adadelta", torch.optim.Adadelta)):
        settings = Train(optimizer=name, weight_decay=0.5, epsilon=1e-6, rho=0.9)
        optimizer = optim.build_optimizer(tiny_network(), settings, torch.device("cpu"))
        assert isinstance(optimizer, kind)
        assert {(group["weight_decay"], p.dim() > 1) for group in optimizer.param_groups for p in group["params"]} \
            == {(0.5, True), (0.0, False)}
        assert all(group["eps"] == 1e-6 for group in optimizer.param_groups)


def test_what_deterministic_asks_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    monkeypatch.setattr(torch, "use_deterministic_algorithms", lambda mode, warn_only: asked.append((mode, warn_only)))
    make_repeatable(torch.device("cpu"))
    assert (asked, torch.backends.cudnn.benchmark) == ([], True)
    make_repeatable(torch.device("cuda"))
    assert (asked, torch.backends.cudnn.benchmark) == ([(True, True)], False)
    assert os.environ.pop("CUBLAS_WORKSPACE_CONFIG") == ":4096:8"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_no_cuda() -> None:
    assert pick_device("auto") == pick_device("cpu") == torch.device("cpu")
    with pytest.raises(AsrError) as error:
        pick_device("cuda")
    assert complaint(error) == ("--device cuda: torch sees no CUDA device here: use --device cpu, or look at "
                                "`nvidia-smi`")


def test_a_log_that_was_cut_off_is_taken_up(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"event": "epoch", "epoch": 0, "update": 5}\n{"event": "update", "update": 7}\n3\n\xff\n'
                     b'{"event": "upd')
    journal = Journal(tmp_path, main=True, epochs=2, progress={"epoch": 1, "update": 6})
    journal.log("update", update=8)
    journal.close()
    assert path.read_text() == '{"event": "epoch", "epoch": 0, "update": 5}\n{"event": "update", "update": 8}\n'
    Journal(tmp_path, main=True, epochs=2).close()
    assert path.read_text() == ""


def test_an_epoch_that_is_closed_twice_is_kept_once(quick: Callable, tmp_path: Path,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    """The power goes between an epoch's line in the log and the saved state, when all its updates were saved."""
    save = Trainer.save
    def cut(self: Trainer) -> None:
        if self.progress.epoch == 2:
            raise PowerCut
        save(self)
    options = ("train.epochs=3", "train.checkpoint_updates=1", "train.average=1")
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "save", cut)
        with pytest.raises(PowerCut):
            quick("run", *options)
    quick("run", *options, resume=True)
    assert [entry["epoch"] for entry in log(tmp_path / "run")] == [0, 1, 2]


def test_a_session_measures_every_utterance_once(quick: Callable, tmp_path: Path) -> None:
    assert Session.measure.__doc__
    quick("run", "train.dev_utterances=0", "train.epochs=1")
    entry = log(tmp_path / "run")[0]
    phones = sum(len(json.loads(line)["text"].split()) for line in (tmp_path / "dev.jsonl").read_text().splitlines())
    assert entry["per"] == pytest.approx(100 * (entry["ins"] + entry["del"] + entry["sub"]) / phones, abs=1e-3)
