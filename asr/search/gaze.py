"""Where the decoder looked, phone by phone, for phones that are already known: the attention as a picture."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from asr import config
from asr.model.attention import Memory
from asr.model.recognizer import BLANK, Recognizer
from asr.search.stepper import aids_of


@torch.inference_mode()
def attention_weights(network: Recognizer, memory: Memory, ids: Sequence[int],
                      settings: config.Decode) -> Tensor | None:
    """Feed the decoder the phones one after another, with the window and the sharpening that the search has.

    Args:
        memory: of one utterance
        ids: of its U phones, the end not among them

    Returns:
        (U + 1, S) weights over encoder frames, on the CPU; the last row is the look that found the end. None where
        the model has no attention.
    """
    if network.decoder.attention.__class__.__name__ == "FinalState":
        return None
    aids, state = aids_of(network, settings), network.decoder.start(memory)
    S = int(memory.lengths[0])
    rows = []
    for last in (BLANK, *ids):
        _, state = network.decoder.step(torch.tensor([[last]], device=memory.lengths.device), memory, state, aids)
        rows.append(_laid_out(state.gaze.weights[0, 0], state.gaze.first, S))
    return torch.stack(rows).float().cpu()


def _laid_out(weights: Tensor, first: Tensor | None, S: int) -> Tensor:
    """The weights of a window (W,) at their place among all S frames."""
    if first is None:
        return weights[:S]
    begin = int(first[0, 0])
    row = weights.new_zeros(S)
    inside = slice(max(0, begin), min(S, begin + len(weights)))
    row[inside] = weights[inside.start - begin:inside.stop - begin]
    return row
