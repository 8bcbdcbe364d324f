"""`asr export model`: a model to give away, smaller, with a card that says what it is.

The card is plain data (YAML or JSON) that whoever trained the model writes: what it heard, how well it does, where it
fails, whose data they were. It goes into the model file's provenance, and `asr info` shows it first.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

import yaml

from asr.errors import AsrError
from asr.model.file import load_model, save_model


def pack(model: Path, out: Path, *, half: bool = False, card: Path | None = None, overrides: Sequence[str] = ()) -> int:
    """Write a copy of a model; gives its size in bytes.

    Folders of this machine stay behind: of the files and stores that the provenance names, the last two names are
    kept.

    Args:
        half: weights as float16; `load_model` makes float32 of them again.
        card: a YAML file for the provenance's `card`; None: the model's own, if it has one.
        overrides: keys of `decode`, as `decode.beam=4`: how the copy is to be used if nobody says otherwise.

    Raises:
        UsageError: an override is none, or is of what the weights were made for.
        AsrError: the model or the card cannot be read, a weight is too large for float16, or `out` cannot be written.
    """
    loaded = load_model(model).told(overrides)
    if half:
        for name, tensor in loaded.network.state_dict().items():
            if not tensor.half().isfinite().all():
                raise AsrError(f"{model}: tensor {name!r} holds {float(tensor.abs().max()):.3g}, which is beyond "
                               "float16: export it without --half")
    provenance = {key: _without_folders(value) for key, value in loaded.header.provenance.items()}
    if card is not None:
        provenance["card"] = read_card(card)
    save_model(out, loaded.network, loaded.config, loaded.phones, loaded.normaliser, provenance,
               classifier=loaded.classifier, half=half)
    return out.stat().st_size


def read_card(path: Path) -> dict[str, Any]:
    """A card: names, and beside each a text, a number, or a list of them.

    Raises:
        AsrError: the file cannot be read, or holds something else.
    """
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise AsrError(f"{path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        raise AsrError(f"{path}{f':{mark.line + 1}' if mark else ''}: not YAML: give lines like 'language: English'"
                       ) from error
    if not isinstance(tree, dict) or not tree:
        raise AsrError(f"{path}: a card is lines like 'language: English', not {tree!r:.60}")
    for name, value in tree.items():
        plain = value if isinstance(value, list) and value else [value]
        if not isinstance(name, str) or not all(isinstance(item, str | int | float) for item in plain):
            raise AsrError(f"{path}: {name!s:.60}: expected a text, a number, or a list of them, not {value!r:.60}")
    return tree


def _without_folders(value: Any) -> Any:
    """`/home/anna/exp/so762/train` → `so762/train`; anything but an absolute path stays."""
    if isinstance(value, str) and PurePath(value).is_absolute():
        return str(PurePath(*PurePath(value).parts[-2:])).lstrip("/")
    return value
