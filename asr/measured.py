"""One decoding run in a process of its own, measured: what it heard, how long it took, and its peak memory.

Peak memory belongs to a process and never falls, so every figure gets a fresh one. It is told above the base, which is
the process with the model loaded and one short noise decoded: torch itself is not what we are measuring.
"""

from __future__ import annotations

import contextlib
import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from asr.errors import AsrError

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")
WARM_UP = 0.5       # s of noise that are decoded before the base is taken


@dataclass(frozen=True)
class Measured:
    """What a run took."""

    speech: float               # seconds of it
    wall: float                 # seconds, model loading left out
    cpu: float                  # seconds of all threads
    base: int                   # bytes of the process with the model loaded
    peak: int                   # bytes at most, base included; on a GPU, of its memory
    failures: list[list[str]]   # id and reason of what could not be decoded

    @property
    def above(self) -> int:
        """Bytes that decoding added to the loaded model."""
        return self.peak - self.base


def measure(model: Path, inputs: Sequence[str], out: Path, overrides: Sequence[str] = (), *, device: str = "auto",
            timeout: float | None = None) -> Measured | None:
    """Decode `inputs` into `out` (jsonl) in a fresh process; None if that took longer than `timeout` seconds.

    Raises:
        AsrError: what the process said when it failed.
    """
    job = json.dumps({"model": str(model), "inputs": list(inputs), "out": str(out), "overrides": list(overrides),
                      "device": device})
    try:
        done = subprocess.run([sys.executable, "-m", "asr.measured"], input=job, capture_output=True, text=True,
                              encoding="utf-8", timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        return None
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        raise AsrError(said[-1].removeprefix("asr: ") if said else f"decoding ended with code {done.returncode}")
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def resident() -> int:
    """Bytes that this process has in memory now."""
    return _status("VmRSS") or peak()


def peak() -> int:
    """Bytes that it had at most.

    Linux is asked through /proc: there, `getrusage` counts what the parent had when it forked.
    """
    unit = 1 if sys.platform == "darwin" else 1024
    return _status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def forget_peak() -> None:
    """Let the peak begin anew at what is in memory now, where the system can do that."""
    with contextlib.suppress(OSError):      # the load's own peak then counts as well: an upper bound
        CLEAR.write_text("5", encoding="ascii")


def _status(key: str) -> int:
    try:
        lines = STATUS.read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(key + ":")), 0)


def _run(job: dict[str, Any]) -> Measured:
    """The work of the process: load, warm up, take the base, decode."""
    import torch

    from asr.decode import decode
    from asr.model.file import load_model
    from asr.search.recognise import recognise
    from asr.training.distributed import pick_device
    model, device = load_model(Path(job["model"])).told(job["overrides"]), pick_device(job["device"])
    settings, network = model.config.decode, model.network.to(device)
    torch.manual_seed(1)        # the same noise, and so the same base, every time
    noise = torch.randn(1, round(WARM_UP * 1000 / model.config.features.hop), len(model.normaliser.mean), device=device)
    recognise(network, noise, torch.tensor([noise.size(1)], device=device), settings)
    forget_peak()
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    base = torch.cuda.memory_allocated() if cuda else resident()
    wall, cpu = time.monotonic(), time.process_time()
    tally = decode(model, job["inputs"], settings, formats=["jsonl"], out=Path(job["out"]), device=job["device"])
    wall, cpu = time.monotonic() - wall, time.process_time() - cpu
    return Measured(tally.seconds, wall, cpu, base, torch.cuda.max_memory_allocated() if cuda else peak(),
                    [list(failure) for failure in tally.failures])


if __name__ == "__main__":
    try:
        print(json.dumps(asdict(_run(json.load(sys.stdin)))))
    except AsrError as error:
        sys.exit(f"asr: {error}")
