"""What the inputs of `asr decode` and `asr align` stand for: audio files, folders of them, manifests, stores."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from asr import config
from asr.corpus.records import Utterance, read_manifest
from asr.errors import AsrError
from asr.files import spelt
from asr.frontend.store import FeatureSource, OnTheFly, open_source

AUDIO = {".wav", ".flac", ".ogg", ".opus", ".mp3", ".sph", ".nist", ".aif", ".aiff", ".w64", ".rf64", ".caf", ".au"}
MANIFESTS = (".jsonl", ".json", ".manifest")


def sources(inputs: Sequence[str], features: config.Features) -> Iterator[FeatureSource]:
    """What the command's inputs stand for: audio files, folders of them, manifests, stores.

    Raises:
        AsrError: an input is not there, or none of these, or ids clash.
    """
    files: list[Path] = []
    for name in inputs:
        path = Path(name)
        if path.is_dir() and (path / "index.json").exists():
            store = open_source(path, features)
            yield store
        elif path.is_dir():
            found = sorted(file for file in path.rglob("*") if file.suffix.lower() in AUDIO)
            if not found:
                raise AsrError(f"{path}: no audio in this folder ({' '.join(sorted(AUDIO))})")
            yield OnTheFly([Utterance(id, file) for id, file in zip(_ids(found, path), found, strict=True)], features)
        elif path.suffix.lower() in MANIFESTS:
            yield OnTheFly(read_manifest(path), features)
        else:
            files.append(path)
    if files:
        stems = Counter(file.stem for file in files)
        ids = (id if stems[file.stem] > 1 else spelt(Path(file.stem))
               for id, file in zip(_ids(files, Path()), files, strict=True))
        yield OnTheFly([Utterance(id, file) for id, file in zip(ids, files, strict=True)], features)


def _ids(files: Sequence[Path], folder: Path) -> list[str]:
    """Their paths, from the folder on where they lie in it; without the ending, where no two then are the same."""
    paths = [file.relative_to(folder) if file.is_relative_to(folder) else file for file in files]
    bare = Counter(path.with_suffix("") for path in paths)
    return [spelt(path.with_suffix("") if bare[path.with_suffix("")] == 1 else path) for path in paths]


def listings(inputs: Sequence[str]) -> list[Path]:
    """The files among the inputs, or in stores among them, that tell which utterances there are."""
    paths = [Path(name) for name in inputs]
    return [path / "index.json" if path.is_dir() else path for path in paths
            if path.suffix.lower() in MANIFESTS or (path / "index.json").is_file()]


def check_ids(found: Sequence[FeatureSource]) -> None:
    """Hypotheses are paired with references by id, so that two of one name would be worth nothing."""
    seen: dict[str, Path] = {}
    for utterance in (utterance for source in found for utterance in source.utterances):
        if utterance.id in seen:
            raise AsrError(f"{utterance.audio}: its id {utterance.id!r} is that of {seen[utterance.id]}: rename one, "
                           "or decode them apart")
        seen[utterance.id] = utterance.audio


def seconds_of(opened: Sequence[FeatureSource]) -> float:
    """Seconds of speech in the sources, as far as their headers tell."""
    total = 0.0
    for source in opened:
        for i in range(len(source.utterances)):
            with contextlib.suppress(AsrError):
                total += source.frames(i) * source.features.hop / 1000
    return total
