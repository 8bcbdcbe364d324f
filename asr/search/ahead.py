"""Work ahead: what will be searched next is read, computed and encoded by a thread meanwhile.

The encoder runs in few large kernels, the search in many small ones with Python between them; so each leaves the other
room. What is made does not depend on the thread, nor does its order.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, is_dataclass
from itertools import islice
from typing import Generic, TypeVar

import torch
from torch import Tensor

from asr import config

T = TypeVar("T")


def pays(settings: config.Decode, device: torch.device) -> bool:
    """Whether to work ahead: as the settings say; left to itself, on CUDA alone (tools/bench-notes.md says why)."""
    return settings.overlap == "always" or (settings.overlap == "auto" and device.type == "cuda")


@contextlib.contextmanager
def ahead(items: Iterator[T], depth: int, device: torch.device) -> Iterator[Iterator[T]]:
    """The same items in the same order; while one is used, a thread makes up to `depth` more. 0: there is no thread.

    What `items` raises is raised at its turn. At the end of the block the thread ends with the item at hand. Torch's
    modes belong to a thread: `items` enter `inference_mode` themselves.
    """
    if not depth:
        yield items
        return
    worker = ThreadPoolExecutor(1, "ahead")
    try:
        yield _made(worker, _Lane(items, device), depth)
    finally:
        worker.shutdown(cancel_futures=True)


def _made(worker: ThreadPoolExecutor, lane: _Lane[T], depth: int) -> Iterator[T]:
    coming = deque(worker.submit(lane.make) for _ in range(depth))
    while True:
        made = lane.take(*coming.popleft().result())
        if not made:
            return
        coming.append(worker.submit(lane.make))
        yield made[0]


class _Lane(Generic[T]):
    """The thread's way through the items; on CUDA a stream of its own, so that its kernels run beside the search's."""

    def __init__(self, items: Iterator[T], device: torch.device) -> None:
        self.items, self.device = items, device
        self.stream: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self.stream = torch.cuda.Stream(device)
            self.stream.wait_stream(torch.cuda.current_stream(device))      # the weights may still be on their way

    def make(self) -> tuple[list[T], torch.cuda.Event | None]:
        """In the thread: the next item, or none, and what tells that its kernels are done."""
        if self.stream is None:
            return list(islice(self.items, 1)), None
        with torch.cuda.stream(self.stream):
            return list(islice(self.items, 1)), self.stream.record_event()

    def take(self, made: list[T], done: torch.cuda.Event | None) -> list[T]:
        """In the consumer: the item, whose tensors may be used from now on; their memory is free only after that."""
        if done is not None:
            now = torch.cuda.current_stream(self.device)
            now.wait_event(done)
            for tensor in tensors_in(made):
                if tensor.is_cuda:
                    tensor.record_stream(now)
        return made


def tensors_in(item: object) -> Iterator[Tensor]:
    """All tensors in a tensor, a sequence or a dataclass."""
    if isinstance(item, Tensor):
        yield item
    elif isinstance(item, tuple | list):
        for part in item:
            yield from tensors_in(part)
    elif is_dataclass(item):
        for part in fields(item):
            yield from tensors_in(getattr(item, part.name))
