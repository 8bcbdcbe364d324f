"""The tools that people start by hand: stages that run once, the set-up's messages, the lock."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOOLS = ROOT / "tools"


def bash(script: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", "-c", "set -euo pipefail\n" + script], cwd=folder, capture_output=True, text=True,
                          timeout=60, check=False, env={**os.environ, **environment})


def stages(folder: Path, script: str) -> subprocess.CompletedProcess[str]:
    return bash(f". {TOOLS}/setup\n. {TOOLS}/stage\nDONE=done DEPENDS=config\n{script}", folder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config").write_text("epochs: 1\n")
    return tmp_path


TWO = "OUTPUT=run stage one bash -c 'mkdir run; echo 1 >> log'\nstage two bash -c 'echo 2 >> log'"


def test_a_stage_runs_once(folder: Path) -> None:
    first, second = stages(folder, TWO), stages(folder, TWO)
    assert (folder / "log").read_text() == "1\n2\n"
    assert re.sub(r"\d+ s", "0 s", first.stderr) == "\n── 1 one\n   done in 0 s\n\n── 2 two\n   done in 0 s\n"
    assert second.stderr == "\n── 1 one: done already\n\n── 2 two: done already\n"
    assert first.stdout + second.stdout == ""


def test_a_change_runs_again_what_depends_on_it(folder: Path) -> None:
    stages(folder, TWO)
    stages(folder, TWO.replace("echo 2", "echo two"))           # the command of the second
    assert (folder / "log").read_text() == "1\n2\ntwo\n"
    (folder / "config").write_text("epochs: 2\n")               # what both depend on: `mkdir run` works once more
    assert stages(folder, TWO).returncode == 0
    assert (folder / "log").read_text() == "1\n2\ntwo\n1\n2\n"


def test_a_stage_that_failed_goes_on_with_what_it_has(folder: Path) -> None:
    script = "OUTPUT=run stage one bash -c 'mkdir -p run; echo x >> run/state; [ $(wc -l < run/state) = 2 ]'\necho next"
    first = stages(folder, script)
    assert (first.returncode, first.stdout) == (1, "")
    assert re.search(r"one failed after \d+ s; the same command goes on from here", first.stderr)
    second = stages(folder, script)
    assert (second.returncode, second.stdout) == (0, "next\n")


def test_a_config_that_is_missing_stops_the_run(folder: Path) -> None:
    (folder / "config").unlink()
    done = stages(folder, "stage one touch never")
    assert done.returncode != 0
    assert "config: No such file" in done.stderr
    assert not (folder / "never").exists()


def test_cores_are_counted_whatever_the_number_of_threads(folder: Path) -> None:
    script = f". {TOOLS}/setup; cores"
    many = bash(script, folder, OMP_NUM_THREADS=str(len(os.sched_getaffinity(0)) + 3)).stdout
    assert many == bash(script, folder, OMP_NUM_THREADS="1").stdout


@pytest.mark.parametrize(("seconds", "words"), [(0, "0 s"), (59, "59 s"), (60, "1 min 00 s"), (605, "10 min 05 s")])
def test_times_are_spelt(folder: Path, seconds: int, words: str) -> None:
    assert bash(f". {TOOLS}/setup; spell {seconds}", folder).stdout == words


def pretend(folder: Path, script: str) -> str:
    """A python that answers as the script says."""
    path = folder / "python"
    path.write_text(f"#!/bin/bash\n{script}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(("python", "message"), [
    (None, r"tools: no .*/none here: install Python 3\.11 or later, or name it: PYTHON="),
    ('case "$*" in *version_info*) exit 1;; *) echo Python 3.8.1;; esac', r"tools: Python 3\.8\.1 is too old"),
    ('case "$*" in *version_info*) exit 0;; *) exit 1;; esac', r"tools: this Python cannot make environments: install"),
])
def test_set_up_says_what_is_missing(folder: Path, python: str | None, message: str) -> None:
    bins = folder / "bin"
    bins.mkdir()
    for name in ("bash", "env", "cat"):                          # a machine without uv
        (bins / name).symlink_to(shutil.which(name) or "")
    program = pretend(folder, python) if python else str(folder / "none")
    done = bash(f". {TOOLS}/setup; make_venv", folder, PYTHON=program, PATH=str(bins))
    assert done.returncode == 1
    assert re.search(message, done.stderr), done.stderr
    assert not (folder / ".venv").exists()


def pinned(lock: Path) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9_.-]+)==(\S+)", lock.read_text(), re.MULTILINE))


@pytest.mark.parametrize("name", ["requirements.txt", "uv.txt"])
def test_the_lock_pins_by_hash_and_names_no_address(name: str) -> None:
    lines = (TOOLS / name).read_text().splitlines()
    assert lines[0].startswith("# Made by tools/lock")
    rest = re.split(r"^(?=\S)", "\n".join(lines[1:]), flags=re.MULTILINE)
    blocks = [block for block in rest if block.strip()]
    assert blocks
    for block in blocks:
        assert re.fullmatch(r"[a-z0-9_.-]+==\S+( \\\n {4}--hash=sha256:[0-9a-f]{64})+\n?", block), block[:80]


def test_the_lock_holds_all_that_the_package_needs() -> None:
    requirements = pytest.importorskip("packaging.requirements")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(need for extra, needs in project["optional-dependencies"].items()
                                          if extra != "all" for need in needs)]
    lock = pinned(TOOLS / "requirements.txt")
    for text in wanted:
        need = requirements.Requirement(text)
        name = re.sub(r"[-_.]+", "-", need.name).lower()
        assert name in lock, f"{need.name} is not in the lock: run tools/lock"
        assert need.specifier.contains(lock[name]), f"{text}, but the lock has {lock[name]}: run tools/lock"
    assert lock["torch"] == lock["torchaudio"]


def test_ci_calls_tools_test_and_nothing_else() -> None:
    lines = [line for line in (ROOT / ".ci" / "run").read_text().splitlines() if line and not line.startswith("#")]
    assert lines == ['exec "$(dirname "$0")/../tools/test"']


@pytest.mark.parametrize("script", [".ci/run", "tools/demo", "tools/test", "tools/lock", "tools/setup", "tools/stage",
                                    *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("recipes/*/run.sh"))])
def test_scripts_are_bash_and_can_be_started(script: str) -> None:
    path = ROOT / script
    assert subprocess.run(["bash", "-n", str(path)], check=False).returncode == 0
    if path.name not in ("setup", "stage"):                     # these two are sourced
        assert os.access(path, os.X_OK)
        assert path.read_text().startswith("#!/usr/bin/env bash\n")
