"""When each phone was said: the best path of known phones through frame-wise evidence.

Evidence is (T, V) log probabilities, column 0 a pause or blank, from the classifier of feature frames (10 ms) or from
the CTC branch (encoder frames). A path spells the phones, each for one frame or more, with pauses anywhere; between
two equal phones there is one. Where a phone's stretch begins, its border lies; pauses belong to the phone before them,
so that phones tile the recording.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

import torch
import torchaudio
from torch import Tensor

from asr.corpus.records import TimedPhone
from asr.errors import AsrError
from asr.model.attention import Memory
from asr.model.file import Model
from asr.model.frames import PAUSE

Method = Literal["frames", "ctc", "attention"]
METHODS: tuple[Method, ...] = ("frames", "ctc", "attention")      # the most exact first


class Placed(NamedTuple):
    """Where phones were found; both lists have an entry a phone."""

    starts: Sequence[float]         # s
    confidences: Sequence[float]    # mean probability of the phone over its frames


def method_of(model: Model, asked: str) -> Method:
    """The method asked for, or with `auto` the most exact one that the model has.

    Raises:
        AsrError: the model lacks what the method needs.
    """
    has = {"frames": model.classifier is not None, "ctc": model.network.ctc is not None,
           "attention": model.config.attention.kind != "none"}
    if asked == "auto":
        return next((method for method in METHODS if has[method]), "attention")
    method = next(method for method in METHODS if method == asked)
    if not has[method]:
        lacks = {"frames": "no classifier of frames, which is trained where manifests have phone_times",
                 "ctc": "no CTC branch", "attention": "no attention"}[method]
        raise AsrError(f"times by {method!r}: the model has {lacks}: choose 'auto' or one of "
                       f"{', '.join(name for name in METHODS if has[name]) or 'no other'}")
    return method


class Evidence:
    """A model's evidence of what is said when, by `frames` or `ctc`."""

    def __init__(self, model: Model, method: Method) -> None:
        self.network, self.features = model.network, model.config.features
        self.classifier = model.classifier if method == "frames" else None
        hop = self.features.hop / 1000
        self.step = hop if self.classifier is not None else self.network.seconds        # s of a row
        # The border before row 0: a feature frame stands for the hop in the middle of its window. CTC peaks come late
        # by about as much as their frame begins early: on espeak the mean error of starts is -3 ms at 40 ms a frame.
        self.origin = (self.features.window / 1000 - hop) / 2 if self.classifier is not None else 0.0

    @torch.inference_mode()
    def rows(self, feats: Tensor, frames: Tensor, memory: Memory) -> list[Tensor]:
        """Features (B, T, F), lengths (B,) and what the encoder made of them → (T, V) or (S, V) of each utterance."""
        if self.classifier is None:
            log_probs, lengths = self.network.ctc_log_probs(memory), memory.lengths
        else:
            log_probs, lengths = self.classifier(feats, frames, memory.values.float()), frames
        return [rows[:length].cpu() for rows, length in zip(log_probs, lengths.tolist(), strict=True)]

    def seconds(self, row: float) -> float:
        """The border before a row, in seconds from the start of the recording."""
        return self.origin + row * self.step


def place(rows: Tensor, ids: Sequence[int], evidence: Evidence) -> Placed:
    """Place the phones `ids` in an utterance's evidence (T, V).

    Raises:
        AsrError: there are fewer rows than the phones need.
    """
    path = best_path(rows, ids)
    first, probabilities = stretches(path, rows, ids)
    return Placed([evidence.seconds(row) for row in first], probabilities)


def best_path(rows: Tensor, ids: Sequence[int]) -> list[int]:
    """The id in each row of (T, V) on the most probable path that spells `ids`.

    Raises:
        AsrError: there are fewer rows than the phones need.
    """
    if not ids:
        return [PAUSE] * len(rows)
    needed = len(ids) + sum(a == b for a, b in itertools.pairwise(ids))
    if len(rows) < needed:
        raise AsrError(f"{len(ids)} phones need {needed} frames at least, and there are {len(rows)}: is the "
                       "transcript of another recording?")
    targets = torch.tensor([list(ids)], dtype=torch.int32)
    path, _ = torchaudio.functional.forced_align(rows.float().unsqueeze(0), targets, blank=PAUSE)
    return path[0].tolist()


def stretches(path: Sequence[int], rows: Tensor, ids: Sequence[int]) -> tuple[list[int], list[float]]:
    """The first row of each phone of a path, and the phone's mean probability over its rows."""
    first: list[int] = []
    sums: list[float] = []
    counts: list[int] = []
    probabilities = rows[torch.arange(len(path)), torch.tensor(path)].exp().tolist() if len(path) else []
    before = PAUSE
    for row, (id, probability) in enumerate(zip(path, probabilities, strict=True)):
        if id != PAUSE and id != before:
            first.append(row)
            sums.append(0.0)
            counts.append(0)
        if id != PAUSE:
            sums[-1] += probability
            counts[-1] += 1
        before = id
    assert len(first) == len(ids)
    return first, [total / count for total, count in zip(sums, counts, strict=True)]


