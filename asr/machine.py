"""What this machine has: Python, the pair of torch and torchaudio, CUDA, memory, disk."""

from __future__ import annotations

import importlib
import os
import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

GB = 1 << 30
LITTLE_DISK, LITTLE_MEMORY = 5.0, 2.0       # GB
OPTIONAL = {"espeakng-loader": "recipes/espeak", "matplotlib": "plots", "Jinja2": "the report"}


@dataclass(frozen=True, slots=True)
class Finding:
    """A line of `asr doctor`'s table."""

    level: Literal["ok", "note", "warning", "error"]
    check: str
    where: str                  # "machine", or the manifest
    count: int                  # rows of the manifest that it is about; 0: not about rows
    detail: str


def examine_machine() -> list[Finding]:
    """One finding for each part of the machine that matters here."""
    checks: tuple[Callable[[], Finding], ...] = (_python, _torch_pair, _cuda, _memory, _disk, _extras)
    return [check() for check in checks]


def torch_pair(torch: str, torchaudio: str, failure: str = "") -> Finding:
    """Whether two versions go together; `failure` is what importing torchaudio said, if it failed."""
    detail = f"{torch} and {torchaudio}"
    if torch.partition("+")[0] != torchaudio.partition("+")[0]:
        failure = failure or "torchaudio works beside its own torch alone"
    if failure:
        return _finding("error", "torch and torchaudio",
                        f"{detail}: {failure}: install the pair that pyproject.toml names")
    return _finding("ok", "torch and torchaudio", detail)


def _python() -> Finding:
    return _finding("ok", "Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")


def _torch_pair() -> Finding:
    try:
        torch, torchaudio = metadata.version("torch"), metadata.version("torchaudio")
    except metadata.PackageNotFoundError as error:
        return _finding("error", "torch and torchaudio", f"{error.name} is not installed: pip install asr")
    try:
        importlib.import_module("torchaudio")
    except (ImportError, OSError, RuntimeError) as error:
        return torch_pair(torch, torchaudio, str(error).splitlines()[0])
    return torch_pair(torch, torchaudio)


def _cuda() -> Finding:
    try:
        import torch
    except (ImportError, OSError):
        return _finding("note", "CUDA", "torch does not load")
    if not torch.cuda.is_available():
        return _finding("note", "CUDA", "none: everything runs on the CPU")
    device = torch.cuda.get_device_properties(0)
    return _finding("ok", "CUDA", f"{torch.cuda.device_count()} x {device.name}, {device.total_memory / GB:.0f} GB")


def _memory() -> Finding:
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GB
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = next(int(line.split()[1]) / 2 ** 20 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError):
        pass
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if free < LITTLE_MEMORY:
        return _finding("warning", "memory", f"{free:.1f} GB free: make batches smaller (-o train.batch_frames=…)")
    return _finding("ok", "memory", f"{free:.0f} GB free, {cores} cores")


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free / GB
    if free < LITTLE_DISK:
        return _finding("warning", "disk", f"{free:.1f} GB free here: an hour of features takes 0.03 GB, a run 0.1 GB")
    return _finding("ok", "disk", f"{free:,.0f} GB free here")


def _extras() -> Finding:
    missing = []
    for name, purpose in OPTIONAL.items():
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            missing.append(f"{name} ({purpose})")
    if missing:
        return _finding("note", "extras", f"not installed: {', '.join(missing)}: pip install 'asr[all]'")
    return _finding("ok", "extras", "all installed")


def _finding(level: Literal["ok", "note", "warning", "error"], check: str, detail: str) -> Finding:
    return Finding(level, check, "machine", 0, detail)
