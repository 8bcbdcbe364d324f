"""The optimiser, its learning rate, and what is done to the weights beside it."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from asr import config


def build_optimizer(network: nn.Module, settings: config.Train, device: torch.device) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter 2019) or AdaDelta (Zeiler 2012); biases and norms do not decay."""
    decaying = [p for p in network.parameters() if p.dim() > 1]
    others = [p for p in network.parameters() if p.dim() <= 1]
    groups = [{"params": decaying, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
    if settings.optimizer == "adadelta":
        return torch.optim.Adadelta(groups, lr=settings.lr, rho=settings.rho, eps=settings.epsilon)
    return torch.optim.AdamW(groups, lr=settings.lr, betas=(0.9, 0.98), eps=settings.epsilon, fused=True)


def learning_rate(settings: config.Train, update: int, progress: float, decay: float = 1.0) -> float:
    """The rate of an update: a linear rise over `warmup` updates, then the schedule.

    Args:
        update: from 0
        progress: share of all epochs that is done, 0 to 1
        decay: what the plateau schedule has multiplied the rate by so far
    """
    rise = min(1.0, (update + 1) / settings.warmup) if settings.warmup else 1.0
    if settings.schedule == "cosine":
        fall = settings.final_lr + (1 - settings.final_lr) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
        return settings.lr * rise * fall
    return settings.lr * rise * (decay if settings.schedule == "plateau" else 1.0)


@contextlib.contextmanager
def noisy_weights(network: nn.Module, deviation: float) -> Iterator[None]:
    """Gaussian noise on the weight matrices for the time of a block (Graves 2011; Chorowski et al. 2015, section 4).

    The gradient taken inside is that of the noisy weights; the weights come back exactly.
    """
    if not deviation:
        yield
        return
    matrices = [p for p in network.parameters() if p.dim() > 1]
    with torch.no_grad():
        kept = [p.clone() for p in matrices]
        for p in matrices:
            p.add_(torch.randn_like(p), alpha=deviation)
    try:
        yield
    finally:
        with torch.no_grad():
            for p, clean in zip(matrices, kept, strict=True):
                p.copy_(clean)


@torch.no_grad()
def limit_columns(network: nn.Module, largest: float) -> None:
    """Scale the weights into each unit down to a norm of at most `largest` (Hinton et al. 2012)."""
    for p in network.parameters():
        if p.dim() > 1:
            norms = p.flatten(1).norm(dim=1)
            p.mul_((largest / norms.clamp(min=largest)).view(-1, *[1] * (p.dim() - 1)))


def gradient_norm(network: nn.Module, clip: float) -> Tensor:
    """The norm of all gradients, which are scaled down to `clip` where it is larger (0: never)."""
    return nn.utils.clip_grad_norm_(network.parameters(), clip if clip else math.inf)
