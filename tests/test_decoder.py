"""The decoder: one step after another is teacher forcing, and states can be reordered."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from asr.model.attention import Aids, Memory, Window
from asr.model.decoder import Cell, Output, State
from asr.model.recognizer import Recognizer

Make = Callable[..., Recognizer]
ORDERS = ["update-look-generate", "look-generate-update", "look-update-generate"]
VARIANTS = [(f"decoder.order={order}", f"decoder.cell={cell}", f"decoder.output={output}",
             f"decoder.input_feeding={feeding}")
            for order, cell, output, feeding in itertools.product(ORDERS, ["lstm", "gru"], ["mlp", "maxout"],
                                                                  ["true", "false"])]


def memory_of(network: Recognizer) -> Memory:
    torch.manual_seed(5)
    return network.encode(torch.randn(2, 20, 8), torch.tensor([20, 13]))


@pytest.mark.parametrize("overrides", VARIANTS, ids=lambda o: " ".join(v.split("=")[1] for v in o))
@torch.no_grad()
def test_step_by_step_is_teacher_forcing(overrides: tuple[str, ...], tiny_network: Make) -> None:
    network = tiny_network(*overrides, gain=2.0)
    memory, inputs = memory_of(network), torch.tensor([[0, 3, 1, 1, 4], [0, 2, 2, 4, 1]])
    logits, weights = network.decoder(inputs, memory)
    state = network.decoder.start(memory)
    for u in range(5):
        log_probs, state = network.decoder.step(inputs[:, u:u + 1], memory, state)
        torch.testing.assert_close(log_probs[:, 0], logits[:, u].log_softmax(1), atol=1e-5, rtol=0)
        torch.testing.assert_close(state.gaze.weights[:, 0], weights[:, u], atol=1e-5, rtol=0)
    assert state.step == 5


@torch.no_grad()
def by_hand(network: Recognizer, memory: Memory, inputs: list[int], order: str) -> list[Tensor]:
    """Log probabilities of each step, in the order of facts: s the state, c the context, y the last phone."""
    decoder = network.decoder
    s, m = torch.zeros(1, 1, 6), torch.zeros(1, 1, 6)
    c, gaze = torch.zeros(1, 1, 12), decoder.attention.start(memory)
    found = []
    for u, y in enumerate(inputs):
        drive = decoder.cell.embedded(decoder.embedding(torch.tensor([[y]])))
        if order == "update-look-generate":         # s_i = f(s, c, y); look with s_i; generate from s_i and c_i
            s, m = decoder.cell(drive, c, s, m)
            c, gaze = decoder.attention(s, memory, gaze)
        elif order == "look-update-generate":       # look with s_{i-1}; s_i = f(s, c_i, y); generate from s_i and c_i
            c, gaze = decoder.attention(s, memory, gaze)
            s, m = decoder.cell(drive, c, s, m)
        else:                                       # look with s; generate; then s_i = f(s, c_i, y_i)
            if u:
                s, m = decoder.cell(drive, c, s, m)
            c, gaze = decoder.attention(s, memory, gaze)
        found.append(decoder.output(s, c).log_softmax(-1)[0, 0])
    return found


@pytest.mark.parametrize("order", ORDERS)
@torch.no_grad()
def test_the_three_orders(order: str, tiny_network: Make) -> None:
    network = tiny_network(f"decoder.order={order}", gain=2.0)
    memory = memory_of(network).pick(torch.tensor([0]))
    logits, _ = network.decoder(torch.tensor([[0, 3, 1]]), memory)
    for u, expected in enumerate(by_hand(network, memory, [0, 3, 1], order)):
        torch.testing.assert_close(logits[0, u].log_softmax(0), expected, atol=1e-5, rtol=0)


def test_before_it_has_heard_anything_chorowskis_decoder_does_not_ask_for_a_phone(tiny_network: Make) -> None:
    network = tiny_network("decoder.order=look-generate-update")
    memory = memory_of(network)
    first = network.decoder.step(torch.tensor([[0], [0]]), memory, network.decoder.start(memory))[0]
    other = network.decoder.step(torch.tensor([[3], [4]]), memory, network.decoder.start(memory))[0]
    assert torch.equal(first, other)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@torch.no_grad()
def test_the_cell_is_torchs_cell(cell: str) -> None:
    torch.manual_seed(0)
    ours = Cell(cell, 3, 4, 5)
    theirs = {"lstm": nn.LSTMCell, "gru": nn.GRUCell}[cell](7, 5)
    theirs.weight_ih.copy_(torch.cat([ours.embedded.weight, ours.context.weight], dim=1))
    theirs.weight_hh.copy_(ours.hidden.weight)
    theirs.bias_ih.copy_(ours.embedded.bias)
    theirs.bias_hh.zero_()
    x, c, h, m = torch.randn(2, 3), torch.randn(2, 4), torch.randn(2, 5), torch.randn(2, 5)
    hidden, memory = ours(ours.embedded(x), c, h, m)
    if cell == "lstm":
        expected = theirs(torch.cat([x, c], dim=1), (h, m))
        torch.testing.assert_close(memory, expected[1])
        torch.testing.assert_close(hidden, expected[0])
    else:
        torch.testing.assert_close(hidden, theirs(torch.cat([x, c], dim=1), h))


@torch.no_grad()
def test_maxout_takes_the_larger_of_pairs(tiny_config: Callable) -> None:
    output = Output(tiny_config("decoder.output=maxout").decoder, 5, 3)
    s, c = torch.randn(2, 2), torch.randn(2, 3)
    pieces = output.hidden(torch.cat([s, c], dim=1))
    largest = torch.stack([torch.maximum(pieces[:, 2 * i], pieces[:, 2 * i + 1]) for i in range(6)], dim=1)
    torch.testing.assert_close(output(s, c), output.phones(largest))


@pytest.mark.parametrize("window", [None, Window(2, 3)])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
@torch.no_grad()
def test_a_step_of_picked_states_is_the_picked_step(cell: str, window: Window | None, tiny_network: Make) -> None:
    network = tiny_network(f"decoder.cell={cell}", gain=2.0)
    memory, decoder, aids = memory_of(network), network.decoder, Aids(window)
    _, state = decoder.step(torch.tensor([[0], [0]]), memory, decoder.start(memory), aids)
    _, state = decoder.step(torch.tensor([[1, 2, 3], [4, 2, 1]]), memory,
                            state.pick(torch.tensor([[0, 0, 0], [1, 1, 1]])), aids)
    rows = torch.tensor([[2, 0], [4, 4]])
    last = torch.tensor([[1, 2, 3], [3, 1, 4]])
    log_probs, after = decoder.step(last, memory, state, aids)
    picked, then = decoder.step(last.flatten()[rows], memory, state.pick(rows), aids)
    torch.testing.assert_close(picked, log_probs.flatten(0, 1)[rows], atol=1e-6, rtol=0)
    expected = after.pick(rows)
    for one, two in ((then.hidden, expected.hidden), (then.cell, expected.cell), (then.context, expected.context),
                     (then.gaze.weights, expected.gaze.weights)):
        torch.testing.assert_close(one, two, atol=1e-6, rtol=0)
    assert window is None or torch.equal(then.gaze.first, expected.gaze.first)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@torch.no_grad()
def test_what_each_id_drives_may_be_known_beforehand(cell: str, tiny_network: Make) -> None:
    network = tiny_network(f"decoder.cell={cell}", gain=2.0)
    decoder, memory = network.decoder, memory_of(network)
    drives = decoder.drive(torch.arange(5))
    state = decoder.step(torch.tensor([[0], [0]]), memory, decoder.start(memory))[1]
    last = torch.tensor([[3, 1, 1], [4, 2, 0]])
    state = state.pick(torch.tensor([[0, 0, 0], [1, 1, 1]]))
    plain, known = decoder.step(last, memory, state)[0], decoder.step(last, memory, state, drives=drives)[0]
    torch.testing.assert_close(known, plain, atol=1e-6, rtol=0)
    other = decoder.step(last, memory, state, drives=drives.roll(1, 0))[0]
    assert not torch.allclose(other, plain, atol=1e-3)


@torch.no_grad()
def test_a_state_is_handed_in_and_left_alone(tiny_network: Make) -> None:
    network = tiny_network()
    memory = memory_of(network)
    _, state = network.decoder.step(torch.tensor([[0], [0]]), memory, network.decoder.start(memory))
    kept = State(*(x.clone() for x in (state.hidden, state.cell, state.context)), state.gaze, state.step)
    one = network.decoder.step(torch.tensor([[1], [2]]), memory, state)[0]
    two = network.decoder.step(torch.tensor([[1], [2]]), memory, state)[0]
    assert torch.equal(one, two)
    assert torch.equal(kept.hidden, state.hidden)
    assert torch.equal(kept.cell, state.cell)


def test_scheduled_sampling(tiny_network: Make) -> None:
    network = tiny_network(gain=2.0)
    memory, inputs = memory_of(network), torch.tensor([[0, 3, 1, 1, 4], [0, 2, 2, 4, 1]])
    plain, _ = network.decoder(inputs, memory)
    random = torch.get_rng_state()
    assert torch.equal(network.decoder(inputs, memory, 0.0)[0], plain)
    assert torch.equal(torch.get_rng_state(), random)       # switched off, it draws no numbers
    own, _ = network.decoder(inputs, memory, 1.0)
    fed = inputs.clone()
    fed[:, 1:] = own[:, :-1].argmax(2)
    torch.testing.assert_close(own, network.decoder(fed, memory)[0])
    torch.testing.assert_close(own[:, 0], plain[:, 0])


@pytest.mark.parametrize("detach", ["true", "false"])
def test_detach_changes_gradients_and_nothing_else(detach: str, tiny_network: Make) -> None:
    network, other = (tiny_network(f"attention.detach={v}", gain=2.0) for v in (detach, "false"))
    grads = []
    for each in (network, other):
        logits, _ = each.decoder(torch.tensor([[0, 3, 1, 1]]), memory_of(each).pick(torch.tensor([0])))
        logits.square().sum().backward()
        grads.append((logits.detach(), each.decoder.attention.filters.weight.grad))
    assert torch.equal(grads[0][0], grads[1][0])
    assert torch.allclose(grads[0][1], grads[1][1], rtol=1e-5, atol=0) is (detach == "false")


@torch.no_grad()
def test_padding_of_the_memory_cannot_be_heard(tiny_network: Make) -> None:
    for kind in ("content", "location", "hybrid", "none"):
        network = tiny_network(f"attention.kind={kind}", gain=2.0)
        memory, inputs = memory_of(network), torch.tensor([[0, 3, 1], [0, 2, 4]])
        together, _ = network.decoder(inputs, memory)
        for row in range(2):
            alone, _ = network.decoder(inputs[row:row + 1], memory.pick(torch.tensor([row])))
            torch.testing.assert_close(together[row], alone[0], atol=1e-5, rtol=0)
