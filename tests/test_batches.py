"""Plans, batches, joins and masks."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.config import Config, Features, Join, Mask, Train
from asr.corpus.phones import PhoneSet
from asr.corpus.records import Utterance
from asr.errors import AsrError
from asr.frontend.augment import spec_augment, warp_mels
from asr.frontend.batches import Batch, Loader, plan
from asr.frontend.fbank import Fbank, Moments, Normaliser, add_deltas, prepare_features
from asr.frontend.join import join

PHONES = PhoneSet(["a", "b", "pau"])
FEATURES = Features(mels=8, deltas=1, end_frame=True, speeds=[0.9, 1.0, 1.1])
TRAIN = Train(batch_frames=900, batch_utterances=6, mask=Mask(time_masks=2, mel_masks=1),
              join=Join(probability=0.4, most=3, gap=0.05, phone="pau"))
CONFIG = Config(features=FEATURES, train=TRAIN)


class Toy:
    """A source whose frames are noise that belongs to the utterance."""

    def __init__(self, lengths: list[int], features: Features = FEATURES) -> None:
        self.features, self.lengths = features, lengths
        self.utterances = [Utterance(f"u{i}", Path("none"), phones=("a", "b")[:1 + i % 2]) for i in range(len(lengths))]

    def frames(self, i: int, speed: float = 1.0) -> int:
        return round(self.lengths[i] / speed)

    def static(self, i: int, speed: float = 1.0) -> torch.Tensor:
        rng = np.random.default_rng(i)
        return torch.from_numpy(rng.standard_normal((self.frames(i, speed), self.features.mels)).astype(np.float32))

    def moments(self) -> Moments:
        return Moments.of(torch.cat([add_deltas(self.static(i), self.features.deltas)
                                     for i in range(len(self.utterances))]))


LENGTHS = np.random.default_rng(5).integers(20, 300, 40).tolist()


def loader(config: Config = CONFIG, **how) -> Loader:
    source = Toy(LENGTHS)
    return Loader(source, how.pop("phones", PHONES), Normaliser.of(source.moments()), config, **how)


def override(**train) -> Config:
    return CONFIG.model_copy(update={"train": TRAIN.model_copy(update=train)})


def same(a: Batch, b: Batch) -> bool:
    tensors = all(torch.equal(getattr(a, name), getattr(b, name))
                  for name in ("feats", "frames", "inputs", "targets", "labels"))
    return tensors and (a.ids, a.tokens, a.utterances, a.weight) == (b.ids, b.tokens, b.utterances, b.weight)


@given(st.lists(st.integers(1, 2000), max_size=200), st.integers(1, 5000), st.integers(1, 50), st.integers(0, 3),
       st.integers(0, 3), st.integers(0, 2))
@settings(max_examples=150, deadline=None)
def test_laws_of_a_plan(frames: list[int], budget: int, most: int, seed: int, epoch: int, first: int) -> None:
    batches = plan(frames, budget=budget, most=most, seed=seed, epoch=epoch, shortest_first=first)
    assert sorted(i for batch in batches for i in batch) == list(range(len(frames)))
    for batch in batches:
        own = [frames[i] for i in batch]
        assert own == sorted(own, reverse=True)
        assert len(batch) <= most
        assert len(batch) == 1 or len(batch) * own[0] <= budget
    assert batches == plan(frames, budget=budget, most=most, seed=seed, epoch=epoch, shortest_first=first)
    if epoch < first:
        longest = [frames[batch[0]] for batch in batches]
        assert all(a <= 1.1 * 1.001 * b for a, b in itertools.pairwise(longest))


def test_a_plan_pads_little_and_differs_between_epochs() -> None:
    frames = np.random.default_rng(0).integers(100, 1000, 3000).tolist()
    plans = [plan(frames, budget=12000, most=64, seed=1, epoch=epoch) for epoch in range(3)]
    for batches in plans:
        padded = sum(len(batch) * max(frames[i] for i in batch) for batch in batches)
        assert sum(frames) / padded > 0.93
    assert len({str(batches) for batches in plans}) == 3
    assert len({str(sorted(sorted(batch) for batch in batches)) for batches in plans}) == 3
    assert plans[0] != plan(frames, budget=12000, most=64, seed=2, epoch=0)


def test_what_is_in_a_batch() -> None:
    load = loader(override(mask=Mask(), join=Join()))
    source, heard = load.source, []
    for batch in load.epoch(0):
        assert batch.utterances == len(batch.ids)
        assert batch.tokens == int(batch.labels.sum())
        assert batch.feats.shape == (len(batch.ids), int(batch.frames.max()), 16)
        for row, id in enumerate(batch.ids):
            i, length = int(id[1:]), int(batch.labels[row])
            heard.append(i)
            ids = PHONES.encode(source.utterances[i].phones)
            assert batch.inputs[row].tolist() == [0, *ids] + [0] * (batch.inputs.shape[1] - length)
            assert batch.targets[row].tolist() == [*ids, 0] + [-100] * (batch.inputs.shape[1] - length)
            frames = int(batch.frames[row])
            x = next(x for speed in (0.9, 1.0, 1.1) if len(x := prepare_features(
                source.static(i, speed), FEATURES, load.normaliser)) == frames)
            assert torch.equal(batch.feats[row, :frames], x)
            assert not batch.feats[row, frames - 1:].any()
    assert sorted(heard) == list(range(40))


def test_measuring_goes_from_long_to_short_and_changes_nothing() -> None:
    load = loader(train=False)
    batches = list(load.epoch(0))
    frames = [length for batch in batches for length in batch.frames.tolist()]
    assert sorted(frames, reverse=True) == sorted((length + 1 for length in LENGTHS), reverse=True)
    assert max(frames) == frames[0]
    assert all(same(a, b) for a, b in zip(batches, load.epoch(7), strict=True))
    for batch in batches:
        x = prepare_features(load.source.static(int(batch.ids[0][1:])), FEATURES, load.normaliser)
        assert torch.equal(batch.feats[0, :len(x)], x)


def test_number_of_workers_changes_nothing() -> None:
    alone, helped = loader(), loader(override(workers=2))
    for a, b in zip(alone.epoch(3), helped.epoch(3), strict=True):
        assert same(a, b)


def test_an_epoch_is_taken_up_where_it_was_left() -> None:
    whole = list(loader().epoch(1))
    assert len(whole) == loader().updates(1) > 4
    rest = list(loader().epoch(1, skip=4))
    assert all(same(a, b) for a, b in zip(whole[4:], rest, strict=True))


def test_epochs_and_seeds_differ() -> None:
    first, second, other = next(loader().epoch(1)), next(loader().epoch(2)), next(loader(override(seed=2)).epoch(1))
    assert not same(first, second)
    assert not same(first, other)


@pytest.mark.parametrize("world", [2, 3, 8])
def test_ranks_share_each_batch(world: int) -> None:
    shares = [list(loader(rank=rank, world=world).epoch(2)) for rank in range(world)]
    for number, whole in enumerate(loader().epoch(2)):
        parts = [share[number] for share in shares]
        assert {part.tokens for part in parts} == {whole.tokens}
        assert {part.utterances for part in parts} == {whole.utterances}
        assert all(len(part.ids) for part in parts)
        counted = [part for part in parts if part.weight]
        assert sum(int(part.labels.sum()) for part in counted) == whole.tokens
        rows = sorted((id, part.feats[row, :part.frames[row]].tolist(), part.targets[row, :part.labels[row]].tolist())
                      for part in counted for row, id in enumerate(part.ids))
        assert rows == sorted((id, whole.feats[row, :whole.frames[row]].tolist(),
                               whole.targets[row, :whole.labels[row]].tolist()) for row, id in enumerate(whole.ids))
        for part in parts:
            if not part.weight:                         # a stand-in: the shortest row, and nothing to learn from it
                assert part.ids == whole.ids[-1:]


def test_joins_have_the_gaps_frames_and_label() -> None:
    load = loader(override(mask=Mask()))
    joined = 0
    items = {load.source.utterances[item.parts[0][0]].id: item for batch in load.batches(1) for item in batch}
    for batch in load.epoch(1):
        for row, id in enumerate(batch.ids):
            item = items[id]
            assert 1 <= len(item.parts) <= 3
            frames = sum(load.source.frames(i, speed) for i, speed in item.parts) + 5 * (len(item.parts) - 1) + 1
            assert int(batch.frames[row]) == frames
            phones = " pau ".join(" ".join(load.source.utterances[i].phones) for i, _ in item.parts)
            assert PHONES.decode(batch.targets[row, :batch.labels[row]].tolist()) == phones.split()
            joined += len(item.parts) > 1
    assert 6 <= joined <= 26                            # 40 draws with p = 0.4


def test_an_epoch_with_joins_has_every_utterance_once_and_joins_them_differently_each_time() -> None:
    load = loader(override())
    partners = []
    for epoch in range(3):
        rows = [[i for i, _ in item.parts] for batch in load.batches(epoch) for item in batch]
        assert sorted(i for row in rows for i in row) == list(range(len(load.source.utterances)))
        partners.append({tuple(row) for row in rows if len(row) > 1})
    assert partners[0]
    assert partners[0] != partners[1] != partners[2]
    assert [[item.parts for item in batch] for batch in load.batches(1)] \
        == [[item.parts for item in batch] for batch in loader(override()).batches(1)]


def test_a_gap_is_digital_silence_or_the_quietest_neighbour() -> None:
    silence = Fbank(FEATURES)(torch.zeros(400))[0]
    a, b = torch.randn(6, 8), torch.randn(4, 8) - 2
    seen = set()
    for seed in range(20):
        x = join([a, b], 3, silence, np.random.default_rng(seed))
        assert torch.equal(x[:6], a)
        assert torch.equal(x[9:], b)
        assert torch.equal(x[6], x[8])
        seen.add("digital" if torch.equal(x[6], silence) else "near")
        assert torch.equal(x[6], silence) or torch.equal(x[6], b[b.mean(1).argmin()])
    assert seen == {"digital", "near"}
    assert torch.equal(join([a, b], 0, silence, np.random.default_rng(0)), torch.cat([a, b]))


@given(st.integers(1, 120), st.integers(0, 3), st.integers(0, 40), st.integers(0, 3), st.integers(0, 12),
       st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_masks_keep_their_bounds(frames: int, times: int, width: int, bands: int, height: int, seed: int) -> None:
    x = torch.ones(frames, 2 * 9)                       # 8 mel bands and the energy, then their deltas
    mask = Mask(time_masks=times, time_width=width, mel_masks=bands, mel_width=height)
    y = spec_augment(x, mask, np.random.default_rng(seed), 8, 9)
    assert bool((x == 1).all())
    gone = y.view(frames, 2, 9) == 0
    assert torch.equal(gone[:, 0], gone[:, 1])          # deltas share the mask
    whole_frames = gone.all(dim=2).all(dim=1)
    assert int(whole_frames.sum()) <= times * min(width, frames // 5)
    assert not gone[~whole_frames][..., 8].any()        # no band mask on the energy
    if not whole_frames.all():
        assert int(gone[~whole_frames][0, 0].sum()) <= bands * min(height, 8)


def test_masks_do_mask() -> None:
    x = torch.ones(100, 8)
    hidden = [float((spec_augment(x, Mask(time_masks=2, mel_masks=2, mel_width=4), np.random.default_rng(seed), 8, 8)
                     == 0).float().mean()) for seed in range(50)]
    assert 0.2 < np.mean(hidden) < 0.6


def test_a_warp_moves_a_peak_along_the_mel_axis_in_features_and_deltas_alike_and_leaves_the_energy():
    x = torch.zeros(3, 2 * 9)       # 8 mel bands and the energy, and their deltas
    x[:, [4, 9 + 4]] = 1.0
    x[:, [8, 17]] = 7.0
    up = warp_mels(x, 1.25, 8, 9)
    assert up[:, 5].tolist() == up[:, 14].tolist() == [1.0] * 3
    assert up[:, [8, 17]].eq(7.0).all()
    assert torch.equal(warp_mels(x, 1.0, 8, 9), x)
    down = warp_mels(x, 0.8, 8, 9)
    assert down[0, :8].argmax() == 3
    assert 0 < down[0, 3] <= 1


@pytest.mark.parametrize("factor", [0.7, 0.95, 1.1, 1.4])
def test_a_warp_stays_between_what_was_there_and_keeps_what_is_flat(factor):
    x = torch.rand(5, 8)
    warped = warp_mels(x, factor, 8, 8)
    assert warped.min() >= x.min()
    assert warped.max() <= x.max()
    flat = torch.full((2, 8), 0.3)
    torch.testing.assert_close(warp_mels(flat, factor, 8, 8), flat)


def test_each_draw_warps_by_another_factor_within_the_bounds():
    ramp = torch.arange(8.0).expand(1, 8)
    warped = [spec_augment(ramp, Mask(warp=0.2), np.random.default_rng(seed), 8, 8) for seed in range(200)]
    factors = [float(1 / each[0, 1]) for each in warped]
    assert 0.8 <= min(factors) < 0.83
    assert 1.17 < max(factors) <= 1.2


def test_errors_name_the_utterance() -> None:
    none = "utterance 'u1': has no phones, and training needs some: transcribe it or take it out"
    unknown = "utterance 'u1': unknown phone 'zz': map it or take it out, the model knows a b pau"
    for phones, message in ((("a", "zz"), unknown),
                            ((), none), (None, none)):
        source = Toy([30, 40])
        source.utterances[1] = Utterance("u1", Path("none"), phones=phones)
        with pytest.raises(AsrError) as error:
            Loader(source, PHONES, Normaliser.of(source.moments()), CONFIG)
        assert str(error.value) == message
    with pytest.raises(AsrError, match=r"train\.join\.phone: unknown phone 'hush'"):
        loader(override(join=Join(probability=0.5, phone="hush")))


def test_untranscribed_utterances_can_be_measured_without_targets() -> None:
    source = Toy([30, 40])
    source.utterances[1] = Utterance("u1", Path("none"))
    batch = next(Loader(source, PHONES, Normaliser.of(source.moments()), CONFIG, train=False).epoch(0))
    assert batch.ids == ("u1", "u0")
    assert batch.labels.tolist() == [0, 2]
    assert batch.targets.tolist() == [[-100, -100], [1, 0]]
    batch = next(loader(phones=None, train=False).epoch(0))
    assert not batch.labels.any()
    assert batch.inputs.shape == (len(batch.ids), 1)


def test_speeds_that_a_source_has_no_copies_at_are_noticed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def frames(self: Toy, i: int, speed: float = 1.0) -> int:
        raise AsrError(f"no copies at {speed}")

    source = Toy([30])
    normaliser = Normaliser.of(source.moments())
    monkeypatch.setattr(Toy, "frames", frames)
    with pytest.raises(AsrError, match=r"no copies at 0\.9"):
        Loader(source, PHONES, normaliser, CONFIG)
    Loader(source, PHONES, normaliser, CONFIG, train=False)
