"""Pictures of where the attention looked, drawn during training if matplotlib is installed."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import Tensor

from asr.corpus.phones import PhoneSet
from asr.files import writing
from asr.frontend.batches import Loader
from asr.model.recognizer import Recognizer


@torch.inference_mode()
def plot_attention(network: Recognizer, phones: PhoneSet, loader: Loader, utterances: int, folder: Path) -> None:
    """Write a PNG for each of the first dev utterances: encoder frames across, phones down, under teacher forcing."""
    try:
        import matplotlib
    except ImportError:
        return
    matplotlib.use("agg")
    from matplotlib.figure import Figure
    device = next(network.parameters()).device
    batch = next(iter(loader.epoch(0))).to(device)
    network.eval()
    rows = slice(0, utterances)
    memory = network.encode(batch.feats[rows], batch.frames[rows])
    _, weights = network.decoder(batch.inputs[rows], memory)
    for row, id in enumerate(batch.ids[rows]):
        targets = [target for target in batch.targets[row].tolist() if target >= 0]
        labels = [*phones.decode(targets[:-1]), "end"]
        picture: Tensor = weights[row, :len(targets), :int(memory.lengths[row])].cpu()
        figure = Figure(figsize=(8, max(2.0, 0.16 * len(labels))), layout="constrained")
        axes = figure.add_subplot()
        axes.imshow(picture, aspect="auto", cmap="magma", interpolation="nearest", vmin=0, vmax=1,
                    extent=(0, picture.size(1) * network.seconds, len(labels) - 0.5, -0.5))
        axes.set_yticks(range(len(labels)), labels, fontsize=7)
        axes.set_xlabel("s")
        axes.set_title(id, fontsize=8)
        name = re.sub(r"[^\w.-]", "_", id)[:80]
        with writing(folder / f"{name}.png", "wb") as file:
            figure.savefig(file, format="png", dpi=80)
