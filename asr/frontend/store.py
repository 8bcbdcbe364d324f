"""Features of many utterances: computed on demand, or read from a store.

A store is a folder that `asr prep` writes:

    index.json                  format, features, fingerprint, the shards in order, their moments
    manifest-FINGERPRINT.jsonl  the utterances
    shard-FINGERPRINT.f16       static frames of up to `SHARD` utterances, at each speed, float16 rows
    shard-FINGERPRINT.json      where each utterance begins in it

The index is written last and names all others, so a reader sees the old store or the new one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from asr.config import Features
from asr.corpus.records import Utterance, read_manifest
from asr.errors import AsrError
from asr.frontend.audio import AudioInfo, change_speed, probe, read_audio, resampled_length
from asr.frontend.fbank import Fbank, Moments, add_deltas, feature_width, static_width

FORMAT = "asr feature store 1"
INDEX = "index.json"


class FeatureSource(Protocol):
    """Utterances and their static frames. Deltas and normalisation come later: `fbank.prepare_features`."""

    @property
    def utterances(self) -> Sequence[Utterance]:
        """In the manifest's order."""

    @property
    def features(self) -> Features:
        """How the frames are computed; `speeds` are those at hand."""

    def frames(self, i: int, speed: float = 1.0) -> int:
        """T of utterance i, without computing the frames."""

    def static(self, i: int, speed: float = 1.0) -> Tensor:
        """Frames of utterance i: (T, S) float32."""

    def moments(self) -> Moments:
        """Moments of static frames and deltas over all utterances at speed 1."""


class OnTheFly:
    """Features computed when they are asked for."""

    def __init__(self, utterances: Sequence[Utterance], features: Features) -> None:
        self.utterances, self.features = utterances, features
        self.fbank = Fbank(features)
        self._headers: dict[int, AudioInfo] = {}

    def rate(self, i: int) -> int:
        """Hz of the recording of utterance i, from the file's header; features resample it.

        Raises:
            AsrError: the file is missing or no audio.
        """
        return self._header(i).rate

    def frames(self, i: int, speed: float = 1.0) -> int:
        """T of utterance i, from the file's header.

        Raises:
            AsrError: the file is missing or no audio, or shorter than a window.
        """
        samples = resampled_length(self._count(i), self.features.rate * speed, self.features.rate)
        return self.fbank.frames_of(samples)

    def static(self, i: int, speed: float = 1.0) -> Tensor:
        """Frames of utterance i: (T, S) float32."""
        utterance = self.utterances[i]
        samples = read_utterance(utterance, self.features)
        refuse_silence(samples, f"{utterance.audio} (utterance {utterance.id!r})")
        return static_frames(samples, self.fbank, speed)

    def moments(self) -> Moments:
        """Moments of static frames and deltas over all utterances, which means reading them all."""
        total = no_moments(self.features)
        for i in range(len(self.utterances)):
            total = total + Moments.of(add_deltas(self.static(i), self.features.deltas))
        return total

    def _header(self, i: int) -> AudioInfo:
        if i not in self._headers:
            self._headers[i] = probe(self.utterances[i].audio)
        return self._headers[i]

    def _count(self, i: int) -> int:
        """Samples of utterance i at the features' rate."""
        utterance, info = self.utterances[i], self._header(i)
        first = round(utterance.offset * info.rate)
        last = info.frames if utterance.duration is None \
            else min(info.frames, round((utterance.offset + utterance.duration) * info.rate))
        return resampled_length(max(0, last - first), info.rate, self.features.rate)


