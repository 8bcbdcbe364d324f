"""Look every package that the lock pins up in the data base of known weaknesses; exit 1 where one is known.

    .venv/bin/python tools/audit.py

pip-audit asks. Where it reaches no data base, that is said and the exit is 0: then nothing was found out.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

LOCK = Path(__file__).parent / "requirements.txt"
SECONDS = 240           # that pip-audit may take
UNREACHABLE = "no data base of weaknesses is reachable from here: nothing was audited"


def ask(lock: Path = LOCK, seconds: float = SECONDS) -> list[dict[str, Any]]:
    """What pip-audit finds out about each package; empty if it finds no data base."""
    command = [sys.executable, "-m", "pip_audit", "-r", str(lock), "--require-hashes", "--disable-pip", "-f", "json",
               "--progress-spinner", "off"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
        return json.loads(done.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, ValueError, KeyError):
        return []


def verdict(found: Sequence[dict[str, Any]]) -> tuple[list[str], int]:
    """Lines to print, and the exit code: 1 if a weakness is known."""
    audited = [package for package in found if "vulns" in package]
    if not audited:
        return [UNREACHABLE], 0
    lines = []
    for package in audited:
        for weakness in package["vulns"]:
            mended = weakness.get("fix_versions")
            what = f"mended in {', '.join(mended)}: run tools/lock --upgrade" if mended else "not mended yet"
            lines.append(f"{package['name']} {package['version']}: {weakness['id']}: {what}")
    known, weak = ("weaknesses are", 1) if lines else ("no weakness is", 0)
    unknown = [package["name"] for package in found if "vulns" not in package]
    if unknown:
        lines.append(f"not in the data base: {', '.join(unknown)}")
    return [*lines, f"{len(audited)} of {len(found)} packages audited, {known} known"], weak


def main() -> None:
    lines, code = verdict(ask())
    print("\n".join(lines))
    sys.exit(code)


if __name__ == "__main__":
    main()
