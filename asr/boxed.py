"""The model in the box: an English model that comes with the package, for those who have none yet.

Commands that take a model first take this one where none is named. What is a model and what a recording is told by the
name, and where that says nothing by the file's first bytes.
"""

from __future__ import annotations

from pathlib import Path

from asr.errors import AsrError

ENGLISH = Path(__file__).parent / "models" / "english.asr"
ENDINGS = {".asr", ".safetensors", ".pt", ".pth", ".ckpt", ".onnx"}     # the others are told that they are none of ours
LONGEST = 1 << 24       # bytes of a safetensors header, at most; audio that begins with `{` after eight bytes is none


def boxed_model() -> Path:
    """Where the model in the box lies.

    Raises:
        AsrError: this copy of the package has none.
    """
    if not ENGLISH.is_file():
        raise AsrError("this copy of asr has no model in the box: name one, as in `asr decode model.asr speech.wav` "
                       "(`tools/demo` trains one in minutes)")
    return ENGLISH


def looks_like_a_model(name: str) -> bool:
    """Whether an argument is meant for a model: by its ending, else by how the file begins."""
    path = Path(name)
    if path.suffix.lower() in ENDINGS:
        return True
    try:
        if not path.is_file():          # nor do we take a byte from a pipe
            return False
        with path.open("rb") as file:
            head = file.read(9)
    except (OSError, ValueError):
        return False                    # what is wrong with it is told by who reads it
    return head[8:] == b"{" and 0 < int.from_bytes(head[:8], "little") < LONGEST
