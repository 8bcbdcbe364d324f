"""Weights to begin with, taken from another model: phones are carried over by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from asr.corpus.phones import PhoneSet
from asr.errors import AsrError
from asr.model.file import Model
from asr.model.recognizer import Recognizer

BY_PHONE = ("decoder.embedding.weight", "decoder.output.phones.weight", "decoder.output.phones.bias", "ctc.weight",
            "ctc.bias")     # tensors with a row for each phone id


@dataclass(frozen=True)
class CarriedOver:
    """What an initialisation took and what it could not."""

    phones: tuple[str, ...]         # rows taken from the other model
    new_phones: tuple[str, ...]     # rows that begin at random
    new_tensors: tuple[str, ...]    # tensors that the other model lacks, or has in another shape

    def __str__(self) -> str:
        text = f"{len(self.phones)} phones carried over"
        if self.new_phones:
            text += f", {len(self.new_phones)} new: {' '.join(self.new_phones)}"
        if self.new_tensors:
            text += f"; new weights: {', '.join(self.new_tensors)}"
        return text


@torch.no_grad()
def carry_over(network: Recognizer, phones: PhoneSet, model: Model,
               names: Mapping[str, str] | None = None) -> CarriedOver:
    """Copy what fits of a model's weights into a network.

    Args:
        names: the network's phone → the model's phone, where the names differ

    Raises:
        AsrError: the encoder does not fit at all.
    """
    source = {phone: number for number, phone in enumerate(model.phones.phones, start=1)}
    wanted = {phone: (names or {}).get(phone, phone) for phone in phones.phones}
    rows = {number: source[wanted[phone]] for number, phone in enumerate(phones.phones, start=1)
            if wanted[phone] in source} | {0: 0}
    own, theirs = network.state_dict(), model.network.state_dict()
    new = []
    for name, tensor in own.items():
        if name in theirs and name in BY_PHONE and tensor.shape[1:] == theirs[name].shape[1:]:
            tensor[list(rows)] = theirs[name][list(rows.values())].to(tensor.device)
        elif name in theirs and tensor.shape == theirs[name].shape:
            tensor.copy_(theirs[name])
        else:
            new.append(name)
    if all(name in new for name in own if name.startswith("encoder.")):
        raise AsrError("--init: none of the encoder's weights fit: use the model's own encoder and features sections")
    taken = tuple(phone for number, phone in enumerate(phones.phones, start=1) if number in rows)
    return CarriedOver(taken, tuple(phone for phone in phones.phones if phone not in taken), tuple(new))
