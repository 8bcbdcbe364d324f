"""The encoder: padding cannot be heard, and two plain layers are one bidirectional layer."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from asr.model.encoder import Bidirectional, Encoder, mask_of, reversal
from asr.model.recognizer import Recognizer

Make = Callable[..., Recognizer]
LENGTHS = torch.tensor([13, 1, 7, 12])


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_equals_torchs_bidirectional_layer_on_packed_sequences(cell: str) -> None:
    torch.manual_seed(0)
    ours = Bidirectional(cell, 5, 4)
    theirs = {"lstm": nn.LSTM, "gru": nn.GRU}[cell](5, 4, batch_first=True, bidirectional=True)
    for name, weights in ours.forwards.state_dict().items():
        theirs.state_dict()[name].copy_(weights)
    for name, weights in ours.backwards.state_dict().items():
        theirs.state_dict()[f"{name}_reverse"].copy_(weights)
    x = torch.randn(4, 13, 5)
    packed = nn.utils.rnn.pack_padded_sequence(x, LENGTHS, batch_first=True, enforce_sorted=False)
    expected, _ = nn.utils.rnn.pad_packed_sequence(theirs(packed)[0], batch_first=True)
    found = ours(x, LENGTHS)
    for row, length in enumerate(LENGTHS):
        torch.testing.assert_close(found[row, :length], expected[row, :length], atol=1e-5, rtol=0)


def test_the_reversal_turns_each_utterance_within_its_length() -> None:
    assert reversal(torch.tensor([3, 5, 1]), 5).tolist() == [[2, 1, 0, 3, 4], [4, 3, 2, 1, 0], [0, 1, 2, 3, 4]]


def test_an_lstm_begins_with_its_forget_gates_open() -> None:
    layer = Bidirectional("lstm", 3, 4)
    for direction in (layer.forwards, layer.backwards):
        bias = direction.bias_ih_l0 + direction.bias_hh_l0
        assert bias[4:8].tolist() == [1.0] * 4


SHAPES = ["encoder.pyramid=[1, 2, 2]", "encoder.pyramid=[2, 3]", "encoder.pyramid=[3, 1]"]
VARIANTS = [*([shape] for shape in SHAPES), ["encoder.cell=gru"], ["encoder.layer_norm=true", SHAPES[0]]]


@pytest.mark.parametrize("overrides", VARIANTS, ids=lambda o: " ".join(o))
@pytest.mark.parametrize("poison", [1e3, float("nan")])
def test_padding_cannot_be_heard(overrides: list[str], poison: float, tiny_network: Make) -> None:
    encoder = tiny_network(*overrides).encoder
    torch.manual_seed(1)
    x = torch.randn(4, 13, 8)
    behind = ~mask_of(LENGTHS, 13)
    clean, lengths = encoder(x.masked_fill(behind.unsqueeze(2), 0.0), LENGTHS)
    poisoned, _ = encoder(x.masked_fill(behind.unsqueeze(2), poison), LENGTHS)
    longer, _ = encoder(nn.functional.pad(x, (0, 0, 0, 9), value=poison), LENGTHS)
    assert torch.equal(clean, poisoned)
    torch.testing.assert_close(longer[:, :clean.size(1)], clean, atol=1e-6, rtol=0)
    assert bool((clean[~mask_of(lengths, clean.size(1))] == 0).all())


@pytest.mark.parametrize("overrides", VARIANTS, ids=lambda o: " ".join(o))
def test_a_batch_is_its_utterances(overrides: list[str], tiny_network: Make) -> None:
    encoder = tiny_network(*overrides).encoder
    torch.manual_seed(2)
    x = torch.randn(4, 13, 8)
    together, lengths = encoder(x, LENGTHS)
    for row, length in enumerate(LENGTHS.tolist()):
        alone, own = encoder(x[row:row + 1, :length], LENGTHS[row:row + 1])
        assert own.tolist() == [alone.size(1)] == [int(lengths[row])]
        torch.testing.assert_close(together[row, :alone.size(1)], alone[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize(("pyramid", "lengths"), [
    ("[1, 2, 2]", [4, 1, 2, 3]), ("[2, 3]", [3, 1, 2, 2]), ("[3, 1]", [5, 1, 3, 4]), ("[1]", [13, 1, 7, 12])])
def test_odd_lengths_are_rounded_up(pyramid: str, lengths: list[int], tiny_network: Make) -> None:
    encoder = tiny_network(f"encoder.pyramid={pyramid}").encoder
    y, found = encoder(torch.randn(4, 13, 8), LENGTHS)
    assert found.tolist() == lengths == [-(-n // encoder.stride) for n in LENGTHS.tolist()]
    assert y.shape == (4, max(lengths), 12)


def test_the_last_frame_of_an_odd_length_is_heard(tiny_network: Make) -> None:
    encoder = tiny_network("encoder.pyramid=[2, 2]").encoder
    x = torch.randn(1, 13, 8)
    other = x.clone()
    other[0, 12] += 1
    y, z = (encoder(v, torch.tensor([13]))[0] for v in (x, other))
    assert float((y[0, 3] - z[0, 3]).abs().max()) > 1e-3


def test_frames_are_joined_in_order(tiny_network: Make) -> None:
    layer = tiny_network("encoder.pyramid=[3]").encoder.layers[0]
    x = torch.randn(1, 7, 8)
    joined = torch.zeros(1, 3, 24)
    for j in range(7):
        joined[0, j // 3, j % 3 * 8:j % 3 * 8 + 8] = x[0, j]
    torch.testing.assert_close(layer(x, torch.tensor([7]))[0], layer.rnn(joined, torch.tensor([3])))


def test_layer_norm_is_behind_each_layer(tiny_network: Make) -> None:
    encoder = tiny_network("encoder.layer_norm=true").encoder
    y, _ = encoder(torch.randn(2, 12, 8), torch.tensor([12, 12]))
    torch.testing.assert_close(y.mean(2), torch.zeros(2, 6), atol=1e-5, rtol=0)
    torch.testing.assert_close(y.var(2, unbiased=False), torch.ones(2, 6), atol=1e-2, rtol=0)


def test_dropout_is_on_in_training_alone(tiny_network: Make) -> None:
    encoder: Encoder = tiny_network("encoder.dropout=0.5").encoder
    x, lengths = torch.randn(1, 12, 8), torch.tensor([12])
    assert torch.equal(encoder(x, lengths)[0], encoder(x, lengths)[0])
    encoder.train()
    assert not torch.equal(encoder(x, lengths)[0], encoder(x, lengths)[0])
