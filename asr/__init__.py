"""Phoneme recognition in speech of any length with an attention model.

    import asr
    hypothesis = asr.load("model.asr").transcribe("speech.wav")     # asr.load(): the English model that comes along
    print(hypothesis.text)
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asr.transcriber import Transcriber

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")     # before torch: spinning threads starve other processes


def load(path: Path | str | None = None, *, device: str = "auto") -> Transcriber:
    """A model that is ready to `transcribe(wav)`, a `Transcriber`. Without a path, the one in the box."""
    from asr.boxed import boxed_model
    from asr.model.file import load_model
    from asr.training.distributed import pick_device
    from asr.transcriber import Transcriber
    model = load_model(Path(path) if path is not None else boxed_model())
    return Transcriber(model, model.config.decode, pick_device(device))
