"""A model at work: hypotheses of utterances of any length, from a source of features or a stream.

Short utterances are searched in batches; recordings longer than `decode.long.after` are read, encoded and searched
piece by piece, in bounded memory. What cannot be recognised is counted, and never keeps the rest from being done.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import BinaryIO, NamedTuple

import torch
from torch import Tensor

from asr import config
from asr.bandwidth import Bandwidth
from asr.corpus.records import Hypothesis, PackedPhones, TimedPhone, Utterance
from asr.errors import AsrError
from asr.frontend.audio import probe, stream_audio
from asr.frontend.fbank import FrameStream, prepare_features
from asr.frontend.store import FeatureSource, OnTheFly
from asr.model.attention import Memory
from asr.model.file import Model
from asr.search.ahead import ahead, pays
from asr.search.beam import Found
from asr.search.blocks import TOGETHER, encode_blocks
from asr.search.bound import walks
from asr.search.follow import Timekeeper
from asr.search.health import is_poor
from asr.search.longform import LongSearch
from asr.search.recognise import encode, hypothesis_of, search_memory, timed_phones
from asr.search.recording import Recording, hand_back
from asr.search.second import SecondTry
from asr.search.spans import Loudness, SpanSearch, blocks_ahead, lag
from asr.search.times import Evidence, method_of, place, tiles, unsmooth, unsmoothed

READ = 10.0         # s of audio read at a time, at most: what comes through a pipe waits no longer than for a block
AHEAD = 4           # batches of utterances that are sorted by length together


@dataclass
class Tally:
    """What a run of the decoder did: kept for the last line and the exit code."""

    utterances: int = 0
    seconds: float = 0.0                                                    # of speech
    failures: list[tuple[str, str]] = field(default_factory=list)           # id, reason
    poor: list[str] = field(default_factory=list)                           # ids whose attention went astray

    def add(self, other: Tally) -> None:
        """Count what another process did."""
        self.utterances, self.seconds = self.utterances + other.utterances, self.seconds + other.seconds
        self.failures += other.failures
        self.poor += other.poor


@dataclass
class Heard:
    """How much of a stream has been heard, and what broke it off."""

    seconds: float = 0.0
    broken: AsrError | None = None
    silent: bool = True                 # every sample so far was the same


@dataclass(frozen=True)
class Stretch:
    """Utterances of a source, by number, that are read and sorted by length together; a long one stands alone."""

    source: FeatureSource
    rows: Sequence[int]
    long: bool = False


@dataclass
class Part:
    """What was found in a stretch, by number, and what was done for it."""

    stretch: Stretch
    found: dict[int, Hypothesis] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)

    @property
    def hypotheses(self) -> list[Hypothesis]:
        """In order."""
        return [self.found[i] for i in self.stretch.rows if i in self.found]


class Encoded(NamedTuple):
    """Utterances of a stretch, alike in length, ready to be searched."""

    rows: Sequence[int]
    feats: Tensor           # (B, T, F)
    frames: Tensor          # (B,)
    memory: Memory


Live = Callable[[str, Sequence[TimedPhone], float], None]     # id, phones that have settled, seconds heard so far


class Transcriber:
    """A model at work."""

    def __init__(self, model: Model, settings: config.Decode, device: torch.device) -> None:
        self.model, self.settings, self.device = model, settings, device
        self.network = model.network.to(device)
        self.features = model.config.features.model_copy(update={"speeds": [1.0]})
        method = method_of(model, settings.times)
        self.evidence = None if method == "attention" else Evidence(model, method)
        self.bandwidth = Bandwidth(model.header)
        self.overlap = int(pays(settings, device))      # batches that a thread makes ready
        # Without a window, which is what walks on, only spans are left.
        self.walks = settings.long.road == "stream" and walks(model.config.model_copy(update={"decode": settings}))

    def transcribe(self, audio: Path | str) -> Hypothesis:
        """One audio file of any length.

        Raises:
            AsrError: the file cannot be read, or holds too little sound.
        """
        tally = Tally()
        source = OnTheFly([Utterance(Path(audio).stem, Path(audio))], self.features)
        for hypothesis in self.run(source, tally):
            return hypothesis
        raise AsrError(tally.failures[0][1])

    def run(self, source: FeatureSource, tally: Tally, live: Live | None = None,
            known: Mapping[str, Hypothesis] | None = None) -> Iterator[Hypothesis]:
        """Hypotheses of all utterances that can be read, in order; `tally` counts what was done and what failed.

        Those in `known`, by id, were found earlier and are given as they are.
        """
        known = known or {}
        for part in self.parts(self.stretches(source, known), known, live):
            tally.add(part.tally)
            yield from part.hypotheses

    def stretches(self, source: FeatureSource, known: Mapping[str, Hypothesis]) -> Iterator[Stretch]:
        """The utterances in stretches, in order, none larger than a few batches."""
        settings, waiting, seconds = self.settings, list[int](), 0.0
        for i, utterance in enumerate(source.utterances):
            length = 0.0 if utterance.id in known else self._length(source, i)
            long = length > settings.long.after and isinstance(source, OnTheFly)
            if waiting and (long or len(waiting) == AHEAD * settings.batch_size
                            or seconds + length > AHEAD * settings.batch_seconds):
                yield Stretch(source, waiting)
                waiting, seconds = [], 0.0
            if long:
                yield Stretch(source, [i], long=True)
            else:
                waiting.append(i)
                seconds += length
        if waiting:
            yield Stretch(source, waiting)

    def parts(self, stretches: Iterable[Stretch], known: Mapping[str, Hypothesis],
              live: Live | None = None) -> Iterator[Part]:
        """What is found in each stretch, in order."""
        for long, group in groupby(stretches, key=lambda stretch: stretch.long):
            if not long:
                yield from self._short(group, known)
                continue
            for stretch in group:
                part = Part(stretch)
                for hypothesis in self.long(stretch.source.utterances[stretch.rows[0]], part.tally, live=live):
                    part.found[stretch.rows[0]] = hypothesis
                yield part

    def long(self, utterance: Utterance, tally: Tally, stream: BinaryIO | None = None,
             live: Live | None = None) -> Iterator[Hypothesis]:
        """One recording of any length, in bounded memory. Of a stream that breaks off, what was heard is given."""
        network, long, heard, recording = self.network, self.settings.long, Heard(), Recording()
        loudness = Loudness(self.features.mels, network.encoder.stride) if network.ctc is None else None
        keeper = Timekeeper(self.evidence, lag(long), confident=False) if self.evidence is not None else None
        waiting = list[TimedPhone]()
        try:
            with torch.inference_mode(), self.blocks(utterance, heard, keeper, loudness, stream) as blocks:
                for piece in self._road(loudness).run(blocks):
                    recording.add(piece)
                    if keeper is not None:
                        keeper.settle(piece.ids, piece.foci)
                    if live is not None:
                        waiting += self._timed(piece.ids, piece.foci, piece.log_probs, heard.seconds)
                        if not heard.silent:        # else it may turn out to be no recording, and what is shown stays
                            live(utterance.id, tuple(waiting), heard.seconds)
                            waiting.clear()
        except AsrError as error:
            tally.failures.append((utterance.id, str(error)))
            return
        if heard.broken is not None:
            tally.failures.append((utterance.id, f"{heard.broken}; the {heard.seconds:.1f} s before are transcribed"))
        yield self._counted(self._joined(utterance, recording, keeper, heard), heard.seconds, tally)

    @contextlib.contextmanager
    def blocks(self, utterance: Utterance, heard: Heard, keeper: Timekeeper | None, loudness: Loudness | None = None,
               stream: BinaryIO | None = None) -> Iterator[Iterator[Tensor]]:
        """The encoder's frames (n, D), block by block, heard by keeper and loudness on their way.

        Of a stream none is made ahead: whoever stops waiting for it would have to wait for the thread.
        """
        long = self.settings.long
        depth = 0 if stream is not None else self.overlap * blocks_ahead(long)
        in_blocks = functools.partial(encode_blocks, self.network, block=long.block, margin=long.margin,
                                      together=1 if self.walks else TOGETHER,      # one that walks waits for no other
                                      bf16=self.settings.precision == "bf16")
        frames = self.frames(utterance, heard, stream)
        if loudness is not None:
            frames = loudness.features(frames)
        if keeper is None:
            with ahead(in_blocks(frames), depth, self.device) as blocks:
                yield blocks
        else:
            with ahead(keeper.evident(in_blocks(keeper.features(frames))), depth, self.device) as pairs:
                yield keeper.blocks(pairs)

    def _road(self, loudness: Loudness | None) -> SpanSearch | LongSearch | SecondTry:
        """How a long recording is searched."""
        if self.walks:
            return (SecondTry if self.settings.fallback else LongSearch)(self.network, self.settings)
        return SpanSearch(self.network, self.settings, loudness)

    def _length(self, source: FeatureSource, i: int) -> float:
        """Seconds of an utterance; 0 of what cannot be read, which is found out later.

        Of a whole file that was cut off, those that are left: if they are many, what was heard is worth having.
        """
        utterance = source.utterances[i]
        try:
            if isinstance(source, OnTheFly):
                self.bandwidth.notice(utterance.audio, source.rate(i))
            return source.frames(i) * self.features.hop / 1000
        except AsrError:
            with contextlib.suppress(AsrError):
                return probe(utterance.audio, torn=True).duration if utterance.duration is None else 0.0
        return 0.0

    def frames(self, utterance: Utterance, heard: Heard, stream: BinaryIO | None = None) -> Iterator[Tensor]:
        """Normalised features, piece by piece. A recording that breaks off ends here, and is noted as broken."""
        frames = FrameStream(self.features, self.model.normaliser)
        rate, channel = self.features.rate, self.features.channel
        pieces = stream_audio(stream or utterance.audio, rate=rate, channel=channel, name=utterance.id,
                              block=min(READ, self.settings.long.block),
                              told=lambda rate: self.bandwidth.notice(utterance.audio, rate),
                              offset=utterance.offset, duration=utterance.duration)
        try:
            for samples in pieces:
                heard.seconds += len(samples) / rate
                heard.silent = heard.silent and (not len(samples) or samples.min() == samples.max())
                yield frames.push(samples).to(self.device)
        except AsrError as error:
            if not heard.seconds:
                raise
            heard.broken = error
        if heard.silent:
            raise heard.broken or AsrError(f"{utterance.id}: is silent, every sample is the same: record it again or "
                                           "take it out")
        if heard.seconds * 1000 < self.features.window:
            raise heard.broken or self._too_short(utterance)
        yield frames.finish().to(self.device)

    def _short(self, stretches: Iterator[Stretch], known: Mapping[str, Hypothesis]) -> Iterator[Part]:
        """Search short utterances batch by batch, while the next one is made ready."""
        with ahead(self._encoded(stretches, known), self.overlap, self.device) as ready:
            for part, batch in ready:
                if batch is None:
                    yield part
                else:
                    self._search(part, batch)

    def _encoded(self, stretches: Iterator[Stretch],
                 known: Mapping[str, Hypothesis]) -> Iterator[tuple[Part, Encoded | None]]:
        """The batches of each stretch; behind its last, None. Utterances alike in length are searched together."""
        for stretch in stretches:
            part, feats = Part(stretch), dict[int, Tensor]()
            for i in stretch.rows:
                utterance = stretch.source.utterances[i]
                if (hypothesis := known.get(utterance.id)) is not None:
                    part.found[i] = hypothesis
                    part.tally.poor += [hypothesis.id] * is_poor(hypothesis.health, len(hypothesis.phones))
                    continue
                try:
                    feats[i] = self._features(stretch.source, i)
                except AsrError as error:
                    part.tally.failures.append((utterance.id, str(error)))
            for rows in self._together({i: len(frames) for i, frames in feats.items()}):
                batch = torch.nn.utils.rnn.pad_sequence([feats[i] for i in rows], batch_first=True).to(self.device)
                frames = torch.tensor([len(feats.pop(i)) for i in rows], device=self.device)
                yield part, Encoded(rows, batch, frames, encode(self.network, batch, frames, self.settings))
            yield part, None

    def _search(self, part: Part, batch: Encoded) -> None:
        """Search a batch, and put down what was found."""
        utterances = [part.stretch.source.utterances[i] for i in batch.rows]
        seconds = [utterance.duration or self._seconds(frames) for utterance, frames
                   in zip(utterances, batch.frames.tolist(), strict=True)]
        results = self.batch(utterances, seconds, batch)
        for i, utterance, result, length in zip(batch.rows, utterances, results, seconds, strict=True):
            if isinstance(result, AsrError):
                part.tally.failures.append((utterance.id, str(result)))
            else:
                part.found[i] = self._counted(with_origin(result, utterance, length), length, part.tally)

    def _together(self, lengths: Mapping[int, int]) -> Iterator[list[int]]:
        """Utterances, told by their frames, in batches: the shortest first, and none larger than the settings allow."""
        rows: list[int] = []
        most = self.settings.batch_seconds * 1000 / self.features.hop       # frames, padding among them
        for i in sorted(lengths, key=lengths.__getitem__):
            if rows and (len(rows) == self.settings.batch_size or (len(rows) + 1) * lengths[i] > most):
                yield rows
                rows = []
            rows.append(i)
        if rows:
            yield rows

    def batch(self, utterances: Sequence[Utterance], seconds: Sequence[float],
              batch: Encoded) -> Iterator[Hypothesis | AsrError]:
        """Utterances of so many seconds, encoded → a result each."""
        found = search_memory(self.network, batch.memory, self.settings)
        starts = self._starts(batch, found)
        for utterance, length, hypotheses, begun in zip(utterances, seconds, found, starts, strict=True):
            hypothesis = hypothesis_of(utterance.id, hypotheses, self.model.phones, seconds=self.network.seconds,
                                       duration=length, starts=begun)
            yield replace(hypothesis, phones=tuple(self._sure(hypothesis.phones)))

    def _starts(self, batch: Encoded, found: Sequence[Sequence[Found]]) -> list[Sequence[float] | None]:
        """Where the phones of each best hypothesis begin, in seconds; None: only the attention knows."""
        starts: list[Sequence[float] | None] = [None] * len(found)
        if self.evidence is not None:
            for b, rows in enumerate(self.evidence.rows(batch.feats, batch.frames, batch.memory)):
                with contextlib.suppress(AsrError):     # more phones than frames
                    starts[b] = place(rows, found[b][0].ids, self.evidence).starts if found[b] else None
        return starts

    def _features(self, source: FeatureSource, i: int) -> Tensor:
        static = source.static(i)
        if not len(static):
            raise self._too_short(source.utterances[i])
        return prepare_features(static, self.features, self.model.normaliser)

    def _too_short(self, utterance: Utterance) -> AsrError:
        return AsrError(f"{utterance.audio}: shorter than one window of {self.features.window:g} ms: there is nothing "
                        "to recognise")

    def _seconds(self, frames: int) -> float:
        """The sound that so many frames span."""
        return ((frames - self.features.end_frame - 1) * self.features.hop + self.features.window) / 1000

    def _joined(self, utterance: Utterance, recording: Recording, keeper: Timekeeper | None,
                heard: Heard) -> Hypothesis:
        """What was found in a long recording as one hypothesis."""
        hand_back()         # before the transcript of hours is written out
        starts, seconds = None, heard.seconds
        if keeper is not None:
            with contextlib.suppress(AsrError):         # phones without a place stay where the attention saw them
                starts = keeper.starts()
        if starts is None:
            phones = PackedPhones(self._timed(recording.ids, recording.foci, recording.log_probs, seconds))
        else:
            smoothing, ids = self.model.config.train.label_smoothing, len(self.model.phones)
            sure = (unsmooth(math.exp(min(0.0, value)), smoothing, ids) for value in recording.log_probs)
            names = (self.model.phones.decode((id,))[0] for id in recording.ids)
            phones = PackedPhones(tiles(names, starts, sure, seconds))
        signs = recording.health(self.network.seconds, broken=heard.broken is not None)
        hypothesis = Hypothesis(utterance.id, phones, recording.score, signs)
        return with_origin(hypothesis, utterance, seconds)

    def _timed(self, ids: Sequence[int], foci: Sequence[float], log_probs: Sequence[float],
               seconds: float) -> Iterator[TimedPhone]:
        return self._sure(timed_phones(self.model.phones.decode(ids), foci, log_probs, seconds=self.network.seconds,
                                       duration=seconds))

    def _sure(self, phones: Iterable[TimedPhone]) -> Iterator[TimedPhone]:
        return unsmoothed(phones, self.model.config.train.label_smoothing, len(self.model.phones))

    def _counted(self, hypothesis: Hypothesis, seconds: float, tally: Tally) -> Hypothesis:
        tally.utterances += 1
        tally.seconds += seconds
        if is_poor(hypothesis.health, len(hypothesis.phones)):
            tally.poor.append(hypothesis.id)
        return hypothesis


def with_origin(hypothesis: Hypothesis, utterance: Utterance, seconds: float) -> Hypothesis:
    """The hypothesis with what the writers and the scorer want to know of its utterance."""
    extra = {"audio_filepath": str(utterance.audio), "duration": round(seconds, 4)}
    if utterance.offset:
        extra["offset"] = utterance.offset
    if utterance.speaker is not None:
        extra["speaker"] = utterance.speaker
    return replace(hypothesis, extra=extra | hypothesis.extra)
