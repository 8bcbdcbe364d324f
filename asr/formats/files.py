"""File names from ids: whatever an id holds, its file stays in the folder, and the name tells the id again."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from asr.files import cut_name

_UNSAFE = re.compile(r'[\x00-\x1f\x7f%/\\<>:"|?*]|^\.')     # separators, what Windows forbids, and a leading dot
_ESCAPED = re.compile("%([0-9A-F]{2})")


LONGEST = 200       # bytes of a name, of the 255 that a disk allows: an ending and the mark of a part need some


def file_of_id(id: str) -> str:
    """A file name for an id: unsafe characters become %XX, so that `../../x` is `%2E.%2F..%2Fx`.

    One that is too long for a disk is cut, and ends in a digest of the id, which it no longer tells.
    """
    name = _UNSAFE.sub(lambda match: f"%{ord(match[0]):02X}", id)
    if len(name.encode()) <= LONGEST:
        return name
    return f"{cut_name(name, LONGEST - 13)}~{hashlib.sha256(id.encode()).hexdigest()[:12]}"


def id_of_file(path: Path) -> str:
    """The id that a file is named after."""
    return _ESCAPED.sub(lambda match: chr(int(match[1], 16)), path.stem)
