"""The cases of tools/fuzz.py, the damage guided by what code it reaches: atheris (libFuzzer for Python).

    .venv/bin/pip install atheris
    .venv/bin/python tools/fuzz_guided.py ctm --runs 20000

Good for readers of text and headers, whose code is ours. A case that fails is printed, and written beside the output
of libFuzzer; the exit is then not 0.
"""

from __future__ import annotations

import random
import sys
import tempfile
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).parent))


@click.command()
@click.argument("name", metavar="TARGET")
@click.option("--runs", default=20000, show_default=True, help="Cases.")
@click.option("--seed", default=1, show_default=True, help="Of the damage.")
def main(name: str, runs: int, seed: int) -> None:
    """Feed broken input to the reader TARGET, guided by coverage; a wrong name lists them."""
    try:
        import atheris
    except ImportError as error:
        raise click.ClickException("atheris is not installed: pip install atheris") from error
    folder = Path(tempfile.mkdtemp())
    for part in ("in", "out", "good", "good/out", "seeds"):
        (folder / part).mkdir()
    with atheris.instrument_imports(include=["asr"]):
        import fuzz
        known = fuzz.targets(folder / "good")
    if name not in known:
        raise click.BadParameter(f"there is {', '.join(known)}", param_hint="TARGET")
    target = known[name]
    (folder / "seeds" / "good").write_bytes(target.good)

    def one(data: bytes) -> None:
        wrong = fuzz.read_bytes(target, folder, data, random.Random(seed))
        if wrong:
            raise RuntimeError(wrong)
    atheris.Setup([sys.argv[0], f"-runs={runs}", f"-seed={seed}", f"-artifact_prefix={folder}/",
                   str(folder / "seeds")], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
