"""List the licence of every package that the lock pins; exit 1 where one is unknown or asks more than it may.

    .venv/bin/python tools/licences.py

The code is under Apache-2.0. A package under the GPL, or for evaluation alone, may stand beside it as an optional extra
that nothing else needs, and is named in ALLOWED with the reason.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

LOCK = Path(__file__).parent / "requirements.txt"
ALLOWED = {"espeakng-loader": "the extra 'espeak': recipes/espeak alone loads it, asr never does"}
# What a package's metadata leave open, read from the licence file that it carries.
KNOWN = {"espeakng-loader": "GPL-3.0-or-later", "cuda-toolkit": "none: it holds no files and names other packages"}
STRICT = re.compile(r"\bA?GPL|GNU (Affero )?General Public|evaluation", re.IGNORECASE)
LESSER = re.compile(r"LGPL|Lesser", re.IGNORECASE)


def pinned(lock: Path = LOCK) -> list[tuple[str, str]]:
    """Name and version of every package in the lock."""
    return re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", lock.read_text(encoding="utf-8"), re.MULTILINE)


def licence(name: str) -> str | None:
    """What a package says of its licence, in a few words; None: it is not installed here; "": it says nothing."""
    try:
        told = metadata.metadata(name)
    except metadata.PackageNotFoundError:
        return None
    classified = [line.rpartition(" :: ")[2] for line in told.get_all("Classifier") or ()
                  if line.startswith("License ::") and not line.endswith("OSI Approved")]
    free = (told.get("License") or "").strip().split("\n")[0]
    return KNOWN.get(name) or told.get("License-Expression") or ", ".join(classified) or free[:60]


def complaints(found: list[tuple[str, str, str | None]]) -> Iterator[str]:
    """What stands in the way of giving the code away."""
    for name, _, text in found:
        if text == "":
            yield f"{name}: its licence is not told: read its files and add it to KNOWN"
        elif text and STRICT.search(text) and not LESSER.search(text) and name not in ALLOWED:
            yield f"{name}: is under {text}: leave it out, or make it an extra and say why in ALLOWED"


def main() -> None:
    found = [(name, version, licence(name)) for name, version in pinned()]
    for name, version, text in found:
        note = f"  ({ALLOWED[name]})" if name in ALLOWED else ""
        print(f"{name:28} {version:16} {'not installed here' if text is None else text or 'UNKNOWN'}{note}")
    wrong = list(complaints(found))
    for line in wrong:
        print(f"licences: {line}", file=sys.stderr)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
