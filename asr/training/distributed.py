"""Several processes under `torchrun`, or one alone.

The launcher tells rank and world size through the environment. Gradients are summed behind the backward pass, in one
message, since the models are small (training/loop.py tells why not in mid-pass). Where torch would spin,
`OMP_WAIT_POLICY=PASSIVE` (set in `asr/__init__.py`) lets processes share cores.
"""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed.nn.functional
from torch import Tensor, distributed, nn

from asr.errors import AsrError

# `torch.distributed.nn.functional`, which torch's optimisers import, takes the group of that moment as a default of its
# functions. Were that ours, its threads would outlive `destroy_process_group`, and now and then abort the process at
# its end. So it is imported here, where there is none.


@dataclass(frozen=True)
class Processes:
    """Who we are among the processes of a run."""

    rank: int
    world: int
    device: torch.device

    @property
    def main(self) -> bool:
        """Whether this process writes files and talks."""
        return self.rank == 0

    def share(self, network: nn.Module) -> None:
        """Give every rank the main process's weights."""
        if self.world > 1:
            for tensor in network.state_dict().values():
                distributed.broadcast(tensor, 0)

    def sum_gradients(self, network: nn.Module) -> None:
        """Put the sum of all ranks' gradients into the weights of each, by one message; all have the same ones."""
        gradients = [p.grad for p in network.parameters() if p.grad is not None]
        if self.world > 1 and gradients:
            total = self.sum(torch.cat([gradient.flatten() for gradient in gradients]))
            for gradient, part in zip(gradients, total.split([g.numel() for g in gradients]), strict=True):
                gradient.copy_(part.view_as(gradient))

    def gather(self, thing: Any) -> list[Any]:
        """The things of all ranks, in rank order, on every rank."""
        if self.world == 1:
            return [thing]
        things: list[Any] = [None] * self.world
        distributed.all_gather_object(things, thing)
        return things

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum of the tensor over all ranks, on every rank."""
        if self.world > 1:
            distributed.all_reduce(tensor)
        return tensor

    def agree(self, flag: int) -> int:
        """The largest of all ranks' numbers, so that all do the same."""
        return max(self.gather(flag)) if self.world > 1 else flag


def pick_device(name: str) -> torch.device:
    """`auto`, `cpu` or `cuda` → the device of this process.

    Raises:
        AsrError: CUDA is asked for and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise AsrError("--device cuda: torch sees no CUDA device here: use --device cpu, or look at `nvidia-smi`")
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def make_repeatable(device: torch.device) -> None:
    """Ask torch for the same bits every time, on CUDA; a CPU gives them anyway.

    Not everything has such a kernel: the CTC loss has none for its gradient. torch warns where it goes on without.
    """
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")     # read when CUDA is first used
        torch.backends.cudnn.benchmark = False
        torch.use_deterministic_algorithms(True, warn_only=True)


@contextlib.contextmanager
def processes(device: torch.device, patience: datetime.timedelta = datetime.timedelta(minutes=30)
              ) -> Iterator[Processes]:
    """Join the group that `torchrun` launched, or stand alone; `patience`: how long one waits for another."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Processes(0, 1, device)
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    store, rank, world = next(iter(distributed.rendezvous("env://", timeout=patience)))
    again = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")       # of the ranks: who died left addresses behind
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=patience, rank=rank,
                                   world_size=world, store=distributed.PrefixStore(f"start-{again}", store))
    try:
        yield Processes(distributed.get_rank(), world, device)
    finally:
        distributed.destroy_process_group()
