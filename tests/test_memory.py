"""A batch that memory does not hold is taken in parts, with the same gradient; where that is no help, it is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from command import in_ranks

from asr.config import Config
from asr.errors import AsrError
from asr.frontend.batches import Batch, Loader
from asr.model.recognizer import Recognizer
from asr.train import open_data
from asr.training.distributed import Processes, processes
from asr.training.journal import Journal
from asr.training.loop import Trainer
from asr.training.memory import is_out_of_memory, split

QUICK = ("train.batch_frames=400", "train.plots=0", "train.epochs=2", "times.width=0")


@pytest.fixture
def trainer(tiny_config: Callable[..., Config], manifest: Callable[..., Path],
            tmp_path: Path) -> Callable[..., Trainer]:
    train, dev = manifest("train", 8), manifest("dev", 1)
    def make(*overrides: str, group: Processes | None = None) -> Trainer:
        group = group or Processes(0, 1, torch.device("cpu"))
        config = tiny_config(*QUICK, *overrides)
        data = open_data(config, train, dev)
        torch.manual_seed(0)
        network = Recognizer(config, 8, len(data.phones)).train()
        (tmp_path / "run").mkdir(exist_ok=True)
        loader = Loader(data.train, data.phones, data.normaliser, config, rank=group.rank, world=group.world)
        return Trainer(network, loader, config, group, tmp_path / "run",
                       Journal(tmp_path / "run", main=group.main, epochs=2), dict, lambda *_: None)
    return make


def small_memory(this: Trainer, frames: int, message: str | None = None) -> list[int]:
    """From now on, the network holds so many padded frames; gives a list of the sizes that are tried."""
    whole, sizes = this.network.forward, []
    def forward(feats: torch.Tensor, *rest: object, **more: object) -> object:
        sizes.append(feats.shape[0] * feats.shape[1])
        if sizes[-1] > frames:
            raise RuntimeError(message) if message else torch.OutOfMemoryError("CUDA out of memory.")
        return whole(feats, *rest, **more)
    this.network.forward = forward
    return sizes


def gradients(this: Trainer) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in this.network.named_parameters()}


def a_batch(this: Trainer) -> Batch:
    return max(this.loader.epoch(0), key=lambda batch: batch.feats.shape[0] * batch.feats.shape[1])


@pytest.mark.parametrize("budget", [0, 1, 40, 90, 150, 10_000])
def test_parts_hold_every_row_once_and_no_more_than_fits(trainer: Callable[..., Trainer], budget: int) -> None:
    batch = a_batch(trainer())
    parts = list(split(batch, budget))
    assert sorted(id for part in parts for id in part.ids) == sorted(batch.ids)
    assert {(part.tokens, part.utterances, part.weight) for part in parts} \
        == {(batch.tokens, batch.utterances, batch.weight)}
    for part in parts:
        assert len(part.ids) == 1 or not budget or part.feats.shape[0] * part.feats.shape[1] <= budget
        assert part.feats.shape[1] == part.frames.max()
        assert part.targets.shape[1] == part.inputs.shape[1] == part.labels.max()
        for row, id in enumerate(part.ids):
            own, frames, steps = batch.ids.index(id), int(part.frames[row]), int(part.labels[row])
            assert (frames, steps) == (int(batch.frames[own]), int(batch.labels[own]))
            assert torch.equal(part.feats[row, :frames], batch.feats[own, :frames])
            assert torch.equal(part.targets[row, :steps], batch.targets[own, :steps])
            assert torch.equal(part.inputs[row, :steps], batch.inputs[own, :steps])


@pytest.mark.parametrize("message", [None, "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried …"])
def test_the_gradient_is_the_same(trainer: Callable[..., Trainer], tmp_path: Path, message: str | None,
                                  capsys: pytest.CaptureFixture[str]) -> None:
    this, other = trainer(), trainer()
    batch = a_batch(this)
    size, longest = batch.feats.shape[0] * batch.feats.shape[1], int(batch.frames.max())
    assert size >= 4 * longest
    wanted, report = this._gradient(batch), gradients(this)
    sizes = small_memory(other, size // 3, message)
    found = other._gradient(batch)
    assert found == pytest.approx(wanted, abs=1e-4)
    for name, gradient in gradients(other).items():
        torch.testing.assert_close(gradient, report[name], atol=1e-6, rtol=1e-4, msg=name)
    fits = other.progress.fits
    assert fits == size // 4
    assert capsys.readouterr().err == (
        f"update 0: out of memory with {size:,} frames at a time: from now on batches are computed in parts of "
        f"{size // 2:,}, which changes nothing but the time\n"
        f"update 0: out of memory with {size // 2:,} frames at a time: from now on batches are computed in parts of "
        f"{size // 4:,}, which changes nothing but the time\n")
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [entry["frames"] for entry in log if entry["event"] == "split"] == [size // 2, size // 4]
    sizes.clear()
    other._gradient(batch)              # it is not tried again
    assert max(sizes) <= fits
    assert other.state()["progress"]["fits"] == fits


@pytest.mark.parametrize("short", [0, 1])
def test_want_of_memory_in_one_rank_of_two(trainer: Callable[..., Trainer], tmp_path: Path, short: int) -> None:
    """Both begin the update anew, and end with the gradient of the whole batch."""
    alone = trainer()
    first = next(alone.loader.epoch(0))
    wanted, report = alone._gradient(first), gradients(alone)
    alone.journal.close()

    def work(rank: int) -> None:
        with processes(torch.device("cpu")) as group:
            this = trainer(group=group)
            batch = next(this.loader.epoch(0))
            size = batch.feats.shape[0] * batch.feats.shape[1]
            small_memory(this, size // 2 if rank == short else 10_000)
            found = this._gradient(batch)
            torch.save((found, gradients(this), this.progress.fits), tmp_path / f"{rank}.pt")
            small_memory(this, 1)
            with pytest.raises(AsrError, match="out of memory at update 0, in a batch whose longest utterance is"):
                this._gradient(batch)

    assert in_ranks(2, work) == [0, 0]
    shares = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    assert shares[0][2] == shares[1][2] > 0
    for found, own, _ in shares:
        assert found == pytest.approx(wanted, abs=1e-4)
        for name, gradient in own.items():
            torch.testing.assert_close(gradient, report[name], atol=1e-6, rtol=1e-4, msg=name)
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert next(entry["frames"] for entry in log if entry["event"] == "split") == shares[0][2]


def test_where_it_is_no_help_it_is_said(trainer: Callable[..., Trainer], tmp_path: Path) -> None:
    """A single utterance that is too long."""
    this = trainer()
    batch = a_batch(this)
    longest = int(batch.frames.max())
    small_memory(this, longest - 1)
    with pytest.raises(AsrError) as error:
        this._gradient(batch)
    assert str(error.value) == (
        f"{tmp_path}/run: out of memory at update 0, in a batch whose longest utterance is "
        f"{batch.ids[int(batch.frames.argmax())]!r} ({longest:,} frames): lower train.batch_frames, or leave the "
        "longest utterances out")


def test_the_largest_batch_is_tried_first(trainer: Callable[..., Trainer]) -> None:
    this = trainer("train.batch_frames=100")
    before = {name: tensor.clone() for name, tensor in this.network.state_dict().items()}
    largest = max(batch.feats.shape[0] * batch.feats.shape[1] for batch in this.loader.epoch(0))
    sizes = small_memory(this, 10_000)
    this._rehearse()
    assert sizes == [largest]
    assert all(torch.equal(before[name], tensor) for name, tensor in this.network.state_dict().items())
    assert all(p.grad is None for p in this.network.parameters())


def kept_for_the_gradient(this: Trainer, batch: Batch) -> int:
    """Bytes that the forward pass leaves for the backward pass, weights apart."""
    kept: dict[int, int] = {}
    weights = {p.untyped_storage().data_ptr() for p in this.network.parameters()}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        this._loss(batch)
    return sum(kept.values())


def test_the_frame_budget_bounds_what_is_kept(trainer: Callable[..., Trainer]) -> None:
    """On a CPU as well: of batches within a budget, none needs more than its share of what the whole set would."""
    whole = a_batch(trainer("train.batch_frames=100000"))
    frames = whole.feats.shape[0] * whole.feats.shape[1]
    most = kept_for_the_gradient(trainer(), whole)
    for budget in (100, 200, 400):
        this = trainer(f"train.batch_frames={budget}")
        for batch in this.loader.epoch(0):
            own = batch.feats.shape[0] * batch.feats.shape[1]
            assert own <= budget
            assert kept_for_the_gradient(this, batch) <= 1.5 * most * own / frames


def test_other_errors_are_no_want_of_memory(trainer: Callable[..., Trainer]) -> None:
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    this = trainer()
    small_memory(this, 0, "a bug of ours")
    with pytest.raises(RuntimeError, match="a bug of ours"):
        this._gradient(a_batch(this))
