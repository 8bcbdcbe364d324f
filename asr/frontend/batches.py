"""Batches: which utterances go together, and what the model gets of them.

Everything random is a function of (seed, epoch, utterance): the plan of an epoch, speeds, joins and masks. So the
batches do not depend on the number of worker processes, on the number of ranks, or on where an epoch is taken up again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from asr.config import Config
from asr.corpus.phones import PhoneSet
from asr.errors import AsrError
from asr.frontend.augment import spec_augment
from asr.frontend.fbank import Fbank, Normaliser, prepare_features, static_width
from asr.frontend.join import join
from asr.frontend.store import FeatureSource

IGNORED = -100                  # a target that counts nothing, as torch's cross-entropy has it
BUCKET = 1.1                    # utterances of a bucket differ in length by this factor at most
PLAN, DRAW, MASK, JOIN = range(4)   # streams of random numbers that must not be the same


@dataclass(frozen=True)
class Batch:
    """What the model is trained on in one update, or this process's share of it."""

    ids: tuple[str, ...]        # of the utterances; a join has the first one's
    feats: Tensor               # (B, T, F) float32, 0 behind the end
    frames: Tensor              # (B,) int64
    inputs: Tensor              # (B, U) int64: <eos>, then the phones
    targets: Tensor             # (B, U) int64: the phones, then <eos>; -100 behind it
    labels: Tensor              # (B,) int64: phones and <eos>; 0 where nothing was transcribed
    tokens: int                 # sum of `labels` over the batch of all ranks
    utterances: int             # rows of the batch of all ranks
    weight: float = 1.0         # 0: a stand-in for a rank without a share, whose loss must not count

    def to(self, device: torch.device | str) -> Batch:
        """The same on another device; from pinned memory, without waiting for the copy."""
        return replace(self, **{name: getattr(self, name).to(device, non_blocking=True) for name in TENSORS})

    def pin_memory(self) -> Batch:
        """The same in page-locked memory, as DataLoader asks for it."""
        return replace(self, **{name: getattr(self, name).pin_memory() for name in TENSORS})


TENSORS = ("feats", "frames", "inputs", "targets", "labels")


@dataclass(frozen=True, slots=True)
class Item:
    """One row of a batch: an utterance, or several joined."""

    parts: tuple[tuple[int, float], ...]    # utterance and speed


def plan(frames: Sequence[int], *, budget: int, most: int, seed: int = 0, epoch: int = 0,
         shortest_first: int = 0) -> list[list[int]]:
    """Divide utterances into batches of similar length.

    A pure function of its arguments. Every utterance is in exactly one batch; a batch's padded frames, its size times
    its longest, stay within the budget, unless a single utterance is longer than that.

    Args:
        frames: of each utterance.
        budget: padded frames in a batch.
        most: utterances in a batch.
        seed, epoch: of the shuffling; epochs count from 0.
        shortest_first: in so many epochs, batches come from short to long; later they are shuffled.

    Returns:
        Lists of indices, the longest utterance of each first.
    """
    rng = np.random.default_rng([PLAN, seed, epoch])
    shuffle = rng.random(len(frames))
    buckets = np.floor(np.log(np.maximum(1, frames)) / math.log(BUCKET))
    batches: list[list[int]] = []
    longest = 0
    for i in np.lexsort((shuffle, buckets)).tolist():
        longest = max(longest, frames[i])
        if not batches or len(batches[-1]) == most or longest * (len(batches[-1]) + 1) > budget:
            batches.append([])
            longest = frames[i]
        batches[-1].append(i)
    for batch in batches:
        batch.sort(key=lambda i: (-frames[i], i))
    if epoch >= shortest_first:
        batches = [batches[number] for number in rng.permutation(len(batches))]
    return batches


