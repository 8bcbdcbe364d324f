"""File names from ids: whatever an id holds, its file stays in the folder, and the name tells the id again."""

from __future__ import annotations

import re
from pathlib import Path

_UNSAFE = re.compile(r'[\x00-\x1f\x7f%/\\<>:"|?*]|^\.')     # separators, what Windows forbids, and a leading dot
_ESCAPED = re.compile("%([0-9A-F]{2})")


def file_of_id(id: str) -> str:
    """A file name for an id: unsafe characters become %XX, so that `../../x` is `%2E.%2F..%2Fx`."""
    return _UNSAFE.sub(lambda match: f"%{ord(match[0]):02X}", id)


def id_of_file(path: Path) -> str:
    """The id that a file is named after."""
    return _ESCAPED.sub(lambda match: chr(int(match[1], 16)), path.stem)
