"""A peer of bench_peers.py under bf16 autocast, for a comparison at each one's best precision.

    python bench_autocast.py FOLDER_OF_BENCH_PEERS NAME PIPE
"""

import sys
from typing import Any

folder, name, pipe = sys.argv[1:]
sys.path.insert(0, folder)
import bench_peers  # noqa: E402
import torch  # noqa: E402

plain = bench_peers.Net.__init__


def begin(self: Any, name: str, threads: int) -> None:
    """As the script has it, then under autocast."""
    plain(self, name, threads)
    self.dtype_ctx = lambda: torch.autocast("cpu", dtype=torch.bfloat16)


bench_peers.Net.__init__ = begin
bench_peers.worker(name, "net", 1, int(pipe))