class Store:
    """A feature store, opened; frames are read from the disk when they are asked for.

    Raises:
        AsrError: the folder is no store, of another format, or a shard is missing or was cut short.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        index = _read_json(self.path / INDEX, f"{path}: is no feature store: make one with `asr prep MANIFEST {path}`")
        if index.get("format") != FORMAT:
            raise AsrError(f"{path}: is a store of format {index.get('format')!r}: run `asr prep` again")
        try:
            self.fingerprint = str(index["fingerprint"])
            self.features = Features.model_validate(index["features"])
            self._moments = read_moments(index)
            shards = [str(name) for name in index["shards"]]
        except (KeyError, TypeError, ValueError, OverflowError):
            raise AsrError(f"{self.path / INDEX}: is damaged: run `asr prep` again") from None
        self.utterances: Sequence[Utterance] = read_manifest(self.path / f"manifest-{self.fingerprint}.jsonl")
        self._maps: list[np.ndarray] = []
        self._places: list[dict[float, tuple[int, int, int]]] = []      # speed → shard, first row, rows
        for number, name in enumerate(shards):
            self._open_shard(number, name)
        if len(self._places) != len(self.utterances):
            raise AsrError(f"{path}: its shards hold {len(self._places)} utterances, its manifest "
                           f"{len(self.utterances)}: run `asr prep` again")

    def _open_shard(self, number: int, name: str) -> None:
        shard, file = read_shard(self.path, name), self.path / f"{name}.f16"
        rows, width = sum(map(sum, shard.frames)), static_width(self.features)
        if any(len(frames) != len(self.speeds) or min(frames) < 0 for frames in shard.frames):
            raise AsrError(f"{self.path / name}.json: is missing or damaged: run `asr prep` again")
        if not rows or not file.is_file() or file.stat().st_size != 2 * rows * width:
            raise AsrError(f"{file}: is missing or was cut short: run `asr prep` again")
        self._maps.append(np.memmap(file, np.float16, "r", shape=(rows, width)))
        first = 0
        for frames in shard.frames:
            place = {}
            for speed, count in zip(self.speeds, frames, strict=True):
                place[speed] = (number, first, count)
                first += count
            self._places.append(place)

    @property
    def speeds(self) -> list[float]:
        """The speeds at which it holds a copy of each utterance."""
        return copies(self.features)

    def frames(self, i: int, speed: float = 1.0) -> int:
        """T of utterance i."""
        return self._place(i, speed)[2]

    def static(self, i: int, speed: float = 1.0) -> Tensor:
        """Frames of utterance i: (T, S) float32, rounded to float16 when they were stored."""
        shard, first, frames = self._place(i, speed)
        return torch.from_numpy(self._maps[shard][first:first + frames].astype(np.float32))

    def moments(self) -> Moments:
        """Moments of static frames and deltas over all utterances, as `asr prep` gathered them."""
        return self._moments

    def _place(self, i: int, speed: float) -> tuple[int, int, int]:
        try:
            return self._places[i][speed]
        except KeyError:
            raise AsrError(f"{self.path}: holds no copies at speed {speed}, only at "
                           f"{', '.join(map(str, self.speeds))}: run `asr prep` with these features.speeds, or train "
                           "without") from None


def open_source(path: Path, features: Features | None) -> FeatureSource:
    """A folder is opened as a store, a file as a manifest whose features are computed when asked for.

    Args:
        path: the folder or the file.
        features: what the model needs; None: whatever the store holds (a manifest then gets the defaults).

    Raises:
        AsrError: a store made with other features, naming the first that differs; or as `Store` and `read_manifest`.
    """
    path = Path(path)
    if not path.is_dir():
        if not path.exists():
            raise AsrError(f"{path}: is neither a feature store nor a manifest: there is no such file")
        return OnTheFly(read_manifest(path), features or Features())
    store = Store(path)
    if features is not None:
        ours, theirs = features.model_dump(), store.features.model_dump()
        for key in ours:
            if key != "speeds" and ours[key] != theirs[key]:
                raise AsrError(f"{path}: this store was made with features.{key} = {theirs[key]}, but "
                               f"{ours[key]} is asked for: run `asr prep` again with the same config")
    return store


def copies(features: Features) -> list[float]:
    """The speeds of the copies in a store: the plain one, then the others that the config asks for."""
    return [1.0] + [speed for speed in dict.fromkeys(features.speeds) if speed != 1.0]


def read_utterance(utterance: Utterance, features: Features) -> np.ndarray:
    """Samples of an utterance at the features' rate: (N,) float32."""
    return read_audio(utterance.audio, rate=features.rate, channel=features.channel, offset=utterance.offset,
                      duration=utterance.duration, id=utterance.id)


def refuse_silence(samples: np.ndarray, where: str) -> None:
    """No model learns from a recording of nothing, and what one hears in it was never said.

    Raises:
        AsrError: every sample is the same.
    """
    if samples.min() == samples.max():
        raise AsrError(f"{where}: is silent, every sample is {samples[0]:g}: record it again or take it out")


def static_frames(samples: np.ndarray, fbank: Fbank, speed: float = 1.0) -> Tensor:
    """Frames of samples played `speed` times as fast: (N,) → (T, S)."""
    return fbank(change_speed(samples, fbank.features.rate, speed))


def no_moments(features: Features) -> Moments:
    """The moments of nothing."""
    zero = torch.zeros(feature_width(features), dtype=torch.float64)
    return Moments(0, zero, zero)


@dataclass(frozen=True)
class ShardIndex:
    """What a shard says of itself."""

    frames: list[list[int]]         # of each utterance, at each speed
    moments: Moments                # at speed 1


def write_shard(file: IO[str], shard: ShardIndex) -> None:
    """Write a shard's JSON."""
    json.dump({"frames": shard.frames, **plain_moments(shard.moments)}, file)


def read_shard(folder: Path, name: str) -> ShardIndex:
    """Read a shard's JSON.

    Raises:
        AsrError: the file is missing or damaged.
    """
    complaint = f"{folder / name}.json: is missing or damaged: run `asr prep` again"
    tree = _read_json(folder / f"{name}.json", complaint)
    try:
        return ShardIndex([[int(count) for count in frames] for frames in tree["frames"]], read_moments(tree))
    except (KeyError, TypeError, ValueError, OverflowError):
        raise AsrError(complaint) from None


def plain_moments(moments: Moments) -> dict[str, Any]:
    """Moments as plain data, exactly."""
    return {"count": moments.count, "total": moments.total.tolist(), "squares": moments.squares.tolist()}


def read_moments(tree: dict[str, Any]) -> Moments:
    """Moments from plain data."""
    return Moments(int(tree["count"]), *(torch.tensor(tree[key], dtype=torch.float64) for key in ("total", "squares")))


def _read_json(path: Path, complaint: str) -> dict[str, Any]:
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        raise AsrError(complaint) from None
    if not isinstance(tree, dict):
        raise AsrError(complaint)
    return tree
