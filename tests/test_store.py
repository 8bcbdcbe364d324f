"""Feature stores, features on the fly, and what a store can have wrong with it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from asr.config import Config, Features
from asr.errors import AsrError
from asr.frontend.store import OnTheFly, Store, open_source
from asr.prep import prepare

FEATURES = Features(mels=12, deltas=1, speeds=[0.9, 1.0, 1.1])


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of stretches of two recordings, and the store made of it."""
    folder = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    soundfile.write(folder / "a.flac", 0.1 * rng.standard_normal(30000), 8000)
    soundfile.write(folder / "b.wav", 0.1 * rng.standard_normal((40000, 2)), 16000)
    rows = [{"id": "a1", "audio_filepath": "a.flac", "duration": 1.0, "text": "x y", "speaker": "A"},
            {"id": "a2", "audio_filepath": "a.flac", "offset": 1.25, "take": 2},
            {"id": "b1", "audio_filepath": "b.wav", "offset": 0.5, "duration": 0.77, "text": ""},
            {"id": "b2", "audio_filepath": str(folder / "b.wav"), "text": "z"}]
    (folder / "all.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    prepare(folder / "all.jsonl", folder / "store", Config(features=FEATURES), 1)
    return folder


def test_a_store_gives_what_is_computed_on_the_fly(corpus: Path) -> None:
    store = open_source(corpus / "store", FEATURES)
    fly = open_source(corpus / "all.jsonl", FEATURES)
    assert isinstance(store, Store)
    assert isinstance(fly, OnTheFly)
    for i in range(4):
        for speed in (0.9, 1.0, 1.1):
            a, b = store.static(i, speed), fly.static(i, speed)
            assert len(a) == store.frames(i, speed) == fly.frames(i, speed)
            torch.testing.assert_close(a, b, atol=0.008, rtol=0)         # float16 around 16
    for ours, theirs in zip(store.moments().mean_std(), fly.moments().mean_std(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=0)


def test_a_store_keeps_the_manifest(corpus: Path) -> None:
    store, fly = Store(corpus / "store"), open_source(corpus / "all.jsonl", None)
    assert [u.audio.resolve() for u in store.utterances] == [u.audio.resolve() for u in fly.utterances]
    for ours, theirs in zip(store.utterances, fly.utterances, strict=True):
        for name in ("id", "offset", "duration", "phones", "speaker", "extra"):
            assert getattr(ours, name) == getattr(theirs, name)


def test_speeds_change_the_length(corpus: Path) -> None:
    store = Store(corpus / "store")
    lengths = [store.frames(3, speed) for speed in (0.9, 1.0, 1.1)]
    assert lengths == [1 + (round(40000 / speed) - 400) // 160 for speed in (0.9, 1.0, 1.1)]
    with pytest.raises(AsrError, match=r"store: holds no copies at speed 1\.2, only at 1\.0, 0\.9, 1\.1: run `"):
        store.static(0, 1.2)


def test_features_must_be_the_stores_but_for_speeds(corpus: Path) -> None:
    path = corpus / "store"
    assert open_source(path, FEATURES.model_copy(update={"speeds": [1.0]})).features == FEATURES
    with pytest.raises(AsrError) as error:
        open_source(path, Features(mels=40, deltas=1))
    assert str(error.value) == (f"{path}: this store was made with features.mels = 12, but 40 is asked for: "
                                "run `asr prep` again with the same config")


def test_what_is_no_store(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(AsrError, match="is neither a feature store nor a manifest: there is no such file"):
        open_source(tmp_path / "nowhere", None)
    with pytest.raises(AsrError, match=r"is no feature store: make one with `asr prep MANIFEST"):
        open_source(tmp_path, None)
    (tmp_path / "index.json").write_text('{"format": "asr feature store 0"}')
    with pytest.raises(AsrError, match=r"is a store of format 'asr feature store 0': run `asr prep` again"):
        open_source(tmp_path, None)


@pytest.mark.parametrize(("end", "damage", "message"), [
    (".f16", lambda data: data[:-2], r"\.f16: is missing or was cut short: run `asr prep` again"),
    (".f16", None, r"\.f16: is missing or was cut short: run `asr prep` again"),
    (".json", lambda data: data[:50], r"\.json: is missing or damaged: run `asr prep` again"),
    (".json", lambda data: b'{"frames": [1]}', r"\.json: is missing or damaged: run `asr prep` again"),
    (".json", lambda data: b"[" * 100_000, r"\.json: is missing or damaged: run `asr prep` again"),
    (".json", lambda data: re.sub(rb'"frames": \[\[(\d+), ', rb'"frames": [[', data),
     r"\.json: is missing or damaged: run `asr prep` again"),
    (".json", lambda data: re.sub(rb'"frames": \[\[\d+', rb'"frames": [[Infinity', data),
     r"\.json: is missing or damaged: run `asr prep` again"),
    ("index.json", lambda data: b'{"format": "asr feature store 1"}', r"index\.json: is damaged"),
    ("index.json", lambda data: b"[]", "is no feature store"),
    ("index.json", lambda data: data.replace(b'"mels": 12', b'"mels": "12"'), r"index\.json: is damaged")])
def test_a_damaged_store_says_so_and_is_mended(corpus: Path, tmp_path: Path, end: str, damage, message: str) -> None:
    store = tmp_path / "store"
    prepare(corpus / "all.jsonl", store, Config(features=FEATURES), 1)
    path = next(path for path in sorted(store.iterdir(), reverse=True) if path.name.endswith(end))
    whole = path.read_bytes()
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage(whole))
    with pytest.raises(AsrError, match=message):
        open_source(store, FEATURES)
    prepare(corpus / "all.jsonl", store, Config(features=FEATURES), 1)
    assert path.read_bytes() == whole
    open_source(store, FEATURES)
