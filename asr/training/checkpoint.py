"""The state of a run, to go on from: two generations, each with a checksum."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from asr.corpus.records import Utterance
from asr.errors import AsrError
from asr.files import writing

LAST, BEFORE = "last.pt", "before.pt"
_MAGIC = b"asr-run-1 "      # then the SHA-256 in hex, a newline, and what torch.save wrote


def save_run_state(run: Path, state: dict[str, Any]) -> None:
    """Write the state; the one before it is kept, and is not moved before the new one is whole."""
    import torch
    buffer = io.BytesIO()
    torch.save(state, buffer)
    body = buffer.getvalue()
    last = run / LAST
    with writing(last, "wb") as file:
        file.write(_MAGIC + hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
        file.flush()
        os.fsync(file.fileno())
        if last.exists():
            last.replace(run / BEFORE)


def load_run_state(run: Path) -> tuple[dict[str, Any] | None, str]:
    """The newest state that is whole, and a remark where that is not the last one. (None, "") when there is none.

    Raises:
        AsrError: there are states, and all are damaged.
    """
    damage = ""
    for name in (LAST, BEFORE):
        path = run / name
        if not path.exists():
            continue
        try:
            state = _read(path)
        except (OSError, ValueError, RuntimeError, EOFError, KeyError, pickle.UnpicklingError) as error:
            damage = damage or f"{path}: damaged ({str(error).splitlines()[0]})"
            continue
        if name == BEFORE:
            damage = (damage or f"{run / LAST}: missing") + f": going on from {path}"
        return state, damage
    if damage:
        raise AsrError(f"{damage}, and there is none before it: start again with another --run")
    return None, ""


def fingerprint(utterances: Iterable[Utterance]) -> str:
    """What changes when the utterances of a training set do, or their order; where the audio lies does not matter."""
    digest = hashlib.sha256()
    for u in utterances:
        digest.update(json.dumps([u.id, u.offset, u.duration, u.phones]).encode() + b"\n")
    return digest.hexdigest()


def _read(path: Path) -> dict[str, Any]:
    import torch
    raw = path.read_bytes()
    head, _, body = raw.partition(b"\n")
    if not head.startswith(_MAGIC) or head[len(_MAGIC):].decode("ascii", "replace") != hashlib.sha256(body).hexdigest():
        raise ValueError("its checksum does not match")
    state = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
    if not isinstance(state, dict):
        raise ValueError("it holds no state")
    return state
