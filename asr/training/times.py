"""Training the frame classifier on `phone_times`, behind the recogniser and with its encoder standing still."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from asr.config import Config
from asr.corpus.phones import PhoneSet
from asr.corpus.records import Utterance
from asr.errors import AsrError
from asr.frontend.fbank import Normaliser, frame_centres, prepare_features
from asr.frontend.store import FeatureSource
from asr.model.frames import PAUSE, FrameClassifier
from asr.model.recognizer import Recognizer

BATCH = 8               # utterances in an update
IGNORED = -100
PRIOR_SHARE = 0.5       # of the log prior, taken off: TIMIT's sample gains 1 point within 20 ms, espeak loses none
RAREST = 1e-5           # a phone's prior is no lower


@dataclass(frozen=True)
class Example:
    """What the classifier learns of one utterance."""

    feats: Tensor       # (T, F) float16
    values: Tensor      # (S, D) float16, the encoder's
    labels: Tensor      # (T,) the id in each frame


def has_times(utterance: Utterance) -> bool:
    """Whether a manifest's row tells where its phones are."""
    return bool(utterance.phones) and utterance.extra.get("phone_times") is not None


def fit_times(network: Recognizer, source: FeatureSource, phones: PhoneSet, normaliser: Normaliser,
              config: Config) -> FrameClassifier | None:
    """Train a classifier on the utterances with `phone_times`; None where there are none, or `times.width` is 0.

    Raises:
        AsrError: naming the utterance whose `phone_times` are no `[start, end]` for each of its phones.
    """
    chosen = _chosen(source, config)
    if not chosen or not config.times.width:
        return None
    device = next(network.parameters()).device
    examples = [_example(network, source, i, phones, normaliser, config) for i in chosen]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.train.seed)
        classifier = FrameClassifier(config.times, examples[0].feats.size(1), network.encoder.width,
                                     network.encoder.stride, len(phones)).to(device)
        _descend(classifier, examples, config, device)
    counts = torch.bincount(torch.cat([example.labels for example in examples]), minlength=len(phones)).float()
    classifier.discount((counts / counts.sum()).clamp(min=RAREST).log().to(device), PRIOR_SHARE)
    return classifier.eval()


def frame_labels(ids: list[int], times: list[list[float]], centres: Tensor) -> Tensor:
    """The id said at each of the times `centres` (T,), in seconds; 0 between phones."""
    labels = torch.full((len(centres),), PAUSE)
    for id, (start, end) in zip(ids, times, strict=True):
        labels[(centres >= start) & (centres < end)] = id
    return labels


def _chosen(source: FeatureSource, config: Config) -> list[int]:
    """Utterances with times, drawn at random until there is as much speech as `times.hours`."""
    timed = [i for i, utterance in enumerate(source.utterances) if has_times(utterance)]
    order = np.random.default_rng(config.train.seed).permutation(timed).tolist()
    most = config.times.hours * 3600 * 1000 / config.features.hop
    heard = 0
    chosen: list[int] = []
    for i in order:
        heard += source.frames(i)
        if chosen and heard > most:
            break
        chosen.append(i)
    return chosen


@torch.no_grad()
def _example(network: Recognizer, source: FeatureSource, i: int, phones: PhoneSet, normaliser: Normaliser,
             config: Config) -> Example:
    utterance = source.utterances[i]
    ids = phones.encode(utterance.phones or (), f"utterance {utterance.id!r}")
    feats = prepare_features(source.static(i), config.features, normaliser)
    device = next(network.parameters()).device
    values = network.eval().encode(feats.unsqueeze(0).to(device), torch.tensor([len(feats)], device=device)).values[0]
    try:
        labels = frame_labels(ids, utterance.extra["phone_times"], frame_centres(len(feats), config.features))
    except (TypeError, ValueError) as error:
        raise AsrError(f"utterance {utterance.id!r}: its phone_times are no [start, end] in seconds for each of its "
                       f"{len(ids)} phones: mend them or leave them out") from error
    return Example(feats.half(), values.half().cpu(), labels)


def _descend(classifier: FrameClassifier, examples: list[Example], config: Config, device: torch.device) -> None:
    settings = config.times
    updates = min(settings.updates, settings.epochs * -(-len(examples) // BATCH))
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=settings.lr, weight_decay=0.01)
    rate = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, updates)
    classifier.train()
    for batch in _batches(examples, updates, config.train.seed):
        feats, values, labels = (part.to(device) for part in batch)
        frames = (labels != IGNORED).sum(1)
        log_probs = classifier(feats.float(), frames, values.float())
        loss = nn.functional.nll_loss(log_probs.flatten(0, 1), labels.flatten(), ignore_index=IGNORED)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        rate.step()


def _batches(examples: list[Example], updates: int, seed: int) -> Iterator[tuple[Any, ...]]:
    """So many batches, over all examples in turn, shuffled anew each time."""
    rng, pad = np.random.default_rng(seed), nn.utils.rnn.pad_sequence
    order: list[int] = []
    for _ in range(updates):
        if not order:
            order = rng.permutation(len(examples)).tolist()
        rows, order = [examples[i] for i in order[:BATCH]], order[BATCH:]
        yield (pad([row.feats for row in rows], batch_first=True), pad([row.values for row in rows], batch_first=True),
               pad([row.labels for row in rows], batch_first=True, padding_value=IGNORED))