def monotone_foci(weights: Tensor) -> list[int]:
    """The frame of each step on the path through attention weights (U, S) that never goes back and weighs most."""
    scores = weights.clamp(min=1e-8).log().double()
    total, back = scores[0], []
    for row in scores[1:]:
        best = total.cummax(0)
        back.append(best.indices)
        total = best.values + row
    frames = [int(total.argmax())]
    for pointers in reversed(back):
        frames.append(int(pointers[frames[-1]]))
    return frames[::-1]


def tiled(phones: Sequence[str], starts: Sequence[float], confidences: Iterable[float],
          duration: float) -> tuple[TimedPhone, ...]:
    """Phones that tile [0, duration]: each lasts until the next begins, the first begins with the recording.

    `confidences` may go on behind the last phone, as they do where the end was found too.
    """
    return tuple(tiles(phones, starts, confidences, duration))


def tiles(phones: Iterable[str], starts: Iterable[float], confidences: Iterable[float],
          duration: float) -> Iterator[TimedPhone]:
    """The same, phone by phone."""
    inner = itertools.accumulate((min(max(start, 0.0), duration) for start in itertools.islice(starts, 1, None)), max)
    borders = itertools.chain([0.0], inner, [duration])
    for phone, (start, end), confidence in zip(phones, itertools.pairwise(borders), confidences, strict=False):
        yield TimedPhone(phone, start, end, min(1.0, max(0.0, confidence)))


def unsmoothed(phones: Iterable[TimedPhone], smoothing: float, ids: int) -> Iterator[TimedPhone]:
    """Confidences that mean what they say, of a decoder trained with label smoothing over so many ids.

    Smoothing teaches a decoder that is always right to say 1 - s + s / V, never 1; this takes it back. On espeak's
    test set the expected calibration error falls from 0.077 to 0.018 by it.
    """
    return (replace(phone, confidence=unsmooth(phone.confidence, smoothing, ids)) for phone in phones)


def unsmooth(confidence: float, smoothing: float, ids: int) -> float:
    """One of these confidences."""
    return min(1.0, max(0.0, (confidence - smoothing / ids) / (1 - smoothing))) if 0 < smoothing < 1 else confidence


class EvidenceStream:
    """Evidence of a recording that is encoded block by block, equal to that of the whole encoding.

    It listens at both ends of the encoder: `features` passes on what goes in, `rows` takes what comes out.
    """

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.feats: Tensor | None = None        # from frame `first` on
        self.values: Tensor | None = None       # from encoder frame first / stride on
        self.first = self.given = 0             # feature frames; `given` rows went out

    def features(self, pieces: Iterable[Tensor]) -> Iterator[Tensor]:
        """Pieces (t, F) of features, remembered and passed on."""
        for piece in pieces:
            if self.evidence.classifier is not None:
                self.feats = piece if self.feats is None else torch.cat([self.feats, piece])
            yield piece

    def rows(self, values: Tensor) -> Tensor:
        """Encoder frames (n, D), the next → the rows (m, V) that are settled by them."""
        if self.evidence.classifier is None:
            lengths = torch.tensor([len(values)])
            return self.evidence.rows(values, lengths, Memory(values[None], values[None, :, :0], lengths))[0]
        self.values = values if self.values is None else torch.cat([self.values, values])
        reach = self.evidence.classifier.reach
        return self._given(self.first + len(self.values) * self.evidence.classifier.stride - reach)

    def finish(self) -> Tensor | None:
        """The rows that are left, if any."""
        if self.evidence.classifier is None or self.feats is None or self.values is None:
            return None
        return self._given(self.first + len(self.feats))

    def _given(self, end: int) -> Tensor:
        """Rows from the last given on to `end`, with `reach` frames around them as context."""
        classifier = self.evidence.classifier
        assert classifier is not None
        assert self.feats is not None
        assert self.values is not None
        known = min(len(self.feats), len(self.values) * classifier.stride)
        feats, values = self.feats[:known].unsqueeze(0), self.values.unsqueeze(0)
        lengths = torch.tensor([known], device=feats.device)
        rows = self.evidence.rows(feats, lengths, Memory(values, values[..., :0], lengths))[0]
        rows = rows[self.given - self.first:max(self.given, end) - self.first]
        self.given = max(self.given, end)
        keep = max(0, (self.given - classifier.reach - self.first) // classifier.stride)
        self.feats, self.values = self.feats[keep * classifier.stride:], self.values[keep:]
        self.first += keep * classifier.stride
        return rows