class Loader:
    """Batches for training or for measuring.

    Args:
        source: where frames come from.
        phones: the model's phones; None: no targets are made.
        normaliser: of the frames.
        config: its sections `features` and `train`.
        rank, world: this process among how many. Rank r gets rows r, r + world, … of each batch; a rank that would
            get none stands in with a copy of the shortest row, of weight 0, since it must take part in the update.
        train: whether to shuffle, change speeds, join and mask; without, batches come from long to short.
        pin: whether batches are put in page-locked memory.

    Raises:
        AsrError: naming the utterance, for a phone outside the set, and in training for one without a transcript or
            with an empty one; for a join phone outside the set; for speeds that the store has no copies at.
    """

    def __init__(self, source: FeatureSource, phones: PhoneSet | None, normaliser: Normaliser, config: Config, *,
                 rank: int = 0, world: int = 1, train: bool = True, pin: bool = False) -> None:
        self.source, self.normaliser, self.config = source, normaliser, config
        self.rank, self.world, self.train, self.pin = rank, world, train, pin
        self.features = config.features
        self.labels = _labels(source, phones, train=train)
        self.gap_label = [] if phones is None or not train else _gap_label(config, phones)
        self.gap_frames = round(config.train.join.gap * 1000 / config.features.hop)
        fbank = Fbank(self.features)
        self.silence = fbank(torch.zeros(fbank.window))[0]
        if train:
            for speed in self.features.speeds:
                source.frames(0, speed)                 # a store without these copies says so now
        self._planned: tuple[int, list[list[Item]]] | None = None

    def updates(self, n: int) -> int:
        """The number of batches in epoch n, which counts from 0."""
        return len(self.batches(n))

    def epoch(self, n: int, skip: int = 0) -> Iterator[Batch]:
        """This rank's share of the batches of epoch n, without the first `skip`."""
        shares = _Shares(self, n, self.batches(n)[skip:])
        workers = self.config.train.workers
        yield from DataLoader(shares, batch_size=None, shuffle=False, num_workers=workers, pin_memory=self.pin,
                              worker_init_fn=_one_thread)

    def batches(self, n: int) -> list[list[Item]]:
        """The batches of all ranks in epoch n."""
        if self._planned is None or self._planned[0] != n:
            train = self.config.train
            items = self._items(n)
            groups = plan([self.frames(item) for item in items], budget=train.batch_frames,
                          most=train.batch_utterances, seed=train.seed if self.train else 0,
                          epoch=n if self.train else 0, shortest_first=train.shortest_first if self.train else 1)
            batches = [[items[i] for i in group] for group in groups]
            self._planned = n, batches if self.train else batches[::-1]
        return self._planned[1]

    def frames(self, item: Item) -> int:
        """Feature frames of a row, the end frame counted."""
        own = sum(self.source.frames(i, speed) for i, speed in item.parts)
        return own + (len(item.parts) - 1) * self.gap_frames + self.features.end_frame

    def label_ids(self, item: Item) -> list[int] | None:
        """Phone ids of a row, without <eos>; None where nothing was transcribed."""
        ids: list[int] = []
        for number, (i, _) in enumerate(item.parts):
            own = self.labels[i]
            if own is None:
                return None
            ids += (self.gap_label if number else []) + own
        return ids

    def feats(self, n: int, item: Item) -> Tensor:
        """Features of a row as the model gets them in epoch n: (T, F)."""
        rng = np.random.default_rng([MASK, self.config.train.seed, n, item.parts[0][0]])
        static = [self.source.static(i, speed) for i, speed in item.parts]
        whole = join(static, self.gap_frames, self.silence, rng) if len(static) > 1 else static[0]
        x = prepare_features(whole, self.features, self.normaliser)
        mask = self.config.train.mask
        mask = mask.model_copy(update={"time_masks": mask.time_masks * len(item.parts)})
        return spec_augment(x, mask, rng, self.features.mels, static_width(self.features)) if self.train else x

    def _items(self, n: int) -> list[Item]:
        """The rows of epoch n: every utterance once, alone or in a join, at the speed drawn for it."""
        train, count, speeds = self.config.train, len(self.source.utterances), self.features.speeds
        if not self.train or (speeds == [1.0] and not train.join.probability):
            return [Item(((i, 1.0),)) for i in range(count)]
        drawn = [speeds[np.random.default_rng([DRAW, train.seed, n, i]).integers(len(speeds))] for i in range(count)]
        if not train.join.probability:
            return [Item(((i, drawn[i]),)) for i in range(count)]
        rng = np.random.default_rng([JOIN, train.seed, n])
        order, items = rng.permutation(count).tolist(), []
        while order:
            size = int(rng.integers(2, train.join.most + 1)) if rng.random() < train.join.probability else 1
            items.append(Item(tuple((i, drawn[i]) for i in order[:size])))
            order = order[size:]
        return items


class _Shares(Dataset):
    """One rank's share of each batch, made when it is asked for, in whichever process."""

    def __init__(self, loader: Loader, epoch: int, batches: list[list[Item]]) -> None:
        self.loader, self.epoch, self.batches = loader, epoch, batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> Batch:
        batch, loader = self.batches[number], self.loader
        share = batch[loader.rank::loader.world]
        labels = [loader.label_ids(item) for item in batch]
        tokens = sum(0 if ids is None else len(ids) + 1 for ids in labels)
        rows = share or batch[-1:]
        return _collate([loader.source.utterances[item.parts[0][0]].id for item in rows],
                        [loader.feats(self.epoch, item) for item in rows],
                        labels[loader.rank::loader.world] if share else labels[-1:],
                        tokens=tokens, utterances=len(batch), weight=1.0 if share else 0.0)


def _collate(ids: Sequence[str], feats: Sequence[Tensor], labels: Sequence[list[int] | None], *, tokens: int,
             utterances: int, weight: float) -> Batch:
    """Pad rows to one batch."""
    lengths = [0 if own is None else len(own) + 1 for own in labels]
    inputs = torch.zeros(len(ids), max([1, *lengths]), dtype=torch.int64)
    targets = torch.full_like(inputs, IGNORED)
    for row, own in enumerate(labels):
        if own is not None:
            inputs[row, 1:len(own) + 1] = torch.tensor(own)
            targets[row, :len(own) + 1] = torch.tensor([*own, 0])
    return Batch(tuple(ids), torch.nn.utils.rnn.pad_sequence(list(feats), batch_first=True),
                 torch.tensor([len(x) for x in feats]), inputs, targets, torch.tensor(lengths), tokens, utterances,
                 weight)


def _labels(source: FeatureSource, phones: PhoneSet | None, *, train: bool) -> list[list[int] | None]:
    """Phone ids of every utterance; None where nothing was transcribed, or there is no phone set to write it in."""
    labels: list[list[int] | None] = []
    for utterance in source.utterances:
        if train and not utterance.phones:
            raise AsrError(f"utterance {utterance.id!r}: has no phones, and training needs some: transcribe it or "
                           "take it out")
        labels.append(None if phones is None or utterance.phones is None
                      else phones.encode(utterance.phones, f"utterance {utterance.id!r}"))
    return labels


def _gap_label(config: Config, phones: PhoneSet) -> list[int]:
    phone = config.train.join.phone
    return phones.encode([phone], "train.join.phone") if phone and config.train.join.probability else []


def _one_thread(_: int) -> None:
    torch.set_num_threads(1)
