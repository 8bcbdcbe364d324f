"""Print what `recipes/espeak/table.sh` measured as a table for RESULTS.md.

    python recipes/espeak/table.py exp/espeak/table
"""

from __future__ import annotations

import json
from pathlib import Path

import click

KINDS = ("none", "content", "hybrid", "hybrid-smooth")
WAYS = ("plain", "sharpened", "windowed")


def table(folder: Path) -> str:
    """A row for each attention and way to decode, a column of PER for each number of joins."""
    rows: list[tuple[str, str, dict[int, str]]] = []
    for kind in KINDS:
        for way in WAYS:
            path = folder / kind / way / "curve.json"
            if path.exists():
                points = json.loads(path.read_text(encoding="utf-8"))["lines"][0]["points"]
                rows.append((kind, way, {point["joins"]: f"{point['per']:.1f}" for point in points}))
    joins = sorted({count for _, _, found in rows for count in found})
    lines = ["| attention | decoding | " + " | ".join(f"{count} joined" if count > 1 else "single" for count in joins)
             + " |", "| --- " * (2 + len(joins)) + "|"]
    lines += [f"| {kind} | {way} | " + " | ".join(found.get(count, "-") for count in joins) + " |"
              for kind, way, found in rows]
    return "\n".join(lines)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
def main(folder: Path) -> None:
    """PER in per cent against the number of utterances joined, for each attention and way to decode."""
    click.echo(table(folder))


if __name__ == "__main__":
    main()
