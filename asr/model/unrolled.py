"""The decoder's loop over a training batch, with a backward pass written by hand.

`Decoder.steps` says what is computed; this says it again for speed, and a test holds the two together. Autograd keeps
every step's tensors and adds up weight gradients step by step. Here the energies' hidden layer, (B, S, A) a step, is
computed again on the way back while it is still in the processor's cache, and the gradients of weights and values are
one product each behind the loop.

Three more savings:

- tanh z = 2 σ(2z) - 1, and a sigmoid costs a sixth of a tanh on a CPU. The factors 2 go into keys, query, location and
  energy weights; the -1 is a constant that softmax does not see.
- The location filters are a band matrix, made once a batch: f = F * α is then one small product. Long utterances
  take it block by block, so that the matrix does not grow with the square of their length.
- Query, location and keys meet in one product: keys + [f, 1] [U; W s].

Beside the alphabet of the package: G = 4 H gates; C counts filters, a column of ones and zeros, up to a multiple of 4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from asr import config
from asr.model.attention import Attention, Memory
from asr.model.glimpse import bands

if TYPE_CHECKING:
    from asr.model.decoder import Cell, Decoder


WIDEST = 384        # encoder frames; over more, the band matrix is that of a block …
BLOCK = 192         # … of so many frames at most


def fits(decoder: Decoder) -> bool:
    """Whether the decoder is one of those that this file knows; the others take the plain way."""
    return (isinstance(decoder.attention, Attention) and decoder.attention.settings.keep == 0
            and decoder.settings.order != "look-update-generate")


def unroll(decoder: Decoder, driven: Tensor, memory: Memory) -> tuple[Tensor, Tensor, Tensor]:
    """All steps of teacher forcing: (B, U, gates H) → hidden (B, U, H), context (B, U, D), weights (B, U, S).

    The weights carry no gradient.
    """
    attention = decoder.attention
    assert isinstance(attention, Attention)
    blocks = Blocks.of(memory.values.size(1), attention.settings)
    with torch.autocast(driven.device.type, enabled=False):
        energy, bias = _energy(attention, memory)
        bands, location = _location(attention, blocks)
        seen, weights = _Unrolled.apply(
            _four_gates(decoder.cell, driven.float()).transpose(0, 1), blocks.pad(memory.values.float()),
            blocks.pad(2 * memory.keys), blocks.pad(attention.start(memory).weights.transpose(1, 2)).squeeze(2),
            _recurrent_weight(decoder.cell, memory.values.size(2)), 2 * attention.query.weight, bands, location, energy,
            blocks.pad(bias.unsqueeze(2), float("-inf")).squeeze(2), blocks, decoder.cell.kind,
            attention.settings.normaliser == "smooth", attention.settings.detach,
            decoder.settings.order == "look-generate-update")
    context, hidden = seen.transpose(0, 1).split([memory.values.size(2), decoder.settings.width], dim=2)
    return hidden, context, weights.transpose(0, 1)[:, :, :blocks.frames]


class Blocks(NamedTuple):
    """How S encoder frames are cut for the band matrix: into `number` blocks of `width`, heard with `reach` around."""

    frames: int         # S, before it is filled up to number · width
    number: int
    width: int
    reach: int          # 0: one block holds all

    @classmethod
    def of(cls, S: int, settings: config.Attention) -> Blocks:
        """One block for short utterances."""
        if S <= WIDEST:
            return cls(S, 1, S, 0)
        count = -(-S // BLOCK)
        return cls(S, count, -(-S // count), 0 if settings.kind == "content" else settings.taps // 2)

    def pad(self, x: Tensor, value: float = 0.0) -> Tensor:
        """(B, S, …) → (B, number · width, …)."""
        more = self.number * self.width - self.frames
        return nn.functional.pad(x, (0, 0, 0, more), value=value) if more else x

    def cut(self, weights: Tensor) -> Tensor:
        """(B, number · width) → (B · number, width + 2 reach), the frames that each block hears."""
        if self.number == 1:
            return weights
        heard = nn.functional.pad(weights, (self.reach, self.reach))
        return heard.unfold(1, self.width + 2 * self.reach, self.width).reshape(len(weights) * self.number, -1)

    def joined(self, heard: Tensor) -> Tensor:
        """What `cut` does, turned around: what several blocks heard of a frame is added up."""
        if self.number == 1:
            return heard
        parts = heard.view(-1, self.number, self.width + 2 * self.reach)
        size = self.number * self.width + 2 * self.reach
        whole = nn.functional.fold(parts.transpose(1, 2), (1, size), (1, parts.size(2)), stride=(1, self.width))
        return whole.view(len(parts), size)[:, self.reach:size - self.reach]


def _four_gates(cell: Cell, driven: Tensor) -> Tensor:
    """(B, U, gates H) → (B, U, 4 H). A GRU's are r, z, and n in two parts: of the input, and of the state."""
    return driven if cell.kind == "lstm" else nn.functional.pad(driven, (0, driven.size(2) // 3))


def _recurrent_weight(cell: Cell, width: int) -> Tensor:
    """(4 H, D + H), from context and state to the four gates."""
    hidden = cell.hidden.weight
    context = hidden.new_zeros(len(hidden), width) if cell.context is None else cell.context.weight
    if cell.kind == "lstm":
        return torch.cat([context, hidden], dim=1)
    H = hidden.size(1)
    both = torch.cat([context[:2 * H], hidden[:2 * H]], dim=1)
    of_input, of_state = nn.functional.pad(context[2 * H:], (0, H)), nn.functional.pad(hidden[2 * H:], (width, 0))
    return torch.cat([both, of_input, of_state])


def _location(attention: Attention, blocks: Blocks) -> tuple[Tensor, Tensor]:
    """The filters as a band matrix (width + 2 reach, width C), and U (C, A), both with zeros up to C.

    In U's last row the query comes to stand. Products whose width is no multiple of 4 take up to three times as long.
    """
    if attention.settings.kind == "content":
        width = blocks.width
        return attention.bias.new_zeros(width, 4 * width), attention.bias.new_zeros(4, len(attention.bias))
    filters = attention.filters.weight.squeeze(1)                       # (filters, r)
    more = 4 - len(filters) % 4
    return (bands(nn.functional.pad(filters, (0, 0, 0, more)), blocks.width, blocks.reach),
            nn.functional.pad(2 * attention.location.weight.t(), (0, 0, 0, more)))


def _energy(attention: Attention, memory: Memory) -> tuple[Tensor, Tensor]:
    """The energies' weights (A,) for sigmoids in place of tanhs, and what is added to them (B, S)."""
    energy = attention.settings.beta * attention.energy.weight.squeeze(0)
    bias = torch.zeros(memory.mask.shape, device=energy.device)
    if attention.energy.bias is not None:
        bias = bias + attention.settings.beta * attention.energy.bias - energy.sum()
    return 2 * energy, bias.masked_fill(~memory.mask, float("-inf"))


class _Unrolled(torch.autograd.Function):
    """The loop itself, time first."""

    @staticmethod
    def forward(ctx: Any, driven: Tensor, values: Tensor, keys: Tensor, start: Tensor, recurrent: Tensor,
                query: Tensor, bands: Tensor, location: Tensor, energy: Tensor, bias: Tensor, blocks: Blocks, kind: str,
                smooth: bool, detach: bool, late: bool) -> tuple[Tensor, Tensor]:
        """(U, B, 4 H) and what `unroll` prepares → context and state of each step (U, B, D + H), weights (U, B, S).

        `late`: the first step looks before it has been updated.
        """
        U, B, G = driven.shape
        _, S, D = values.shape
        new = driven.new_empty
        seen, weights, energies = new(U + 1, B, D + G // 4), new(U + 1, B, S), new(U, B, S)
        gates, cells, felt = new(U, B, G), new(U + 1, B, G // 4), new(U, B, S, len(location))
        update = {"lstm": _update_lstm, "gru": _update_gru}[kind]
        ones = new(blocks.width, len(location)).zero_()
        ones[:, -1] = 1.0
        mix, hidden = location.repeat(B, 1, 1), new(B, S, len(energy))
        seen[0], weights[0], cells[0] = 0.0, start, 0.0
        for u in range(U):
            state, context = seen[u + 1, :, D:], seen[u + 1, :, :D]
            if late and u == 0:
                gates[0], cells[1], seen[1] = 0.0, 0.0, 0.0
            else:
                torch.addmm(driven[u], seen[u], recurrent.t(), out=gates[u])
                update(gates[u], seen[u, :, D:], cells[u], state, cells[u + 1])
            torch.addmm(ones.view(-1), blocks.cut(weights[u]), bands, out=felt[u].view(B * blocks.number, -1))
            torch.mm(state, query.t(), out=mix[:, -1])
            torch.baddbmm(keys, felt[u], mix, out=hidden).sigmoid_()
            torch.addmv(bias.view(-1), hidden.view(B * S, -1), energy, out=energies[u].view(-1))
            torch.softmax(nn.functional.logsigmoid(energies[u]) if smooth else energies[u], 1, out=weights[u + 1])
            context.copy_(torch.bmm(weights[u + 1].unsqueeze(1), values).squeeze(1))
        ctx.save_for_backward(values, keys, recurrent, query, bands, location, energy, seen, weights, energies, gates,
                              cells, felt)
        ctx.blocks, ctx.kind, ctx.smooth, ctx.detach, ctx.late = blocks, kind, smooth, detach, late
        ctx.mark_non_differentiable(weights)
        return seen[1:], weights[1:]

    @staticmethod
    def backward(ctx: Any, grad_seen: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients, in the order of `forward`; what is called `…_hidden` still lacks its factor `energy`."""
        (values, keys, recurrent, query, bands, location, energy, seen, weights, energies, gates, cells,
         felt) = ctx.saved_tensors
        U, B, G = gates.shape
        _, S, D = values.shape
        C, A = location.shape
        blocks: Blocks = ctx.blocks
        rows = B * blocks.number
        back = {"lstm": _back_lstm, "gru": _back_gru}[ctx.kind]
        d_seen, d_gates, d_cell = grad_seen.clone(), torch.zeros_like(gates), torch.zeros_like(cells[0])
        d_query, d_felt, d_weights = values.new_empty(U, B, A), torch.empty_like(felt), torch.zeros_like(energies[0])
        d_keys, d_energy, d_bias = torch.zeros_like(keys), torch.zeros_like(energy), torch.zeros_like(energies[0])
        mix, hidden, d_hidden = location.repeat(B, 1, 1), torch.empty_like(keys), torch.empty_like(keys)
        d_mix, d_mixes = torch.empty_like(mix), torch.zeros_like(mix)
        location_energy = (location * energy).t()
        for u in reversed(range(U)):
            state, d_state, d_context = seen[u + 1, :, D:], d_seen[u, :, D:], d_seen[u, :, :D]
            d_weights += torch.bmm(d_context.unsqueeze(1), values.transpose(1, 2)).squeeze(1)
            d_e = torch._softmax_backward_data(d_weights, weights[u + 1], 1, torch.float32)
            if ctx.smooth:
                d_e *= (-energies[u]).sigmoid_()
            torch.mm(state, query.t(), out=mix[:, -1])
            torch.baddbmm(keys, felt[u], mix, out=hidden).sigmoid_()
            torch.ops.aten.sigmoid_backward.grad_input(d_e.unsqueeze(2), hidden, grad_input=d_hidden)
            torch.bmm(felt[u].transpose(1, 2), d_hidden, out=d_mix)
            d_bias += d_e
            d_energy.addmv_(hidden.view(B * S, A).t(), d_e.view(-1))
            d_keys += d_hidden
            d_mixes += d_mix
            torch.mul(d_mix[:, -1], energy, out=d_query[u])
            d_state.addmm_(d_query[u], query)
            torch.mm(d_hidden.view(B * S, A), location_energy, out=d_felt[u].view(B * S, C))
            if ctx.detach:
                d_weights.zero_()
            else:
                d_weights = blocks.joined(d_felt[u].view(rows, -1) @ bands.t())
            if u or not ctx.late:
                back(gates[u], seen[u, :, D:], cells[u], cells[u + 1], d_state, d_cell, d_gates[u])
            if u:
                d_seen[u - 1].addmm_(d_gates[u], recurrent)
                if ctx.kind == "gru":
                    d_seen[u - 1, :, D:].addcmul_(d_state, gates[u, :, G // 4:G // 2])
        d_values = torch.bmm(weights[1:].permute(1, 2, 0), d_seen[:, :, :D].transpose(0, 1))
        d_recurrent = d_gates.flatten(0, 1).t() @ seen[:-1].flatten(0, 1)
        d_bands = blocks.cut(weights[:-1].flatten(0, 1)).t() @ d_felt.view(U * rows, -1)
        return (d_gates, d_values, d_keys * energy, None, d_recurrent,
                d_query.flatten(0, 1).t() @ seen[1:, :, D:].flatten(0, 1), d_bands, d_mixes.sum(0) * energy, d_energy,
                d_bias, None, None, None, None, None)


# The cells, each with its way back. `gates` (B, 4 H) are activated in place; the new state and cell are written.


def _update_lstm(gates: Tensor, state: Tensor, cell: Tensor, new_state: Tensor, new_cell: Tensor) -> None:
    i, f, g, o = gates.chunk(4, dim=1)
    gates[:, :2 * i.size(1)].sigmoid_()
    g.tanh_()
    o.sigmoid_()
    torch.mul(f, cell, out=new_cell).addcmul_(i, g)
    torch.mul(o, new_cell.tanh(), out=new_state)


def _back_lstm(gates: Tensor, state: Tensor, cell: Tensor, new_cell: Tensor, d_state: Tensor, d_cell: Tensor,
               d_gates: Tensor) -> None:
    """Writes `d_gates`; `d_cell` is turned from the new cell's gradient into the old one's."""
    i, f, g, o = gates.chunk(4, dim=1)
    heard = new_cell.tanh()
    d_cell += _through_tanh(d_state * o, heard)
    d_gates.copy_(torch.cat([_through_sigmoid(d_cell * g, i), _through_sigmoid(d_cell * cell, f),
                             _through_tanh(d_cell * i, g), _through_sigmoid(d_state * heard, o)], dim=1))
    d_cell *= f


def _update_gru(gates: Tensor, state: Tensor, cell: Tensor, new_state: Tensor, new_cell: Tensor) -> None:
    r, z, n, of_state = gates.chunk(4, dim=1)
    gates[:, :2 * r.size(1)].sigmoid_()
    n.addcmul_(r, of_state).tanh_()
    torch.lerp(n, state, z, out=new_state)              # (1 - z) n + z s


def _back_gru(gates: Tensor, state: Tensor, cell: Tensor, new_cell: Tensor, d_state: Tensor, d_cell: Tensor,
              d_gates: Tensor) -> None:
    """Writes `d_gates`; what reaches the old state by z is added by the loop."""
    r, z, n, of_state = gates.chunk(4, dim=1)
    d_n = _through_tanh(d_state * (1 - z), n)
    d_gates.copy_(torch.cat([_through_sigmoid(d_n * of_state, r), _through_sigmoid(d_state * (state - n), z), d_n,
                             d_n * r], dim=1))


def _through_sigmoid(grad: Tensor, y: Tensor) -> Tensor:
    return torch.ops.aten.sigmoid_backward(grad, y)


def _through_tanh(grad: Tensor, y: Tensor) -> Tensor:
    return torch.ops.aten.tanh_backward(grad, y)
