"""The list of licences: everything in the lock has one; what is not free for all is an extra, named with a reason."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))
import licences

ROOT = Path(__file__).parent.parent


def test_the_lock_holds_nothing_that_is_in_the_way() -> None:
    done = subprocess.run([sys.executable, ROOT / "tools" / "licences.py"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    listed = [line.split()[0] for line in done.stdout.splitlines()]
    assert listed == [name for name, _ in licences.pinned()]
    assert {"torch", "soundfile", "espeakng-loader"} <= set(listed)


def test_what_would_be_in_the_way() -> None:
    found = [("free", "1", "MIT"), ("lesser", "1", "LGPL-2.1-or-later"), ("strict", "1", "GPL-3.0-only"),
             ("silent", "1", ""), ("elsewhere", "1", None), ("espeakng-loader", "1", "GPL-3.0-or-later"),
             ("spelt", "1", "GNU General Public License v2")]
    assert list(licences.complaints(found)) == [
        "strict: is under GPL-3.0-only: leave it out, or make it an extra and say why in ALLOWED",
        "silent: its licence is not told: read its files and add it to KNOWN",
        "spelt: is under GNU General Public License v2: leave it out, or make it an extra and say why in ALLOWED"]


def test_the_package_never_imports_espeak() -> None:
    assert not [path for path in (ROOT / "asr").rglob("*.py") if "import espeakng" in path.read_text(encoding="utf-8")]
