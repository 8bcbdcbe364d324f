"""A batch that does not fit into memory, taken in parts: the same gradient, since losses are sums over rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from asr.frontend.batches import Batch

CPU_ALLOCATOR = "can't allocate memory"     # in what torch says where a CPU has no more; it has no class of its own


def split(batch: Batch, budget: int) -> Iterator[Batch]:
    """Parts of a batch that hold at most `budget` padded frames each, or a single row; 0: the batch as it is.

    Rows are taken longest first, so that little is padded. What the loss is divided by stays that of the whole batch.
    """
    if not budget or batch.frames.numel() * int(batch.frames.max()) <= budget:
        yield batch
        return
    rows = batch.frames.argsort(descending=True, stable=True)
    while len(rows):
        most = max(1, budget // int(batch.frames[rows[0]]))
        yield _rows(batch, rows[:most])
        rows = rows[most:]


def _rows(batch: Batch, rows: torch.Tensor) -> Batch:
    """Some rows of a batch, without the padding that they do not need."""
    frames, inputs, targets, labels = (x[rows] for x in (batch.frames, batch.inputs, batch.targets, batch.labels))
    longest = max(1, int(labels.max()))
    return replace(batch, ids=tuple(batch.ids[row] for row in rows.tolist()), frames=frames,
                   feats=batch.feats[rows, :int(frames.max())], inputs=inputs[:, :longest],
                   targets=targets[:, :longest], labels=labels)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error of torch's says that memory ran out, be it a GPU's or the machine's."""
    return isinstance(error, torch.OutOfMemoryError) or CPU_ALLOCATOR in str(error)
