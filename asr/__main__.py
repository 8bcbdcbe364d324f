"""`python -m asr`, and so `torchrun -m asr`."""

from asr.cli import main

main()
