"""The audit of the lock: what pip-audit says becomes lines and an exit code; the audit itself, where it can run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))
import audit

GOOD = {"name": "numpy", "version": "2.4", "vulns": []}
ABSENT = {"name": "nvidia-x", "skip_reason": "Dependency not found"}
WEAK = {"name": "torch", "version": "2.11", "vulns": [{"id": "CVE-1", "fix_versions": ["2.12", "2.13"]},
                                                      {"id": "CVE-2", "fix_versions": []}]}


def test_what_it_says() -> None:
    assert audit.verdict([]) == audit.verdict([ABSENT]) == ([audit.UNREACHABLE], 0)
    assert audit.verdict([GOOD, ABSENT]) == (["not in the data base: nvidia-x",
                                              "1 of 2 packages audited, no weakness is known"], 0)
    assert audit.verdict([GOOD, WEAK]) == ([
        "torch 2.11: CVE-1: mended in 2.12, 2.13: run tools/lock --upgrade", "torch 2.11: CVE-2: not mended yet",
        "2 of 2 packages audited, weaknesses are known"], 1)


def test_a_data_base_that_does_not_answer(tmp_path: Path) -> None:
    lock = tmp_path / "lock.txt"
    lock.write_text("nothing that is a requirement ==\n")
    assert audit.ask(lock) == []
    assert audit.ask(lock, seconds=0.01) == []


@pytest.mark.slow
def test_no_weakness_is_known_in_what_is_pinned() -> None:
    lines, code = audit.verdict(audit.ask())
    if lines == [audit.UNREACHABLE]:
        pytest.skip(audit.UNREACHABLE)
    assert code == 0, lines
